//! Matrix products over strided float32 views, on candle's own `gemm`.

use super::parallel::Shared;

/// Read access to a strided matrix.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// Index past the last element a strided matrix reaches.
fn extent(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    (rows - 1) * row_stride + (columns - 1) * column_stride + 1
}

impl<'a> View<'a> {
    /// Contiguous rows.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` elements apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(extent(rows, columns, row_stride, 1) <= data.len());
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// Write access to a matrix whose rows are `row_stride` elements apart.
pub(crate) struct Target {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    accumulate: bool,
}

impl Target {
    /// Contiguous rows, overwritten.
    pub(crate) fn new(data: &mut [f32], rows: usize, columns: usize) -> Self {
        assert!(rows * columns <= data.len());
        Self { start: data.as_mut_ptr(), rows, columns, row_stride: columns, accumulate: false }
    }

    /// Rows `row_stride` elements apart from element `start` of shared memory.
    ///
    /// # Safety
    ///
    /// The elements the matrix reaches lie in `shared`, and nobody else touches them while it is
    /// in use.
    pub(crate) unsafe fn strided(shared: Shared, start: usize, rows: usize, columns: usize, row_stride: usize) -> Self {
        // SAFETY: passed on to the caller.
        let start = unsafe { shared.pointer(start) };
        Self { start, rows, columns, row_stride, accumulate: false }
    }

    /// Adds to the content instead.
    pub(crate) fn accumulate(self, accumulate: bool) -> Self {
        Self { accumulate, ..self }
    }
}

/// `target = scale · left · right`, or `+=` for an accumulating target.
///
/// `threads` 1 stays on this thread; more goes to the current rayon pool. The order of additions
/// in one element does not depend on it.
pub(crate) fn multiply(target: Target, left: View<'_>, right: View<'_>, scale: f32, threads: usize) {
    assert_eq!(left.columns, right.rows);
    assert_eq!(target.rows, left.rows);
    assert_eq!(target.columns, right.columns);
    let parallelism = match threads {
        0 | 1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    // SAFETY: the constructors checked that each matrix stays inside its memory, or had their
    // caller promise it; the target is exclusive, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            target.start,
            1,
            target.row_stride as isize,
            target.accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The threads of the current rayon pool.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}
