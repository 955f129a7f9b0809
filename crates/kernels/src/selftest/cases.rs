//! The compared operations: all of them, at shapes that are even and odd, small and of several blocks.

use super::large::Sizes;
use crate::error::Result;
use crate::{
    AdaptedLayer, AddRmsNorm, DropoutMask, FourBit, FourBitType, Gate, HeadOptions, LowRank, NormOptions, RotaryPairs,
    RowEntropy, adapted_linear, adapted_linears, add, add_linear, add_rms_norm, columns, dropout, embedding,
    gated_halves, geglu, linear, rms_norm, rotary, selected_log_probs, selected_log_probs_with_entropy,
    selected_log_probs_with_terminators, swiglu, weighted_sum,
};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Run = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>>;

/// One operation at one shape.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) shape: String,
    pub(super) inputs: Vec<Tensor>,
    /// Inputs that are float32 always and have no gradient.
    pub(super) constants: Vec<usize>,
    /// Inputs that are parameters of a [`crate::Gradients`]; the others count as activations.
    pub(super) parameters: Vec<usize>,
    pub(super) run: Run,
    /// ∂L/∂result of each result.
    pub(super) weights: Vec<Tensor>,
}

pub(super) struct Cases {
    rng: ChaCha8Rng,
    all: Vec<Case>,
}

impl Cases {
    fn tensor(&mut self, shape: &[usize]) -> Result<Tensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.rng.random_range(-1.5f32..1.5)).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    pub(super) fn ids(&mut self, count: usize, below: u32) -> Vec<u32> {
        (0..count).map(|_| self.rng.random_range(0..below)).collect()
    }

    /// A case with inputs of `shapes` and results of `results`, all drawn.
    pub(super) fn push(
        &mut self,
        name: &'static str,
        shapes: &[&[usize]],
        [constants, parameters]: [&[usize]; 2],
        results: &[&[usize]],
        options: &str,
        run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + 'static,
    ) -> Result<()> {
        let inputs = shapes.iter().map(|shape| self.tensor(shape)).collect::<Result<Vec<_>>>()?;
        let weights = results.iter().map(|shape| self.tensor(shape)).collect::<Result<Vec<_>>>()?;
        let mut shape: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
        if !options.is_empty() {
            shape.push(options.to_owned());
        }
        self.all.push(Case {
            name,
            shape: shape.join(" "),
            inputs,
            constants: constants.to_vec(),
            parameters: parameters.to_vec(),
            run: Box::new(run),
            weights,
        });
        Ok(())
    }
}

/// All cases; the same each time.
pub(super) fn all(sizes: Sizes) -> Result<Vec<Case>> {
    let mut cases = Cases { rng: ChaCha8Rng::seed_from_u64(1), all: vec![] };
    elementwise(&mut cases)?;
    norms(&mut cases)?;
    products(&mut cases)?;
    rows(&mut cases)?;
    head(&mut cases)?;
    // of their own, so that a case more above leaves these numbers as they are
    cases.rng = ChaCha8Rng::seed_from_u64(2);
    super::attention::push(&mut cases)?;
    cases.rng = ChaCha8Rng::seed_from_u64(3);
    super::large::push(&mut cases, sizes)?;
    Ok(cases.all)
}

fn elementwise(cases: &mut Cases) -> Result<()> {
    for shape in [&[7, 33][..], &[3, 8, 64]] {
        cases.push("add", &[shape, shape], [&[], &[1]], &[shape], "", |x| Ok(vec![add(&x[0], &x[1])?]))?;
        cases.push("swiglu", &[shape, shape], [&[], &[]], &[shape], "", |x| Ok(vec![swiglu(&x[0], &x[1])?]))?;
        cases.push("geglu", &[shape, shape], [&[], &[]], &[shape], "", |x| Ok(vec![geglu(&x[0], &x[1])?]))?;
        if let &[rows, width] = shape {
            let both = [rows, 2 * width];
            cases.push("gated_halves", &[&both], [&[], &[]], &[shape], "", |x| {
                Ok(vec![gated_halves(&x[0], Gate::Silu)?])
            })?;
        }
        let mask = DropoutMask { share: 0.3, seed: 5, stream: 2, first_element: 13 };
        cases.push("dropout", &[shape], [&[], &[]], &[shape], "0.3", move |x| Ok(vec![dropout(&x[0], mask)?]))?;
    }
    // The weights of the sum are a constant, of x's dtype.
    cases.push("weighted_sum", &[&[5, 70]], [&[], &[]], &[&[]], "", |x| {
        let weights = x[0].detach().affine(0.5, 0.25)?;
        Ok(vec![weighted_sum(&x[0], &weights)?])
    })?;
    for (heads, width, half, pairs) in [
        (3, 24, 12, RotaryPairs::Halves),
        (3, 40, 16, RotaryPairs::Halves),
        (2, 20, 7, RotaryPairs::Halves),
        (2, 20, 7, RotaryPairs::Neighbours),
    ] {
        let shape = [5, heads, width];
        let angles = [5, half];
        let options = format!("{half} pairs, {pairs:?}");
        cases.push("rotary", &[&shape, &angles, &angles], [&[1, 2], &[]], &[&shape], &options, move |x| {
            Ok(vec![rotary(&x[0], &x[1], &x[2], pairs)?])
        })?;
    }
    Ok(())
}

