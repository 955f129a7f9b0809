//! Continuing prompts with a key–value cache, greedily or by sampling.

mod packed;
mod step;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub use packed::PackedDecoder;
pub use step::{Feed, Scratch, Sequence};

use crate::decoder::Decoder;
use crate::error::{ModelError, Result};

/// Weights up to here stay in a processor's cache: each thread then sweeps over all of them for its own share of the
/// prompts, and waits for nobody. Beyond, threads share each sweep.
const CACHED_BYTES: usize = 16 << 20;

/// Options of generation.
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

/// Continuation of a prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Continuation {
    /// The new tokens, with the terminator if one came.
    pub ids: Vec<u32>,
    /// Log-probability of each under the model (temperature 1), in nats.
    pub log_probs: Vec<f32>,
    /// True if it ended in a terminator; false at the token limit.
    pub terminated: bool,
}

impl Decoder {
    /// Continues each prompt, all of them side by side. No gradient is kept.
    ///
    /// The model is packed first ([`Decoder::pack`]), which costs about what one token of one prompt does.
    ///
    /// # Errors
    /// When a prompt is empty or holds an id not below `V`, or the temperature is negative or not finite.
    pub fn generate(&self, prompts: &[&[u32]], options: &GenerateOptions) -> Result<Vec<Continuation>> {
        options.check()?;
        if prompts.is_empty() || options.max_new_tokens == 0 {
            return Ok(vec![Continuation::default(); prompts.len()]);
        }
        self.pack()?.generate(prompts, options)
    }
}

impl GenerateOptions {
    fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(ModelError::input("temperature", "zero or more", self.temperature.to_string()));
        }
        Ok(())
    }
}

impl PackedDecoder {
    /// As [`Decoder::generate`], packed already.
    ///
    /// # Errors
    /// As [`Decoder::generate`].
    pub fn generate(&self, prompts: &[&[u32]], options: &GenerateOptions) -> Result<Vec<Continuation>> {
        options.check()?;
        let shares = if self.weight_bytes() <= CACHED_BYTES { rayon::current_num_threads() } else { 1 };
        let share = prompts.len().div_ceil(shares).max(1);
        let parts: Vec<Vec<Continuation>> = prompts
            .par_chunks(share)
            .enumerate()
            .map(|(index, prompts)| self.generate_share(index * share, prompts, options))
            .collect::<Result<_>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Continues prompts side by side; the first of them is number `first` of the request.
    fn generate_share(&self, first: usize, prompts: &[&[u32]], options: &GenerateOptions) -> Result<Vec<Continuation>> {
        let mut finished = vec![Continuation::default(); prompts.len()];
        if options.max_new_tokens == 0 {
            return Ok(finished);
        }
        let mut running: Vec<Running> = prompts
            .iter()
            .enumerate()
            .map(|(index, prompt)| {
                let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
                rng.set_stream((first + index) as u64);
                let sequence = self.sequence(prompt.len() + options.max_new_tokens);
                Running { index, next: prompt.to_vec(), sequence, rng, continuation: Continuation::default() }
            })
            .collect();
        let mut scratch = Scratch::default();
        while !running.is_empty() {
            let mut feeds: Vec<Feed> =
                running.iter_mut().map(|one| Feed { sequence: &mut one.sequence, tokens: &one.next }).collect();
            let logits = self.advance(&mut feeds, &mut scratch)?;
            for (one, logits) in running.iter_mut().zip(logits.chunks_exact(self.spec().vocab_size)) {
                one.choose(logits, options);
            }
            running.retain_mut(|one| {
                let over = one.continuation.terminated || one.continuation.ids.len() == options.max_new_tokens;
                if over {
                    finished[one.index] = std::mem::take(&mut one.continuation);
                }
                !over
            });
        }
        Ok(finished)
    }
}

struct Running {
    /// Index of the prompt in its share.
    index: usize,
    /// Tokens not yet fed: the prompt, then the last token drawn.
    next: Vec<u32>,
    sequence: Sequence,
    rng: ChaCha8Rng,
    continuation: Continuation,
}

impl Running {
    /// Picks the next token and records it.
    fn choose(&mut self, logits: &[f32], options: &GenerateOptions) {
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
        self.next.clear();
        self.next.push(token as u32);
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
