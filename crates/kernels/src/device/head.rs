//! The language-model head and the log-probability of one token a row, fused.
//!
//! Logits exist for one tile, some rows by some of the vocabulary, in both passes: a matrix product writes it, a kernel
//! takes it into the rows' running log-sum-exp, or turns it into its own gradient, which two products read.

use super::address::{Address, reading, writing};
use super::convert;
use super::embedding::gather;
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::multiply::Matrix;
use super::operand::Operand;
use super::outlet::{Open, Outlet, single};
use crate::error::Result;
use crate::head::{HeadOptions, SelectedLogProbs, TerminatorStanding};
use crate::tape;
use candle_core::{DType, Tensor};

const OP: &str = "selected_log_probs";
const MODULE: Module = module!("head");

/// Rows of a tile for each of [`HeadOptions::chunk`]: a GPU wants larger products than a core.
const ROWS_OF_CHUNK: usize = 4;
/// Blocks of a grid along y at most.
const GRID_LIMIT: usize = 65535;
/// Logits of a tile: 128 MiB in float32.
const TILE: usize = 1 << 25;

arguments! {
    struct HeadStart {
        terminator_logits: Address,
        bars: Address,
        maxima: Address,
        sums: Address,
        target_logits: Address,
        above: Address,
        terminator_sums: Address,
        rows: u32,
        terminator_count: u32,
        cap: f32,
        unused: u32,
    }
}

arguments! {
    struct HeadFold {
        logits: Address,
        targets: Address,
        terminators: Address,
        bars: Address,
        maxima: Address,
        sums: Address,
        target_logits: Address,
        above: Address,
        terminator_sums: Address,
        rows: u32,
        columns: u32,
        first: u32,
        terminator_count: u32,
        cap: f32,
        unused: u32,
    }
}

arguments! {
    struct HeadFinish {
        maxima: Address,
        sums: Address,
        target_logits: Address,
        bars: Address,
        terminator_sums: Address,
        log_sums: Address,
        log_probs: Address,
        terminator_log_probs: Address,
        rows: u32,
        terminator_count: u32,
    }
}

arguments! {
    struct HeadSlopes {
        logits: Address,
        places: Address,
        targets: Address,
        log_sums: Address,
        weights: Address,
        slopes: Address,
        columns: u32,
        first: u32,
        cap: f32,
        unused: u32,
    }
}

arguments! {
    struct Scatter {
        from: Address,
        places: Address,
        to: Address,
        rows: u64,
        width: u32,
        accumulate: u32,
    }
}

/// Extents and options of one call.
#[derive(Clone, Copy, Debug)]
struct Extents {
    rows: usize,
    width: usize,
    vocabulary: usize,
    /// 0: none.
    cap: f32,
    /// Rows and vocabulary entries of a tile.
    tile: [usize; 2],
}

impl Extents {
    fn new(rows: usize, width: usize, vocabulary: usize, options: HeadOptions, tile: usize) -> Self {
        let tile_rows = options.chunk.saturating_mul(ROWS_OF_CHUNK).min(rows).clamp(1, GRID_LIMIT);
        // Whole multiples of a product's own tiles, where there is more than one.
        let columns = (tile / tile_rows / 128 * 128).max(128).min(vocabulary);
        let cap = options.soft_cap.map_or(0.0, |cap| cap as f32);
        Self { rows, width, vocabulary, cap, tile: [tile_rows, columns] }
    }

    /// Ranges of the vocabulary.
    fn columns(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let Self { vocabulary, tile: [_, columns], .. } = *self;
        (0..vocabulary).step_by(columns.max(1)).map(move |first| first..(first + columns).min(vocabulary))
    }
}

/// As [`crate::selected_log_probs_with_terminators`], everything checked; terminators may be none.
pub(crate) fn selected_log_probs(
    engine: &Engine,
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    terminators: &[u32],
    options: HeadOptions,
) -> Result<SelectedLogProbs> {
    run(engine, hidden, weight, targets, terminators, options, TILE)
}

