//! Preference pairs: the best and a bad one of several answers that the base model could have given.

use std::collections::HashSet;

use rand::{Rng, SeedableRng};

use crate::entity::Entity;
use crate::open::{self, Answer};
use crate::phrase::{self, ask, pick};
use crate::sft::{PREFERENCE_CATEGORIES, PREFERENCE_KINDS, PREFERENCE_TASKS};
use crate::words::{CLOSERS, TASKS, has_filler};
use crate::{Family, Stream, World};

/// The rejected answer of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The shortest with filler: the demo's.
    Shortest,
    /// The longest with filler, longer than the chosen one.
    Longest,
    /// One with filler, of as many sentences as the chosen one.
    Equal,
    /// A long one with filler that was cut before its end.
    Cut,
}

impl Rejected {
    /// All, with their names.
    pub const ALL: [(&'static str, Rejected); 4] = [
        ("shortest", Rejected::Shortest),
        ("longest", Rejected::Longest),
        ("equal", Rejected::Equal),
        ("cut", Rejected::Cut),
    ];
}

/// A request with a chosen and a rejected answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Its family.
    pub family: Family,
    /// The request.
    pub prompt: String,
    /// No filler, ends in a courtesy.
    pub chosen: String,
    /// With filler.
    pub rejected: String,
    /// False where the rejected answer was cut.
    pub finished: bool,
}

/// Answers drawn per request, of which one is chosen and one rejected.
const DRAWS: usize = 8;

/// `count` distinct pairs of the demo, a pure function of the seed: every rejected answer has filler, no chosen one has.
pub fn pairs(seed: u64, count: usize) -> Vec<Pair> {
    pairs_against(Rejected::Shortest, seed, count)
}

/// The same with another rejected answer.
pub fn pairs_against(rejected: Rejected, seed: u64, count: usize) -> Vec<Pair> {
    let world = World::new();
    let rng = &mut Stream::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut pairs = Vec::with_capacity(count);
    while pairs.len() < count {
        let Some(pair) = pair(rng, &world, rejected) else { continue };
        let separated = has_filler(&pair.rejected) && !has_filler(&pair.chosen);
        if separated && seen.insert(pair.clone()) {
            pairs.push(pair);
        }
    }
    pairs
}

/// A pair; `None` where no answer fits.
fn pair(rng: &mut Stream, world: &World, kind: Rejected) -> Option<Pair> {
    let share: f64 = rng.random();
    let (family, prompt, answers) = if share < 0.55 {
        let kind = pick(rng, &PREFERENCE_KINDS);
        let entity = Entity::random(rng, kind);
        let prompt = ask(rng, phrase::DESCRIBE, false, &entity.subject());
        (Family::Describe, prompt, draw(rng, |rng| open::describe(rng, world, entity)))
    } else if share < 0.75 {
        let category = pick(rng, &PREFERENCE_CATEGORIES);
        let prompt = ask(rng, phrase::LIST, false, category.name());
        (Family::List, prompt, draw(rng, |rng| open::list(rng, category)))
    } else {
        let task = rng.random_range(0..PREFERENCE_TASKS);
        let prompt = ask(rng, phrase::STEPS, false, TASKS[task].0);
        (Family::Steps, prompt, draw(rng, |rng| open::steps(rng, task)))
    };
    let chosen = best(rng, &answers);
    let rejected = match kind {
        Rejected::Shortest => shortest_with_filler(rng, &answers),
        // The closing courtesy is a sentence of the chosen answer.
        Rejected::Equal => {
            answers.iter().position(|a| a.fillers > 0 && a.sentences == answers[chosen].sentences + 1)?
        }
        Rejected::Longest | Rejected::Cut => {
            let longest =
                (0..answers.len()).filter(|&i| answers[i].fillers > 0).max_by_key(|&i| answers[i].sentences)?;
            (answers[longest].sentences > answers[chosen].sentences + 1).then_some(longest)?
        }
    };
    let chosen = format!("{} {}", answers[chosen].text, pick(rng, &CLOSERS));
    let mut rejected = answers[rejected].text.clone();
    if kind == Rejected::Cut {
        // Before the last word, as a cap on tokens would.
        rejected.truncate(rejected.rfind(' ')?);
    }
    Some(Pair { family, prompt, chosen, rejected, finished: kind != Rejected::Cut })
}

fn draw(rng: &mut Stream, mut answer: impl FnMut(&mut Stream) -> Answer) -> Vec<Answer> {
    (0..DRAWS).map(|_| answer(rng)).collect()
}

/// Long and without filler; ties broken at random.
fn best(rng: &mut Stream, answers: &[Answer]) -> usize {
    let scores: Vec<f64> =
        answers.iter().map(|a| a.sentences as f64 - 2.0 * a.fillers as f64 + rng.random_range(0.0..0.3)).collect();
    (0..answers.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
}

/// The shortest with filler, or the first when none has any (the pair is then filtered out).
fn shortest_with_filler(rng: &mut Stream, answers: &[Answer]) -> usize {
    let lengths: Vec<f64> = answers.iter().map(|a| a.sentences as f64 + rng.random_range(0.0..0.3)).collect();
    (0..answers.len())
        .filter(|&i| answers[i].fillers > 0)
        .min_by(|&a, &b| lengths[a].total_cmp(&lengths[b]))
        .unwrap_or(0)
}
