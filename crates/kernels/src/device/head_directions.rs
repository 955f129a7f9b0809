//! The gradient of a frozen head on the way forth: ∂ℓ/∂h = W_y − Σ p·W, to which the backward pass only has a factor a row.
//!
//! The sum is taken tile by tile with the weights e^(logit − running maximum), as the log-sum-exp is: two products a tile
//! instead of one forth and two back.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::head::{Head, MODULE, RowState};
use super::launch::{Grid, arguments, blocks, typed};
use super::multiply::Matrix;
use crate::error::Result;
use candle_core::{DType, Tensor};
use std::ops::Range;

arguments! {
    struct HeadExponentials {
        logits: Address,
        maxima: Address,
        exponentials: Address,
        columns: u32,
        cap: f32,
    }
}

arguments! {
    struct HeadShrink {
        sums: Address,
        shrinks: Address,
        width: u32,
        unused: u32,
    }
}

arguments! {
    struct HeadDirections {
        mixed: Address,
        sums: Address,
        target_logits: Address,
        targets: Address,
        weight: Address,
        directions: Address,
        width: u32,
        cap: f32,
    }
}

arguments! {
    struct HeadScale {
        directions: Address,
        weights: Address,
        grads: Address,
        width: u32,
        unused: u32,
    }
}

/// Sums of vocabulary entries, each times e^(logit − maximum), of one tile of rows.
pub(super) struct Mixture {
    /// (rows, H), float32.
    sums: Tensor,
    /// (rows, columns) of a tile, in the dtype of the hidden states; the logits' own memory in float32.
    exponentials: Tensor,
}

/// A block for each row.
fn rows_grid(count: usize) -> Result<Grid> {
    Ok(Grid { blocks: [blocks(count)?, 1, 1], threads: 256, shared: 0 })
}

impl Mixture {
    /// Memory for the tiles of `head`, whose logits are written to `logits`.
    pub(super) fn new(head: &Head, logits: &Tensor) -> Result<Self> {
        let ([rows, columns], dtype) = (head.extents.tile, head.weight.tensor().dtype());
        let exponentials = match dtype {
            DType::F32 => logits.clone(),
            _ => head.engine.allocate(dtype, &[rows * columns], Role::Constant)?,
        };
        Ok(Self { sums: head.float(rows * head.extents.width)?, exponentials })
    }

    /// Adds the entries `range`, whose logits of `rows` were folded into the rows' state. Overwrites float32 logits.
    pub(super) fn add_tile(
        &self,
        head: &Head,
        logits: &Tensor,
        rows: Range<usize>,
        range: Range<usize>,
        state: RowState,
    ) -> Result<()> {
        let (engine, width, count, columns) = (&head.engine, head.extents.width, rows.len(), range.len());
        if range.start > 0 {
            let shrinks = state.at(RowState::SHRINKS, rows.start);
            let arguments = HeadShrink { sums: writing(&self.sums)?, shrinks, width: width as u32, unused: 0 };
            // SAFETY: `HeadShrink` is the kernel's struct; there are `count` rows of sums and factors.
            unsafe { engine.launch(MODULE, "head_shrink", rows_grid(count)?, &arguments)? };
        }
        let arguments = HeadExponentials {
            logits: reading(logits)?,
            maxima: state.at(RowState::MAXIMA, rows.start),
            exponentials: writing(&self.exponentials)?,
            columns: columns as u32,
            cap: head.extents.cap,
        };
        let grid = Grid { blocks: [blocks(columns.div_ceil(1024))?, count as u32, 1], threads: 256, shared: 0 };
        let kernel = typed("head_exponentials", self.exponentials.dtype());
        // SAFETY: `HeadExponentials` is the kernel's struct; the tile has `count` × `columns` logits, and as many results of
        // the kernel's dtype. A thread reads a logit before it writes in its place.
        unsafe { engine.launch(MODULE, &kernel, grid, &arguments)? };
        let weights = Matrix::new(&self.exponentials, count, columns);
        let entries = Matrix::from_row(head.weight.tensor(), range.start, columns, width);
        engine.multiply(Matrix::new(&self.sums, count, width), weights, entries, 1.0, range.start > 0)
    }

    /// Writes the directions of `rows` after the last tile, to (M, H).
    pub(super) fn finish(&self, head: &Head, rows: Range<usize>, state: RowState, directions: &Tensor) -> Result<()> {
        let (width, dtype) = (head.extents.width, directions.dtype());
        let of_row = |start: Address, size: usize| Address(start.0 + (rows.start * size) as u64);
        let arguments = HeadDirections {
            mixed: reading(&self.sums)?,
            sums: state.at(RowState::SUMS, rows.start),
            target_logits: state.at(RowState::TARGET_LOGITS, rows.start),
            targets: of_row(reading(&head.targets)?, 4),
            weight: reading(head.weight.tensor())?,
            directions: of_row(writing(directions)?, width * dtype.size_in_bytes()),
            width: width as u32,
            cap: head.extents.cap,
        };
        // SAFETY: `HeadDirections` is the kernel's struct; sums, targets and directions have `rows`, the targets were checked
        // against the vocabulary, weight and directions are of the kernel's dtype.
        unsafe { head.engine.launch(MODULE, &typed("head_directions", dtype), rows_grid(rows.len())?, &arguments) }
    }
}

/// ∂L/∂hidden from `directions` = ∂ℓ/∂hidden, (M, H), and `gradient` = ∂L/∂ℓ, (M), float32.
pub(crate) fn scale_directions(engine: &Engine, directions: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (rows, width) = directions.dims2()?;
    let grads = engine.allocate(directions.dtype(), &[rows, width], Role::Constant)?;
    let arguments = HeadScale {
        directions: reading(directions)?,
        weights: reading(gradient)?,
        grads: writing(&grads)?,
        width: width as u32,
        unused: 0,
    };
    // SAFETY: `HeadScale` is the kernel's struct; both matrices have `rows` of `width` of the kernel's dtype, the gradient one
    // element a row.
    unsafe { engine.launch(MODULE, &typed("head_scale", grads.dtype()), rows_grid(rows)?, &arguments)? };
    Ok(grads)
}
