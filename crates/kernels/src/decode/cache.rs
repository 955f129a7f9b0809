//! Keys and values of a sequence's tokens so far, and a query's attention to them.

use crate::cpu::simd::{exp, fma, simd, tanh};

/// Tokens whose scores are computed side by side.
const LANES: usize = 32;

/// Heads of a block and options of their attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head, D.
    pub head_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// Cap c: scaled scores s become c·tanh(s/c).
    pub soft_cap: Option<f32>,
    /// Number of tokens that a token attends to, itself included; `None` is all.
    pub window: Option<usize>,
}

/// One sequence's keys and values in one block.
#[derive(Debug, Clone)]
pub struct KeyValueCache {
    shape: CacheShape,
    /// (`kv_heads`, blocks, D, 32): 32 tokens side by side, one vector instruction for all.
    keys: Vec<f32>,
    /// (`kv_heads`, room, D).
    values: Vec<f32>,
    room: usize,
    tokens: usize,
}

impl KeyValueCache {
    /// An empty cache with room for `room` tokens.
    pub fn new(shape: CacheShape, room: usize) -> Self {
        let room = room.next_multiple_of(LANES);
        let size = shape.kv_heads * room * shape.head_dim;
        Self { shape, keys: vec![0.0; size], values: vec![0.0; size], room, tokens: 0 }
    }

    /// Appends one token's keys and values, (`kv_heads`, D) each.
    ///
    /// # Panics
    ///
    /// If the cache is full, or they have another length.
    pub fn push(&mut self, keys: &[f32], values: &[f32]) {
        let CacheShape { kv_heads, head_dim, .. } = self.shape;
        assert!(self.tokens < self.room, "room for {} tokens", self.room);
        assert_eq!((keys.len(), values.len()), (kv_heads * head_dim, kv_heads * head_dim));
        let (block, lane) = (self.tokens / LANES, self.tokens % LANES);
        let size = self.room * head_dim;
        for head in 0..kv_heads {
            let row = head * head_dim..(head + 1) * head_dim;
            let start = head * size + block * head_dim * LANES + lane;
            for (dim, &key) in keys[row.clone()].iter().enumerate() {
                self.keys[start + dim * LANES] = key;
            }
            let start = head * size + self.tokens * head_dim;
            self.values[start..start + head_dim].copy_from_slice(&values[row]);
        }
        self.tokens += 1;
    }

    /// Number of tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Attention of token `position`'s query (heads, D), already rotated, to the tokens up to it within its window; to
    /// `out` (heads, D). `sinks` (heads) are logits without a value; `scores` is scratch memory.
    ///
    /// # Panics
    ///
    /// If the cache does not hold the token yet, or `query`, `sinks` or `out` has another length.
    pub fn attend(
        &self,
        query: &[f32],
        position: usize,
        sinks: Option<&[f32]>,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let CacheShape { heads, kv_heads, head_dim, window, .. } = self.shape;
        assert!(position < self.tokens, "token {position} of {}", self.tokens);
        assert_eq!((query.len(), out.len()), (heads * head_dim, heads * head_dim));
        let seen = position + 1;
        let first = window.map_or(0, |window| seen.saturating_sub(window));
        let group = heads / kv_heads.max(1);
        let size = self.room * head_dim;
        for (index, (query, out)) in query.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)).enumerate() {
            let start = index / group.max(1) * size;
            let head = CachedHead {
                keys: &self.keys[start..start + size],
                values: &self.values[start..start + size],
                first,
                seen,
                scale: self.shape.scale,
                soft_cap: self.shape.soft_cap,
                sink: sinks.map(|sinks| sinks[index]),
            };
            attend_head(head, query, scores, out);
        }
    }
}

/// Keys and values of one head, and the tokens `first..seen` to attend to.
#[derive(Clone, Copy)]
struct CachedHead<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    first: usize,
    seen: usize,
    scale: f32,
    soft_cap: Option<f32>,
    /// A logit without a value.
    sink: Option<f32>,
}

simd! {
    /// Attention of one head.
    fn attend_head(head: CachedHead<'_>, query: &[f32], scores: &mut Vec<f32>, out: &mut [f32]) {
        let CachedHead { keys, values, first, seen, scale, soft_cap, sink } = head;
        let dim = query.len();
        let (first_block, blocks) = (first / LANES, seen.div_ceil(LANES));
        scores.clear();
        scores.resize((blocks - first_block) * LANES, 0.0);
        let (score_blocks, _) = scores.as_chunks_mut::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for (index, scores) in score_blocks.iter_mut().enumerate() {
            let block = first_block + index;
            let (keys, _) = keys[block * dim * LANES..(block + 1) * dim * LANES].as_chunks::<LANES>();
            let mut sums = [0f32; LANES];
            for (&q, keys) in query.iter().zip(keys) {
                for lane in 0..LANES {
                    sums[lane] = fma::<FMA>(q, keys[lane], sums[lane]);
                }
            }
            for lane in 0..LANES {
                let token = block * LANES + lane;
                let score = match soft_cap {
                    None => sums[lane] * scale,
                    Some(cap) => tanh::<FMA>(sums[lane] * scale / cap) * cap,
                };
                scores[lane] = if token >= first && token < seen { score } else { f32::NEG_INFINITY };
                largest[lane] = if scores[lane] > largest[lane] { scores[lane] } else { largest[lane] };
            }
        }
        let largest = largest.into_iter().fold(sink.unwrap_or(f32::NEG_INFINITY), f32::max);
        let mut totals = [0f32; LANES];
        for scores in score_blocks.iter_mut() {
            for lane in 0..LANES {
                scores[lane] = exp::<FMA>(scores[lane] - largest);
                totals[lane] += scores[lane];
            }
        }
        let beside = sink.map_or(0.0, |sink| exp::<FMA>(sink - largest));
        let scale = 1.0 / totals.into_iter().fold(beside, |sum, total| sum + total);
        weigh(&scores[first - first_block * LANES..], &values[first * dim..seen * dim], out, |weight, v, sum| {
            fma::<FMA>(weight, v, sum)
        });
        for out in out.iter_mut() {
            *out *= scale;
        }
    }
}

