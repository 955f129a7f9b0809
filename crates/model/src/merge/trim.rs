//! Keeping the largest values of a tensor that is read part by part (the "trim" of TIES, arXiv 2306.01708).

use crate::error::Result;

/// The values kept: those above a magnitude, and the first few equal to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trim {
    threshold: f32,
    at_threshold: usize,
}

/// Half of a float's bits: the bits of magnitudes are ordered like the magnitudes, and are counted half by half.
const HALF: u32 = 16;

impl Trim {
    /// A trim that keeps the `density` share of `count` values, at least one; ties go to the earlier one. `each` passes all
    /// values to its argument, and is called twice: only counts of them are kept.
    pub fn find(density: f64, count: usize, each: impl Fn(&mut dyn FnMut(&[f32])) -> Result<()>) -> Result<Self> {
        let keep = ((count as f64 * density).round() as usize).clamp(1, count.max(1));
        let bits = |value: &f32| value.abs().to_bits();

        let mut by_high = vec![0usize; 1 << HALF];
        each(&mut |values| values.iter().for_each(|value| by_high[(bits(value) >> HALF) as usize] += 1))?;
        let (high, above) = reach(&by_high, keep);

        let mut by_low = vec![0usize; 1 << HALF];
        each(&mut |values| {
            let in_reach = values.iter().map(bits).filter(|bits| bits >> HALF == high);
            in_reach.for_each(|bits| by_low[(bits & ((1 << HALF) - 1)) as usize] += 1);
        })?;
        let (low, above_low) = reach(&by_low, keep - above);
        Ok(Self { threshold: f32::from_bits(high << HALF | low), at_threshold: keep - above - above_low })
    }

    /// Zeroes the other values. Parts must come in order.
    pub fn apply(&mut self, values: &mut [f32]) {
        for value in values {
            if value.abs() > self.threshold {
                continue;
            }
            if value.abs() == self.threshold && self.at_threshold > 0 {
                self.at_threshold -= 1;
            } else {
                *value = 0.0;
            }
        }
    }
}

/// The highest bin with `wanted` values in it and above, and the number above it.
fn reach(bins: &[usize], wanted: usize) -> (u32, usize) {
    let mut above = 0;
    for (bin, count) in bins.iter().enumerate().rev() {
        if above + count >= wanted {
            return (bin as u32, above);
        }
        above += count;
    }
    (0, above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(values: &[f32], density: f64) -> Vec<f32> {
        let mut trim = Trim::find(density, values.len(), |show| {
            values.chunks(2).for_each(show);
            Ok(())
        })
        .unwrap();
        let mut values = values.to_vec();
        values.chunks_mut(3).for_each(|part| trim.apply(part));
        values
    }

    #[test]
    fn the_largest_stay_and_the_earlier_of_equals() {
        assert_eq!(trimmed(&[0.1, -3.0, 2.0, -2.0, 0.5], 0.4), [0.0, -3.0, 2.0, 0.0, 0.0]);
        assert_eq!(trimmed(&[1.0, 2.0], 1.0), [1.0, 2.0]);
        assert_eq!(trimmed(&[0.0, 0.0, 1e-40], 0.1), [0.0, 0.0, 1e-40]);
        assert_eq!(trimmed(&[], 0.5), [0f32; 0]);
    }

    #[test]
    fn it_is_what_sorting_would_keep() {
        let values: Vec<f32> = (0..5000).map(|i: i32| ((i * i) as f32).sin() * 1.5f32.powi(i % 40 - 20)).collect();
        for density in [1e-9, 0.01, 0.2, 0.5, 0.999] {
            let keep = ((values.len() as f64 * density).round() as usize).max(1);
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
            let mut expected = vec![0.0; values.len()];
            order[..keep].iter().for_each(|i| expected[*i] = values[*i]);
            assert_eq!(trimmed(&values, density), expected, "{density}");
        }
    }
}
