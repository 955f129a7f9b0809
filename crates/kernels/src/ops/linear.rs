//! x·Wᵀ + b with only the gradients that are needed, and the same added to a base.
//!
//! candle's own product computes the gradient of both factors always, so a frozen matrix under
//! LoRA would cost a third more; and it leaves the weight's gradient transposed, to be copied.

use super::weight;
use crate::autograd::{DeviceSink, GradSink, cheapest_to_save, push_on, record, single, tracks};
use crate::checks::{rows, same_shape};
use crate::cpu::Dense;
use crate::cpu::matmul::{Target, View, multiply, threads};
use crate::cpu::product::Extents;
use crate::cpu::simd::add_assign;
use crate::cpu::weight::{Table, Weight};
use crate::device::linear::{Factors as DeviceFactors, SavedFactors};
use crate::device::sums::{Summands, column_sum_grad};
use crate::device::{Engine, Operand, Role};
use crate::error::{KernelError, Result};
use candle_core::{DType, Tensor};

pub(super) const OP: &str = "linear";

/// `x` (…, I), `weight` (O, I), `bias` (O), to (…, O). The weight is a tensor or packed blocks ([`Weight`]); one in 16 bits
/// gives the same bits as its float32 copy.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors.
pub fn linear<'w>(x: &Tensor, weight: impl Into<Weight<'w>>, bias: Option<&Tensor>) -> Result<Tensor> {
    let weight = weight.into();
    check(x, weight, bias)?;
    match Engine::of(x) {
        None => on_cpu(x, weight, bias, true),
        Some(engine) => on_device(&engine, x, weight, bias, true),
    }
}

/// As [`linear`] for a result that nobody reads: its content is arbitrary, and only the backward pass is computed. A
/// block that is recomputed from its input (arXiv 1604.06174) ends in such a product, and one product of a gated block
/// is a third of its feed-forward layer.
///
/// # Errors
///
/// As for [`linear`].
pub fn linear_for_backward<'w>(x: &Tensor, weight: impl Into<Weight<'w>>, bias: Option<&Tensor>) -> Result<Tensor> {
    let weight = weight.into();
    check(x, weight, bias)?;
    match Engine::of(x) {
        None => on_cpu(x, weight, bias, false),
        Some(engine) => on_device(&engine, x, weight, bias, false),
    }
}

/// `base` (…, O) + `scale` · `x` (…, I) · `weight` (O, I)ᵀ, in one product: the second half of a
/// low-rank adapter.
///
/// # Errors
///
/// As for [`linear`]; [`KernelError::Option`] for a scale that is not finite.
pub fn add_linear(base: &Tensor, x: &Tensor, weight: &Tensor, scale: f64) -> Result<Tensor> {
    check_scale(scale)?;
    let Extents { outer, .. } = check(x, weight.into(), None)?;
    same_shape(OP, "base", &output_shape(x, outer), base)?;
    match Engine::of(x) {
        None => add_on_cpu(base, x, weight, scale as f32),
        Some(engine) => add_on_device(&engine, base, x, weight, scale as f32),
    }
}

pub(super) fn check_scale(scale: f64) -> Result<()> {
    match scale.is_finite() {
        true => Ok(()),
        false => Err(KernelError::Option { op: OP, option: "scale", expected: "finite", got: scale.to_string() }),
    }
}

/// The extents of a product whose arguments fit.
pub(super) fn check(x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>) -> Result<Extents> {
    let (count, inner) = rows(OP, "x", "(…, I)", x)?;
    let (outer, weight_inner) = weight::extents(OP, "weight", "(O, I)", weight)?;
    if inner != weight_inner {
        return Err(KernelError::Shape {
            op: OP,
            argument: "weight",
            expected: format!("[O, {inner}]"),
            got: vec![outer, weight_inner],
        });
    }
    if let Some(bias) = bias {
        same_shape(OP, "bias", &[outer], bias)?;
    }
    Ok(Extents { count, inner, outer, scale: 1.0 })
}

