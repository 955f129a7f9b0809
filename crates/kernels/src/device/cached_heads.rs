//! Queries, keys and values of a decode step out of one product.

use super::address::{Address, reading, writing};
use super::engine::{Engine, Role};
use super::launch::{Grid, Module, arguments, blocks, module, typed};
use super::operand::Operand;
use crate::error::Result;
use crate::options::{NormOptions, RotaryPairs};
use candle_core::{DType, Tensor};

const OP: &str = "cached_heads";
const MODULE: Module = module!("cached_heads");
const WARPS: usize = 4;

arguments! {
    struct CachedHeads {
        x: Address,
        bias: Address,
        q_norm: Address,
        k_norm: Address,
        cos: Address,
        sin: Address,
        queries: Address,
        cached_keys: Address,
        cached_values: Address,
        places: Address,
        rows: u64,
        heads: u32,
        kv_heads: u32,
        width: u32,
        half: u32,
        interleaved: u32,
        eps: f32,
        offset: f32,
        unused: u32,
    }
}

/// The product of N tokens by the stacked projections, and the rest of the way to their heads.
#[derive(Debug, Clone, Copy)]
pub struct StackedHeads<'a> {
    /// (N, (`heads` + 2·`kv_heads`)·D): queries, keys, values, without bias.
    pub product: &'a Tensor,
    /// ((`heads` + 2·`kv_heads`)·D).
    pub bias: Option<&'a Tensor>,
    /// Weights (D) of the norms of each query and each key.
    pub norms: Option<([&'a Tensor; 2], NormOptions)>,
    /// Cosines and sines (N, R/2) of the rotation, float32.
    pub angles: Option<([&'a Tensor; 2], RotaryPairs)>,
}

impl StackedHeads<'_> {
    /// Writes keys and values to `places` (N) of `cache`, (tokens, Hkv, D) each; queries (N, heads, D).
    pub(crate) fn write(
        &self,
        engine: &Engine,
        heads: usize,
        [cached_keys, cached_values]: [&Tensor; 2],
        places: &Tensor,
    ) -> Result<Tensor> {
        let dtype = cached_keys.dtype();
        let (_, kv_heads, width) = cached_keys.dims3()?;
        let rows = places.elem_count();
        let operand = |argument, tensor, dtype| Operand::new(engine, OP, argument, tensor, dtype);
        let product = operand("product", self.product, dtype)?;
        let bias = self.bias.map(|bias| operand("bias", bias, dtype)).transpose()?;
        let norms = self.norms.map(|(weights, _)| weights.map(|weight| operand("norm", weight, dtype)));
        let angles = self.angles.map(|(angles, _)| angles.map(|tensor| operand("angles", tensor, DType::F32)));
        let ([q_norm, k_norm], [cos, sin]) = (both(norms)?, both(angles)?);
        let address = |operand: &Option<Operand>| operand.as_ref().map_or(Ok(Address::NONE), Operand::address);
        let options = self.norms.map(|(_, options)| options);
        let queries = engine.allocate(dtype, &[rows, heads, width], Role::Constant)?;
        let arguments = CachedHeads {
            x: product.address()?,
            bias: address(&bias)?,
            q_norm: address(&q_norm)?,
            k_norm: address(&k_norm)?,
            cos: address(&cos)?,
            sin: address(&sin)?,
            queries: writing(&queries)?,
            cached_keys: writing(cached_keys)?,
            cached_values: writing(cached_values)?,
            places: reading(places)?,
            rows: rows as u64,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            width: width as u32,
            half: self.angles.map_or(Ok(0), |([cos, _], _)| cos.dim(1))? as u32,
            interleaved: u32::from(self.angles.is_some_and(|(_, pairs)| pairs == RotaryPairs::Neighbours)),
            eps: options.map_or(0.0, |options| options.eps as f32),
            offset: options.map_or(0.0, |options| f32::from(u8::from(options.unit_offset))),
            unused: 0,
        };
        let units = rows * (heads + 2 * kv_heads);
        let grid = Grid { blocks: [blocks(units.div_ceil(WARPS))?, 1, 1], threads: 32 * WARPS as u32, shared: 0 };
        // SAFETY: `CachedHeads` is the kernel's struct; the caller has checked the shapes of all tensors, and that the places are
        // rows of the cache, each once.
        unsafe { engine.launch(MODULE, &typed("cached_heads", dtype), grid, &arguments)? };
        Ok(queries)
    }
}

fn both(operands: Option<[Result<Operand>; 2]>) -> Result<[Option<Operand>; 2]> {
    match operands {
        None => Ok([None, None]),
        Some([first, second]) => Ok([Some(first?), Some(second?)]),
    }
}
