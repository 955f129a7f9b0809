//! Root-mean-square normalisation, alone and after a residual sum; the formulas are in `cpu/norm.rs`.

use crate::autograd::{
    DeviceSink, GradSink, ResultGrad, is_recording, leaf, push_on, push_pair, record, register_recompute, tracks,
};
use crate::checks::{rows, same_shape};
use crate::cpu::norm::{InputGrad, Normed, SavedNorm, add_rows, scale};
use crate::cpu::{self, Dense, Recompute};
use crate::device::norm::{Norm, ResidualSum};
use crate::device::sums::column_sum_grad;
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use crate::options::NormOptions;
use candle_core::{DType, Tensor};
use std::sync::Arc;

const OP: &str = "rms_norm";

/// Results of [`add_rms_norm`], both (…, H).
#[derive(Clone, Debug)]
pub struct AddRmsNorm {
    /// x + residual, the residual stream.
    pub sum: Tensor,
    /// The sum, normalised.
    pub normed: Tensor,
}

/// Normalises the last dimension: `x` (…, H), `weight` (H), to (…, H). An ε alone serves as
/// options.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors, [`KernelError::Option`] for an ε that is not positive.
pub fn rms_norm(x: &Tensor, weight: &Tensor, options: impl Into<NormOptions>) -> Result<Tensor> {
    let options = options.into();
    let count = check(x, weight, options)?;
    match Engine::of(x) {
        None => on_cpu(x, weight, count, options),
        Some(engine) => on_device(&engine, x, weight, options),
    }
}

/// `sum = x + residual` and its norm in one sweep; both (…, H).
///
/// # Errors
///
/// As for [`rms_norm`].
pub fn add_rms_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    options: impl Into<NormOptions>,
) -> Result<AddRmsNorm> {
    let options = options.into();
    let count = check(x, weight, options)?;
    same_shape(OP, "residual", x.dims(), residual)?;
    match Engine::of(x) {
        None => add_on_cpu([x, residual, weight], count, options),
        Some(engine) => add_on_device(&engine, [x, residual, weight], options),
    }
}

/// The number of rows, where the arguments fit.
fn check(x: &Tensor, weight: &Tensor, options: NormOptions) -> Result<usize> {
    let (count, width) = rows(OP, "x", "(…, H)", x)?;
    same_shape(OP, "weight", &[width], weight)?;
    if options.eps.is_nan() || options.eps <= 0.0 {
        return Err(KernelError::Option { op: OP, option: "eps", expected: "above 0", got: options.eps.to_string() });
    }
    Ok(count)
}

fn on_cpu(x: &Tensor, weight: &Tensor, count: usize, options: NormOptions) -> Result<Tensor> {
    let input = Dense::new(OP, "x", x)?;
    let scale = scale(OP, weight, options)?;
    let normed = cpu::norm::rms_norm(&input.read(), count, &scale, options.eps as f32);
    record_norm(x, weight, normed, scale)
}

fn add_on_cpu(arguments: [&Tensor; 3], count: usize, options: NormOptions) -> Result<AddRmsNorm> {
    let [x, residual, weight] = arguments;
    let (left, right) = (Dense::new(OP, "x", x)?, Dense::new(OP, "residual", residual)?);
    let scale = scale(OP, weight, options)?;
    let (sum, normed) = {
        let (left, right) = (left.read(), right.read());
        cpu::norm::add_rms_norm([&left, &right], count, &scale, options.eps as f32)
    };
    if is_recording() && arguments.iter().any(|tensor| tensor.track_op()) {
        return record_together(arguments, sum, normed, scale);
    }
    let sum = record("add_rms_norm", &[x, residual], sum, x.dims(), |gradient, _, sink| {
        sink.pass(0, gradient)?;
        sink.pass(1, gradient)
    })?;
    let normed = record_norm(&sum, weight, normed, scale)?;
    Ok(AddRmsNorm { sum, normed })
}

/// Records a norm with its finished values.
fn record_norm(x: &Tensor, weight: &Tensor, normed: Normed, scale: Vec<f32>) -> Result<Tensor> {
    let Normed { values, inverse } = normed;
    let saved = Arc::new(SavedNorm { input: Dense::new(OP, "x", x)?, scale, inverse });
    let recompute = Arc::clone(&saved);
    let normed = record(OP, &[x, weight], values, x.dims(), move |dy, _, sink| {
        let mut buffer = sink.open(0);
        let dx = buffer.as_mut().map(|dx| InputGrad { values: &mut dx.values, base: None, add: dx.accumulate });
        let partial = saved.backward(dy, dx, sink.wants(1));
        if let Some(buffer) = buffer {
            sink.close(0, buffer)?;
        }
        sink.deliver(1, |dg| add_rows(&partial, saved.scale.len(), dg))
    })?;
    register_recompute(&normed, || Recompute::new(move || recompute.normed()));
    Ok(normed)
}