pub(super) fn output_shape(x: &Tensor, outer: usize) -> Vec<usize> {
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(outer);
    shape
}

pub(super) fn on_cpu(x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>, computed: bool) -> Result<Tensor> {
    let factors = Factors::new(x, weight, 1.0)?;
    let outer = factors.extents.outer;
    let values = factors.values(bias, computed)?;
    let shape = output_shape(x, outer);
    let saved = factors.saved(x, weight);
    // A frozen weight is no argument of the node.
    let mut arguments: Vec<&Tensor> = [x].into_iter().chain(weight.tracked()).collect();
    let Some(bias) = bias else {
        return record(OP, &arguments, values, &shape, move |dy, _, sink| saved.backward(dy, sink, [0, 1]));
    };
    let bias_index = arguments.len();
    arguments.push(bias);
    record(OP, &arguments, values, &shape, move |dy, _, sink| {
        saved.backward(dy, sink, [0, 1])?;
        bias_grad(dy, sink, bias_index, outer)
    })
}

/// The sum of the rows of `dy` to argument `index`.
pub(super) fn bias_grad(dy: &[f32], sink: &mut GradSink<'_>, index: usize, outer: usize) -> Result<()> {
    sink.deliver(index, |buffer| {
        buffer.zero_unless_accumulating();
        for row in dy.chunks_exact(outer.max(1)) {
            add_assign(&mut buffer.values, row);
        }
    })
}

pub(super) fn add_on_cpu(base: &Tensor, x: &Tensor, weight: &Tensor, scale: f32) -> Result<Tensor> {
    let factors = Factors::new(x, weight.into(), scale)?;
    let shape = output_shape(x, factors.extents.outer);
    let mut values = Dense::new(OP, "base", base)?.read().to_vec();
    factors.multiply(&mut values, true);
    let saved = factors.saved(x, weight.into());
    record(OP, &[base, x, weight], values, &shape, move |dy, _, sink| {
        sink.pass(0, dy)?;
        saved.backward(dy, sink, [1, 2])
    })
}

/// The factors of one product and its extents.
pub(super) struct Factors {
    x: Dense,
    weight: Table,
    pub(super) extents: Extents,
}

impl Factors {
    /// Of arguments that passed [`check`].
    pub(super) fn new(x: &Tensor, weight: Weight<'_>, scale: f32) -> Result<Self> {
        Ok(Self {
            x: Dense::new(OP, "x", x)?,
            weight: Table::new(OP, "weight", weight)?,
            extents: Extents { scale, ..check(x, weight, None)? },
        })
    }

    /// The product and the bias; zeros unless it is to be `computed`.
    pub(super) fn values(&self, bias: Option<&Tensor>, computed: bool) -> Result<Vec<f32>> {
        let Extents { count, outer, .. } = self.extents;
        // Where nothing is computed, zeroed pages that are never written take no memory.
        let mut values = vec![0.0; count * outer];
        if computed {
            if let Some(bias) = bias {
                let offset = Dense::new(OP, "bias", bias)?;
                for row in values.chunks_exact_mut(outer.max(1)) {
                    row.copy_from_slice(&offset.read());
                }
            }
            self.multiply(&mut values, bias.is_some());
        }
        Ok(values)
    }

    pub(super) fn multiply(&self, values: &mut [f32], accumulate: bool) {
        self.extents.forward(values, &self.x.read(), self.weight.read().elements(), accumulate);
    }

    /// The factors that the backward pass reads: each if the other needs a gradient.
    pub(super) fn saved(self, x: &Tensor, weight: Weight<'_>) -> Saved {
        Saved {
            x: weight.tracked().is_some().then(|| cheapest_to_save(x, self.x)),
            weight: x.track_op().then_some(self.weight),
            extents: self.extents,
        }
    }
}

/// A product's factors, each where the other needs a gradient.
pub(super) struct Saved {
    x: Option<Dense>,
    weight: Option<Table>,
    extents: Extents,
}

