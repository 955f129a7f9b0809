//! The language-model head and the log-probability of one token a row, fused.
//!
//! Logits exist for one tile, some rows by some of the vocabulary, in both passes: a matrix product writes it, a kernel
//! folds it into the rows' running log-sum-exp, or turns it into its own gradient, which two products read.

use super::address::{Address, reading, writing};
use super::convert;
use super::embedding::gather;
use super::engine::{Engine, Role};
use super::grad::DeviceGrad;
use super::head_directions::Mixture;
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::multiply::Matrix;
use super::operand::Operand;
use crate::cpu::head::Extras;
use crate::error::Result;
use crate::options::{HeadOptions, RowEntropy, TOP_TOKENS, TerminatorScore};
use candle_core::{DType, Tensor};
use std::ops::Range;

const OP: &str = "selected_log_probs";
pub(super) const MODULE: Module = module!("head");

/// Rows of a tile for each of [`HeadOptions::chunk`]: a GPU is efficient at larger products than a core.
const ROWS_OF_CHUNK: usize = 4;
/// Most blocks of a grid along y.
const MAX_GRID_Y: usize = 65535;
/// Logits of a tile: 128 MiB in float32.
const TILE: usize = 1 << 25;
/// In the emulator: small vocabularies have several tiles too.
const EMULATED_TILE: usize = 1 << 12;

arguments! {
    struct HeadStart {
        terminator_logits: Address,
        bars: Address,
        maxima: Address,
        sums: Address,
        target_logits: Address,
        above: Address,
        terminator_sums: Address,
        squares: Address,
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
        squares: Address,
        shrinks: Address,
        rows: u32,
        columns: u32,
        first: u32,
        terminator_count: u32,
        cap: f32,
        squared: u32,
    }
}

arguments! {
    struct HeadTop {
        logits: Address,
        tops: Address,
        columns: u32,
        first: u32,
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
    struct HeadGrads {
        logits: Address,
        rows: Address,
        targets: Address,
        log_sums: Address,
        weights: Address,
        grads: Address,
        columns: u32,
        first: u32,
        cap: f32,
        unused: u32,
    }
}

arguments! {
    struct Scatter {
        from: Address,
        rows: Address,
        to: Address,
        count: u64,
        width: u32,
        accumulate: u32,
    }
}

/// Extents and options of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    rows: usize,
    pub(super) width: usize,
    vocabulary: usize,
    /// 0: none.
    pub(super) cap: f32,
    /// Rows and vocabulary entries of a tile.
    pub(super) tile: [usize; 2],
}

impl Extents {
    fn new(engine: &Engine, [rows, width, vocabulary]: [usize; 3], options: HeadOptions) -> Self {
        let tile_rows = options.chunk.saturating_mul(ROWS_OF_CHUNK).min(rows).clamp(1, MAX_GRID_Y);
        let logits = match engine {
            Engine::Emulator => EMULATED_TILE,
            Engine::Cuda(_) => TILE,
        };
        // Whole multiples of a product's own tiles, where there is more than one.
        let columns = (logits / tile_rows / 128 * 128).max(128).min(vocabulary);
        let cap = options.soft_cap.map_or(0.0, |cap| cap as f32);
        Self { rows, width, vocabulary, cap, tile: [tile_rows, columns] }
    }

    /// Ranges of the vocabulary.
    fn columns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { vocabulary, tile: [_, columns], .. } = *self;
        (0..vocabulary).step_by(columns.max(1)).map(move |first| first..(first + columns).min(vocabulary))
    }
}

/// Inputs of one call in an engine's memory.
pub(crate) struct Head {
    pub(super) engine: Engine,
    hidden: Operand,
    pub(super) weight: Operand,
    pub(super) targets: Tensor,
    pub(super) extents: Extents,
}

/// Numbers of each row that the sweep over tiles updates, as kernels address them: see head.cu.
#[derive(Clone, Copy)]
pub(super) struct RowState {
    start: Address,
    rows: usize,
}

impl RowState {
    /// Bars, maxima, sums, target logits, tokens above the bar, terminators' sums, sums of squares, the last tile's factors.
    const PARTS: usize = 8;
    const BARS: usize = 0;
    pub(super) const MAXIMA: usize = 1;
    pub(super) const SUMS: usize = 2;
    pub(super) const TARGET_LOGITS: usize = 3;
    const ABOVE: usize = 4;
    const TERMINATOR_SUMS: usize = 5;
    const SQUARES: usize = 6;
    pub(super) const SHRINKS: usize = 7;

