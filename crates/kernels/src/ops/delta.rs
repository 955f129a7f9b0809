//! The parts of a gated delta net: a short convolution, the decay's logarithm, the gated delta rule. On the CPU alone.

use super::experts::refuse_device;
use crate::autograd::{FreshGrad, GradSink, record};
use crate::checks::{matrix, same_shape};
use crate::cpu::Dense;
use crate::cpu::delta::{self, DeltaGrads, DeltaInputs, DeltaRule};
use crate::cpu::short_convolution::ShortConvolution;
use crate::error::{KernelError, Result};
use crate::options::{DeltaHeads, Segments};
use candle_core::Tensor;

const CONVOLUTION: &str = "short_convolution";
const DECAY: &str = "log_decay";
const RULE: &str = "gated_delta_rule";

/// A causal convolution of each channel of `x` (N, C) with its W taps in `weight` (C, 1, W), then x·σ(x), to (N, C). Before
/// the start of a sequence there are zeros; a span with a prefix goes on from the prefix.
///
/// # Errors
///
/// [`KernelError::Segments`] if a prefix is not the whole of an earlier span without prefix; [`KernelError::Rank`],
/// [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit tensors.
pub fn short_convolution(x: &Tensor, weight: &Tensor, segments: &Segments) -> Result<Tensor> {
    let (_, channels) = matrix(CONVOLUTION, "x", "(N, C)", x)?;
    same_shape(CONVOLUTION, "x", &[segments.tokens(), channels], x)?;
    let &[_, _, taps] = weight.dims() else {
        let got = weight.dims().to_vec();
        return Err(KernelError::Rank { op: CONVOLUTION, argument: "weight", expected: "(C, 1, W)", got });
    };
    same_shape(CONVOLUTION, "weight", &[channels, 1, taps.max(1)], weight)?;
    refuse_device(CONVOLUTION, "x", x)?;
    let input = Dense::new(CONVOLUTION, "x", x)?;
    let weights = Dense::new(CONVOLUTION, "weight", weight)?;
    let convolution = ShortConvolution::new(&weights.read(), channels, segments)?;
    let values = convolution.forward(&input.read());
    record(CONVOLUTION, &[x, weight], values, x.dims(), move |dy, _, sink| {
        let x = input.read();
        let mut dx = FreshGrad::open(sink, 0, x.len());
        let dw = convolution.backward(&x, dy, &mut dx.fresh);
        dx.close(0, sink)?;
        add(sink, 1, &dw)
    })
}

/// −e^rate · ln(1 + e^(x + bias)) for `x` (N, heads), `rate` and `bias` (heads): the logarithm of a decay.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`] for unfit tensors.
pub fn log_decay(x: &Tensor, rate: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (_, heads) = matrix(DECAY, "x", "(N, heads)", x)?;
    same_shape(DECAY, "rate", &[heads], rate)?;
    same_shape(DECAY, "bias", &[heads], bias)?;
    refuse_device(DECAY, "x", x)?;
    let saved = [Dense::new(DECAY, "x", x)?, Dense::new(DECAY, "rate", rate)?, Dense::new(DECAY, "bias", bias)?];
    let values = {
        let [x, rates, biases] = saved.each_ref().map(Dense::read);
        let of_head = x.iter().enumerate().map(|(index, x)| (*x, index % heads));
        of_head.map(|(x, head)| delta::log_decay(x, rates[head], biases[head])).collect()
    };
    record(DECAY, &[x, rate, bias], values, x.dims(), move |dg, _, sink| {
        let [x, rates, biases] = saved.each_ref().map(Dense::read);
        let mut dx = FreshGrad::open(sink, 0, x.len());
        let (d_rates, d_biases) = delta::log_decay_backward([&x, &rates, &biases], dg, &mut dx.fresh);
        dx.close(0, sink)?;
        add(sink, 1, &d_rates)?;
        add(sink, 2, &d_biases)
    })
}

/// The gated delta rule (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464), to (N, value heads, V). `qkv` (N, row width)
/// has queries, keys and values of a token side by side; queries and keys are brought to unit length, queries divided by √K.
/// `decay` (N, value heads) is the logarithm of the state's decay, `strength` (N, value heads) the share of the correction
/// that is written. A span with a prefix goes on from the prefix's last state.
///
/// # Errors
///
/// [`KernelError::Option`] unless the key heads divide the value heads; [`KernelError::Segments`] if a prefix is not the
/// whole of an earlier span without prefix; [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`],
/// [`KernelError::Device`] for unfit tensors.
pub fn gated_delta_rule(
    qkv: &Tensor,
    decay: &Tensor,
    strength: &Tensor,
    heads: DeltaHeads,
    segments: &Segments,
) -> Result<Tensor> {
    if heads.key_heads == 0 || !heads.value_heads.is_multiple_of(heads.key_heads) {
        let got = format!("{} and {}", heads.key_heads, heads.value_heads);
        let expected = "key heads that divide the value heads";
        return Err(KernelError::Option { op: RULE, option: "heads", expected, got });
    }
    let tokens = segments.tokens();
    same_shape(RULE, "qkv", &[tokens, heads.row_width()], qkv)?;
    for (argument, tensor) in [("decay", decay), ("strength", strength)] {
        same_shape(RULE, argument, &[tokens, heads.value_heads], tensor)?;
    }
    refuse_device(RULE, "qkv", qkv)?;
    let saved =
        [Dense::new(RULE, "qkv", qkv)?, Dense::new(RULE, "decay", decay)?, Dense::new(RULE, "strength", strength)?];
    let rule = DeltaRule::new(heads, segments)?;
    let values = with_inputs(&saved, |inputs| rule.forward(inputs));
    let shape = [tokens, heads.value_heads, heads.value_dim];
    record(RULE, &[qkv, decay, strength], values, &shape, move |dy, _, sink| {
        let [mut qkv, mut decay, mut strength] =
            [0, 1, 2].map(|index| FreshGrad::open(sink, index, saved[index].read().len()));
        let grads = DeltaGrads { qkv: &mut qkv.fresh, decay: &mut decay.fresh, strength: &mut strength.fresh };
        with_inputs(&saved, |inputs| rule.backward(inputs, dy, grads));
        [qkv, decay, strength].into_iter().enumerate().try_for_each(|(index, grad)| grad.close(index, sink))
    })
}

fn with_inputs<T>(saved: &[Dense; 3], run: impl FnOnce(DeltaInputs<'_>) -> T) -> T {
    let [qkv, decay, strength] = saved.each_ref().map(Dense::read);
    run(DeltaInputs { qkv: &qkv, decay: &decay, strength: &strength })
}

/// Delivers a finished gradient.
fn add(sink: &mut GradSink<'_>, index: usize, gradient: &[f32]) -> Result<()> {
    sink.deliver(index, |buffer| {
        buffer.zero_unless_accumulating();
        buffer.values.iter_mut().zip(gradient).for_each(|(sum, d)| *sum += d);
    })
}