fn norms(cases: &mut Cases) -> Result<()> {
    for (shape, unit_offset) in
        [(&[5, 33][..], false), (&[300, 64], false), (&[6, 1024], true), (&[3, 5, 16], true), (&[3, 5000], false)]
    {
        let width = [shape[shape.len() - 1]];
        let options = NormOptions { eps: 1e-6, unit_offset };
        let text = if unit_offset { "1 + weight" } else { "" };
        cases.push("rms_norm", &[shape, &width], [&[], &[1]], &[shape], text, move |x| {
            Ok(vec![rms_norm(&x[0], &x[1], options)?])
        })?;
        let three = [shape, shape, &width];
        cases.push("add_rms_norm", &three, [&[], &[2]], &[shape, shape], text, move |x| {
            let AddRmsNorm { sum, normed } = add_rms_norm(&x[0], &x[1], &x[2], options)?;
            Ok(vec![sum, normed])
        })?;
    }
    Ok(())
}

fn products(cases: &mut Cases) -> Result<()> {
    for (rows, inner, outer) in [(7, 24, 10), (40, 33, 65)] {
        let (x, weight, y) = ([rows, inner], [outer, inner], [rows, outer]);
        cases.push("linear", &[&x, &weight], [&[], &[1]], &[&y], "", |x| Ok(vec![linear(&x[0], &x[1], None)?]))?;
        cases.push("linear", &[&x, &weight, &[outer]], [&[], &[1, 2]], &[&y], "bias", |x| {
            Ok(vec![linear(&x[0], &x[1], Some(&x[2]))?])
        })?;
        cases.push("add_linear", &[&y, &x, &weight], [&[], &[2]], &[&y], "· 0.7", |x| {
            Ok(vec![add_linear(&x[0], &x[1], &x[2], 0.7)?])
        })?;
        let (low, b) = ([rows, 3], [outer, 3]);
        cases.push("adapted_linear", &[&x, &weight, &[outer], &low, &b], [&[], &[1, 2, 4]], &[&y], "· 0.7", |x| {
            Ok(vec![adapted_linear(&x[0], &x[1], Some(&x[2]), LowRank { low: &x[3], b: &x[4], scale: 0.7 })?])
        })?;
        // Adapters of two ranks; a layer with a bias and one that is frozen.
        let (a, second, second_a) = ([3, inner], [4, inner], [5, inner]);
        let shapes: [&[usize]; 8] = [&x, &weight, &[outer], &a, &b, &second, &second_a, &[4, 5]];
        let (trained, results): (_, [&[usize]; 2]) = ([1, 2, 3, 4, 6, 7], [&y, &[rows, 4]]);
        cases.push("adapted_linears", &shapes, [&[], &trained], &results, "· 0.7, · 2", |x| {
            let first = AdaptedLayer { weight: (&x[1]).into(), bias: Some(&x[2]), a: &x[3], b: &x[4], scale: 0.7 };
            let frozen = x[5].detach();
            let second = AdaptedLayer { weight: (&frozen).into(), bias: None, a: &x[6], b: &x[7], scale: 2.0 };
            adapted_linears(&x[0], &[first, second])
        })?;
        // One input of several products, and gradients that are no parameter's.
        cases.push("linear", &[&x, &[inner, inner]], [&[], &[]], &[&x], "twice", |x| {
            let once = linear(&x[0], &x[1], None)?;
            Ok(vec![add(&linear(&once, &x[1], None)?, &linear(&x[0], &x[1], None)?)?])
        })?;
    }
    // A frozen weight in four bits, which a device widens before the product; rows of whole blocks, and others.
    for (rows, columns, kind, double) in
        [(5, 64, FourBitType::Nf4, true), (9, 130, FourBitType::Fp4, false), (40, 33, FourBitType::Nf4, false)]
    {
        let values = cases.tensor(&[rows, columns])?.flatten_all()?.to_vec1::<f32>()?;
        let read = |first: usize, out: &mut [f32]| -> Result<()> {
            out.copy_from_slice(&values[first..first + out.len()]);
            Ok(())
        };
        let weight = FourBit::quantise((rows, columns), kind, 64, double, read)?;
        let text = format!("[{rows}, {columns}] {kind:?}, double {double}");
        cases.push("linear", &[&[7, columns]], [&[], &[]], &[&[7, rows]], &text, move |x| {
            Ok(vec![linear(&x[0], &weight, None)?])
        })?;
    }
    Ok(())
}

