//! Keys and values of sequences in a device's memory, and attention to them.

use candle_core::{DType, Device, Tensor};

use crate::checks::same_shape;
use crate::device::cached_attention::{Parts, SPLIT, Spans, attend, write};
use crate::device::cached_heads::StackedHeads;
use crate::device::{Engine, Role};
use crate::error::{KernelError, Result};
use crate::options::{AttentionOptions, Extents};

const OP: &str = "cached_attention";

/// Keys and values of some tokens in every layer, in the model's dtype: two tensors a layer, allocated once. A sequence has
/// neighbouring rows of them.
#[derive(Debug)]
pub struct DeviceCache {
    engine: Engine,
    /// (tokens, `kv_heads`, D) each.
    layers: Vec<[Tensor; 2]>,
    tokens: usize,
}

/// Rows of the cache to which a pass writes its tokens' keys and values.
#[derive(Debug)]
pub struct CachePlaces(Tensor);

/// A sequence in the cache, and the position of its query, whose keys and values are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedSequence {
    /// Row of its first token.
    pub first_row: usize,
    /// Position of the query: it sees itself and what is before it.
    pub position: usize,
}

/// The sequences of a decoding step: one query each.
pub struct CachedQueries {
    sequences: Vec<CachedSequence>,
    /// For each window of the model's layers.
    spans: Vec<(Option<usize>, Spans)>,
    parts: Option<Parts>,
}

