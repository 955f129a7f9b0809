//! Synthetic preference pairs, for self-tests and benches.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
<<<<<<< HEAD:crates/bench/src/made.rs
use smpo_trainer::{Row, TokenizedCompletion};

/// `count` pairs over a vocabulary of `vocabulary`, whose tokens `is_terminator` tells apart, each side `length` tokens long, half of them the prompt's. Equal
/// lengths cost a trainer that pads nothing, so they favour nobody by padding.
pub fn pairs(
    count: usize,
    length: usize,
    vocabulary: usize,
    is_terminator: impl Fn(u32) -> bool,
    seed: u64,
) -> Vec<Row> {
=======

use crate::row::Row;

/// `count` pairs of uniformly random tokens below `vocabulary`; each side has `length` tokens, half of them the prompt's.
/// Equal lengths need no padding, so they favour no trainer.
pub fn pairs(count: usize, length: usize, vocabulary: usize, seed: u64) -> Vec<Row> {
>>>>>>> main:crates/trainer/src/synthetic.rs
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tokens = |count: usize| (0..count).map(|_| rng.random_range(0..vocabulary as u32)).collect::<Vec<_>>();
    let completion = |ids| TokenizedCompletion::new(ids, &is_terminator);
    let prompt = length / 2;
    (0..count)
        .map(|index| Row {
            id: format!("synthetic-{index}"),
            prompt: tokens(prompt),
            chosen: Some(completion(tokens(length - prompt))),
            rejected: Some(completion(tokens(length - prompt))),
        })
        .collect()
}
