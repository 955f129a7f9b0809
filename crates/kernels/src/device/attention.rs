//! Softmax attention over packed segments, tile by tile: nothing of size tokens × tokens is kept.

use super::address::{Address, reading, writing};
use super::attention_plan::{TILE, plan};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::operand::Operand;
use crate::error::{KernelError, Result};
use crate::options::{AttentionOptions, AttentionPlan, Extents, PairList, Segments};
use candle_core::{DType, Tensor};
use std::sync::Arc;

const OP: &str = "attention";

/// The kernels of a width; narrower heads are padded with zeros in shared memory.
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
        shares: u32,
    }
}

arguments! {
    struct AttentionShares {
        dk: Address,
        dv: Address,
        dk_out: Address,
        dv_out: Address,
        rows: u64,
        shares: u32,
        width: u32,
    }
}

/// Rows are copied 16 bytes at a time: a tensor that starts elsewhere is copied once.
pub(super) fn aligned(engine: &Engine, operand: Operand) -> Result<Operand> {
    if operand.address()?.is_aligned_to(16) {
        return Ok(operand);
    }
    let copy = engine.copy(operand.tensor(), Role::Constant)?;
    Operand::new(engine, OP, "copy", &copy, copy.dtype())
}

/// Threads of a block, and its shared memory in bytes.
#[derive(Clone, Copy, Debug)]
struct Block {
    threads: usize,
    shared: usize,
}

/// The kernels of a call and the extents of their blocks: `AttentionExtents` in attention.cuh.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kernels: Width,
    rows: usize,
    forward: Block,
    backward: Block,
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
        let float32 = size == 4;
        let rows = if float32 && padded == 256 { 32 } else { 64 };
        let slices = if float32 || padded == 256 { 1 } else { 2 };
        let forward = match padded {
            256 if float32 => 16,
            ..=96 if !float32 => 64,
            _ => 32,
        };
        let backward = if padded == 256 { 16 } else { 32 } / if float32 { 2 } else { 1 };
        let row = padded * size + 16;
        Ok(Self {
            kernels,
            rows,
            forward: Block { threads: 2 * rows / slices, shared: (rows + 2 * forward) * row },
            backward: Block { threads: 2 * rows, shared: 2 * (rows + 2 * backward) * row },
        })
    }

    fn kernel(self, name: &str, dtype: DType) -> String {
        typed(&format!("{name}_{}", self.kernels.padded), dtype)
    }

    fn grid(self, tiles: usize, heads: usize, layers: u32, block: Block) -> Result<Grid> {
        let heads = match u32::try_from(heads) {
            Ok(heads) if heads <= u32::from(u16::MAX) => heads,
            _ => {
                let expected = "fewer than 65536 on a device";
                return Err(KernelError::Option { op: OP, option: "heads", expected, got: heads.to_string() });
            }
        };
        let blocks = [blocks(tiles * (TILE / self.rows))?, heads, layers];
        Ok(Grid { blocks, threads: block.threads as u32, shared: block.shared as u32 })
    }
}

/// One call: what both directions read.
pub(crate) struct Attention {
    engine: Engine,
    inputs: [Operand; 3],
    log_sums: Tensor,
    plan: Arc<AttentionPlan>,
    extents: Extents,
    options: AttentionOptions,
    shape: Shape,
}

impl Attention {
    /// For heads of 8 to 256 elements, a multiple of 8.
    pub(crate) fn new(
        engine: &Engine,
        [q, k, v]: [&Tensor; 3],
        extents: Extents,
        segments: &Segments,
        options: AttentionOptions,
    ) -> Result<Self> {
        let shape = Shape::of(q.dtype(), extents)?;
        let queries = aligned(engine, Operand::first(engine, OP, "q", q)?)?;
        let keys = aligned(engine, Operand::new(engine, OP, "k", k, q.dtype())?)?;
        let values = aligned(engine, Operand::new(engine, OP, "v", v, q.dtype())?)?;
        Ok(Self {
            engine: engine.clone(),
            inputs: [queries, keys, values],
            log_sums: engine.allocate(DType::F32, &[extents.tokens, extents.heads], Role::Constant)?,
            plan: plan(engine, segments, options.window)?,
            extents,
            options,
            shape,
        })
    }

    fn dtype(&self) -> DType {
        self.inputs[0].tensor().dtype()
    }

    /// Writes the result, (N, Hq, D).
    pub(crate) fn forward(&self, out: &Tensor) -> Result<()> {
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
        let grid = self.shape.grid(self.plan.queries.count, heads, 1, self.shape.forward)?;
        let kernel = self.shape.kernel("attention_forward", self.dtype());
        // SAFETY: `AttentionForward` is the kernel's struct; q and out are (tokens, heads, width), k and v (tokens,
        // kv_heads, width) of the kernel's dtype, the log-sums (tokens, heads); the plan's tiles cover the tokens.
        unsafe { self.engine.launch(self.shape.kernels.forward, &kernel, grid, &arguments) }
    }

    /// The gradients that the wanted arguments share: `gradient` = ∂L/∂out, aligned, and ⟨out, ∂L/∂out⟩ of each row.
    pub(crate) fn result_grad(&self, out: &Tensor, gradient: &Tensor) -> Result<ResultGrad> {
        let d_out = aligned(&self.engine, Operand::new(&self.engine, OP, "gradient", gradient, self.dtype())?)?;
        let inner = self.inner(out, &d_out)?;
        Ok(ResultGrad { d_out, inner })
    }

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

