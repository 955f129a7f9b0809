//! Softmax attention over packed segments, tile by tile: nothing of size tokens × tokens is kept.
//!
//! The spans are cut into tiles of up to 64 tokens. The host lists, once for all layers, which pairs of a tile of
//! queries and a tile of keys see anything of each other, and the bounds of what they see: within a span indices and
//! positions rise together, so causality, the prefix and the window are bounds on the places in two tiles.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::operand::Operand;
use super::outlet::single;
use crate::attention::{AttentionOptions, Extents};
use crate::error::{KernelError, Result};
use crate::segments::Segments;
use crate::tape;
use candle_core::{DType, DeviceLocation, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

const OP: &str = "attention";

/// Tokens of a tile: `ATTENTION_TILE` in attention.cuh.
const TILE: usize = 64;
/// A bound that bounds nothing within a tile.
const FAR: i64 = 1 << 20;
/// The kernels of a width; narrower heads are filled up with zeros in shared memory.
#[derive(Clone, Copy, Debug)]
struct Width {
    padded: usize,
    forward: Module,
    backward: Module,
}

const WIDTHS: [Width; 5] = [
    Width { padded: 32, forward: module!("attention_forward_32"), backward: module!("attention_backward_32") },
    Width { padded: 64, forward: module!("attention_forward_64"), backward: module!("attention_backward_64") },
    Width { padded: 96, forward: module!("attention_forward_96"), backward: module!("attention_backward_96") },
    Width { padded: 128, forward: module!("attention_forward_128"), backward: module!("attention_backward_128") },
    Width { padded: 256, forward: module!("attention_forward_256"), backward: module!("attention_backward_256") },
];

arguments! {
    struct AttentionForward {
        q: Address,
        k: Address,
        v: Address,
        out: Address,
        log_sums: Address,
        tiles: Address,
        pairs: Address,
        heads: u32,
        kv_heads: u32,
        width: u32,
        scale: f32,
        cap: f32,
        unused: u32,
    }
}

arguments! {
    struct AttentionInner {
        out: Address,
        d_out: Address,
        inner: Address,
        rows: u64,
        width: u32,
        unused: u32,
    }
}

arguments! {
    struct AttentionBackward {
        q: Address,
        k: Address,
        v: Address,
        d_out: Address,
        log_sums: Address,
        inner: Address,
        dq: Address,
        dk: Address,
        dv: Address,
        tiles: Address,
        pairs: Address,
        heads: u32,
        kv_heads: u32,
        width: u32,
        scale: f32,
        cap: f32,
        unused: u32,
    }
}

/// As [`crate::attention`], for heads of 8 to 256 elements, a multiple of 8.
pub(crate) fn attention(
    engine: &Engine,
    [q, k, v]: [&Tensor; 3],
    extents: Extents,
    segments: &Segments,
    options: AttentionOptions,
) -> Result<Tensor> {
    let tracked = tape::tracks(OP, &[q, k, v])?;
    let shape = Shape::of(q.dtype(), extents)?;
    let queries = aligned(engine, Operand::first(engine, OP, "q", q)?)?;
    let keys = aligned(engine, Operand::new(engine, OP, "k", k, q.dtype())?)?;
    let values = aligned(engine, Operand::new(engine, OP, "v", v, q.dtype())?)?;
    let out = engine.allocate(q.dtype(), q.dims(), Role::leaf_if(tracked))?;
    let pass = Pass {
        engine: engine.clone(),
        inputs: [queries, keys, values],
        log_sums: engine.allocate(DType::F32, &[extents.tokens, extents.heads], Role::Constant)?,
        plan: segments.plans().plan(engine, segments, options.window)?,
        extents,
        options,
        shape,
    };
    pass.forward(&out)?;
    let result = out.detach();
    tape::push_on(engine, &[q, k, v], &[&out], move |gradients, outlet| {
        let d_out =
            aligned(&pass.engine, Operand::new(&pass.engine, OP, "gradient", single(gradients, OP)?, pass.dtype())?)?;
        let inner = pass.inner(&result, &d_out)?;
        if outlet.wants(0) {
            outlet.give(0, pass.query_gradient(&d_out, &inner)?)?;
        }
        if outlet.wants(1) || outlet.wants(2) {
            let [dk, dv] = pass.key_gradients(&d_out, &inner)?;
            outlet.give(1, dk)?;
            outlet.give(2, dv)?;
        }
        Ok(())
    })?;
    Ok(out)
}

/// Rows are copied 16 bytes at a time: a tensor that starts elsewhere is copied once.
fn aligned(engine: &Engine, operand: Operand) -> Result<Operand> {
    if operand.address()?.is_aligned_to(16) {
        return Ok(operand);
    }
    let copy = engine.copy(operand.tensor(), Role::Constant)?;
    Operand::new(engine, OP, "copy", &copy, copy.dtype())
}

/// What a kernel is made for, and its blocks: `AttentionExtents` in attention.cuh.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kernels: Width,
    rows: usize,
    forward_shared: usize,
    backward_shared: usize,
}