impl Saved {
    /// Gradients of x and weight, the arguments `index` of the node.
    pub(super) fn backward(&self, dy: &[f32], sink: &mut GradSink<'_>, index: [usize; 2]) -> Result<()> {
        let Extents { count, inner, outer, scale } = self.extents;
        if let Some(weight) = &self.weight {
            sink.deliver(index[0], |dx| {
                self.extents.backward(&mut dx.values, dy, weight.read().elements(), dx.accumulate);
            })?;
        }
        if let Some(x) = &self.x {
            sink.deliver(index[1], |d_weight| {
                let target = Target::new(&mut d_weight.values, outer, inner).accumulate(d_weight.accumulate);
                let (x, dy) = (x.read(), View::new(dy, count, outer));
                multiply(target, dy.t(), View::new(&x, count, inner), scale, threads());
            })?;
        }
        Ok(())
    }
}

fn on_device(engine: &Engine, x: &Tensor, weight: Weight<'_>, bias: Option<&Tensor>, computed: bool) -> Result<Tensor> {
    let arguments: Vec<&Tensor> = [x].into_iter().chain(weight.tracked()).chain(bias).collect();
    let tracked = tracks(OP, &arguments)?;
    let factors = DeviceFactors::new(engine, x, weight, 1.0)?;
    let (outer, _) = weight::extents(OP, "weight", "(O, I)", weight)?;
    let out = engine.allocate(x.dtype(), &output_shape(x, outer), Role::leaf_if(tracked))?;
    if computed {
        factors.multiply_with_bias(&out, bias_row(engine, bias, &out)?.as_ref())?;
    }
    let (own, saved) = (engine.clone(), factors.saved(x, weight));
    let bias_index = bias.map(|_| arguments.len() - 1);
    push_on(engine, &arguments, &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        backward_on_device(&saved, dy, sink, [0, 1])?;
        bias_index.map_or(Ok(()), |index| bias_grad_on_device(&own, dy, sink, index, outer))
    })?;
    Ok(out)
}

/// The bias of a result of `out`'s dtype.
pub(super) fn bias_row(engine: &Engine, bias: Option<&Tensor>, out: &Tensor) -> Result<Option<Operand>> {
    bias.map(|bias| Operand::new(engine, OP, "bias", bias, out.dtype())).transpose()
}

/// The sum of the rows of `dy`, (…, `width`), to argument `index`.
pub(super) fn bias_grad_on_device(
    engine: &Engine,
    dy: &Tensor,
    sink: &mut DeviceSink<'_>,
    index: usize,
    width: usize,
) -> Result<()> {
    // Sums are float32 always; the sink adds them to a gradient of any dtype.
    let summands = Summands { values: dy, factors: None, scales: None, width };
    sink.deliver(index, DType::F32, |grad| column_sum_grad(engine, summands, grad))
}

fn add_on_device(engine: &Engine, base: &Tensor, x: &Tensor, weight: &Tensor, scale: f32) -> Result<Tensor> {
    let tracked = tracks(OP, &[base, x, weight])?;
    let factors = DeviceFactors::new(engine, x, weight.into(), scale)?;
    let start = Operand::new(engine, OP, "base", base, x.dtype())?;
    let out = engine.copy(start.tensor(), Role::leaf_if(tracked))?;
    factors.multiply(&out, true)?;
    let saved = factors.saved(x, weight.into());
    push_on(engine, &[base, x, weight], &[&out], move |gradients, sink| {
        let dy = single(gradients, OP)?;
        sink.pass(0, dy)?;
        backward_on_device(&saved, dy, sink, [1, 2])
    })?;
    Ok(out)
}

/// Gradients of x and weight, the arguments `index` of the node.
pub(super) fn backward_on_device(
    saved: &SavedFactors,
    dy: &Tensor,
    sink: &mut DeviceSink<'_>,
    index: [usize; 2],
) -> Result<()> {
    sink.deliver(index[0], dy.dtype(), |grad| saved.x_grad(dy, grad))?;
    if saved.trains_weight() {
        sink.deliver(index[1], dy.dtype(), |grad| saved.weight_grad(dy, grad))?;
    }
    Ok(())
}
