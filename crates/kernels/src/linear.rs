//! x·Wᵀ + b with only the gradients that are needed, and the same added onto something.
//!
//! candle's own product computes the gradient of both factors always, so a frozen matrix under
//! LoRA would cost a third more; and it leaves the weight's gradient transposed, to be copied.

use crate::dense::{Dense, matrix, rows, same_shape};
use crate::device::{self, engine};
use crate::error::{KernelError, Result};
use crate::graph::record;
use crate::matmul::{Target, View, multiply, threads};
use crate::outlet::Outlet;
use crate::simd::add_assign;
use crate::tape::lightest;
use candle_core::Tensor;

const OP: &str = "linear";

/// `x` (…, I), `weight` (O, I), `bias` (O), to (…, O).
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check(x, weight, bias)?;
    if let Some(engine) = engine(x) {
        return device::linear(&engine, x, weight, bias, true);
    }
    let factors = Factors::new(x, weight, 1.0)?;
    let Extents { count, outer, .. } = factors.extents;
    let mut values = vec![0.0; count * outer];
    if let Some(bias) = bias {
        let offset = Dense::new(OP, "bias", bias)?;
        for row in values.chunks_exact_mut(outer.max(1)) {
            row.copy_from_slice(&offset.read());
        }
    }
    factors.multiply(&mut values, bias.is_some());
    record_linear(factors, x, weight, bias, values)
}

/// Records a product with its finished values.
fn record_linear(
    factors: Factors,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    values: Vec<f32>,
) -> Result<Tensor> {
    let outer = factors.extents.outer;
    let shape = output_shape(x, outer);
    let saved = factors.saved(x, weight);
    let Some(bias) = bias else {
        return record(OP, &[x, weight], values, &shape, move |gradient, _, out| saved.backward(gradient, out, [0, 1]));
    };
    record(OP, &[x, weight, bias], values, &shape, move |gradient, _, out| {
        saved.backward(gradient, out, [0, 1])?;
        out.deliver(2, |buffer| {
            buffer.zero_unless_accumulating();
            for row in gradient.chunks_exact(outer.max(1)) {
                add_assign(&mut buffer.values, row);
            }
        })
    })
}

/// As [`linear`] for a result that nobody reads: it holds anything, and only the way back is computed. A block that is
/// computed again from its input (arXiv 1604.06174) ends in such a product, and one product of a gated block is a third
/// of its feed-forward layer.
///
/// # Errors
///
/// As for [`linear`].
pub fn linear_for_backward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check(x, weight, bias)?;
    if let Some(engine) = engine(x) {
        return device::linear(&engine, x, weight, bias, false);
    }
    let factors = Factors::new(x, weight, 1.0)?;
    let Extents { count, outer, .. } = factors.extents;
    // Zeroed pages that are never written take no memory.
    record_linear(factors, x, weight, bias, vec![0.0; count * outer])
}

fn output_shape(x: &Tensor, outer: usize) -> Vec<usize> {
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(outer);
    shape
}

/// `base` (…, O) + `scale` · `x` (…, I) · `weight` (O, I)ᵀ, in one product: the second half of a
/// low-rank adapter.
///
/// # Errors
///
/// As for [`linear`]; [`KernelError::Option`] for a scale that is not finite.
pub fn add_linear(base: &Tensor, x: &Tensor, weight: &Tensor, scale: f64) -> Result<Tensor> {
    if !scale.is_finite() {
        return Err(KernelError::Option { op: OP, option: "scale", expected: "finite", got: scale.to_string() });
    }
    let Extents { outer, .. } = check(x, weight, None)?;
    let shape = output_shape(x, outer);
    same_shape(OP, "base", &shape, base)?;
    if let Some(engine) = engine(x) {
        return device::add_linear(&engine, base, x, weight, scale as f32);
    }
    let factors = Factors::new(x, weight, scale as f32)?;
    let mut values = Dense::new(OP, "base", base)?.read().to_vec();
    factors.multiply(&mut values, true);
    let saved = factors.saved(x, weight);
    record(OP, &[base, x, weight], values, &shape, move |gradient, _, out| {
        out.pass(0, gradient)?;
        saved.backward(gradient, out, [1, 2])
    })
}

/// The extents of a product whose arguments fit.
fn check(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Extents> {
    let (count, inner) = rows(OP, "x", "(…, I)", x)?;
    let (outer, weight_inner) = matrix(OP, "weight", "(O, I)", weight)?;
    if inner != weight_inner {
        return Err(KernelError::Shape {
            op: OP,
            argument: "weight",
            expected: format!("[O, {inner}]"),
            got: weight.dims().to_vec(),
        });
    }
    if let Some(bias) = bias {
        same_shape(OP, "bias", &[outer], bias)?;
    }
    Ok(Extents { count, inner, outer, scale: 1.0 })
}

/// The factors of one product and its extents.
struct Factors {
    x: Dense,
    weight: Dense,
    extents: Extents,
}

#[derive(Clone, Copy)]
struct Extents {
    count: usize,
    inner: usize,
    outer: usize,
    scale: f32,
}

impl Factors {
    /// Of arguments that [`check`] let pass.
    fn new(x: &Tensor, weight: &Tensor, scale: f32) -> Result<Self> {
        Ok(Self {
            x: Dense::new(OP, "x", x)?,
            weight: Dense::new(OP, "weight", weight)?,
            extents: Extents { scale, ..check(x, weight, None)? },
        })
    }

    fn multiply(&self, values: &mut [f32], accumulate: bool) {
        let Extents { count, inner, outer, scale } = self.extents;
        let target = Target::new(values, count, outer).accumulate(accumulate);
        let (x, weight) = (self.x.read(), self.weight.read());
        let weight = View::new(&weight, outer, inner).t();
        multiply(target, View::new(&x, count, inner), weight, scale, threads());
    }

    /// What the backward pass reads: each factor if the other needs a gradient.
    fn saved(self, x: &Tensor, weight: &Tensor) -> Saved {
        Saved {
            x: weight.track_op().then(|| lightest(x, self.x)),
            weight: x.track_op().then_some(self.weight),
            extents: self.extents,
        }
    }
}

struct Saved {
    x: Option<Dense>,
    weight: Option<Dense>,
    extents: Extents,
}

impl Saved {
    /// Gradients of x and weight, the arguments `index` of the node.
    fn backward(&self, dy: &[f32], out: &mut Outlet<'_>, index: [usize; 2]) -> Result<()> {
        let Extents { count, inner, outer, scale } = self.extents;
        let dy = View::new(dy, count, outer);
        if let Some(weight) = &self.weight {
            out.deliver(index[0], |buffer| {
                let target = Target::new(&mut buffer.values, count, inner).accumulate(buffer.accumulate);
                let weight = weight.read();
                multiply(target, dy, View::new(&weight, outer, inner), scale, threads());
            })?;
        }
        if let Some(x) = &self.x {
            out.deliver(index[1], |buffer| {
                let target = Target::new(&mut buffer.values, outer, inner).accumulate(buffer.accumulate);
                let x = x.read();
                multiply(target, dy.t(), View::new(&x, count, inner), scale, threads());
            })?;
        }
        Ok(())
    }
}