impl Shape {
    fn of(dtype: DType, extents: Extents) -> Result<Self> {
        let width = extents.width;
        let fits = |kernels: &Width| width <= kernels.padded && width > 0 && width.is_multiple_of(8);
        let Some(kernels) = WIDTHS.into_iter().find(fits) else {
            let expected = "a multiple of 8 up to 256 on a device";
            return Err(KernelError::Option { op: OP, option: "head_dim", expected, got: width.to_string() });
        };
        let (size, padded) = (dtype.size_in_bytes(), kernels.padded);
        let wide_elements = size == 4;
        let rows = if wide_elements && padded == 256 { 32 } else { 64 };
        let forward = if padded == 256 { 32 } else { 64 } / if wide_elements { 2 } else { 1 };
        let backward = if wide_elements || padded == 256 { 16 } else { 32 };
        let row = padded * size + 16;
        Ok(Self {
            kernels,
            rows,
            forward_shared: (rows + 2 * forward) * row,
            backward_shared: 2 * (rows + backward) * row + 2 * backward * size_of::<f32>(),
        })
    }

    fn kernel(self, name: &str, dtype: DType) -> String {
        typed(&format!("{name}_{}", self.kernels.padded), dtype)
    }

    fn grid(self, tiles: usize, heads: usize, layers: u32, shared: usize) -> Result<Grid> {
        let heads = match u32::try_from(heads) {
            Ok(heads) if heads <= u32::from(u16::MAX) => heads,
            _ => {
                let expected = "fewer than 65536 on a device";
                return Err(KernelError::Option { op: OP, option: "heads", expected, got: heads.to_string() });
            }
        };
        let blocks = [blocks(tiles * (TILE / self.rows))?, heads, layers];
        Ok(Grid { blocks, threads: 2 * self.rows as u32, shared: shared as u32 })
    }
}

/// What both directions read.
struct Pass {
    engine: Engine,
    inputs: [Operand; 3],
    log_sums: Tensor,
    plan: Arc<Plan>,
    extents: Extents,
    options: AttentionOptions,
    shape: Shape,
}

impl Pass {
    fn dtype(&self) -> DType {
        self.inputs[0].tensor().dtype()
    }

    fn forward(&self, out: &Tensor) -> Result<()> {
        let [q, k, v] = &self.inputs;
        let Extents { heads, kv_heads, width, .. } = self.extents;
        let arguments = AttentionForward {
            q: q.address()?,
            k: k.address()?,
            v: v.address()?,
            out: writing(out)?,
            log_sums: writing(&self.log_sums)?,
            tiles: reading(&self.plan.queries.tiles)?,
            pairs: reading(&self.plan.queries.pairs)?,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            width: width as u32,
            scale: self.options.scale as f32,
            cap: self.options.soft_cap.unwrap_or(0.0) as f32,
            unused: 0,
        };
        let grid = self.shape.grid(self.plan.queries.count, heads, 1, self.shape.forward_shared)?;
        let kernel = self.shape.kernel("attention_forward", self.dtype());
        // SAFETY: `AttentionForward` is the kernel's struct; q and out are (tokens, heads, width), k and v (tokens,
        // kv_heads, width) of the kernel's type, the log-sums (tokens, heads); the plan's tiles cover the tokens.
        unsafe { self.engine.launch(self.shape.kernels.forward, &kernel, grid, &arguments) }
    }

    /// ⟨o, dL/do⟩ of each row.
    fn inner(&self, out: &Tensor, d_out: &Operand) -> Result<Tensor> {
        let Extents { tokens, heads, width, .. } = self.extents;
        let inner = self.engine.allocate(DType::F32, &[tokens, heads], Role::Constant)?;
        let arguments = AttentionInner {
            out: reading(out)?,
            d_out: d_out.address()?,
            inner: writing(&inner)?,
            rows: (tokens * heads) as u64,
            width: width as u32,
            unused: 0,
        };
        let grid = Grid::of_elements(tokens * heads, 8, 256)?;
        // SAFETY: `AttentionInner` is the kernel's struct; both tensors have tokens · heads rows of `width`, inner one
        // element a row.
        unsafe {
            self.engine.launch(
                self.shape.kernels.backward,
                &typed("attention_inner", self.dtype()),
                grid,
                &arguments,
            )?
        };
        Ok(inner)
    }

