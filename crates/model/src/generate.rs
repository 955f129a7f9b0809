//! Continuing prompts with a key–value cache, greedily or by sampling.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_kernels::{Segments, Span};

use crate::block::Heads;
use crate::cache::{LayerCache, attend_cached};
use crate::decoder::{Decoder, Pass, attend_packed};
use crate::error::{ModelError, Result};

/// How to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to add to a prompt.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
    pub temperature: f64,
    /// Seeds the draws. Prompt `i` has a stream of its own, so its draws do not depend on the others.
    pub seed: u64,
    /// Tokens that end a continuation; the one that does is part of it.
    pub terminators: Vec<u32>,
}

/// What a prompt was continued with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Continuation {
    /// The new tokens, with the terminator if one came.
    pub ids: Vec<u32>,
    /// Log-probability of each under the model (temperature 1), in nats.
    pub log_probs: Vec<f32>,
    /// Whether a terminator came; otherwise the limit did.
    pub terminated: bool,
}

struct Sequence {
    /// Where the prompt stood in the request.
    index: usize,
    layers: Vec<LayerCache>,
    position: u32,
    /// For ropes that go by the sequence's length: the longest it may become.
    length: usize,
    rng: ChaCha8Rng,
    continuation: Continuation,
}

impl Decoder {
    /// Continues each prompt, all of them side by side. No gradient is kept.
    ///
    /// A rope that depends on length (LongRoPE) goes by prompt and limit together, so that one sequence never mixes
    /// two sets of frequencies.
    ///
    /// # Errors
    /// When a prompt is empty or holds an id not below `V`, or the temperature is negative or not finite.
    pub fn generate(&self, prompts: &[&[u32]], options: &GenerateOptions) -> Result<Vec<Continuation>> {
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return Err(ModelError::input("temperature", "zero or more", options.temperature.to_string()));
        }
        if prompts.iter().any(|prompt| prompt.is_empty()) {
            return Err(ModelError::input("prompt", "at least one token", "none"));
        }
        let mut finished = vec![Continuation::default(); prompts.len()];
        if prompts.is_empty() || options.max_new_tokens == 0 {
            return Ok(finished);
        }
        let model = self.frozen();
        let (mut running, mut hidden) = model.read_prompts(prompts, options)?;
        loop {
            let logits = model.logits(&hidden)?.to_vec2::<f32>()?;
            let mut next = Vec::with_capacity(running.len());
            let mut still = Vec::with_capacity(running.len());
            for (mut sequence, logits) in running.into_iter().zip(logits) {
                let token = sequence.choose(&logits, options);
                if sequence.continuation.terminated || sequence.continuation.ids.len() == options.max_new_tokens {
                    finished[sequence.index] = sequence.continuation;
                } else {
                    next.push(token);
                    still.push(sequence);
                }
            }
            running = still;
            if running.is_empty() {
                return Ok(finished);
            }
            hidden = model.advance(&mut running, &next)?;
        }
    }

    /// Runs all prompts packed, fills the caches, and returns the hidden states of each prompt's last row, (`B`, `H`).
    fn read_prompts(&self, prompts: &[&[u32]], options: &GenerateOptions) -> Result<(Vec<Sequence>, Tensor)> {
        let (mut ids, mut spans, mut lengths, mut last_rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut sequences = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.iter().enumerate() {
            let start = ids.len();
            ids.extend_from_slice(prompt);
            let length = prompt.len() + options.max_new_tokens;
            lengths.resize(ids.len(), length);
            spans.push(Span::new(start..ids.len()));
            last_rows.push(ids.len() as u32 - 1);
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(index as u64);
            sequences.push(Sequence {
                index,
                layers: Vec::new(),
                position: prompt.len() as u32,
                length,
                rng,
                continuation: Continuation::default(),
            });
        }
        let segments = Segments::new(spans)?;
        let row = self.spec().kv_width();
        let pass =
            Pass { positions: segments.positions(), lengths: &lengths, keep: Some(&last_rows), dropout_seed: None };
        let hidden = self.run(&ids, &pass, |layer, heads| {
            let keys = heads.keys.flatten_all()?.to_vec1::<f32>()?;
            let values = heads.values.flatten_all()?.to_vec1::<f32>()?;
            for (sequence, span) in sequences.iter_mut().zip(segments.spans()) {
                let mut cache = LayerCache::default();
                let range = span.start * row..span.end * row;
                cache.extend(&keys[range.clone()], &values[range]);
                sequence.layers.push(cache);
            }
            attend_packed(self.spec(), layer, &heads, &segments)
        })?;
        Ok((sequences, hidden))
    }

    /// Feeds one token a sequence and returns its hidden state, (`B`, `H`).
    fn advance(&self, sequences: &mut [Sequence], tokens: &[u32]) -> Result<Tensor> {
        let positions: Vec<u32> = sequences.iter().map(|s| s.position).collect();
        let lengths: Vec<usize> = sequences.iter().map(|s| s.length).collect();
        let row = self.spec().kv_width();
        let mut index = 0;
        let pass = Pass { positions: &positions, lengths: &lengths, keep: None, dropout_seed: None };
        let hidden = self.run(tokens, &pass, |layer, heads: Heads| {
            let keys = heads.keys.flatten_all()?.to_vec1::<f32>()?;
            let values = heads.values.flatten_all()?.to_vec1::<f32>()?;
            let rows = keys.chunks_exact(row).zip(values.chunks_exact(row));
            for (sequence, (keys, values)) in sequences.iter_mut().zip(rows) {
                sequence.layers[index].extend(keys, values);
            }
            let caches: Vec<&LayerCache> = sequences.iter().map(|s| &s.layers[index]).collect();
            index += 1;
            attend_cached(self.spec(), layer, &heads, &caches)
        })?;
        sequences.iter_mut().for_each(|s| s.position += 1);
        Ok(hidden)
    }
}