fn run(
    engine: &Engine,
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    terminators: &[u32],
    options: HeadOptions,
    tile: usize,
) -> Result<SelectedLogProbs> {
    let tracked = tape::tracks(OP, &[hidden, weight])?;
    let (rows, width) = hidden.dims2()?;
    let head = Head {
        engine: engine.clone(),
        hidden: Operand::first(engine, OP, "hidden", hidden)?,
        weight: Operand::new(engine, OP, "head_weight", weight, hidden.dtype())?,
        targets: engine.upload(targets)?,
        extents: Extents::new(rows, width, weight.dim(0)?, options, tile),
    };
    let log_probs = engine.allocate(DType::F32, &[rows], Role::leaf_if(tracked))?;
    let log_sums = engine.allocate(DType::F32, &[rows], Role::Constant)?;
    let terminators = head.forward(terminators, &log_probs, &log_sums)?;
    tape::push_on(engine, &[hidden, weight], &[&log_probs], move |gradients, outlet| {
        head.backward(single(gradients, OP)?, &log_sums, outlet)
    })?;
    Ok(SelectedLogProbs { log_probs, terminators })
}

struct Head {
    engine: Engine,
    hidden: Operand,
    weight: Operand,
    targets: Tensor,
    extents: Extents,
}

impl Head {
    fn float(&self, count: usize) -> Result<Tensor> {
        self.engine.allocate(DType::F32, &[count], Role::Constant)
    }

    /// Writes log-probabilities and log-sums.
    fn forward(&self, ids: &[u32], log_probs: &Tensor, log_sums: &Tensor) -> Result<Vec<TerminatorStanding>> {
        let Extents { rows, width, cap, tile, .. } = self.extents;
        if rows == 0 {
            return Ok(vec![]);
        }
        let (hidden, weight) = (self.hidden.tensor(), self.weight.tensor());
        let terminator_count = ids.len() as u32;
        let terminators = if ids.is_empty() { None } else { Some(self.engine.upload(ids)?) };
        let terminator_logits = match &terminators {
            None => None,
            Some(list) => {
                let entries = self.engine.allocate(weight.dtype(), &[ids.len(), width], Role::Constant)?;
                gather(&self.engine, weight, list, &entries)?;
                let logits = self.float(rows * ids.len())?;
                let entries = Matrix::new(&entries, ids.len(), width);
                let states = Matrix::new(hidden, rows, width);
                self.engine.multiply(Matrix::new(&logits, rows, ids.len()), states, entries.t(), 1.0, false)?;
                Some(logits)
            }
        };
        // Bars, maxima, sums, target logits, tokens above, terminators' sums: a row of each for all rows.
        let state = self.float(6 * rows)?;
        let at = writing(&state)?;
        let part = |index: usize, first: usize| Address(at.0 + 4 * (index * rows + first) as u64);
        let start = HeadStart {
            terminator_logits: Engine::reading_if(terminator_logits.as_ref())?,
            bars: part(0, 0),
            maxima: part(1, 0),
            sums: part(2, 0),
            target_logits: part(3, 0),
            above: part(4, 0),
            terminator_sums: part(5, 0),
            rows: rows as u32,
            terminator_count,
            cap,
            unused: 0,
        };
        let by_row = Grid::of_threads(rows, 256)?;
        // SAFETY: `HeadStart` is the kernel's struct; the state has six numbers a row, the terminators' logits one for
        // each of them.
        unsafe { self.engine.launch(MODULE, "head_start", by_row, &start)? };
        let logits = self.float(tile[0] * tile[1])?;
        let targets = reading(&self.targets)?;
        for first_row in (0..rows).step_by(tile[0]) {
            let count = tile[0].min(rows - first_row);
            for range in self.extents.columns() {
                let columns = range.len();
                let states = Matrix::from_row(hidden, first_row, count, width);
                let entries = Matrix::from_row(weight, range.start, columns, width);
                self.engine.multiply(Matrix::new(&logits, count, columns), states, entries.t(), 1.0, false)?;
                let fold = HeadFold {
                    logits: reading(&logits)?,
                    targets: Address(targets.0 + 4 * first_row as u64),
                    terminators: Engine::reading_if(terminators.as_ref())?,
                    bars: part(0, first_row),
                    maxima: part(1, first_row),
                    sums: part(2, first_row),
                    target_logits: part(3, first_row),
                    above: part(4, first_row),
                    terminator_sums: part(5, first_row),
                    rows: count as u32,
                    columns: columns as u32,
                    first: range.start as u32,
                    terminator_count,
                    cap,
                    unused: 0,
                };
                let grid = Grid { blocks: [blocks(count)?, 1, 1], threads: 256, shared: 0 };
                // SAFETY: `HeadFold` is the kernel's struct; the tile has `count` × `columns` logits, everything else
                // `count` entries from this tile's first row on.
                unsafe { self.engine.launch(MODULE, "head_fold", grid, &fold)? };
            }
        }
        let standings = self.float(if ids.is_empty() { 0 } else { rows })?;
        let finish = HeadFinish {
            maxima: part(1, 0),
            sums: part(2, 0),
            target_logits: part(3, 0),
            bars: part(0, 0),
            terminator_sums: part(5, 0),
            log_sums: writing(log_sums)?,
            log_probs: writing(log_probs)?,
            terminator_log_probs: writing(&standings)?,
            rows: rows as u32,
            terminator_count,
        };
        // SAFETY: `HeadFinish` is the kernel's struct; everything has one entry a row.
        unsafe { self.engine.launch(MODULE, "head_finish", by_row, &finish)? };
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let above: Vec<f32> = state.narrow(0, 4 * rows, rows)?.to_vec1()?;
        let log_probs: Vec<f32> = standings.to_vec1()?;
        let standing = |(log_prob, above): (f32, f32)| TerminatorStanding { log_prob, rank: above as u32 };
        Ok(log_probs.into_iter().zip(above).map(standing).collect())
    }

