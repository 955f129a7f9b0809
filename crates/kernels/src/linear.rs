//! x·Wᵀ + b with only the gradients that are needed.
//!
//! candle's own product computes the gradient of both factors always, so a frozen matrix under
//! LoRA would cost a third more; and it leaves the weight's gradient transposed, to be copied.

use crate::dense::{Dense, matrix, rows, same_shape};
use crate::error::{KernelError, Result};
use crate::gradients::deliver;
use crate::graph::{Backward, record2, record3};
use crate::matmul::{Target, View, multiply, threads};
use crate::simd::add_assign;
use candle_core::Tensor;

const OP: &str = "linear";

/// `x` (…, I), `weight` (O, I), `bias` (O), to (…, O).
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
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
    let (input, matrix) = (Dense::new(OP, "x", x)?, Dense::new(OP, "weight", weight)?);
    let mut values = vec![0.0; count * outer];
    multiply(
        Target::new(&mut values, count, outer),
        View::new(&input.read(), count, inner),
        View::new(&matrix.read(), outer, inner).t(),
        1.0,
        threads(),
    );
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(outer);
    let Some(bias) = bias else {
        return record2(OP, [x, weight], values, &shape, move |node| {
            let Backward { arguments: [x, weight], gradient, .. } = node;
            let [dx, dw] = factors(x, weight, gradient)?;
            Ok([dx, dw])
        });
    };
    same_shape(OP, "bias", &[outer], bias)?;
    let offset = Dense::new(OP, "bias", bias)?;
    let offset = offset.read();
    for row in values.chunks_exact_mut(outer.max(1)) {
        add_assign(row, &offset);
    }
    record3(OP, [x, weight, bias], values, &shape, move |node| {
        let Backward { arguments: [x, weight, bias], gradient, .. } = node;
        let [dx, dw] = factors(x, weight, gradient)?;
        let gradient = Dense::new(OP, "gradient", gradient)?;
        let gradient = gradient.read();
        let db = deliver(bias, |mut sink| {
            sink.zero_unless_accumulating();
            for row in gradient.chunks_exact(outer.max(1)) {
                add_assign(sink.values, row);
            }
        })?;
        Ok([dx, dw, db])
    })
}

fn factors(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
    let (outer, inner) = matrix(OP, "weight", "(O, I)", weight)?;
    let gradient = Dense::new(OP, "gradient", gradient)?;
    let gradient = gradient.read();
    let count = x.elem_count() / inner.max(1);
    let dy = View::new(&gradient, count, outer);
    let dx = if x.track_op() {
        let matrix = Dense::new(OP, "weight", weight)?;
        let mut dx = vec![0.0; count * inner];
        let target = Target::new(&mut dx, count, inner);
        multiply(target, dy, View::new(&matrix.read(), outer, inner), 1.0, threads());
        Some(Tensor::from_vec(dx, x.shape(), x.device())?)
    } else {
        None
    };
    let input = Dense::new(OP, "x", x)?;
    let input = input.read();
    let dw = deliver(weight, |sink| {
        let target = Target::new(sink.values, outer, inner).accumulate(sink.accumulate);
        multiply(target, dy.t(), View::new(&input, count, inner), 1.0, threads());
    })?;
    Ok([dx, dw])
}