/// `out = Σ weights·values`, token after token, a register's width of dimensions at a time.
#[inline(always)]
fn weigh(weights: &[f32], values: &[f32], out: &mut [f32], fma: impl Fn(f32, f32, f32) -> f32) {
    let dim = out.len();
    let mut start = 0;
    while start < dim {
        let width = LANES.min(dim - start);
        let mut sums = [0f32; LANES];
        if width == LANES {
            for (&weight, values) in weights.iter().zip(values.chunks_exact(dim)) {
                let values: &[f32; LANES] = values[start..].first_chunk().unwrap_or(&[0.0; LANES]);
                for lane in 0..LANES {
                    sums[lane] = fma(weight, values[lane], sums[lane]);
                }
            }
        } else {
            for (&weight, values) in weights.iter().zip(values.chunks_exact(dim)) {
                for (sum, &value) in sums[..width].iter_mut().zip(&values[start..]) {
                    *sum = fma(weight, value, *sum);
                }
            }
        }
        out[start..start + width].copy_from_slice(&sums[..width]);
        start += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Softmax attention by the formula, in float64.
    fn naive(
        shape: &CacheShape,
        query: &[f32],
        [keys, values]: [&[Vec<f32>]; 2],
        sinks: Option<&[f32]>,
        position: usize,
    ) -> Vec<f64> {
        let dim = shape.head_dim;
        let first = shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let mut out = Vec::new();
        for head in 0..shape.heads {
            let kv = head / (shape.heads / shape.kv_heads) * dim;
            let scores: Vec<f64> = (first..=position)
                .map(|token| {
                    let dot: f64 =
                        (0..dim).map(|d| f64::from(query[head * dim + d]) * f64::from(keys[token][kv + d])).sum();
                    let score = dot * f64::from(shape.scale);
                    shape.soft_cap.map_or(score, |cap| (score / f64::from(cap)).tanh() * f64::from(cap))
                })
                .collect();
            let sink = sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
            let total: f64 = sink + scores.iter().map(|score| score.exp()).sum::<f64>();
            out.extend((0..dim).map(|d| {
                let weighed = (first..=position).zip(&scores);
                weighed.map(|(token, score)| score.exp() / total * f64::from(values[token][kv + d])).sum::<f64>()
            }));
        }
        out
    }

    proptest! {
        #[test]
        fn attention_is_the_formula_and_ignores_later_tokens(
            seed: u64, tokens in 1usize..90, kv_heads in 1usize..3, group in 1usize..4, head_dim in 1usize..70,
            capped: bool, with_sinks: bool, window in proptest::option::of(1usize..50),
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let soft_cap = capped.then_some(2.0);
            let shape = CacheShape { heads: kv_heads * group, kv_heads, head_dim, scale: 0.3, soft_cap, window };
            let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-2.0..2.0)).collect::<Vec<f32>>();
            let keys: Vec<_> = (0..tokens).map(|_| draw(kv_heads * head_dim)).collect();
            let values: Vec<_> = (0..tokens).map(|_| draw(kv_heads * head_dim)).collect();
            let queries: Vec<_> = (0..tokens).map(|_| draw(shape.heads * head_dim)).collect();
            let sinks = draw(shape.heads);
            let sinks = with_sinks.then_some(&sinks[..]);
            let mut cache = KeyValueCache::new(shape, tokens);
            let mut scores = Vec::new();
            let mut as_it_grew = Vec::new();
            for token in 0..tokens {
                cache.push(&keys[token], &values[token]);
                let mut out = vec![f32::NAN; shape.heads * head_dim];
                cache.attend(&queries[token], token, sinks, &mut scores, &mut out);
                let expected = naive(&shape, &queries[token], [&keys, &values], sinks, token);
                for (got, expected) in out.iter().zip(expected) {
                    prop_assert!((f64::from(*got) - expected).abs() < 2e-5, "{} vs {}", got, expected);
                }
                as_it_grew.push(out);
            }
            prop_assert_eq!(cache.tokens(), tokens);
            for (token, before) in as_it_grew.iter().enumerate() {
                let mut out = vec![f32::NAN; shape.heads * head_dim];
                cache.attend(&queries[token], token, sinks, &mut scores, &mut out);
                prop_assert_eq!(&out, before);
            }
        }
    }
}