    fn backward(&self, gradient: &Tensor, log_sums: &Tensor, outlet: &mut Outlet<'_>) -> Result<()> {
        let Extents { width, tile, .. } = self.extents;
        let (hidden, dtype) = (self.hidden.tensor(), self.hidden.tensor().dtype());
        // The weights come from the host, after the one wait of a step: reading them back waits for nothing.
        let weights: Vec<f32> = gradient.to_vec1()?;
        let places: Vec<u32> = (0..weights.len() as u32).filter(|&row| weights[row as usize] != 0.0).collect();
        let all = places.len() == weights.len();
        let d_hidden = outlet.open(0, dtype)?;
        let d_weight = outlet.open(1, dtype)?;
        for open in [&d_hidden, &d_weight].into_iter().flatten() {
            // Rows without a weight are not written, nor is anything where there is none.
            if !open.accumulate && (!all || places.is_empty()) {
                open.tensor.zero_set()?;
            }
        }
        let list = self.engine.upload(&places)?;
        // Sums over many tiles are kept in float32 also where the result is not.
        let weight_sums = match &d_weight {
            Some(Open { tensor, .. }) if tensor.dtype() != DType::F32 => Some(self.float(tensor.elem_count())?),
            _ => None,
        };
        let tile_rows = tile[0].min(places.len()).max(1);
        let logits = self.float(tile_rows * tile[1])?;
        let slopes = match dtype {
            DType::F32 => logits.clone(),
            _ => self.engine.allocate(dtype, &[tile_rows * tile[1]], Role::Constant)?,
        };
        let packed = match all {
            true => None,
            false => Some(self.engine.allocate(dtype, &[tile_rows, width], Role::Constant)?),
        };
        let share = self.float(if d_hidden.is_some() { tile_rows * width } else { 0 })?;
        for first in (0..places.len()).step_by(tile_rows) {
            let count = tile_rows.min(places.len() - first);
            let chosen = list.narrow(0, first, count)?;
            let states = match &packed {
                None => Matrix::from_row(hidden, first, count, width),
                Some(packed) => {
                    gather(&self.engine, hidden, &chosen, &packed.narrow(0, 0, count)?)?;
                    Matrix::new(packed, count, width)
                }
            };
            for (index, range) in self.extents.columns().enumerate() {
                let columns = range.len();
                let entries = Matrix::from_row(self.weight.tensor(), range.start, columns, width);
                self.engine.multiply(Matrix::new(&logits, count, columns), states, entries.t(), 1.0, false)?;
                self.slopes(&logits, &slopes, &chosen, log_sums, gradient, range.clone())?;
                let tile = Matrix::new(&slopes, count, columns);
                if let Some(Open { tensor, accumulate }) = &d_weight {
                    let (target, add) = match &weight_sums {
                        Some(sums) => (sums, first > 0),
                        None => (tensor, *accumulate || first > 0),
                    };
                    let target = Matrix::from_row(target, range.start, columns, width);
                    self.engine.multiply(target, tile.t(), states, 1.0, add)?;
                }
                if d_hidden.is_some() {
                    self.engine.multiply(Matrix::new(&share, count, width), tile, entries, 1.0, index > 0)?;
                }
            }
            if let Some(Open { tensor, accumulate }) = &d_hidden {
                self.scatter(&share, &chosen, tensor, *accumulate)?;
            }
        }
        if let Some(Open { tensor, .. }) = d_hidden {
            outlet.close(0, tensor)?;
        }
        if let Some(Open { tensor, accumulate }) = d_weight {
            if let Some(sums) = weight_sums.filter(|_| !places.is_empty()) {
                convert(&self.engine, &sums, &tensor, accumulate)?;
            }
            outlet.close(1, tensor)?;
        }
        Ok(())
    }

