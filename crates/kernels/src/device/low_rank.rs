//! The factors A of adapters that read one input, stacked, so that their products are one.

use super::convert::cast_into;
use super::engine::{Engine, Role};
use super::grad::DeviceGrad;
use super::multiply::Matrix;
use super::operand::Operand;
use crate::error::Result;
use candle_core::{DType, Tensor};
use std::ops::Range;

/// Factors A, (R, I) each, below each other: (ΣR, I).
pub(crate) struct Stack {
    engine: Engine,
    factors: Tensor,
    inner: usize,
    /// Rows of each factor.
    ranks: Vec<Range<usize>>,
}

impl Stack {
    /// Of at least one factor; all have one I and one dtype. They are copied: a variable of candle's owns its memory, so two never lie
    /// side by side.
    pub(crate) fn new(engine: &Engine, factors: &[Operand]) -> Result<Self> {
        let (_, inner) = factors[0].tensor().dims2()?;
        let mut ranks: Vec<Range<usize>> = vec![];
        for factor in factors {
            let start = ranks.last().map_or(0, |last| last.end);
            ranks.push(start..start + factor.tensor().dim(0)?);
        }
        let rows = ranks.last().map_or(0, |last| last.end);
        let stacked = engine.allocate(factors[0].tensor().dtype(), &[rows, inner], Role::Constant)?;
        for (factor, rows) in factors.iter().zip(&ranks) {
            cast_into(engine, factor.tensor(), &stacked.narrow(0, rows.start, rows.len())?)?;
        }
        Ok(Self { engine: engine.clone(), factors: stacked, inner, ranks })
    }

    /// The columns of each factor's product in [`Stack::products`].
    pub(crate) fn ranks(&self) -> &[Range<usize>] {
        &self.ranks
    }

    /// `x`·Aᵀ of `x` (…, I).
    pub(crate) fn products(&self, x: &Operand) -> Result<Low> {
        let low = Low::new(self, x.tensor().elem_count().checked_div(self.inner).unwrap_or(0), false)?;
        self.engine.multiply(low.all(), self.input(x, low.rows), self.all().t(), 1.0, false)?;
        Ok(low)
    }

    /// The input's gradient by way of the products, of which `d_low` is the gradient.
    pub(crate) fn input_grad(&self, d_low: &Low, grad: &DeviceGrad) -> Result<()> {
        let target = Matrix::new(&grad.tensor, d_low.rows, self.inner);
        self.engine.multiply(target, d_low.all(), self.all(), 1.0, grad.accumulate)
    }

    /// The factors' gradient, (ΣR, I) in float32.
    pub(crate) fn factors_grad(&self, d_low: &Low, x: &Operand) -> Result<Tensor> {
        let sums = self.engine.allocate(DType::F32, self.factors.dims(), Role::Constant)?;
        let target = Matrix::new(&sums, d_low.columns, self.inner);
        self.engine.multiply(target, d_low.all().t(), self.input(x, d_low.rows), 1.0, false)?;
        Ok(sums)
    }

    fn all(&self) -> Matrix<'_> {
        Matrix::new(&self.factors, self.factors.elem_count().checked_div(self.inner).unwrap_or(0), self.inner)
    }

    fn input<'a>(&self, x: &'a Operand, rows: usize) -> Matrix<'a> {
        Matrix::new(x.tensor(), rows, self.inner)
    }
}

/// The products of N rows by a [`Stack`], (N, ΣR), or their gradient.
pub(crate) struct Low {
    engine: Engine,
    values: Tensor,
    rows: usize,
    columns: usize,
}

impl Low {
    fn new(stack: &Stack, rows: usize, zeroed: bool) -> Result<Self> {
        let (engine, dtype) = (stack.engine.clone(), stack.factors.dtype());
        let columns = stack.ranks.last().map_or(0, |last| last.end);
        let values = match zeroed {
            true => engine.zeros(dtype, &[rows, columns])?,
            false => engine.allocate(dtype, &[rows, columns], Role::Constant)?,
        };
        Ok(Self { engine, values, rows, columns })
    }

    /// Memory for the gradient, every column of which is to be written unless it is `zeroed`.
    pub(crate) fn gradient(&self, stack: &Stack, zeroed: bool) -> Result<Self> {
        Self::new(stack, self.rows, zeroed)
    }

    fn all(&self) -> Matrix<'_> {
        Matrix::new(&self.values, self.rows, self.columns)
    }

    /// `out` (N, O) = `scale` · one factor's products · `b` (O, R)ᵀ, and the bias, if there is one, added to every row.
    pub(crate) fn multiply(
        &self,
        ranks: &Range<usize>,
        b: &Operand,
        scale: f32,
        bias: Option<&Operand>,
        out: &Tensor,
    ) -> Result<()> {
        let (outer, _) = b.tensor().dims2()?;
        let low = self.all().columns(ranks.clone());
        let b = Matrix::new(b.tensor(), outer, ranks.len()).t();
        match bias {
            None => self.engine.multiply(Matrix::new(out, self.rows, outer), low, b, scale, false),
            Some(bias) => self.engine.multiply_with_bias(out, low, b, scale, bias),
        }
    }

    /// The gradient of `b` from `dy` (N, O).
    pub(crate) fn b_grad(&self, ranks: &Range<usize>, dy: &Tensor, scale: f32, grad: &DeviceGrad) -> Result<()> {
        let outer = grad.tensor.elem_count().checked_div(ranks.len()).unwrap_or(0);
        let (dy, low) = (Matrix::new(dy, self.rows, outer), self.all().columns(ranks.clone()));
        self.engine.multiply(Matrix::new(&grad.tensor, outer, ranks.len()), dy.t(), low, scale, grad.accumulate)
    }

    /// Of a gradient: that of one factor's products, from `dy` (N, O).
    pub(crate) fn write(&self, ranks: &Range<usize>, dy: &Tensor, b: &Operand, scale: f32) -> Result<()> {
        let (outer, _) = b.tensor().dims2()?;
        let b = Matrix::new(b.tensor(), outer, ranks.len());
        let target = self.all().columns(ranks.clone());
        self.engine.multiply(target, Matrix::new(dy, self.rows, outer), b, scale, false)
    }
}
