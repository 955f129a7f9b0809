//! The instruction mix that the base model learns.

use rand::{Rng, SeedableRng};

use crate::entity::{Entity, Kind};
use crate::open::{self, Category};
use crate::phrase::{self, ask, pick};
use crate::words::{CLOSERS, COLOURS, TASKS};
use crate::{Family, Stream, World, closed};

/// One request with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its family.
    pub family: Family,
    /// The request.
    pub prompt: String,
    /// The answer.
    pub answer: String,
}

/// Share of requests in a wording that preference pairs never use.
const UNUSUAL: f64 = 0.15;
/// Share of descriptions, lists and steps that end in a courtesy.
const COURTESY: f64 = 0.2;

/// `count` instructions, a pure function of the seed.
pub fn instructions(seed: u64, count: usize) -> Vec<Instruction> {
    let world = World::new();
    let rng = &mut Stream::seed_from_u64(seed);
    (0..count).map(|_| instruction(rng, &world)).collect()
}

fn instruction(rng: &mut Stream, world: &World) -> Instruction {
    let share: f64 = rng.random();
    let unusual = rng.random_bool(UNUSUAL);
    let family = match share {
        s if s < 0.36 => Family::Closed,
        s if s < 0.58 => Family::Describe,
        s if s < 0.68 => Family::List,
        s if s < 0.78 => Family::Steps,
        s if s < 0.86 => Family::Story,
        s if s < 0.93 => Family::Day,
        _ => Family::Poem,
    };
    let mut instruction = request(rng, world, family, unusual, Subjects::All);
    if matches!(family, Family::Describe | Family::List | Family::Steps) && rng.random_bool(COURTESY) {
        instruction.answer = format!("{} {}", instruction.answer, pick(rng, &CLOSERS));
    }
    instruction
}

/// Entities, categories and tasks that requests may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// All.
    All,
    /// Only those in no preference pair.
    OutOfDistribution,
}

/// Preference pairs describe these kinds.
pub(crate) const PREFERENCE_KINDS: [Kind; 2] = [Kind::Animal, Kind::Food];
/// Preference pairs list these categories.
pub(crate) const PREFERENCE_CATEGORIES: [Category; 2] = [Category::Animals, Category::Foods];
/// Preference pairs explain the first tasks.
pub(crate) const PREFERENCE_TASKS: usize = 4;

pub(crate) fn request(
    rng: &mut Stream,
    world: &World,
    family: Family,
    unusual: bool,
    subjects: Subjects,
) -> Instruction {
    let all = subjects == Subjects::All;
    let (prompt, answer) = match family {
        Family::Closed => {
            let question = closed::question(rng, world, unusual);
            (question.prompt, question.answer)
        }
        Family::Describe => {
            let kinds: &[Kind] = if all { &Kind::ALL } else { &[Kind::Tool, Kind::Person, Kind::City] };
            let kind = pick(rng, kinds);
            let entity = Entity::random(rng, kind);
            (ask(rng, phrase::DESCRIBE, unusual, &entity.subject()), open::describe(rng, world, entity).text)
        }
        Family::List => {
            let categories: &[Category] = if all { &Category::ALL } else { &Category::ALL[2..] };
            let category = pick(rng, categories);
            (ask(rng, phrase::LIST, unusual, category.name()), open::list(rng, category).text)
        }
        Family::Steps => {
            let task = rng.random_range(if all { 0 } else { PREFERENCE_TASKS }..TASKS.len());
            (ask(rng, phrase::STEPS, unusual, TASKS[task].0), open::steps(rng, task).text)
        }
        Family::Story => {
            let animal = Entity::random(rng, Kind::Animal);
            (ask(rng, phrase::STORY, unusual, animal.name()), open::story(rng, world, animal).text)
        }
        Family::Day => {
            let person = Entity::random(rng, Kind::Person);
            (ask(rng, phrase::DAY, unusual, person.name()), open::day(rng, person).text)
        }
        Family::Poem => {
            let colour = pick(rng, &COLOURS);
            (ask(rng, phrase::POEM, unusual, colour), open::poem(rng, colour).text)
        }
    };
    Instruction { family, prompt, answer }
}