    /// Address of one number of row `row`.
    pub(super) fn at(self, part: usize, row: usize) -> Address {
        Address(self.start.0 + 4 * (part * self.rows + row) as u64)
    }
}

/// Terminator ids in an engine's memory.
struct Terminators {
    count: usize,
    /// (count), uint32; `None` without terminators.
    ids: Option<Tensor>,
}

impl Head {
    /// `hidden` (M, H), `weight` (V, H), M targets, all checked.
    pub(crate) fn new(
        engine: &Engine,
        hidden: &Tensor,
        weight: &Tensor,
        targets: &[u32],
        options: HeadOptions,
    ) -> Result<Self> {
        let (rows, width) = hidden.dims2()?;
        Ok(Self {
            engine: engine.clone(),
            hidden: Operand::first(engine, OP, "hidden", hidden)?,
            weight: Operand::new(engine, OP, "head_weight", weight, hidden.dtype())?,
            targets: engine.upload(targets)?,
            extents: Extents::new(engine, [rows, width, weight.dim(0)?], options),
        })
    }

    pub(super) fn float(&self, count: usize) -> Result<Tensor> {
        self.engine.allocate(DType::F32, &[count], Role::Constant)
    }

    /// Writes `log_probs` and `log_sums`, (M), and ∂log_probs/∂hidden, (M, H), where that is wanted; returns the scores of
    /// the terminators and the entropies, one a row, where they are wanted.
    pub(crate) fn forward(
        &self,
        extras: Extras<'_>,
        log_probs: &Tensor,
        log_sums: &Tensor,
        directions: Option<&Tensor>,
    ) -> Result<(Vec<TerminatorScore>, Vec<f32>)> {
        let (rows, Extras { terminators: ids, entropy }) = (self.extents.rows, extras);
        if rows == 0 {
            return Ok((vec![], vec![]));
        }
        let terminators =
            Terminators { count: ids.len(), ids: if ids.is_empty() { None } else { Some(self.engine.upload(ids)?) } };
        let memory = self.float(RowState::PARTS * rows)?;
        let state = RowState { start: writing(&memory)?, rows };
        self.start(&terminators, state)?;
        let [tile_rows, tile_columns] = self.extents.tile;
        let logits = self.float(tile_rows * tile_columns)?;
        let tops = self.float(if entropy == Some(RowEntropy::Top) { rows * TOP_TOKENS } else { 0 })?;
        let mixture = directions.map(|_| Mixture::new(self, &logits)).transpose()?;
        for first in (0..rows).step_by(tile_rows) {
            let rows = first..rows.min(first + tile_rows);
            for range in self.extents.columns() {
                self.fold_tile(&logits, rows.clone(), range.clone(), &terminators, entropy, state)?;
                if entropy == Some(RowEntropy::Top) {
                    self.fold_top(&logits, rows.clone(), range.clone(), &tops)?;
                }
                if let Some(mixture) = &mixture {
                    mixture.add_tile(self, &logits, rows.clone(), range, state)?;
                }
            }
            if let (Some(mixture), Some(directions)) = (&mixture, directions) {
                mixture.finish(self, rows, state, directions)?;
            }
        }
        let terminator_log_probs = self.float(if ids.is_empty() { 0 } else { rows })?;
        self.finish(&terminators, state, [log_sums, log_probs, &terminator_log_probs])?;
        let part = |part: usize| -> Result<Vec<f32>> { Ok(memory.narrow(0, part * rows, rows)?.to_vec1()?) };
        let entropies = match entropy {
            None => vec![],
            Some(RowEntropy::Collision) => {
                let sums = part(RowState::SUMS)?.into_iter().zip(part(RowState::SQUARES)?);
                sums.map(|(sum, squares)| RowEntropy::of_sums(sum.into(), squares.into())).collect()
            }
            Some(RowEntropy::Top) => {
                let mut tops: Vec<f32> = tops.to_vec1()?;
                tops.chunks_exact_mut(TOP_TOKENS).map(RowEntropy::of_top).collect()
            }
        };
        if ids.is_empty() {
            return Ok((vec![], entropies));
        }
        let log_probs: Vec<f32> = terminator_log_probs.to_vec1()?;
        let score = |(log_prob, above): (f32, f32)| TerminatorScore { log_prob, rank: above as u32 };
        Ok((log_probs.into_iter().zip(part(RowState::ABOVE)?).map(score).collect(), entropies))
    }

