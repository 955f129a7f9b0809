//! The draw of one token, with random numbers that depend on the run's seed, the prompt, the sample and the step alone.
//!
//! The Gumbel arg max, `argmax_i (z_i + g_i)` with `g_i = −ln(−ln u_i)`, draws from `softmax(z)` (Gumbel 1954;
//! Maddison et al. 2014, 1411.0030). The noise of a token belongs to its id, not to its rank, so two models with
//! one seed share it: where they agree they draw alike, and the variance of their difference shrinks (common random
//! numbers). Here it is computed in its equivalent form, an exponential race: `argmin_i e_i / w_i` with
//! `e_i = −ln u_i` and `w_i = exp(z_i − max z)`, because `1 − u_i ≤ −ln u_i` rules out nearly every token without a
//! logarithm.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use crate::Sampler;

/// Uniform random numbers of one completion: a ChaCha8 key from (run seed, prompt, sample), one stream per step, one
/// word per token id.
#[derive(Debug, Clone)]
pub struct Noise(ChaCha8Rng);

impl Noise {
    /// The stream of sample number `sample` of the prompt `prompt_id` in a run seeded with `run_seed`.
    pub fn new(run_seed: u64, prompt_id: &str, sample: u32) -> Self {
        let mut key = Sha256::new();
        key.update(b"smpo sampler 1");
        key.update(run_seed.to_le_bytes());
        key.update(sample.to_le_bytes());
        key.update(prompt_id.as_bytes());
        Noise(ChaCha8Rng::from_seed(key.finalize().into()))
    }

    /// Key of the ChaCha8 stream, in words: step `s` is its stream number `s`, a token id's number the word of 64 bits at its
    /// place.
    pub fn key(&self) -> [u32; 8] {
        let seed = self.0.get_seed();
        let (words, _) = seed.as_chunks::<4>();
        std::array::from_fn(|index| u32::from_le_bytes(words[index]))
    }

    /// Rewinds to token id 0 of `step`.
    fn seek(&mut self, step: u64) {
        self.0.set_stream(step);
        self.0.set_word_pos(0);
    }

    /// The next token id's number, strictly inside (0, 1).
    fn uniform(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
        ((self.0.next_u64() >> 11) as f64 + 0.5) * SCALE
    }
}

/// `ln Σ_i exp(logits_i)` over `logits` (V), in nats: subtract it from a logit to get its log p.
pub(crate) fn log_normalizer(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
    f64::from(max) + sum.ln()
}

/// Draws a token id from `logits` (V), or `None` when no logit is above −∞. At temperature 0 it is the arg max, the
/// smallest id where several tie.
///
/// `logits` must hold no NaN and no +∞ ([`crate::Recorder`] refuses them); `sampler` must be in range
/// ([`Sampler::check`]).
pub(crate) fn draw(logits: &[f32], sampler: &Sampler, noise: &mut Noise, step: u64) -> Option<u32> {
    let (best_id, max) = arg_max(logits)?;
    if sampler.is_greedy() {
        return Some(best_id);
    }
    noise.seek(step);
    let inverse_temperature = 1.0 / sampler.temperature;
    let weight = |logit: f32| (f64::from(logit - max) * inverse_temperature).exp();
    let threshold = Threshold::new(logits, sampler, weight);

    let (mut winner, mut best) = (best_id, f64::INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        let u = noise.uniform();
        let id = id as u32;
        if !threshold.keeps(logit, id) {
            continue;
        }
        let weight = weight(logit);
        if 1.0 - u >= best * weight {
            continue;
        }
        let arrival = -u.ln() / weight;
        if arrival < best {
            (winner, best) = (id, arrival);
        }
    }
    Some(winner)
}

fn arg_max(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id as u32, logit);
        }
    }
    (best.1 > f32::NEG_INFINITY).then_some(best)
}

/// The filters' result: the last token kept in the order (logit descending, id ascending).
struct Threshold {
    logit: f32,
    id: u32,
}

