//! x·Wᵀ + b, and the same added onto something.

use super::address::{Address, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, module, typed};
use super::multiply::Matrix;
use super::operand::Operand;
use super::outlet::{Open, Outlet, single};
use super::sums::give_column_sums;
use crate::error::Result;
use crate::tape;
use candle_core::Tensor;

const OP: &str = "linear";
const MODULE: Module = module!("rows");

arguments! {
    struct Repeat {
        row: Address,
        out: Address,
        count: u64,
        width: u32,
        unused: u32,
    }
}

/// As [`crate::linear`], the shapes checked; without `computed` as [`crate::linear_for_backward`].
pub(crate) fn linear(
    engine: &Engine,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    computed: bool,
) -> Result<Tensor> {
    let arguments: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    let tracked = tape::tracks(OP, &arguments)?;
    let factors = Factors::new(engine, x, weight, 1.0)?;
    let out = engine.allocate(x.dtype(), &factors.output_shape(x), Role::leaf_if(tracked))?;
    if computed {
        if let Some(bias) = bias {
            let row = Operand::new(engine, OP, "bias", bias, x.dtype())?;
            repeat(engine, &row, &out)?;
        }
        factors.multiply(&out, bias.is_some())?;
    }
    let saved = factors.saved(x, weight);
    let has_bias = bias.is_some();
    tape::push_on(engine, &arguments, &[&out], move |gradients, outlet| {
        let dy = single(gradients, OP)?;
        saved.backward(dy, outlet, [0, 1])?;
        match has_bias {
            true => give_column_sums(&saved.engine, outlet, 2, dy, [None, None], saved.outer),
            false => Ok(()),
        }
    })?;
    Ok(out)
}

/// As [`crate::add_linear`], the shapes checked.
pub(crate) fn add_linear(engine: &Engine, base: &Tensor, x: &Tensor, weight: &Tensor, scale: f32) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[base, x, weight])?;
    let factors = Factors::new(engine, x, weight, scale)?;
    let start = Operand::new(engine, OP, "base", base, x.dtype())?;
    let out = engine.copy(start.tensor(), Role::leaf_if(tracked))?;
    factors.multiply(&out, true)?;
    let saved = factors.saved(x, weight);
    tape::push_on(engine, &[base, x, weight], &[&out], move |gradients, outlet| {
        let dy = single(gradients, OP)?;
        outlet.pass(0, dy)?;
        saved.backward(dy, outlet, [1, 2])
    })?;
    Ok(out)
}

/// Every row of `out` becomes `row`.
fn repeat(engine: &Engine, row: &Operand, out: &Tensor) -> Result<()> {
    let count = out.elem_count();
    let width = row.tensor().elem_count();
    let arguments =
        Repeat { row: row.address()?, out: writing(out)?, count: count as u64, width: width as u32, unused: 0 };
    let kernel = typed("repeat_row", out.dtype());
    // SAFETY: `Repeat` is the kernel's struct; `out` has `count` elements of its type, in rows of `width`.
    unsafe { engine.launch(MODULE, &kernel, Grid::of_threads(count, 256)?, &arguments) }
}

/// The factors of one product: x (count, inner) and weight (outer, inner).
struct Factors {
    engine: Engine,
    x: Operand,
    weight: Operand,
    count: usize,
    inner: usize,
    outer: usize,
    scale: f32,
}

impl Factors {
    fn new(engine: &Engine, x: &Tensor, weight: &Tensor, scale: f32) -> Result<Self> {
        let (outer, inner) = weight.dims2()?;
        let count = x.dims().iter().rev().skip(1).product();
        let weight = Operand::new(engine, OP, "weight", weight, x.dtype())?;
        let x = Operand::first(engine, OP, "x", x)?;
        Ok(Self { engine: engine.clone(), x, weight, count, inner, outer, scale })
    }

    fn output_shape(&self, x: &Tensor) -> Vec<usize> {
        let mut shape = x.dims().to_vec();
        shape.pop();
        shape.push(self.outer);
        shape
    }

    fn multiply(&self, out: &Tensor, accumulate: bool) -> Result<()> {
        let target = Matrix::new(out, self.count, self.outer);
        let x = Matrix::new(self.x.tensor(), self.count, self.inner);
        let weight = Matrix::new(self.weight.tensor(), self.outer, self.inner);
        self.engine.multiply(target, x, weight.t(), self.scale, accumulate)
    }

    /// What the backward pass reads: each factor if the other needs a gradient.
    fn saved(self, x: &Tensor, weight: &Tensor) -> Saved {
        let Self { engine, x: x_kept, weight: weight_kept, count, inner, outer, scale } = self;
        Saved {
            engine,
            x: weight.track_op().then_some(x_kept),
            weight: x.track_op().then_some(weight_kept),
            count,
            inner,
            outer,
            scale,
        }
    }
}

struct Saved {
    engine: Engine,
    x: Option<Operand>,
    weight: Option<Operand>,
    count: usize,
    inner: usize,
    outer: usize,
    scale: f32,
}

impl Saved {
    /// Gradients of x and weight, the arguments `index` of the node.
    fn backward(&self, dy: &Tensor, outlet: &mut Outlet<'_>, index: [usize; 2]) -> Result<()> {
        let dtype = dy.dtype();
        let dy = Matrix::new(dy, self.count, self.outer);
        if let Some(weight) = &self.weight
            && let Some(Open { tensor, accumulate }) = outlet.open(index[0], dtype)?
        {
            let target = Matrix::new(&tensor, self.count, self.inner);
            let weight = Matrix::new(weight.tensor(), self.outer, self.inner);
            self.engine.multiply(target, dy, weight, self.scale, accumulate)?;
            outlet.close(index[0], tensor)?;
        }
        if let Some(x) = &self.x
            && let Some(Open { tensor, accumulate }) = outlet.open(index[1], dtype)?
        {
            let target = Matrix::new(&tensor, self.outer, self.inner);
            let x = Matrix::new(x.tensor(), self.count, self.inner);
            self.engine.multiply(target, dy.t(), x, self.scale, accumulate)?;
            outlet.close(index[1], tensor)?;
        }
        Ok(())
    }
}