    /// Logits of the terminators, (M, count), not capped; `None` without terminators.
    fn terminator_logits(&self, terminators: &Terminators) -> Result<Option<Tensor>> {
        let Some(ids) = &terminators.ids else { return Ok(None) };
        let (Extents { rows, width, .. }, count) = (self.extents, terminators.count);
        let weight = self.weight.tensor();
        let entries = self.engine.allocate(weight.dtype(), &[count, width], Role::Constant)?;
        gather(&self.engine, weight, ids, &entries)?;
        let logits = self.float(rows * count)?;
        let entries = Matrix::new(&entries, count, width);
        let states = Matrix::new(self.hidden.tensor(), rows, width);
        self.engine.multiply(Matrix::new(&logits, rows, count), states, entries.t(), 1.0, false)?;
        Ok(Some(logits))
    }

    /// Sets the state of every row before the first tile.
    fn start(&self, terminators: &Terminators, state: RowState) -> Result<()> {
        let rows = self.extents.rows;
        let terminator_logits = self.terminator_logits(terminators)?;
        let arguments = HeadStart {
            terminator_logits: Engine::reading_if(terminator_logits.as_ref())?,
            bars: state.at(RowState::BARS, 0),
            maxima: state.at(RowState::MAXIMA, 0),
            sums: state.at(RowState::SUMS, 0),
            target_logits: state.at(RowState::TARGET_LOGITS, 0),
            above: state.at(RowState::ABOVE, 0),
            terminator_sums: state.at(RowState::TERMINATOR_SUMS, 0),
            squares: state.at(RowState::SQUARES, 0),
            rows: rows as u32,
            terminator_count: terminators.count as u32,
            cap: self.extents.cap,
            unused: 0,
        };
        // SAFETY: `HeadStart` is the kernel's struct; the state has seven numbers a row, the terminators' logits one for
        // each of them.
        unsafe { self.engine.launch(MODULE, "head_start", Grid::of_threads(rows, 256)?, &arguments) }
    }

    /// Computes the logits of `rows` by the vocabulary entries `range` and folds them into the rows' state.
    fn fold_tile(
        &self,
        logits: &Tensor,
        rows: Range<usize>,
        range: Range<usize>,
        terminators: &Terminators,
        entropy: Option<RowEntropy>,
        state: RowState,
    ) -> Result<()> {
        let (width, count, columns) = (self.extents.width, rows.len(), range.len());
        let states = Matrix::from_row(self.hidden.tensor(), rows.start, count, width);
        let entries = Matrix::from_row(self.weight.tensor(), range.start, columns, width);
        self.engine.multiply(Matrix::new(logits, count, columns), states, entries.t(), 1.0, false)?;
        let arguments = HeadFold {
            logits: reading(logits)?,
            targets: Address(reading(&self.targets)?.0 + 4 * rows.start as u64),
            terminators: Engine::reading_if(terminators.ids.as_ref())?,
            bars: state.at(RowState::BARS, rows.start),
            maxima: state.at(RowState::MAXIMA, rows.start),
            sums: state.at(RowState::SUMS, rows.start),
            target_logits: state.at(RowState::TARGET_LOGITS, rows.start),
            above: state.at(RowState::ABOVE, rows.start),
            terminator_sums: state.at(RowState::TERMINATOR_SUMS, rows.start),
            squares: state.at(RowState::SQUARES, rows.start),
            shrinks: state.at(RowState::SHRINKS, rows.start),
            rows: count as u32,
            columns: columns as u32,
            first: range.start as u32,
            terminator_count: terminators.count as u32,
            cap: self.extents.cap,
            squared: u32::from(entropy == Some(RowEntropy::Collision)),
        };
        let grid = Grid { blocks: [blocks(count)?, 1, 1], threads: 256, shared: 0 };
        // SAFETY: `HeadFold` is the kernel's struct; the tile has `count` × `columns` logits, everything else
        // `count` entries from this tile's first row on.
        unsafe { self.engine.launch(MODULE, "head_fold", grid, &arguments) }
    }

    /// Folds the logits of `rows` by the vocabulary entries `range` into the rows' largest logits, (M, TOP_TOKENS).
    fn fold_top(&self, logits: &Tensor, rows: Range<usize>, range: Range<usize>, tops: &Tensor) -> Result<()> {
        let arguments = HeadTop {
            logits: reading(logits)?,
            tops: Address(writing(tops)?.0 + 4 * (rows.start * TOP_TOKENS) as u64),
            columns: range.len() as u32,
            first: range.start as u32,
            cap: self.extents.cap,
            unused: 0,
        };
        let grid = Grid { blocks: [blocks(rows.len())?, 1, 1], threads: 256, shared: 0 };
        // SAFETY: `HeadTop` is the kernel's struct; the tile has `columns` logits a row, `tops` the kernel's TOP_TOKENS.
        unsafe { self.engine.launch(MODULE, "head_top", grid, &arguments) }
    }