/// Records sum and norm as one node of a tape: the backward pass adds the gradient of the sum to the norm's.
fn record_together(arguments: [&Tensor; 3], sum: Vec<f32>, normed: Normed, scale: Vec<f32>) -> Result<AddRmsNorm> {
    let Normed { values, inverse } = normed;
    let [sum, normed] = [sum, values].map(|values| leaf(values, arguments[0].dims()));
    let saved = Arc::new(SavedNorm { input: Dense::new(OP, "sum", &sum)?, scale, inverse });
    let recompute = Arc::clone(&saved);
    let len = sum.elem_count();
    let backward = move |[d_sum, d_normed]: [Option<&[f32]>; 2], sink: &mut GradSink<'_>| {
        let mut total = sink.blank(len);
        match d_normed {
            None => total.copy_from_slice(d_sum.unwrap_or(&[])),
            Some(dy) => {
                let wants_dx = sink.wants(0) || sink.wants(1);
                let dx = wants_dx.then_some(InputGrad { values: &mut total, base: d_sum, add: false });
                let partial = saved.backward(dy, dx, sink.wants(2));
                sink.deliver(2, |dg| add_rows(&partial, saved.scale.len(), dg))?;
            }
        }
        let total = Arc::new(total);
        sink.pass(0, &ResultGrad::Shared(&total))?;
        sink.pass(1, &ResultGrad::Shared(&total))
    };
    push_pair(&arguments, [&sum, &normed], Box::new(backward))?;
    register_recompute(&normed, || Recompute::new(move || recompute.normed()));
    Ok(AddRmsNorm { sum, normed })
}

fn on_device(engine: &Engine, x: &Tensor, weight: &Tensor, options: NormOptions) -> Result<Tensor> {
    let tracked = tracks(OP, &[x, weight])?;
    let input = Operand::first(engine, OP, "x", x)?;
    let factors = Operand::new(engine, OP, "weight", weight, x.dtype())?;
    let normed = engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked))?;
    let norm = Norm::run(engine, input, factors, None, &normed, options)?;
    push_on(engine, &[x, weight], &[&normed], move |gradients, sink| match gradients[0].as_deref() {
        None => Ok(()),
        Some(dy) => backward_on_device(&norm, dy, None, &[0], 1, sink),
    })?;
    Ok(normed)
}

fn add_on_device(engine: &Engine, arguments: [&Tensor; 3], options: NormOptions) -> Result<AddRmsNorm> {
    let [x, residual, weight] = arguments;
    let tracked = tracks("add_rms_norm", &arguments)?;
    let input = Operand::first(engine, OP, "x", x)?;
    let stream = Operand::new(engine, OP, "residual", residual, x.dtype())?;
    let factors = Operand::new(engine, OP, "weight", weight, x.dtype())?;
    let [sum, normed] = [(); 2].map(|()| engine.allocate(x.dtype(), x.dims(), Role::leaf_if(tracked)));
    let (sum, normed) = (sum?, normed?);
    let residual_sum = ResidualSum { residual: &stream, sum: &sum };
    let norm = Norm::run(engine, input, factors, Some(residual_sum), &normed, options)?;
    push_on(engine, &arguments, &[&sum, &normed], move |gradients, sink| match gradients {
        [Some(d_sum), None] => {
            sink.pass(0, d_sum)?;
            sink.pass(1, d_sum)
        }
        [d_sum, Some(d_normed)] => backward_on_device(&norm, d_normed, d_sum.as_deref(), &[0, 1], 2, sink),
        _ => Ok(()),
    })?;
    Ok(AddRmsNorm { sum, normed })
}

/// From the gradient `dy` of the norm, and that of the sum, to those of the arguments `inputs` and `weight` of the node.
fn backward_on_device(
    norm: &Norm,
    dy: &Tensor,
    d_sum: Option<&Tensor>,
    inputs: &[usize],
    weight: usize,
    sink: &mut DeviceSink<'_>,
) -> Result<()> {
    if inputs.iter().any(|&index| sink.wants(index)) {
        let dx = Arc::new(norm.input_gradient(dy, d_sum)?);
        for &index in inputs {
            sink.pass(index, &dx)?;
        }
    }
    // Sums are float32 always; the sink adds them to a gradient of any dtype.
    sink.deliver(weight, DType::F32, |grad| column_sum_grad(norm.engine(), norm.weight_summands(dy), grad))
}
