//! Matrix products: cuBLAS on a GPU, `gemm` in the emulator. Factors are multiplied in their dtype and added in float32.

use super::address::{reading, writing};
use super::engine::Engine;
use super::linear::repeat;
use super::operand::Operand;
use crate::cpu::matmul::{self, Target, View, threads};
use crate::error::Result;
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use std::ops::Range;

/// A row-major matrix in a contiguous tensor, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(super) tensor: &'a Tensor,
    /// Its first element.
    pub(super) start: usize,
    /// Of the memory, not of the transpose.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Elements from a row of the memory to the next: the leading dimension.
    pub(super) stride: usize,
    pub(super) transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `rows` × `columns` elements from the first on.
    pub(crate) fn new(tensor: &'a Tensor, rows: usize, columns: usize) -> Self {
        Self::from_row(tensor, 0, rows, columns)
    }

    /// `rows` × `columns` elements from row `first` on.
    pub(crate) fn from_row(tensor: &'a Tensor, first: usize, rows: usize, columns: usize) -> Self {
        assert!((first + rows) * columns <= tensor.elem_count(), "a matrix reaches past its tensor");
        Self { tensor, start: first * columns, rows, columns, stride: columns, transposed: false }
    }

    /// Some of the columns, where they lie.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        assert!(!self.transposed && columns.start <= columns.end && columns.end <= self.columns, "no such columns");
        Self { start: self.start + columns.start, columns: columns.len(), ..self }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns as the product sees them.
    pub(super) fn extents(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// Index past the last element, from the first one's.
    fn reach(&self) -> usize {
        if self.rows == 0 || self.columns == 0 { 0 } else { (self.rows - 1) * self.stride + self.columns }
    }
}

/// `target` = `scale` · `left` · `right`, or += with `accumulate`. Both factors have one dtype; the target has theirs or
/// float32 and is not transposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    pub(crate) target: Matrix<'a>,
    pub(crate) left: Matrix<'a>,
    pub(crate) right: Matrix<'a>,
    pub(crate) scale: f32,
    pub(crate) accumulate: bool,
}

impl Engine {
    /// Computes a [`Product`].
    pub(crate) fn multiply(
        &self,
        target: Matrix<'_>,
        left: Matrix<'_>,
        right: Matrix<'_>,
        scale: f32,
        accumulate: bool,
    ) -> Result<()> {
        let ((m, k), (inner, n)) = (left.extents(), right.extents());
        assert!(k == inner && target.extents() == (m, n) && !target.transposed, "matrices that do not fit");
        assert!(left.tensor.dtype() == right.tensor.dtype(), "factors of two dtypes");
        if m == 0 || n == 0 {
            return Ok(());
        }
        let product = Product { target, left, right, scale, accumulate };
        match self {
            Self::Emulator => multiply_on_host(product),
            Self::Cuda(cuda) => cuda.multiply(product),
        }
    }

    /// `out` = `scale` · `left` · `right`, the row `bias` added to each of its rows: as the product's epilogue where the GPU's library
    /// has one for these matrices, else to rows that are filled with it first.
    pub(crate) fn multiply_with_bias(
        &self,
        out: &Tensor,
        left: Matrix<'_>,
        right: Matrix<'_>,
        scale: f32,
        bias: &Operand,
    ) -> Result<()> {
        let target = Matrix::new(out, left.extents().0, right.extents().1);
        if let Self::Cuda(cuda) = self
            && cuda.multiply_with_bias(Product { target, left, right, scale, accumulate: false }, bias)?
        {
            return Ok(());
        }
        repeat(self, bias, out)?;
        self.multiply(target, left, right, scale, true)
    }
}

fn multiply_on_host(product: Product<'_>) -> Result<()> {
    let Product { target, left, right, scale, accumulate } = product;
    let (left_values, right_values) = (floats(left)?, floats(right)?);
    let (rows, columns) = target.extents();
    let mut values = if accumulate { floats(target)? } else { vec![0.0; rows * columns] };
    let view = |matrix: &Matrix<'_>, values| {
        let view = View::new(values, matrix.rows, matrix.columns);
        if matrix.transposed { view.t() } else { view }
    };
    let (left, right) = (view(&left, &left_values), view(&right, &right_values));
    let product = Target::new(&mut values, rows, columns).accumulate(accumulate);
    matmul::multiply(product, left, right, scale, threads());
    let start = writing(target.tensor)?.0;
    // SAFETY: the matrix lies in the tensor (`Matrix::from_row`, `Matrix::columns`), its dtype is the one matched, and nobody
    // else writes a tensor that an operation writes.
    unsafe {
        match target.tensor.dtype() {
            DType::F32 => write(&target, slice(start, &target), &values, |value: f32| value),
            DType::BF16 => write(&target, slice(start, &target), &values, bf16::from_f32),
            _ => write(&target, slice(start, &target), &values, f16::from_f32),
        }
    }
    Ok(())
}

/// # Safety
///
/// The elements that `matrix` reaches, of `T`s from `start` on, are valid and not used elsewhere.
unsafe fn slice<'a, T>(start: u64, matrix: &Matrix<'_>) -> &'a mut [T] {
    // SAFETY: passed on to the caller.
    unsafe { std::slice::from_raw_parts_mut((start as *mut T).add(matrix.start), matrix.reach()) }
}

/// Rounds `values`, row by row, to the elements that `matrix` reaches.
fn write<T>(matrix: &Matrix<'_>, to: &mut [T], values: &[f32], convert: impl Fn(f32) -> T) {
    for (to, from) in to.chunks_mut(matrix.stride.max(1)).zip(values.chunks_exact(matrix.columns.max(1))) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = convert(from);
        }
    }
}

/// The elements that `matrix` reaches, its rows side by side.
fn read<T: Copy>(matrix: &Matrix<'_>, from: &[T], convert: impl Fn(T) -> f32) -> Vec<f32> {
    from.chunks(matrix.stride.max(1)).flat_map(|row| &row[..matrix.columns]).map(|&value| convert(value)).collect()
}

fn floats(matrix: Matrix<'_>) -> Result<Vec<f32>> {
    let start = reading(matrix.tensor)?.0;
    // SAFETY: as in `multiply_on_host`, for reading; the slices end before anything writes.
    unsafe {
        Ok(match matrix.tensor.dtype() {
            DType::F32 => read(&matrix, slice(start, &matrix), |value: f32| value),
            DType::BF16 => read(&matrix, slice(start, &matrix), bf16::to_f32),
            _ => read(&matrix, slice(start, &matrix), f16::to_f32),
        })
    }
}