impl Threshold {
    fn new(logits: &[f32], sampler: &Sampler, weight: impl Fn(f32) -> f64) -> Self {
        let everything = Threshold { logit: f32::NEG_INFINITY, id: u32::MAX };
        let top_p = sampler.top_p.filter(|p| *p < 1.0);
        if sampler.top_k.is_none() && top_p.is_none() && sampler.min_p.is_none() {
            return everything;
        }
        let mut ranked: Vec<(f32, u32)> = logits.iter().zip(0..).map(|(&logit, id)| (logit, id)).collect();
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if let Some(k) = sampler.top_k.map(|k| k as usize).filter(|k| *k < ranked.len()) {
            ranked.select_nth_unstable_by(k - 1, order);
            ranked.truncate(k);
        }
        if let Some(min_p) = sampler.min_p {
            // The likeliest weighs 1. Cutting the tail first changes nothing that top-p decides: its shares are
            // taken over what top-k kept, so they are summed before the cut.
            let total: f64 = ranked.iter().map(|(logit, _)| weight(*logit)).sum();
            ranked.retain(|(logit, _)| weight(*logit) >= min_p);
            return Self::last_kept(ranked, order, top_p.map(|p| p * total), weight).unwrap_or(everything);
        }
        let total = top_p.map(|p| p * ranked.iter().map(|(logit, _)| weight(*logit)).sum::<f64>());
        Self::last_kept(ranked, order, total, weight).unwrap_or(everything)
    }

    /// The last of `ranked` in `order`, or the one at which the weights reach `mass`.
    fn last_kept(
        mut ranked: Vec<(f32, u32)>,
        order: impl Fn(&(f32, u32), &(f32, u32)) -> std::cmp::Ordering,
        mass: Option<f64>,
        weight: impl Fn(f32) -> f64,
    ) -> Option<Self> {
        let last = match mass {
            None => ranked.into_iter().max_by(order),
            Some(mass) => {
                ranked.sort_unstable_by(order);
                let mut sum = 0.0;
                let cut = ranked.iter().position(|(logit, _)| {
                    sum += weight(*logit);
                    sum >= mass
                });
                ranked.get(cut.unwrap_or(ranked.len().saturating_sub(1))).copied()
            }
        };
        last.map(|(logit, id)| Threshold { logit, id })
    }