impl DeviceCache {
    /// An empty cache of `tokens` rows for `layers` layers of `kv_heads` heads of `head_dim` elements.
    ///
    /// # Errors
    ///
    /// [`KernelError::Device`] unless the device runs kernels, [`KernelError::Option`] for a `head_dim` that is no multiple
    /// of 8 or above 256, and for more than 2³² rows; [`KernelError::Candle`] when memory is exhausted.
    pub fn new(
        device: &Device,
        dtype: DType,
        layers: usize,
        [kv_heads, head_dim]: [usize; 2],
        tokens: usize,
    ) -> Result<Self> {
        let Some(engine) = Engine::at(device) else {
            return Err(KernelError::Device { op: OP, argument: "cache", got: "the CPU".to_owned() });
        };
        let option =
            |option, expected, got: usize| KernelError::Option { op: OP, option, expected, got: got.to_string() };
        if head_dim == 0 || head_dim > 256 || !head_dim.is_multiple_of(8) {
            return Err(option("head_dim", "a multiple of 8 up to 256 on a device", head_dim));
        }
        if u32::try_from(tokens).is_err() {
            return Err(option("tokens", "fewer than 2^32", tokens));
        }
        let fresh = || engine.allocate(dtype, &[tokens, kv_heads, head_dim], Role::Constant);
        let layers = (0..layers).map(|_| Ok([fresh()?, fresh()?])).collect::<Result<_>>()?;
        Ok(Self { engine, layers, tokens })
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Rows to write to.
    ///
    /// # Errors
    ///
    /// [`KernelError::Option`] for a row that the cache does not have.
    pub fn places(&self, rows: &[u32]) -> Result<CachePlaces> {
        match rows.iter().find(|row| **row as usize >= self.tokens) {
            None => Ok(CachePlaces(self.engine.upload(rows)?)),
            Some(row) => Err(self.outside(*row as usize)),
        }
    }

    /// Sequences whose queries are to attend.
    ///
    /// # Errors
    ///
    /// [`KernelError::Option`] for a sequence beyond the cache's end.
    pub fn queries(&self, sequences: Vec<CachedSequence>) -> Result<CachedQueries> {
        let last = |sequence: &CachedSequence| sequence.first_row.saturating_add(sequence.position);
        match sequences.iter().map(last).find(|last| *last >= self.tokens) {
            None => Ok(CachedQueries { sequences, spans: vec![], parts: None }),
            Some(last) => Err(self.outside(last)),
        }
    }

    fn outside(&self, row: usize) -> KernelError {
        KernelError::Option { op: OP, option: "row", expected: "one of the cache", got: row.to_string() }
    }

    /// Writes `keys` and `values` (N, `kv_heads`, D) of `layer`, already rotated, to the places of N tokens.
    ///
    /// # Errors
    ///
    /// [`KernelError::Shape`], [`KernelError::OtherType`], [`KernelError::OtherDevice`] for unfit tensors.
    pub fn write(&self, layer: usize, keys: &Tensor, values: &Tensor, places: &CachePlaces) -> Result<()> {
        let [cached_keys, cached_values] = self.layer(layer)?;
        let expected = [&[places.0.elem_count()][..], &cached_keys.dims()[1..]].concat();
        for (argument, tensor) in [("keys", keys), ("values", values)] {
            same_shape(OP, argument, &expected, tensor)?;
        }
        write(&self.engine, [keys, values], [cached_keys, cached_values], &places.0)
    }

    /// The queries (N, `heads`, D) of N tokens, out of the product of stacked projections; keys and values go to `places` of `layer`.
    ///
    /// # Errors
    ///
    /// As [`DeviceCache::write`].
    pub fn write_stacked(&self, layer: usize, stacked: &StackedHeads<'_>, places: &CachePlaces) -> Result<Tensor> {
        let [cached_keys, cached_values] = self.layer(layer)?;
        let (rows, kv_heads, width) = (places.0.elem_count(), cached_keys.dim(1)?, cached_keys.dim(2)?);
        let heads = match stacked.product.dims() {
            &[own, all] if own == rows && all.is_multiple_of(width) && all / width > 2 * kv_heads => {
                all / width - 2 * kv_heads
            }
            got => {
                let expected = format!("[{rows}, a multiple of {width} above {}]", 2 * kv_heads * width);
                return Err(KernelError::Shape { op: OP, argument: "product", expected, got: got.to_vec() });
            }
        };
        let shaped = |argument, expected: &[usize], tensor: &Tensor| same_shape(OP, argument, expected, tensor);
        if let Some(bias) = stacked.bias {
            shaped("bias", &[(heads + 2 * kv_heads) * width], bias)?;
        }
        if let Some((norms, _)) = stacked.norms {
            norms.iter().try_for_each(|norm| shaped("norm", &[width], norm))?;
        }
        if let Some(([cos, sin], _)) = stacked.angles {
            let half = cos.dims().last().copied().unwrap_or(0).min(width / 2);
            [("cos", cos), ("sin", sin)].iter().try_for_each(|(name, angles)| shaped(name, &[rows, half], angles))?;
        }
        stacked.write(&self.engine, heads, [cached_keys, cached_values], &places.0)
    }

    /// Attention of the queries `q` (B, `heads`, D), already rotated, in `layer`; (B, `heads`, D). A sequence's result
    /// depends on that sequence alone.
    ///
    /// # Errors
    ///
    /// [`KernelError::Shape`], [`KernelError::OtherType`], [`KernelError::OtherDevice`] for an unfit tensor.
    pub fn attend(
        &self,
        layer: usize,
        q: &Tensor,
        queries: &mut CachedQueries,
        options: AttentionOptions,
    ) -> Result<Tensor> {
        let [keys, values] = self.layer(layer)?;
        let (kv_heads, width) = (keys.dim(1)?, keys.dim(2)?);
        let sequences = queries.sequences.len();
        let heads = match q.dims() {
            &[rows, heads, own] if rows == sequences && own == width && heads > 0 && heads.is_multiple_of(kv_heads) => {
                heads
            }
            got => {
                let expected = format!("[{sequences}, a multiple of {kv_heads}, {width}]");
                return Err(KernelError::Shape { op: OP, argument: "q", expected, got: got.to_vec() });
            }
        };
        let out = self.engine.allocate(keys.dtype(), q.dims(), Role::Constant)?;
        if sequences == 0 {
            return Ok(out);
        }
        let extents = Extents { tokens: sequences, heads, kv_heads, width };
        let (spans, parts) = queries.prepared(&self.engine, extents, options.window)?;
        attend(&self.engine, q, [keys, values], (spans, parts), options, &out)?;
        Ok(out)
    }

    /// Keys and values of a layer, (tokens, `kv_heads`, D) each.
    pub(crate) fn layer(&self, layer: usize) -> Result<[&Tensor; 2]> {
        match self.layers.get(layer) {
            Some([keys, values]) => Ok([keys, values]),
            None => {
                let got = layer.to_string();
                Err(KernelError::Option { op: OP, option: "layer", expected: "one of the cache", got })
            }
        }
    }
}

impl CachedQueries {
    /// The sequences as the kernels read them under a window, and the memory of their splits.
    fn prepared(&mut self, engine: &Engine, extents: Extents, window: Option<usize>) -> Result<(&Spans, &Parts)> {
        let longest = self.sequences.iter().map(|sequence| sequence.position + 1).max().unwrap_or(0);
        let splits = longest.div_ceil(SPLIT);
        if !self.spans.iter().any(|(own, _)| *own == window) {
            let of = |sequence: &CachedSequence| {
                let end = sequence.position + 1;
                let first = window.map_or(0, |window| end.saturating_sub(window));
                [sequence.first_row, first, end].map(|value| value as u32)
            };
            let rows: Vec<u32> = self.sequences.iter().flat_map(of).collect();
            let spans = Spans { rows: engine.upload(&rows)?, splits };
            self.spans.push((window, spans));
        }
        if self.parts.is_none() {
            self.parts = Some(Parts::new(engine, extents, splits)?);
        }
        let spans = self.spans.iter().find(|(own, _)| *own == window).map(|(_, spans)| spans);
        match (spans, &self.parts) {
            (Some(spans), Some(parts)) => Ok((spans, parts)),
            _ => Err(KernelError::Option { op: OP, option: "window", expected: "prepared", got: "none".to_owned() }),
        }
    }
}
