//! A linear layer with a low-rank adapter (Hu et al. 2021, arXiv 2106.09685) as one operation.

use super::linear::{
    Factors, OP, add_on_cpu, backward_on_device, bias_grad, bias_grad_on_device, bias_row, check, check_scale, on_cpu,
    output_shape,
};
use crate::autograd::{is_recording, push_on, record, single, tracks};
use crate::checks::same_shape;
use crate::cpu::product::Extents;
use crate::cpu::weight::Weight;
use crate::device::linear::Factors as DeviceFactors;
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use candle_core::Tensor;

/// The update of a low-rank adapter: `scale` · `low` (…, R) · `b` (O, R)ᵀ.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// The input times the adapter's A.
    pub low: &'a Tensor,
    /// The adapter's B.
    pub b: &'a Tensor,
    /// Factor.
    pub scale: f64,
}

/// [`crate::linear()`] and the update of an adapter, `x`·`weight`ᵀ + `bias` + `scale`·`low`·`b`ᵀ, as one operation: the second
/// product is added to the first one's memory, and neither is copied.
///
/// # Errors
///
/// As for [`crate::linear()`] and [`crate::add_linear`].
pub fn adapted_linear<'w>(
    x: &Tensor,
    weight: impl Into<Weight<'w>>,
    bias: Option<&Tensor>,
    update: LowRank<'_>,
) -> Result<Tensor> {
    adapted(x, weight.into(), bias, update, true)
}

/// As [`adapted_linear`] for a result that nobody reads, see [`crate::linear_for_backward`].
///
/// # Errors
///
/// As for [`adapted_linear`].
pub fn adapted_linear_for_backward<'w>(
    x: &Tensor,
    weight: impl Into<Weight<'w>>,
    bias: Option<&Tensor>,
    update: LowRank<'_>,
) -> Result<Tensor> {
    adapted(x, weight.into(), bias, update, false)
}

fn adapted(
    x: &Tensor,
    weight: Weight<'_>,
    bias: Option<&Tensor>,
    update: LowRank<'_>,
    computed: bool,
) -> Result<Tensor> {
    let LowRank { low, b, scale } = update;
    check_scale(scale)?;
    let Extents { outer, .. } = check(x, weight, bias)?;
    let Extents { inner: rank, outer: rows, .. } = check(low, b.into(), None)?;
    if rows != outer {
        let expected = format!("[{outer}, {rank}]");
        return Err(KernelError::Shape { op: OP, argument: "b", expected, got: b.dims().to_vec() });
    }
    same_shape(OP, "low", &output_shape(x, rank), low)?;
    match Engine::of(x) {
        None => adapted_on_cpu(x, weight, bias, update, computed),
        Some(engine) => adapted_on_device(&engine, x, weight, bias, update, computed),
    }
}

/// Arguments of the node of an adapted product: a frozen weight is none.
fn adapted_arguments<'a>(
    x: &'a Tensor,
    weight: Weight<'a>,
    bias: Option<&'a Tensor>,
    LowRank { low, b, .. }: LowRank<'a>,
) -> Vec<&'a Tensor> {
    [x].into_iter().chain(weight.tracked()).chain(bias).chain([low, b]).collect()
}

fn adapted_on_cpu(
    x: &Tensor,
    weight: Weight<'_>,
    bias: Option<&Tensor>,
    update @ LowRank { low, b, scale }: LowRank<'_>,
    computed: bool,
) -> Result<Tensor> {
    let arguments = adapted_arguments(x, weight, bias, update);
    if arguments.len() > 3 && !is_recording() && arguments.iter().any(|argument| argument.track_op()) {
        // candle's graph takes three arguments at most.
        return add_on_cpu(&on_cpu(x, weight, bias, computed)?, low, b, scale as f32);
    }
    let (factors, second) = (Factors::new(x, weight, 1.0)?, Factors::new(low, b.into(), scale as f32)?);
    let outer = factors.extents.outer;
    let mut values = factors.values(bias, computed)?;
    if computed {
        second.multiply(&mut values, true);
    }
    let (saved, second) = (factors.saved(x, weight), second.saved(low, b.into()));
    let (of_low, bias_index) = (arguments.len() - 2, bias.map(|_| arguments.len() - 3));
    record(OP, &arguments, values, &output_shape(x, outer), move |dy, _, sink| {
        second.backward(dy, sink, [of_low, of_low + 1])?;
        saved.backward(dy, sink, [0, 1])?;
        bias_index.map_or(Ok(()), |index| bias_grad(dy, sink, index, outer))
    })
}

fn adapted_on_device(
    engine: &Engine,
    x: &Tensor,
    weight: Weight<'_>,
    bias: Option<&Tensor>,
    update @ LowRank { low, b, scale }: LowRank<'_>,
    computed: bool,
) -> Result<Tensor> {
    let arguments = adapted_arguments(x, weight, bias, update);
    let tracked = tracks(OP, &arguments)?;
    let factors = DeviceFactors::new(engine, x, weight, 1.0)?;
    let low_rows = Operand::new(engine, OP, "low", low, x.dtype())?;
    let second = DeviceFactors::new(engine, low_rows.tensor(), b.into(), scale as f32)?;
    let (outer, _) = b.dims2()?;
    let out = engine.allocate(x.dtype(), &output_shape(x, outer), Role::leaf_if(tracked))?;
    if computed {
        // The small summands are rounded to the dtype, not the large one.
        second.multiply_with_bias(&out, bias_row(engine, bias, &out)?.as_ref())?;
        factors.multiply(&out, true)?;
    }
    let (own, saved, second) = (engine.clone(), factors.saved(x, weight), second.saved(low, b.into()));
    let (of_low, bias_index) = (arguments.len() - 2, bias.map(|_| arguments.len() - 3));
    push_on(engine, &arguments, &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        backward_on_device(&second, dy, sink, [of_low, of_low + 1])?;
        backward_on_device(&saved, dy, sink, [0, 1])?;
        bias_index.map_or(Ok(()), |index| bias_grad_on_device(&own, dy, sink, index, outer))
    })?;
    Ok(out)
}