    fn keeps(&self, logit: f32, id: u32) -> bool {
        logit > self.logit || (logit == self.logit && id <= self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOGITS: [f32; 5] = [0.5, 2.0, -1.0, 1.0, f32::NEG_INFINITY];

    fn frequencies(sampler: Sampler, draws: u32) -> [f64; 5] {
        let mut counts = [0u32; 5];
        for sample in 0..draws {
            let mut noise = Noise::new(7, "p", sample);
            counts[draw(&LOGITS, &sampler, &mut noise, 3).expect("finite logits") as usize] += 1;
        }
        counts.map(|count| f64::from(count) / f64::from(draws))
    }

    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }

    /// Pearson's statistic against expected shares; 99.99 % of χ²(3) lies below 21.1.
    fn chi_squared(observed: &[f64], expected: &[f64], draws: f64) -> f64 {
        observed.iter().zip(expected).filter(|(_, e)| **e > 0.0).map(|(o, e)| draws * (o - e) * (o - e) / e).sum()
    }

    #[test]
    fn draws_follow_the_tempered_softmax() {
        for temperature in [0.5, 1.0, 2.0] {
            let observed = frequencies(Sampler::temperature(temperature), 40_000);
            let expected = softmax(&LOGITS, temperature);
            let statistic = chi_squared(&observed, &expected, 40_000.0);
            assert!(statistic < 21.1, "T {temperature}: χ² {statistic}, {observed:?} vs {expected:?}");
            assert_eq!(observed[4], 0.0, "a token at −∞ was drawn");
        }
    }

    #[test]
    fn filters_renormalise_what_they_keep() {
        let p = softmax(&LOGITS, 1.0);
        let (first, second) = (p[1], p[3]);
        let two = [0.0, first / (first + second), 0.0, second / (first + second), 0.0];
        let base = Sampler::temperature(1.0);
        for sampler in [
            Sampler { top_k: Some(2), ..base },
            Sampler { top_p: Some(first + 0.01), ..base },
            Sampler { min_p: Some(0.9 * second / first), ..base },
            // 0.75 of what top-k kept is more than the first alone (0.73) and needs the second.
            Sampler { top_k: Some(2), top_p: Some(0.75), ..base },
        ] {
            let observed = frequencies(sampler, 20_000);
            let statistic = chi_squared(&observed, &two, 20_000.0);
            assert!(statistic < 21.1, "{sampler:?}: χ² {statistic}, {observed:?}");
            assert_eq!(observed[0] + observed[2] + observed[4], 0.0, "{sampler:?} let a filtered token through");
        }
        // Within top-k's two the first holds 0.731: at 0.73 top-p keeps it alone, though over all V it holds 0.609.
        let alone = frequencies(Sampler { top_k: Some(2), top_p: Some(0.73), ..base }, 500);
        assert_eq!(alone[1], 1.0);
    }

    #[test]
    fn ties_keep_the_smaller_id_and_k_means_k() {
        let logits = [1.0f32; 6];
        let sampler = Sampler { top_k: Some(2), ..Sampler::temperature(1.0) };
        let drawn: std::collections::BTreeSet<u32> =
            (0..200).filter_map(|sample| draw(&logits, &sampler, &mut Noise::new(0, "t", sample), 0)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(draw(&logits, &Sampler::greedy(), &mut Noise::new(0, "t", 0), 0), Some(0));
    }

    #[test]
    fn the_noise_is_pinned() {
        // Anyone's samples must be reproducible by a later version: these are the first numbers of the scheme.
        let mut noise = Noise::new(42, "prompt-1", 0);
        noise.seek(0);
        let first = noise.uniform();
        noise.seek(5);
        let other = noise.uniform();
        noise.seek(0);
        assert_eq!(noise.uniform(), first);
        assert_ne!(first, other);
        assert_eq!((first * 1e9).round() as u64, PINNED_FIRST);
        for (seed, prompt, sample) in [(43, "prompt-1", 0), (42, "prompt-2", 0), (42, "prompt-1", 1)] {
            let mut noise = Noise::new(seed, prompt, sample);
            noise.seek(0);
            assert_ne!(noise.uniform(), first, "{seed} {prompt} {sample}");
        }
    }

    const PINNED_FIRST: u64 = 967_900_838;

    #[test]
    fn nothing_to_draw_is_none() {
        for sampler in [Sampler::greedy(), Sampler::temperature(1.0)] {
            assert_eq!(draw(&[], &sampler, &mut Noise::new(0, "", 0), 0), None);
            assert_eq!(draw(&[f32::NEG_INFINITY; 3], &sampler, &mut Noise::new(0, "", 0), 0), None);
        }
        assert_eq!(log_normalizer(&[]), f64::NEG_INFINITY);
    }

    proptest! {
        /// The race and the textbook Gumbel arg max are the same draw.
        #[test]
        fn the_race_is_the_gumbel_arg_max(
            logits in proptest::collection::vec(-20.0f32..20.0, 1..300),
            temperature in 0.05f64..5.0, seed: u64, step in 0u64..1000,
        ) {
            let drawn = draw(&logits, &Sampler::temperature(temperature), &mut Noise::new(seed, "p", 1), step);
            let mut noise = Noise::new(seed, "p", 1);
            noise.seek(step);
            let scores: Vec<f64> =
                logits.iter().map(|&l| f64::from(l) / temperature - (-noise.uniform().ln()).ln()).collect();
            let drawn = drawn.expect("finite logits") as usize;
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(best - scores[drawn] < 1e-9, "{} {}", best, scores[drawn]);
        }

        /// As T falls the draw becomes the arg max.
        #[test]
        fn vanishing_temperature_is_greedy(
            logits in proptest::collection::hash_set(-1000i32..1000, 1..200), seed: u64,
        ) {
            let logits: Vec<f32> = logits.into_iter().map(|l| l as f32 / 50.0).collect();
            let greedy = draw(&logits, &Sampler::greedy(), &mut Noise::new(seed, "p", 0), 0);
            prop_assert_eq!(draw(&logits, &Sampler::temperature(1e-5), &mut Noise::new(seed, "p", 0), 0), greedy);
        }

        /// Whatever the filters, the draw is a token they keep, and the likeliest is always kept.
        #[test]
        fn filters_never_empty_the_set(
            logits in proptest::collection::vec(-30.0f32..30.0, 1..100),
            top_k in proptest::option::of(1u32..120), top_p in proptest::option::of(1e-9f64..=1.0),
            min_p in proptest::option::of(0.0f64..=1.0), seed: u64,
        ) {
            let sampler = Sampler { temperature: 0.7, top_k, top_p, min_p };
            let drawn = draw(&logits, &sampler, &mut Noise::new(seed, "p", 0), 0).expect("finite logits") as usize;
            let above = logits.iter().filter(|l| **l > logits[drawn]).count();
            if let Some(k) = top_k { prop_assert!(above < k as usize); }
            if let Some(p) = min_p {
                let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                prop_assert!((f64::from(logits[drawn] - max) / 0.7).exp() >= p);
            }
        }
    }
}
