//! The arithmetic of merging one tensor, part by part: only a few parts of it are in memory.

use std::ops::Range;

use rayon::prelude::*;

use super::MergeMethod;
use super::trim::Trim;
use crate::error::Result;

/// One tensor of the models and of the base, where the method has one.
pub(super) trait Parts {
    /// Number of values.
    fn count(&self) -> usize;
    /// Number of models.
    fn models(&self) -> usize;
    /// A range of values of one model's tensor.
    fn model(&self, index: usize, part: Range<usize>) -> Result<Vec<f32>>;
    /// A range of values of the base's tensor.
    fn base(&self, part: Range<usize>) -> Result<Vec<f32>>;
}

/// Number of values in a part.
const PART: usize = 1 << 20;

/// The parts of a tensor of `count` values, in order.
fn parts(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(PART).map(move |start| start..count.min(start + PART))
}

/// A method applied to one tensor.
#[derive(Debug)]
enum Rule<'a> {
    /// Σ wᵢ·xᵢ.
    Sum(Vec<f64>),
    /// The base plus `lambda` times the mean of the trimmed differences that agree with the elected sign.
    Ties { trims: Vec<Trim>, weights: &'a [f64], lambda: f64 },
}

/// Merges a tensor; calls `each` with every merged part, in order.
pub(super) fn merge_parts(
    tensor: &impl Parts,
    method: &MergeMethod,
    weights: &[f64],
    mut merged: impl FnMut(&[f32]),
) -> Result<()> {
    let mut rule = Rule::new(tensor, method, weights)?;
    for part in parts(tensor.count()) {
        let models = (0..tensor.models()).map(|i| tensor.model(i, part.clone())).collect::<Result<Vec<Vec<f32>>>>()?;
        merged(&rule.apply(models, || tensor.base(part))?);
    }
    Ok(())
}

impl<'a> Rule<'a> {
    /// Passes over the whole tensor as often as the method needs.
    fn new(tensor: &impl Parts, method: &MergeMethod, weights: &'a [f64]) -> Result<Self> {
        match method {
            MergeMethod::Linear { .. } => Ok(Self::Sum(weights.to_vec())),
            MergeMethod::Slerp { t } => Ok(Self::Sum(slerp_weights(tensor, *t)?.to_vec())),
            MergeMethod::Ties { density, lambda, .. } => {
                let trims = (0..tensor.models()).map(|i| {
                    Trim::find(*density, tensor.count(), |show| {
                        for part in parts(tensor.count()) {
                            show(&difference(tensor.model(i, part.clone())?, &tensor.base(part)?));
                        }
                        Ok(())
                    })
                });
                Ok(Self::Ties { trims: trims.collect::<Result<_>>()?, weights, lambda: *lambda })
            }
        }
    }

    fn apply(&mut self, mut models: Vec<Vec<f32>>, base: impl FnOnce() -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        match self {
            Self::Sum(weights) => Ok(sum(&models, weights)),
            Self::Ties { trims, weights, lambda } => {
                let base = base()?;
                for (model, trim) in models.iter_mut().zip(trims) {
                    *model = difference(std::mem::take(model), &base);
                    trim.apply(model);
                }
                let merged = agreed_mean(&models, weights);
                Ok(base.into_par_iter().zip(merged).map(|(b, m)| (f64::from(b) + *lambda * m) as f32).collect())
            }
        }
    }
}

fn difference(mut model: Vec<f32>, base: &[f32]) -> Vec<f32> {
    model.par_iter_mut().zip(base).for_each(|(m, b)| *m -= b);
    model
}

/// Σ wᵢ·xᵢ.
fn sum(models: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let count = models.first().map_or(0, Vec::len);
    (0..count)
        .into_par_iter()
        .map(|i| models.iter().zip(weights).map(|(m, w)| w * f64::from(m[i])).sum::<f64>() as f32)
        .collect()
}

