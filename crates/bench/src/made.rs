//! Preference pairs of a given length, with random tokens.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_trainer::Row;

/// `count` pairs over a vocabulary of `vocabulary`, each side `length` tokens long, half of them the prompt's. Equal
/// lengths cost a trainer that pads nothing, so they favour nobody by padding.
pub fn pairs(count: usize, length: usize, vocabulary: usize, seed: u64) -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tokens = |count: usize| (0..count).map(|_| rng.random_range(0..vocabulary as u32)).collect::<Vec<_>>();
    let prompt = length / 2;
    (0..count)
        .map(|index| Row {
            id: format!("made-{index}"),
            prompt: tokens(prompt),
            chosen: Some(tokens(length - prompt)),
            rejected: Some(tokens(length - prompt)),
        })
        .collect()
}