impl Sequence {
    /// Picks the next token and records it.
    fn choose(&mut self, logits: &[f32], options: &GenerateOptions) -> u32 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let token = if options.temperature == 0.0 {
            logits.iter().position(|z| *z == largest).unwrap_or(0)
        } else {
            draw(logits, largest, options.temperature, self.rng.random())
        };
        let total: f64 = logits.iter().map(|z| f64::from(z - largest).exp()).sum();
        let log_prob = f64::from(logits[token] - largest) - total.ln();
        self.continuation.ids.push(token as u32);
        self.continuation.log_probs.push(log_prob as f32);
        self.continuation.terminated = options.terminators.contains(&(token as u32));
        token as u32
    }
}

/// The token at share `uniform` (in [0, 1)) of the cumulated probabilities.
fn draw(logits: &[f32], largest: f32, temperature: f64, uniform: f64) -> usize {
    let weights: Vec<f64> = logits.iter().map(|z| (f64::from(z - largest) / temperature).exp()).collect();
    let mut rest = uniform * weights.iter().sum::<f64>();
    for (token, weight) in weights.iter().enumerate() {
        rest -= weight;
        if rest < 0.0 {
            return token;
        }
    }
    // Rounding can leave a remainder at the very end; the last possible token takes it.
    weights.iter().rposition(|w| *w > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY];
        assert_eq!(draw(&logits, 3f32.ln(), 1.0, 0.0), 0);
        assert_eq!(draw(&logits, 3f32.ln(), 1.0, 0.2499), 0);
        assert_eq!(draw(&logits, 3f32.ln(), 1.0, 0.2501), 1);
        assert_eq!(draw(&logits, 3f32.ln(), 1.0, 0.999_999_999), 1);
        // Half the temperature squares the odds: 1 to 9.
        assert_eq!(draw(&logits, 3f32.ln(), 0.5, 0.0999), 0);
        assert_eq!(draw(&logits, 3f32.ln(), 0.5, 0.1001), 1);
    }
}
