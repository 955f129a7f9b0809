//! Synthetic preference pairs, for self-tests and benches.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smpo_data::{Row, TokenizedCompletion};

/// `count` pairs of uniformly random tokens below `vocabulary`; each side has `length` tokens, half of them the prompt's.
/// Equal lengths need no padding, so they favour no trainer.
pub fn pairs(
    count: usize,
    length: usize,
    vocabulary: usize,
    is_terminator: impl Fn(u32) -> bool,
    seed: u64,
) -> Vec<Row> {
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
            ..Row::default()
        })
        .collect()
}
