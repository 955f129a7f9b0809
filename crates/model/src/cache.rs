//! Keys and values of tokens already seen, and attention of one new token to them.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::block::Heads;
use crate::error::Result;
use crate::spec::{DecoderSpec, LayerSpec};

/// One sequence's keys and values in one block, (tokens, `kv_heads`, `head_dim`) each, row after row.
#[derive(Debug, Default)]
pub(crate) struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl LayerCache {
    pub fn extend(&mut self, keys: &[f32], values: &[f32]) {
        self.keys.extend_from_slice(keys);
        self.values.extend_from_slice(values);
    }
}

/// Attention of one new token a sequence to its own cache, which must already hold the token.
///
/// `heads` has one row a sequence, as has the result, (`B`, heads, `head_dim`). No gradient passes.
pub(crate) fn attend_cached(
    spec: &DecoderSpec,
    layer: &LayerSpec,
    heads: &Heads,
    caches: &[&LayerCache],
) -> Result<Tensor> {
    let width = spec.query_width();
    let queries = heads.queries.flatten_all()?.to_vec1::<f32>()?;
    let mut output = vec![0.0; queries.len()];
    output
        .par_chunks_mut(width)
        .zip(queries.par_chunks(width))
        .zip(caches)
        .for_each(|((output, queries), cache)| attend_one(spec, layer, queries, cache, output));
    Ok(Tensor::from_vec(output, (caches.len(), spec.heads, spec.head_dim), &Device::Cpu)?)
}

fn attend_one(spec: &DecoderSpec, layer: &LayerSpec, queries: &[f32], cache: &LayerCache, output: &mut [f32]) {
    let (dim, row) = (spec.head_dim, spec.kv_width());
    let tokens = cache.keys.len() / row;
    let first = layer.window.map_or(0, |window| tokens.saturating_sub(window));
    let scale = spec.attention_scale as f32;
    let mut scores = Vec::with_capacity(tokens - first);
    for (head, (query, output)) in queries.chunks_exact(dim).zip(output.chunks_exact_mut(dim)).enumerate() {
        let kv_head = head / (spec.heads / spec.kv_heads);
        let at = |token: usize| token * row + kv_head * dim..token * row + (kv_head + 1) * dim;
        scores.clear();
        scores.extend((first..tokens).map(|token| {
            let dot: f32 = query.iter().zip(&cache.keys[at(token)]).map(|(q, k)| q * k).sum();
            match spec.attention_soft_cap {
                None => dot * scale,
                Some(cap) => (dot * scale / cap as f32).tanh() * cap as f32,
            }
        }));
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for score in &mut scores {
            *score = (*score - largest).exp();
            total += *score;
        }
        for (token, score) in (first..tokens).zip(&scores) {
            let weight = score / total;
            output.iter_mut().zip(&cache.values[at(token)]).for_each(|(o, v)| *o += weight * v);
        }
    }
}
