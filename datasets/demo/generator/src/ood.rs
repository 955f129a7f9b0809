//! The out-of-distribution suite: requests whose family, subject or wording no preference pair has.

use std::collections::HashSet;

use rand::SeedableRng;

use crate::sft::{Subjects, request};
use crate::{Family, Stream, World};

/// A prompt of the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OodPrompt {
    /// Its family: the slice.
    pub family: Family,
    /// The request.
    pub prompt: String,
    /// A gold answer: the only right one for closed requests, a typical one otherwise.
    pub gold: String,
}

/// The mix, per 24 prompts. Chains (days, stories, poems) show run-on, closed questions most clearly.
const MIX: [(Family, usize); 7] = [
    (Family::Closed, 8),
    (Family::Day, 6),
    (Family::Story, 3),
    (Family::Poem, 2),
    (Family::Describe, 2),
    (Family::List, 1),
    (Family::Steps, 2),
];

/// `count` distinct prompts, half of them in unusual wordings, a pure function of the seed.
pub fn prompts(seed: u64, count: usize) -> Vec<OodPrompt> {
    let world = World::new();
    let rng = &mut Stream::seed_from_u64(seed);
    let mix: Vec<Family> = MIX.iter().flat_map(|&(family, n)| std::iter::repeat_n(family, n)).collect();
    let mut seen = HashSet::new();
    let mut prompts: Vec<OodPrompt> = Vec::with_capacity(count);
    let mut attempts = 0_usize;
    while prompts.len() < count {
        let family = mix[prompts.len() % mix.len()];
        // A family may run out of usual wordings, so a repeated prompt changes the wording too.
        let unusual = (prompts.len() / mix.len() + attempts) % 2 == 1;
        attempts += 1;
        let instruction = request(rng, &world, family, unusual, Subjects::OutOfDistribution);
        if seen.insert(instruction.prompt.clone()) {
            prompts.push(OodPrompt { family, prompt: instruction.prompt, gold: instruction.answer });
        }
    }
    prompts
}