/// sin((1−t)θ)/sin θ and sin(tθ)/sin θ with θ the angle between the two tensors; 1−t and t, linear, where the angle is
/// degenerate.
fn slerp_weights(tensor: &impl Parts, t: f64) -> Result<[f64; 2]> {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for part in parts(tensor.count()) {
        let (a, b) = (tensor.model(0, part.clone())?, tensor.model(1, part)?);
        ab += dot(&a, &b);
        aa += dot(&a, &a);
        bb += dot(&b, &b);
    }
    let cosine = ab / (aa * bb).sqrt();
    // Nearly parallel, opposite, or of norm zero: the quotient of sines is then noise.
    if cosine.is_nan() || cosine.abs() >= 0.9995 {
        return Ok([1.0 - t, t]);
    }
    let angle = cosine.acos();
    Ok([((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()])
}

/// Per value: the sign of larger total weight, and the weighted mean of the differences that have it.
fn agreed_mean(differences: &[Vec<f32>], weights: &[f64]) -> Vec<f64> {
    let count = differences.first().map_or(0, Vec::len);
    (0..count)
        .into_par_iter()
        .map(|i| {
            let at = || differences.iter().zip(weights).map(|(d, w)| (f64::from(d[i]), *w));
            let elected: f64 = at().map(|(d, w)| w * d).sum();
            let (sum, weight) = at()
                .filter(|(d, _)| d * elected > 0.0)
                .fold((0.0, 0.0), |(sum, weight), (d, w)| (sum + w * d, weight + w));
            if weight > 0.0 { sum / weight } else { 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct InMemory {
        models: Vec<Vec<f32>>,
        base: Vec<f32>,
    }

    impl Parts for InMemory {
        fn count(&self) -> usize {
            self.models[0].len()
        }
        fn models(&self) -> usize {
            self.models.len()
        }
        fn model(&self, index: usize, part: Range<usize>) -> Result<Vec<f32>> {
            Ok(self.models[index][part].to_vec())
        }
        fn base(&self, part: Range<usize>) -> Result<Vec<f32>> {
            Ok(self.base[part].to_vec())
        }
    }

    fn merged(models: &[&[f32]], base: &[f32], method: &MergeMethod) -> Vec<f32> {
        let tensor = InMemory { models: models.iter().map(|m| m.to_vec()).collect(), base: base.to_vec() };
        let weights = method.checked_weights(models.len()).unwrap();
        let mut all = Vec::new();
        merge_parts(&tensor, method, &weights, |part| all.extend_from_slice(part)).unwrap();
        all
    }

    fn slerp(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
        merged(&[a, b], &[], &MergeMethod::Slerp { t })
    }

    #[test]
    fn linear_weights_are_divided_by_their_sum() {
        let method = MergeMethod::Linear { weights: vec![1.0, 3.0] };
        assert_eq!(merged(&[&[0.0, 4.0], &[8.0, -4.0]], &[], &method), [6.0, -2.0]);
    }

    #[test]
    fn slerp_keeps_the_length_where_a_line_would_cut_the_corner() {
        let half = slerp(&[2.0, 0.0], &[0.0, 2.0], 0.5);
        assert!(half.iter().all(|x| (x - 2f32.sqrt()).abs() < 1e-6), "{half:?}");
        assert_eq!(slerp(&[1.0, 2.0], &[3.0, -4.0], 0.0), [1.0, 2.0]);
        // sin(θ)/sin(θ) is 1 to rounding only.
        let end = slerp(&[1.0, 2.0], &[3.0, -4.0], 1.0);
        assert!((end[0] - 3.0).abs() < 1e-6 && (end[1] + 4.0).abs() < 1e-6);
        // No angle: a line.
        assert_eq!(slerp(&[0.0, 0.0], &[2.0, 4.0], 0.5), [1.0, 2.0]);
        assert_eq!(slerp(&[1.0, 1.0], &[3.0, 3.0], 0.5), [2.0, 2.0]);
    }

    #[test]
    fn ties_trims_elects_and_averages_those_that_agree() {
        // First place: +3 outweighs −1, so 3 alone. Second: both agree. Third: they cancel.
        let differences = [vec![3.0, 1.0, 1.0], vec![-1.0, 2.0, -1.0]];
        assert_eq!(agreed_mean(&differences, &[1.0, 1.0]), [3.0, 1.5, 0.0]);
        assert_eq!(agreed_mean(&differences, &[1.0, 4.0]), [-1.0, 9.0 / 5.0, -1.0]);
        let method = MergeMethod::Ties { base: "base".into(), weights: vec![1.0, 1.0], density: 0.5, lambda: 0.5 };
        // Differences (1, 0) and (4, −1), each trimmed to its larger: (1, 0), (4, 0); mean 2.5, half of it added.
        assert_eq!(merged(&[&[11.0, 10.0], &[14.0, 9.0]], &[10.0, 10.0], &method), [11.25, 10.0]);
    }

    #[test]
    fn parts_are_merged_as_the_whole_would_be() {
        let wave = |step: f32| (0..2 * PART + 7).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
        let (a, b, base) = (wave(0.1), wave(0.3), wave(0.7));
        let method = MergeMethod::Ties { base: "base".into(), weights: vec![1.0], density: 0.25, lambda: 1.0 };
        let ties = merged(&[&a], &base, &method);
        let changed = ties.iter().zip(&base).filter(|(merged, base)| merged != base).count();
        assert_eq!(changed, (a.len() as f64 * 0.25).round() as usize);
        let half = slerp(&a, &b, 0.5);
        // Sines of two frequencies are orthogonal: both weights are 1/√2.
        let last = a.len() - 1;
        assert!((half[last] - (a[last] + b[last]) / 2f32.sqrt()).abs() < 1e-3);
    }
}