    fn query_gradient(&self, d_out: &Operand, inner: &Tensor) -> Result<Tensor> {
        let dq = self.engine.allocate(self.dtype(), self.inputs[0].tensor().dims(), Role::Constant)?;
        let targets = [writing(&dq)?, Address::NONE, Address::NONE];
        let arguments = self.backward(d_out, inner, targets, &self.plan.queries)?;
        let grid = self.shape.grid(self.plan.queries.count, self.extents.heads, 1, self.shape.backward_shared)?;
        let kernel = self.shape.kernel("attention_backward_queries", self.dtype());
        // SAFETY: `AttentionBackward` is the kernel's struct; the tensors are those of the forward pass, their gradients
        // have their types and extents.
        unsafe { self.engine.launch(self.shape.kernels.backward, &kernel, grid, &arguments)? };
        Ok(dq)
    }

    fn key_gradients(&self, d_out: &Operand, inner: &Tensor) -> Result<[Tensor; 2]> {
        let fresh = || self.engine.allocate(self.dtype(), self.inputs[1].tensor().dims(), Role::Constant);
        let (dk, dv) = (fresh()?, fresh()?);
        let targets = [Address::NONE, writing(&dk)?, writing(&dv)?];
        let arguments = self.backward(d_out, inner, targets, &self.plan.keys)?;
        // The widest heads' blocks own keys or values, not both.
        let layers = if self.shape.kernels.padded == 256 { 2 } else { 1 };
        let shared = self.shape.backward_shared;
        let grid = self.shape.grid(self.plan.keys.count, self.extents.kv_heads, layers, shared)?;
        let kernel = self.shape.kernel("attention_backward_keys", self.dtype());
        // SAFETY: as for the gradient of the queries.
        unsafe { self.engine.launch(self.shape.kernels.backward, &kernel, grid, &arguments)? };
        Ok([dk, dv])
    }

    fn backward(
        &self,
        d_out: &Operand,
        inner: &Tensor,
        [dq, dk, dv]: [Address; 3],
        list: &List,
    ) -> Result<AttentionBackward> {
        let [q, k, v] = &self.inputs;
        Ok(AttentionBackward {
            q: q.address()?,
            k: k.address()?,
            v: v.address()?,
            d_out: d_out.address()?,
            log_sums: reading(&self.log_sums)?,
            inner: reading(inner)?,
            dq,
            dk,
            dv,
            tiles: reading(&list.tiles)?,
            pairs: reading(&list.pairs)?,
            heads: self.extents.heads as u32,
            kv_heads: self.extents.kv_heads as u32,
            width: self.extents.width as u32,
            scale: self.options.scale as f32,
            cap: self.options.soft_cap.unwrap_or(0.0) as f32,
            unused: 0,
        })
    }
}

/// The pairs of tiles of some segments, in an engine's memory.
#[derive(Debug)]
struct Plan {
    queries: List,
    keys: List,
}

/// Tiles whose rows a block owns, those with most pairs first, and their pairs.
#[derive(Debug)]
struct List {
    count: usize,
    tiles: Tensor,
    pairs: Tensor,
}

/// Plans that were made for segments: all layers of a pass have the same, or one of two windows.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<Vec<Made>>);

/// A plan and what it was made for.
#[derive(Debug)]
struct Made {
    window: Option<usize>,
    location: DeviceLocation,
    plan: Arc<Plan>,
}

impl PartialEq for Plans {
    /// Plans follow from what they are kept with.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Plans {}

impl Plans {
    fn plan(&self, engine: &Engine, segments: &Segments, window: Option<usize>) -> Result<Arc<Plan>> {
        let location = engine.device().location();
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = plans.iter().find(|made| (made.window, made.location) == (window, location)) {
            return Ok(Arc::clone(&made.plan));
        }
        let tiles = tiles(segments);
        let pairs = pairs(segments, &tiles, window);
        let plan = Arc::new(Plan {
            queries: List::upload(engine, &tiles, &pairs, |pair| pair.query)?,
            keys: List::upload(engine, &tiles, &pairs, |pair| pair.key)?,
        });
        plans.push(Made { window, location, plan: Arc::clone(&plan) });
        Ok(plan)
    }
}

/// Neighbouring tokens of one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    first: usize,
    end: usize,
    span: usize,
}

fn tiles(segments: &Segments) -> Vec<Tile> {
    let spans = segments.spans().iter().enumerate();
    spans
        .flat_map(|(index, span)| {
            let end = span.end;
            (span.start..end).step_by(TILE).map(move |first| Tile { first, end: end.min(first + TILE), span: index })
        })
        .collect()
}