    /// dq.
    pub(crate) fn query_grad(&self, ResultGrad { d_out, inner }: &ResultGrad) -> Result<Tensor> {
        let dq = self.engine.allocate(self.dtype(), self.inputs[0].tensor().dims(), Role::Constant)?;
        let targets = [writing(&dq)?, Address::NONE, Address::NONE];
        let arguments = self.backward(d_out, inner, targets, &self.plan.queries)?;
        let grid = self.shape.grid(self.plan.queries.count, self.extents.heads, 1, self.shape.backward)?;
        let kernel = self.shape.kernel("attention_backward_queries", self.dtype());
        // SAFETY: `AttentionBackward` is the kernel's struct; the tensors are those of the forward pass, their gradients
        // have their dtypes and extents.
        unsafe { self.engine.launch(self.shape.kernels.backward, &kernel, grid, &arguments)? };
        Ok(dq)
    }

    /// dk and dv. A block owns a tile of keys and a share of the query heads that read them; the shares are then added.
    pub(crate) fn key_grads(&self, result_grad: &ResultGrad) -> Result<[Tensor; 2]> {
        let Extents { tokens, heads, kv_heads, width } = self.extents;
        let dims = [tokens, kv_heads, width];
        let fresh = || self.engine.allocate(self.dtype(), &dims, Role::Constant);
        let (dk, dv) = (fresh()?, fresh()?);
        let shares = shares(self.plan.keys.count * (TILE / self.shape.rows) * kv_heads, heads / kv_heads.max(1));
        if shares == 1 {
            self.own_key_grads(result_grad, [&dk, &dv], 1)?;
            return Ok([dk, dv]);
        }
        let part = || self.engine.allocate(DType::F32, &[tokens, kv_heads, shares, width], Role::Constant);
        let parts = [&part()?, &part()?];
        self.own_key_grads(result_grad, parts, shares)?;
        let arguments = AttentionShares {
            dk: reading(parts[0])?,
            dv: reading(parts[1])?,
            dk_out: writing(&dk)?,
            dv_out: writing(&dv)?,
            rows: (tokens * kv_heads) as u64,
            shares: shares as u32,
            width: width as u32,
        };
        let grid = Grid { blocks: [blocks((tokens * kv_heads).div_ceil(8))?, 2, 1], threads: 256, shared: 0 };
        let kernel = typed("attention_add_shares", self.dtype());
        // SAFETY: `AttentionShares` is the kernel's struct; the parts have `shares` rows of `width`, a multiple of 8, for
        // each row of the sums, which are of the kernel's dtype.
        unsafe { self.engine.launch(self.shape.kernels.backward, &kernel, grid, &arguments)? };
        Ok([dk, dv])
    }

    /// dk and dv of each of so many shares of the heads that read a key.
    fn own_key_grads(
        &self,
        ResultGrad { d_out, inner }: &ResultGrad,
        [dk, dv]: [&Tensor; 2],
        shares: usize,
    ) -> Result<()> {
        let targets = [Address::NONE, writing(dk)?, writing(dv)?];
        let arguments =
            AttentionBackward { shares: shares as u32, ..self.backward(d_out, inner, targets, &self.plan.keys)? };
        // The widest heads' blocks own keys or values, not both.
        let layers = if self.shape.kernels.padded == 256 { 2 } else { 1 };
        let heads = self.extents.kv_heads * shares;
        let grid = self.shape.grid(self.plan.keys.count, heads, layers, self.shape.backward)?;
        let kernel = self.shape.kernel("attention_backward_keys", self.dtype());
        // SAFETY: as for the gradient of the queries; dk and dv have a row for each key, its head and its share, in the
        // kernel's dtype, or of several shares in float32.
        unsafe { self.engine.launch(self.shape.kernels.backward, &kernel, grid, &arguments) }
    }

    fn backward(
        &self,
        d_out: &Operand,
        inner: &Tensor,
        [dq, dk, dv]: [Address; 3],
        list: &PairList,
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
            shares: 1,
        })
    }
}

/// The number of parts into which a group of query heads is cut for the gradients of its key head, where `blocks` are there
/// without: enough to fill a large GPU several times over, and no more, since each part's sums pass through memory. It
/// depends on the shapes alone, so results do not depend on the GPU.
fn shares(blocks: usize, group: usize) -> usize {
    const ENOUGH: usize = 1024;
    (1..=group).find(|parts| group.is_multiple_of(*parts) && blocks * parts >= ENOUGH).unwrap_or(group).max(1)
}

/// ∂L/∂out and its inner products with out.
pub(crate) struct ResultGrad {
    /// (N, Hq, D).
    d_out: Operand,
    /// (N, Hq).
    inner: Tensor,
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn a_group_is_cut_into_equal_parts_until_there_are_enough_blocks() {
        // One pair of 3,070 tokens with two key heads for twelve; eight such pairs; no group to cut.
        for (blocks, group, want) in [(96, 6, 6), (768, 6, 2), (400, 6, 3), (1024, 6, 1), (3, 1, 1), (0, 4, 4)] {
            assert_eq!(shares(blocks, group), want, "{blocks} blocks, {group} heads");
        }
    }
}
