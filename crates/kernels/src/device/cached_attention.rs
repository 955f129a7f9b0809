//! Attention of one query a sequence to the keys and values of a cache, split over its length.

use super::address::{Address, reading, writing};
use super::attention::aligned;
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::operand::Operand;
use crate::error::{KernelError, Result};
use crate::options::{AttentionOptions, Extents};
use candle_core::{DType, Tensor};

const OP: &str = "cached_attention";
const MODULE: Module = module!("cached_attention");

/// Tokens of a split, of a tile, and query heads of a block: as in cached_attention.cu.
pub(crate) const SPLIT: usize = 256;
const TILE: usize = 64;
const HEADS: usize = 8;

arguments! {
    struct CacheWrite {
        keys: Address,
        values: Address,
        cached_keys: Address,
        cached_values: Address,
        places: Address,
        rows: u64,
        width: u32,
        unused: u32,
    }
}

arguments! {
    struct CachedAttention {
        q: Address,
        keys: Address,
        values: Address,
        spans: Address,
        parts: Address,
        weights: Address,
        finished: Address,
        out: Address,
        heads: u32,
        kv_heads: u32,
        width: u32,
        splits: u32,
        each: u32,
        scale: f32,
        cap: f32,
        unused: u32,
    }
}

/// Copies `keys` and `values` (N, Hkv, D) to the rows `places` (N) of a cache's, (tokens, Hkv, D). D is a multiple of 8.
pub(crate) fn write(
    engine: &Engine,
    [keys, values]: [&Tensor; 2],
    [cached_keys, cached_values]: [&Tensor; 2],
    places: &Tensor,
) -> Result<()> {
    let dtype = cached_keys.dtype();
    let operand = |argument, tensor| aligned(engine, Operand::new(engine, OP, argument, tensor, dtype)?);
    let (keys, values) = (operand("keys", keys)?, operand("values", values)?);
    let (rows, kv_heads, head) = keys.tensor().dims3()?;
    let arguments = CacheWrite {
        keys: keys.address()?,
        values: values.address()?,
        cached_keys: writing(cached_keys)?,
        cached_values: writing(cached_values)?,
        places: reading(places)?,
        rows: rows as u64,
        width: (kv_heads * head) as u32,
        unused: 0,
    };
    let count = rows * kv_heads * head * dtype.size_in_bytes() / 16;
    let grid = Grid { blocks: [blocks(count.div_ceil(256))?, 2, 1], threads: 256, shared: 0 };
    // SAFETY: `CacheWrite` is the kernel's struct; all four are rows of one width of the kernel's dtype, and the caller has
    // checked that the places are rows of the cache.
    unsafe { engine.launch(MODULE, &typed("cache_write", dtype), grid, &arguments) }
}

/// Places of queries in a cache.
pub(crate) struct Spans {
    /// (sequences, 3): first row, first and one past the last position that is seen.
    pub(crate) rows: Tensor,
    /// Of the longest sequence.
    pub(crate) splits: usize,
}

/// The sums of the splits of one call: the same memory for all layers.
pub(crate) struct Parts {
    sums: Tensor,
    weights: Tensor,
    /// Zeros between two launches.
    finished: Tensor,
}

impl Parts {
    pub(crate) fn new(engine: &Engine, extents: Extents, splits: usize) -> Result<Self> {
        let Extents { tokens, heads, kv_heads, width } = extents;
        let float = |shape: &[usize]| engine.allocate(DType::F32, shape, Role::Constant);
        Ok(Self {
            sums: float(&[tokens, heads, splits, width])?,
            weights: float(&[tokens, heads, splits, 2])?,
            finished: engine.zeros(DType::U32, &[tokens, blocks_of_heads(heads, kv_heads)])?,
        })
    }
}

/// Query heads of a block.
fn heads_of_block(heads: usize, kv_heads: usize) -> usize {
    (heads / kv_heads).min(HEADS)
}

/// Blocks that a split of a sequence has.
fn blocks_of_heads(heads: usize, kv_heads: usize) -> usize {
    kv_heads * (heads / kv_heads).div_ceil(heads_of_block(heads, kv_heads))
}

/// Attention of `q` (B, Hq, D) to a cache's keys and values, (tokens, Hkv, D); to `out` (B, Hq, D).
pub(crate) fn attend(
    engine: &Engine,
    q: &Tensor,
    [keys, values]: [&Tensor; 2],
    (spans, parts): (&Spans, &Parts),
    options: AttentionOptions,
    out: &Tensor,
) -> Result<()> {
    let dtype = keys.dtype();
    let queries = Operand::new(engine, OP, "q", q, dtype)?;
    let (sequences, heads, width) = q.dims3()?;
    let kv_heads = keys.dim(1)?;
    let (each, layers) = (heads_of_block(heads, kv_heads), blocks_of_heads(heads, kv_heads));
    let arguments = CachedAttention {
        q: queries.address()?,
        keys: reading(keys)?,
        values: reading(values)?,
        spans: reading(&spans.rows)?,
        parts: writing(&parts.sums)?,
        weights: writing(&parts.weights)?,
        finished: writing(&parts.finished)?,
        out: writing(out)?,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        width: width as u32,
        splits: spans.splits as u32,
        each: each as u32,
        scale: options.scale as f32,
        cap: options.soft_cap.unwrap_or(0.0) as f32,
        unused: 0,
    };
    let shared = TILE * (width * dtype.size_in_bytes() + 16) + 4 * each * (width + SPLIT);
    let grid = Grid {
        blocks: [blocks(spans.splits)?, limited("heads", layers)?, limited("sequences", sequences)?],
        threads: 128,
        shared: shared as u32,
    };
    // SAFETY: `CachedAttention` is the kernel's struct; q and out are (sequences, heads, width), the cache's rows (kv_heads, width) of
    // their dtype, the parts are of this shape, and the caller has checked that the spans lie in the cache.
    unsafe { engine.launch(MODULE, &typed("cached_attention", dtype), grid, &arguments) }
}

/// An extent along y or z of a grid.
fn limited(option: &'static str, count: usize) -> Result<u32> {
    match u16::try_from(count) {
        Ok(count) => Ok(count.into()),
        Err(_) => Err(KernelError::Option {
            op: OP,
            option,
            expected: "fewer than 65536 on a device",
            got: count.to_string(),
        }),
    }
}
