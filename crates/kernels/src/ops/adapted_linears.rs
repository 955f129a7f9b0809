//! Linear layers with low-rank adapters and one input, as one operation.

use super::adapted_linear::{LowRank, adapted_linear};
use super::linear::{OP, backward_on_device, bias_grad_on_device, bias_row, check, check_scale, linear, output_shape};
use crate::autograd::{DeviceSink, push_on, tracks};
use crate::cpu::product::Extents;
use crate::cpu::weight::Weight;
use crate::device::linear::{Factors, SavedFactors};
use crate::device::low_rank::{Low, Stack};
use crate::device::{Engine, Operand, Role, convert};
use crate::error::{KernelError, Result};
use candle_core::{DType, Tensor};
use std::ops::Range;

/// A linear layer and the update of its low-rank adapter: x·`weight`ᵀ + `bias` + `scale`·(x·`a`ᵀ)·`b`ᵀ.
#[derive(Clone, Copy, Debug)]
pub struct AdaptedLayer<'a> {
    /// (O, I).
    pub weight: Weight<'a>,
    /// (O).
    pub bias: Option<&'a Tensor>,
    /// (R, I).
    pub a: &'a Tensor,
    /// (O, R).
    pub b: &'a Tensor,
    /// Factor of the update.
    pub scale: f64,
}

/// Layers of one input `x` (…, I), to (…, O) each; their O and R may differ.
///
/// If a device has to compute gradients, the products by A are one, of the As stacked for it, and so are those of their gradients
/// and, by way of them, of the input's: the input and its gradient are read once for all layers. Elsewhere it is [`crate::linear()`]
/// and [`adapted_linear`], layer by layer: copies of A are launches too, and a step of sampling is made of launches.
///
/// # Errors
///
/// As for [`crate::linear()`] and [`adapted_linear`].
pub fn adapted_linears(x: &Tensor, layers: &[AdaptedLayer<'_>]) -> Result<Vec<Tensor>> {
    let outputs = layers.iter().map(|layer| layer.outputs(x)).collect::<Result<Vec<_>>>()?;
    let mut arguments = vec![x];
    let places: Vec<Places> = layers.iter().map(|layer| Places::push(&mut arguments, layer)).collect();
    match Engine::of(x) {
        Some(engine) if tracks(OP, &arguments)? && !layers.is_empty() => {
            stacked(&engine, &arguments, layers, outputs.into_iter().zip(places).collect())
        }
        _ => layers.iter().map(|layer| layer.alone(x)).collect(),
    }
}

impl AdaptedLayer<'_> {
    fn alone(&self, x: &Tensor) -> Result<Tensor> {
        let low = linear(x, self.a, None)?;
        adapted_linear(x, self.weight, self.bias, LowRank { low: &low, b: self.b, scale: self.scale })
    }

    /// Number of outputs, of arguments that fit.
    fn outputs(&self, x: &Tensor) -> Result<usize> {
        check_scale(self.scale)?;
        let Extents { outer, .. } = check(x, self.weight, self.bias)?;
        let Extents { outer: rank, .. } = check(x, self.a.into(), None)?;
        match self.b.dims() {
            &[rows, columns] if [rows, columns] == [outer, rank] => Ok(outer),
            got => {
                let expected = format!("[{outer}, {rank}]");
                Err(KernelError::Shape { op: OP, argument: "b", expected, got: got.to_vec() })
            }
        }
    }
}

/// A layer's part of the backward pass.
struct Saved {
    base: SavedFactors,
    b: Operand,
    scale: f32,
    outputs: usize,
    /// Its columns of the stacked products by A.
    ranks: Range<usize>,
    places: Places,
}

/// Places among the arguments of the node, of which the input is the first. A weight that is none has no gradient.
#[derive(Clone, Copy)]
struct Places {
    weight: usize,
    bias: Option<usize>,
    a: usize,
    b: usize,
}

impl Places {
    /// Adds the arguments of a layer.
    fn push<'a>(arguments: &mut Vec<&'a Tensor>, layer: &AdaptedLayer<'a>) -> Self {
        let weight = arguments.len();
        arguments.extend(layer.weight.tracked());
        let bias = layer.bias.map(|bias| {
            arguments.push(bias);
            arguments.len() - 1
        });
        arguments.extend([layer.a, layer.b]);
        Self { weight, bias, a: arguments.len() - 2, b: arguments.len() - 1 }
    }
}

/// Layers with their numbers of outputs and the places of their arguments.
fn stacked(
    engine: &Engine,
    arguments: &[&Tensor],
    layers: &[AdaptedLayer<'_>],
    known: Vec<(usize, Places)>,
) -> Result<Vec<Tensor>> {
    let x = arguments[0];
    let (input, dtype) = (Operand::first(engine, OP, "x", x)?, x.dtype());
    let a = layers.iter().map(|layer| Operand::new(engine, OP, "a", layer.a, dtype)).collect::<Result<Vec<_>>>()?;
    let stack = Stack::new(engine, &a)?;
    let low = stack.products(&input)?;
    let (mut results, mut saved) = (vec![], vec![]);
    for ((layer, (outputs, places)), ranks) in layers.iter().zip(known).zip(stack.ranks()) {
        let base = Factors::new(engine, input.tensor(), layer.weight, 1.0)?;
        let (b, scale) = (Operand::new(engine, OP, "b", layer.b, dtype)?, layer.scale as f32);
        let out = engine.allocate(dtype, &output_shape(x, outputs), Role::Leaf)?;
        // The small summands are rounded to the dtype, not the large one.
        low.multiply(ranks, &b, scale, bias_row(engine, layer.bias, &out)?.as_ref(), &out)?;
        base.multiply(&out, true)?;
        results.push(out);
        saved.push(Saved { base: base.saved(x, layer.weight), b, scale, outputs, ranks: ranks.clone(), places });
    }
    let own = engine.clone();
    push_on(engine, arguments, &results.iter().collect::<Vec<_>>(), move |gradients, sink| {
        let d_low = low.gradient(&stack, gradients.iter().any(Option::is_none))?;
        for (layer, dy) in saved.iter().zip(gradients) {
            if let Some(dy) = dy {
                layer.backward(&own, dy, [&low, &d_low], sink)?;
            }
        }
        sink.deliver(0, dtype, |grad| stack.input_grad(&d_low, grad))?;
        if !saved.iter().any(|layer| sink.wants(layer.places.a)) {
            return Ok(());
        }
        let sums = stack.factors_grad(&d_low, &input)?;
        for Saved { ranks, places, .. } in &saved {
            let part = sums.narrow(0, ranks.start, ranks.len())?;
            sink.deliver(places.a, DType::F32, |grad| convert(&own, &part, &grad.tensor, grad.accumulate))?;
        }
        Ok(())
    })?;
    Ok(results)
}

impl Saved {
    /// The layer's part of `d_low`, and its gradients but those that come of it.
    fn backward(&self, engine: &Engine, dy: &Tensor, [low, d_low]: [&Low; 2], sink: &mut DeviceSink<'_>) -> Result<()> {
        let Places { weight, bias, b, .. } = self.places;
        d_low.write(&self.ranks, dy, &self.b, self.scale)?;
        sink.deliver(b, dy.dtype(), |grad| low.b_grad(&self.ranks, dy, self.scale, grad))?;
        backward_on_device(&self.base, dy, sink, [0, weight])?;
        bias.map_or(Ok(()), |index| bias_grad_on_device(engine, dy, sink, index, self.outputs))
    }
}