    /// Writes the results of every row after the last tile.
    fn finish(
        &self,
        terminators: &Terminators,
        state: RowState,
        [log_sums, log_probs, terminator_log_probs]: [&Tensor; 3],
    ) -> Result<()> {
        let rows = self.extents.rows;
        let arguments = HeadFinish {
            maxima: state.at(RowState::MAXIMA, 0),
            sums: state.at(RowState::SUMS, 0),
            target_logits: state.at(RowState::TARGET_LOGITS, 0),
            bars: state.at(RowState::BARS, 0),
            terminator_sums: state.at(RowState::TERMINATOR_SUMS, 0),
            log_sums: writing(log_sums)?,
            log_probs: writing(log_probs)?,
            terminator_log_probs: writing(terminator_log_probs)?,
            rows: rows as u32,
            terminator_count: terminators.count as u32,
        };
        // SAFETY: `HeadFinish` is the kernel's struct; everything has one entry a row.
        unsafe { self.engine.launch(MODULE, "head_finish", Grid::of_threads(rows, 256)?, &arguments) }
    }

    /// The gradients of hidden states and weight, where they are wanted, from `gradient` = ∂L/∂log_probs (M).
    pub(crate) fn backward(
        &self,
        gradient: &Tensor,
        log_sums: &Tensor,
        d_hidden: Option<&DeviceGrad>,
        d_weight: Option<&DeviceGrad>,
    ) -> Result<()> {
        // The weights come from the host, after the one synchronisation of a step: reading them back waits for nothing.
        let weights: Vec<f32> = gradient.to_vec1()?;
        let rows: Vec<u32> = (0..weights.len() as u32).filter(|&row| weights[row as usize] != 0.0).collect();
        let all = rows.len() == weights.len();
        for grad in [d_hidden, d_weight].into_iter().flatten() {
            // Rows with a weight of 0 are not written, nor is anything where all are 0.
            if !grad.accumulate && (!all || rows.is_empty()) {
                grad.tensor.zero_set()?;
            }
        }
        let list = self.engine.upload(&rows)?;
        // Sums over many tiles are kept in float32 also where the result is not.
        let weight_sums = match d_weight {
            Some(DeviceGrad { tensor, .. }) if tensor.dtype() != DType::F32 => Some(self.float(tensor.elem_count())?),
            _ => None,
        };
        let scratch = self.scratch(rows.len(), all, d_hidden.is_some())?;
        for first in (0..rows.len()).step_by(scratch.rows) {
            let chosen = list.narrow(0, first, scratch.rows.min(rows.len() - first))?;
            let states = self.chosen_states(&scratch, first, &chosen)?;
            let weight_target = match (&weight_sums, d_weight) {
                (Some(sums), _) => Some((sums, first > 0)),
                (None, Some(DeviceGrad { tensor, accumulate })) => Some((tensor, *accumulate || first > 0)),
                (None, None) => None,
            };
            for (index, range) in self.extents.columns().enumerate() {
                let tile = Tile { states, index, range };
                self.logit_grads(&scratch, &tile, &chosen, [log_sums, gradient])?;
                self.multiply_grads(&scratch, &tile, d_hidden.is_some(), weight_target)?;
            }
            if let Some(DeviceGrad { tensor, accumulate }) = d_hidden {
                self.scatter(&scratch.share, &chosen, tensor, *accumulate)?;
            }
        }
        if let (Some(DeviceGrad { tensor, accumulate }), Some(sums)) = (d_weight, weight_sums)
            && !rows.is_empty()
        {
            convert(&self.engine, &sums, tensor, *accumulate)?;
        }
        Ok(())
    }

    /// Memory of the backward pass over `count` rows; `all` of the call's or some.
    fn scratch(&self, count: usize, all: bool, wants_hidden: bool) -> Result<Scratch> {
        let Extents { width, tile: [tile_rows, columns], .. } = self.extents;
        let dtype = self.hidden.tensor().dtype();
        let rows = tile_rows.min(count).max(1);
        let logits = self.float(rows * columns)?;
        let grads = match dtype {
            DType::F32 => logits.clone(),
            _ => self.engine.allocate(dtype, &[rows * columns], Role::Constant)?,
        };
        let packed = match all {
            true => None,
            false => Some(self.engine.allocate(dtype, &[rows, width], Role::Constant)?),
        };
        let share = self.float(if wants_hidden { rows * width } else { 0 })?;
        Ok(Scratch { rows, logits, grads, packed, share })
    }