/// Two tiles by their indices, and which places in them see each other: `AttentionPair` in attention.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    query: usize,
    key: usize,
    key_first: usize,
    key_last: usize,
    causal: i64,
    near: i64,
}

/// The pairs with something to see, by their queries and then their keys.
fn pairs(segments: &Segments, tiles: &[Tile], window: Option<usize>) -> Vec<Pair> {
    let position = |token: usize| i64::from(segments.positions()[token]);
    let mut pairs = vec![];
    for (query, tile) in tiles.iter().enumerate() {
        let span = &segments.spans()[tile.span];
        let prefix = span.prefix.clone().unwrap_or(0..0);
        for (range, own) in [(prefix, false), (span.start..tile.end, true)] {
            let from = tiles.partition_point(|tile| tile.end <= range.start);
            let keys = tiles.iter().enumerate().skip(from).take_while(|(_, tile)| tile.first < range.end);
            for (key, keys) in keys {
                let causal = if own { (tile.first - keys.first) as i64 } else { FAR };
                let near = window.and_then(|window| i64::try_from(window).ok()).map_or(-FAR, |window| {
                    // Query i and key j are position(first query) + i − position(first key) − j apart.
                    position(tile.first) - position(keys.first) - window + 1
                });
                let key_first = range.start.max(keys.first) - keys.first;
                let key_last = range.end.min(keys.end) - keys.first;
                if near < key_last as i64 {
                    let (causal, near) = (causal.min(FAR), near.max(-FAR));
                    pairs.push(Pair { query, key, key_first, key_last, causal, near });
                }
            }
        }
    }
    pairs
}

impl List {
    fn upload(engine: &Engine, tiles: &[Tile], pairs: &[Pair], owner: impl Fn(&Pair) -> usize) -> Result<Self> {
        let mut owned: Vec<Vec<&Pair>> = vec![vec![]; tiles.len()];
        for pair in pairs {
            owned[owner(pair)].push(pair);
        }
        // The longest work first: it ends with the rest then.
        let mut order: Vec<usize> = (0..tiles.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(owned[index].len()));
        let (mut rows, mut all) = (vec![], vec![]);
        for index in order {
            let Tile { first, end, .. } = tiles[index];
            let before = all.len() / 8;
            for pair in &owned[index] {
                let (query, key) = (tiles[pair.query], tiles[pair.key]);
                let tokens = [query.first, query.end - query.first, key.first, key.end - key.first];
                let bounds = [pair.key_first as i64, pair.key_last as i64, pair.causal, pair.near];
                all.extend(tokens.map(|token| token as u32));
                all.extend(bounds.map(|bound| bound as i32 as u32));
            }
            rows.extend([first, end - first, before, all.len() / 8].map(|value| value as u32));
        }
        // A GPU has no empty memory.
        let upload = |values: &[u32]| engine.upload(if values.is_empty() { &[0] } else { values });
        Ok(Self { count: tiles.len(), tiles: upload(&rows)?, pairs: upload(&all)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    fn visible(segments: &Segments, window: Option<usize>) -> Vec<(usize, usize)> {
        let tiles = tiles(segments);
        let mut seen = vec![];
        for pair in pairs(segments, &tiles, window) {
            let (query, key) = (tiles[pair.query], tiles[pair.key]);
            let before = seen.len();
            for i in 0..(query.end - query.first) {
                for j in pair.key_first..pair.key_last {
                    let (row, column) = (i as i64, j as i64);
                    if column <= row + pair.causal && column >= row + pair.near {
                        seen.push((query.first + i, key.first + j));
                    }
                }
            }
            assert!(seen.len() > before, "a pair without anything to see: {pair:?}");
        }
        seen.sort_unstable();
        seen
    }

    #[test]
    fn pairs_are_what_the_segments_say() {
        let spans = vec![
            Span::new(0..70),
            Span::new(70..75),
            Span::with_prefix(75..280, 5..73),
            Span::with_prefix(280..281, 0..70),
            Span::new(281..500),
        ];
        let segments = Segments::new(spans).unwrap();
        for window in [None, Some(1), Some(9), Some(64), Some(130), Some(usize::MAX)] {
            let mut want = vec![];
            for span in segments.spans() {
                for query in span.start..span.end {
                    let prefix = span.prefix.clone().unwrap_or(0..0);
                    for key in prefix.chain(span.start..query + 1) {
                        let [query_at, key_at] = [query, key].map(|token| i128::from(segments.positions()[token]));
                        if window.is_none_or(|window| query_at - key_at < window as i128) {
                            want.push((query, key));
                        }
                    }
                }
            }
            assert_eq!(visible(&segments, window), want, "window {window:?}");
        }
    }
}