    /// Turns a tile of logits into their gradients.
    fn slopes(
        &self,
        logits: &Tensor,
        slopes: &Tensor,
        chosen: &Tensor,
        log_sums: &Tensor,
        gradient: &Tensor,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        let arguments = HeadSlopes {
            logits: reading(logits)?,
            places: reading(chosen)?,
            targets: reading(&self.targets)?,
            log_sums: reading(log_sums)?,
            weights: reading(gradient)?,
            slopes: writing(slopes)?,
            columns: range.len() as u32,
            first: range.start as u32,
            cap: self.extents.cap,
            unused: 0,
        };
        let grid = Grid {
            blocks: [blocks(range.len().div_ceil(1024))?, chosen.elem_count() as u32, 1],
            threads: 256,
            shared: 0,
        };
        // SAFETY: `HeadSlopes` is the kernel's struct; the tile has a row for each place, and targets, log-sums and
        // weights one entry for each row that a place names. A thread reads a logit before it writes its gradient.
        unsafe { self.engine.launch(MODULE, &typed("head_slopes", slopes.dtype()), grid, &arguments) }
    }

    /// Rows of `from` to those of `to` that `places` name.
    fn scatter(&self, from: &Tensor, places: &Tensor, to: &Tensor, accumulate: bool) -> Result<()> {
        let rows = places.elem_count();
        let arguments = Scatter {
            from: reading(from)?,
            places: reading(places)?,
            to: writing(to)?,
            rows: rows as u64,
            width: self.extents.width as u32,
            accumulate: u32::from(accumulate),
        };
        let grid = Grid::of_elements(rows, 8, 256)?;
        // SAFETY: `Scatter` is the kernel's struct; `from` has `rows` rows, and places are different rows of `to`.
        unsafe { self.engine.launch(MODULE, &typed("scatter_rows", to.dtype()), grid, &arguments) }
    }
}
