//! Matrix products: cuBLAS on a GPU, `gemm` in the emulator. Factors are multiplied in their dtype and added in float32.

use super::address::{reading, writing};
use super::engine::Engine;
use crate::cpu::matmul::{self, Target, View, threads};
use crate::error::Result;
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use std::borrow::Cow;

/// A row-major matrix in a contiguous tensor, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(super) tensor: &'a Tensor,
    /// Its first element.
    pub(super) start: usize,
    /// Of the memory, not of the transpose.
    pub(super) rows: usize,
    pub(super) columns: usize,
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
        Self { tensor, start: first * columns, rows, columns, transposed: false }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns as the product sees them.
    pub(super) fn extents(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
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
}

fn multiply_on_host(product: Product<'_>) -> Result<()> {
    let Product { target, left, right, scale, accumulate } = product;
    let (left_values, right_values) = (floats(left)?, floats(right)?);
    let (rows, columns) = target.extents();
    let mut values = if accumulate { floats(target)?.into_owned() } else { vec![0.0; rows * columns] };
    let view = |matrix: &Matrix<'_>, values| {
        let view = View::new(values, matrix.rows, matrix.columns);
        if matrix.transposed { view.t() } else { view }
    };
    let (left, right) = (view(&left, &left_values), view(&right, &right_values));
    let product = Target::new(&mut values, rows, columns).accumulate(accumulate);
    matmul::multiply(product, left, right, scale, threads());
    let start = writing(target.tensor)?.0;
    let len = values.len();
    // SAFETY: the matrix lies in the tensor (`Matrix::from_row`), its dtype is the one matched, and nobody
    // else writes a tensor that an operation writes.
    unsafe {
        match target.tensor.dtype() {
            DType::F32 => slice::<f32>(start, target.start, len).copy_from_slice(&values),
            DType::BF16 => round(slice(start, target.start, len), &values, bf16::from_f32),
            _ => round(slice(start, target.start, len), &values, f16::from_f32),
        }
    }
    Ok(())
}

/// # Safety
///
/// `len` elements of `T` from element `first` after `start` on are valid and not used elsewhere.
unsafe fn slice<'a, T>(start: u64, first: usize, len: usize) -> &'a mut [T] {
    // SAFETY: passed on to the caller.
    unsafe { std::slice::from_raw_parts_mut((start as *mut T).add(first), len) }
}

fn round<T>(to: &mut [T], from: &[f32], convert: impl Fn(f32) -> T) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = convert(from);
    }
}

fn floats(matrix: Matrix<'_>) -> Result<Cow<'_, [f32]>> {
    let start = reading(matrix.tensor)?.0;
    let len = matrix.rows * matrix.columns;
    // SAFETY: as in `multiply_on_host`, for reading; the slices end before anything writes.
    unsafe {
        Ok(match matrix.tensor.dtype() {
            DType::F32 => Cow::Borrowed(&*slice::<f32>(start, matrix.start, len)),
            DType::BF16 => Cow::Owned(slice::<bf16>(start, matrix.start, len).iter().map(|x| x.to_f32()).collect()),
            _ => Cow::Owned(slice::<f16>(start, matrix.start, len).iter().map(|x| x.to_f32()).collect()),
        })
    }
}