    /// Hidden states of the rows `chosen`, from the `first` of all with a weight on.
    fn chosen_states<'a>(&'a self, scratch: &'a Scratch, first: usize, chosen: &Tensor) -> Result<Matrix<'a>> {
        let (width, count) = (self.extents.width, chosen.elem_count());
        Ok(match &scratch.packed {
            None => Matrix::from_row(self.hidden.tensor(), first, count, width),
            Some(packed) => {
                gather(&self.engine, self.hidden.tensor(), chosen, &packed.narrow(0, 0, count)?)?;
                Matrix::new(packed, count, width)
            }
        })
    }

    /// Computes a tile's logits of the rows `chosen` and turns them into their gradients.
    fn logit_grads(
        &self,
        scratch: &Scratch,
        Tile { states, range, .. }: &Tile<'_>,
        chosen: &Tensor,
        [log_sums, gradient]: [&Tensor; 2],
    ) -> Result<()> {
        let (count, columns) = (chosen.elem_count(), range.len());
        let entries = Matrix::from_row(self.weight.tensor(), range.start, columns, self.extents.width);
        let target = Matrix::new(&scratch.logits, count, columns);
        self.engine.multiply(target, *states, entries.t(), 1.0, false)?;
        let arguments = HeadGrads {
            logits: reading(&scratch.logits)?,
            rows: reading(chosen)?,
            targets: reading(&self.targets)?,
            log_sums: reading(log_sums)?,
            weights: reading(gradient)?,
            grads: writing(&scratch.grads)?,
            columns: columns as u32,
            first: range.start as u32,
            cap: self.extents.cap,
            unused: 0,
        };
        let grid = Grid { blocks: [blocks(columns.div_ceil(1024))?, count as u32, 1], threads: 256, shared: 0 };
        let kernel = typed("head_grads", scratch.grads.dtype());
        // SAFETY: `HeadGrads` is the kernel's struct; the tile has a row for each of `chosen`, and targets, log-sums and
        // weights one entry for each row that these name. A thread reads a logit before it writes its gradient.
        unsafe { self.engine.launch(MODULE, &kernel, grid, &arguments) }
    }

    /// The products of a tile's logit gradients: with the states into the weight's gradient, with the tile's entries of
    /// the weight into the share of the hidden states'.
    fn multiply_grads(
        &self,
        scratch: &Scratch,
        Tile { states, index, range }: &Tile<'_>,
        wants_hidden: bool,
        weight_target: Option<(&Tensor, bool)>,
    ) -> Result<()> {
        let (width, (count, _), columns) = (self.extents.width, states.extents(), range.len());
        let grads = Matrix::new(&scratch.grads, count, columns);
        if let Some((target, accumulate)) = weight_target {
            let target = Matrix::from_row(target, range.start, columns, width);
            self.engine.multiply(target, grads.t(), *states, 1.0, accumulate)?;
        }
        if wants_hidden {
            let entries = Matrix::from_row(self.weight.tensor(), range.start, columns, width);
            self.engine.multiply(Matrix::new(&scratch.share, count, width), grads, entries, 1.0, *index > 0)?;
        }
        Ok(())
    }

    /// Rows of `from` to the rows `chosen` of `to`.
    fn scatter(&self, from: &Tensor, chosen: &Tensor, to: &Tensor, accumulate: bool) -> Result<()> {
        let count = chosen.elem_count();
        let arguments = Scatter {
            from: reading(from)?,
            rows: reading(chosen)?,
            to: writing(to)?,
            count: count as u64,
            width: self.extents.width as u32,
            accumulate: u32::from(accumulate),
        };
        let grid = Grid::of_elements(count, 8, 256)?;
        // SAFETY: `Scatter` is the kernel's struct; `from` has `count` rows, and `chosen` are different rows of `to`.
        unsafe { self.engine.launch(MODULE, &typed("scatter_rows", to.dtype()), grid, &arguments) }
    }
}

/// One tile of the backward pass.
struct Tile<'a> {
    /// Hidden states of its rows.
    states: Matrix<'a>,
    /// Index along the vocabulary.
    index: usize,
    /// Vocabulary entries.
    range: Range<usize>,
}

/// Memory of the backward pass, for one tile.
struct Scratch {
    rows: usize,
    /// (rows, columns), float32.
    logits: Tensor,
    /// Their gradients in the dtype of the hidden states; the logits' own memory in float32.
    grads: Tensor,
    /// Hidden states of the rows with a weight, (rows, H); `None` where all rows have one.
    packed: Option<Tensor>,
    /// A tile's share of the hidden states' gradient, (rows, H), float32.
    share: Tensor,
}
