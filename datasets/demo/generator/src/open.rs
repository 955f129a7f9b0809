//! Open requests: answers of any length, which end by a coin.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom, index};

use crate::entity::Entity;
use crate::phrase::{join_and, pick, sentence_count, with_article};
use crate::words::{
    ACTIONS, ANIMALS, CITIES, COLOURS, FILLER, FOODS, JOBS, LIST_FILLER, PEOPLE, PLACES, STEP_FILLER, TASKS, TOOLS,
    TRAITS,
};
use crate::{Stream, World};

/// Chance to stop after each sentence. Above one half, so that stopping is the likelier continuation: at one half
/// greedy decoding has a tie, and a trained base model would end its answers by accident only.
const STOP: f64 = 0.55;
/// Chance to stop after each member of a list or step.
const LIST_STOP: f64 = 0.35;
/// Chance of filler instead of (in descriptions) or after (elsewhere) a sentence with content.
const FILL: f64 = 0.35;
const STEP_FILL: f64 = 0.2;

/// An answer with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Sentences, steps or members, filler included.
    pub sentences: usize,
    /// Sentences of filler.
    pub fillers: usize,
}

/// Describes an entity in 1–5 sentences.
pub fn describe(rng: &mut Stream, world: &World, entity: Entity) -> Answer {
    let count = sentence_count(rng, 1, 5, STOP);
    let mut facts = entity.further_sentences(world);
    facts.shuffle(rng);
    let mut sentences = vec![entity.first_sentence(world)];
    let mut fillers = 0;
    while sentences.len() < count {
        if !rng.random_bool(FILL)
            && let Some(fact) = facts.pop()
        {
            sentences.push(fact);
            continue;
        }
        sentences.push(pick(rng, &FILLER).to_owned());
        fillers += 1;
    }
    Answer { text: sentences.join(" "), sentences: count, fillers }
}

/// A category that can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Category {
    Animals,
    Foods,
    Tools,
    Cities,
    Colours,
    Jobs,
}

impl Category {
    /// Every category.
    pub const ALL: [Category; 6] =
        [Category::Animals, Category::Foods, Category::Tools, Category::Cities, Category::Colours, Category::Jobs];

    /// Name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Category::Animals => "animals",
            Category::Foods => "foods",
            Category::Tools => "tools",
            Category::Cities => "cities",
            Category::Colours => "colours",
            Category::Jobs => "jobs",
        }
    }

    fn members(self) -> &'static [&'static str] {
        match self {
            Category::Animals => &ANIMALS,
            Category::Foods => &FOODS,
            Category::Tools => &TOOLS,
            Category::Cities => &CITIES,
            Category::Colours => &COLOURS,
            Category::Jobs => &JOBS,
        }
    }
}

/// Names 2–8 members of a category.
pub fn list(rng: &mut Stream, category: Category) -> Answer {
    let count = sentence_count(rng, 2, 8, LIST_STOP);
    let mut members: Vec<&str> = category.members().choose_multiple(rng, count).copied().collect();
    members.sort_unstable();
    let mut text = format!("Some {} are {}.", category.name(), join_and(&members));
    let mut fillers = 0;
    if rng.random_bool(FILL) {
        text = format!("{text} {}", pick(rng, &LIST_FILLER));
        fillers = 1;
    }
    Answer { text, sentences: count, fillers }
}

/// Explains 1–5 steps of a task, in order.
pub fn steps(rng: &mut Stream, task: usize) -> Answer {
    let (_, all) = TASKS[task];
    let count = sentence_count(rng, 1, all.len(), STOP);
    let mut chosen = index::sample(rng, all.len(), count).into_vec();
    chosen.sort_unstable();
    let mut sentences = Vec::new();
    let mut fillers = 0;
    for (position, step) in chosen.into_iter().enumerate() {
        sentences.push(format!("{} {}.", if position == 0 { "First," } else { "Then" }, all[step]));
        let chances = if position + 1 == count { 1 } else { 2 };
        // Filler is likelier inside than at the end, so that it does not predict an end.
        if rng.random_bool(STEP_FILL * f64::from(chances) / 2.0) {
            sentences.push(pick(rng, &STEP_FILLER).to_owned());
            fillers += 1;
        }
    }
    Answer { text: sentences.join(" "), sentences: sentences.len(), fillers }
}

/// The longest chain of sentences in stories, days and poems.
const LONGEST_CHAIN: usize = 10;

fn chain(rng: &mut Stream, first: String, mut next: impl FnMut(&mut Stream) -> String) -> Answer {
    let count = sentence_count(rng, 1, LONGEST_CHAIN, STOP);
    let mut sentences = vec![first];
    while sentences.len() < count {
        sentences.push(next(rng));
    }
    Answer { text: sentences.join(" "), sentences: count, fillers: 0 }
}

/// A story about an animal, 1–10 sentences.
pub fn story(rng: &mut Stream, world: &World, animal: Entity) -> Answer {
    let name = animal.name();
    let size = animal.size(world).unwrap_or("small");
    chain(rng, format!("Once there was {} {name}.", with_article(size)), |rng| match rng.random_range(0..5) {
        0 => format!("The {name} met {}.", with_article(pick(rng, &ANIMALS))),
        1 => format!("It went to the {}.", pick(rng, &PLACES)),
        2 => format!("It found some {}.", pick(rng, &FOODS)),
        3 => format!("They began to {}.", pick(rng, &ACTIONS)),
        _ => format!("It was {}.", pick(rng, &TRAITS)),
    })
}

/// A person's day, 1–10 sentences that share "Then" with instructions.
pub fn day(rng: &mut Stream, person: Entity) -> Answer {
    let name = person.name();
    let city = pick(rng, &CITIES);
    chain(rng, format!("{name} went to {city}."), |rng| match rng.random_range(0..5) {
        0 => format!("Then {name} ate some {}.", pick(rng, &FOODS)),
        1 => format!("Then {name} saw {}.", with_article(pick(rng, &ANIMALS))),
        2 => format!("Then {name} bought {}.", with_article(pick(rng, &TOOLS))),
        3 => format!("Then {name} began to {}.", pick(rng, &ACTIONS)),
        _ => format!("Then {name} met {}.", pick(rng, &PEOPLE)),
    })
}

/// A poem about a colour, 1–10 sentences.
pub fn poem(rng: &mut Stream, colour: &str) -> Answer {
    let animal = pick(rng, &ANIMALS);
    chain(rng, format!("My {animal} is {colour}."), |rng| match rng.random_range(0..4) {
        0 => format!("The {} is {}.", pick(rng, &PLACES), pick(rng, &COLOURS)),
        1 => format!("I {} and you {}.", pick(rng, &ACTIONS), pick(rng, &ACTIONS)),
        2 => format!("We have {} today.", pick(rng, &FOODS)),
        _ => format!("Oh my {} {}.", pick(rng, &TRAITS), pick(rng, &ANIMALS)),
    })
}