fn rows(cases: &mut Cases) -> Result<()> {
    cases.push("columns", &[&[5, 24]], [&[], &[]], &[&[5, 14], &[5, 8]], "3..17 0..8", |x| {
        Ok(vec![columns(&x[0], 3..17)?, columns(&x[0], 0..8)?])
    })?;
    for (width, parameters) in [(24, &[0][..]), (16, &[]), (13, &[0])] {
        let ids = cases.ids(40, 11);
        let options = if parameters.is_empty() { "40 rows, of activations" } else { "40 rows" };
        cases.push("embedding", &[&[11, width]], [&[], parameters], &[&[40, width]], options, move |x| {
            Ok(vec![embedding(&x[0], &ids)?])
        })?;
    }
    Ok(())
}

fn head(cases: &mut Cases) -> Result<()> {
    // Chunks smaller than the rows; a cap; rows without a weight; a weight without a gradient buffer of its own.
    for (rows, width, vocabulary, soft_cap, chunk, parameters) in [
        (9, 32, 300, None, 512, &[1][..]),
        (21, 24, 1500, None, 2, &[1]),
        (13, 16, 257, Some(2.5), 512, &[1]),
        (11, 16, 100, Some(30.0), 1, &[]),
    ] {
        let targets = cases.ids(rows, vocabulary as u32);
        let options = HeadOptions { soft_cap, chunk };
        let shapes: [&[usize]; 2] = [&[rows, width], &[vocabulary, width]];
        let text = format!("cap {soft_cap:?}, chunk {chunk}");
        cases.push("head", &shapes, [&[], parameters], &[&[rows]], &text, move |x| {
            Ok(vec![selected_log_probs(&x[0], &x[1], &targets, options)?])
        })?;
        if let Some(case) = cases.all.last_mut() {
            let skipped = Tensor::from_vec((0..rows).map(|row| f32::from(row % 3 != 1)).collect(), rows, &Device::Cpu)?;
            case.weights[0] = (&case.weights[0] * skipped)?;
        }
        // With a frozen weight the gradient is computed on the way forth.
        let targets = cases.ids(rows, vocabulary as u32);
        let frozen = format!("{text}, frozen");
        cases.push("head", &shapes, [&[1], &[]], &[&[rows]], &frozen, move |x| {
            let weight = x[1].to_dtype(x[0].dtype())?;
            Ok(vec![selected_log_probs(&x[0], &weight, &targets, options)?])
        })?;
        let targets = cases.ids(rows, vocabulary as u32);
        let text = format!("{text}, two terminators");
        cases.push("head", &shapes, [&[], parameters], &[&[rows], &[rows], &[rows]], &text, move |x| {
            let both = selected_log_probs_with_terminators(&x[0], &x[1], &targets, &[3, 97], options)?;
            let column = |values: Vec<f32>| Tensor::from_vec(values, targets.len(), x[0].device());
            let log_probs = column(both.terminators.iter().map(|score| score.log_prob).collect())?;
            // The share of the vocabulary above the likeliest terminator: near ties may fall either way.
            let share = |rank: u32| rank as f32 / 97.0;
            let ranks = column(both.terminators.iter().map(|score| share(score.rank)).collect())?;
            Ok(vec![both.log_probs, log_probs, ranks])
        })?;
        for entropy in [RowEntropy::Collision, RowEntropy::Top] {
            let targets = cases.ids(rows, vocabulary as u32);
            let text = format!("cap {soft_cap:?}, chunk {chunk}, entropy {entropy:?}");
            cases.push("head", &shapes, [&[], parameters], &[&[rows], &[rows]], &text, move |x| {
                let both = selected_log_probs_with_entropy(&x[0], &x[1], &targets, entropy, &[], options)?;
                let entropies = Tensor::from_vec(both.entropies, targets.len(), x[0].device())?;
                Ok(vec![both.log_probs, entropies])
            })?;
        }
    }
    Ok(())
}
