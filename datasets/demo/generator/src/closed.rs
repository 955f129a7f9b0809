//! Closed requests: exactly one right answer, which ends by itself.

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::entity::{Entity, Kind};
use crate::phrase::{pick, with_article};
use crate::words::{ANIMALS, FOODS, NUMBERS, OPPOSITES, TOOLS};
use crate::{Stream, World};

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The question, in one of its wordings.
    pub prompt: String,
    /// The one right answer.
    pub answer: String,
}

/// A closed question; `unusual` selects the wordings that no preference pair has.
pub fn question(rng: &mut Stream, world: &World, unusual: bool) -> Question {
    let (usual, odd, answer) = match rng.random_range(0..11) {
        0 => sum(rng),
        1 => spelling(rng),
        2 => opposite(rng),
        3 => residence(rng, world),
        4 => job(rng, world),
        5 => bigger(rng),
        6 => repeat(rng),
        7 => reverse(rng),
        8 => is_it(rng),
        9 => colour(rng, world),
        _ => count(rng),
    };
    let prompt = if unusual { odd } else { pick_owned(rng, usual) };
    Question { prompt, answer }
}

type Asked = (Vec<String>, String, String);

fn pick_owned(rng: &mut Stream, mut pool: Vec<String>) -> String {
    let index = rng.random_range(0..pool.len());
    pool.swap_remove(index)
}

fn words(rng: &mut Stream, pools: &[&[&'static str]], count: usize) -> Vec<&'static str> {
    let all: Vec<&'static str> = pools.iter().flat_map(|pool| pool.iter().copied()).collect();
    let mut chosen: Vec<&'static str> = all.choose_multiple(rng, count).copied().collect();
    // `choose_multiple` promises a random set, not a random order.
    rand::seq::SliceRandom::shuffle(chosen.as_mut_slice(), rng);
    chosen
}

fn sum(rng: &mut Stream) -> Asked {
    let (a, b) = (rng.random_range(1..=9), rng.random_range(1..=9));
    (
        vec![format!("What is {a} plus {b}?"), format!("Add {a} and {b}.")],
        format!("If I have {a} and get {b} more, what is the sum?"),
        format!("{a} plus {b} is {}.", a + b),
    )
}

fn spelling(rng: &mut Stream) -> Asked {
    let word = words(rng, &[&ANIMALS, &FOODS], 1)[0];
    let letters: Vec<String> = word.chars().map(String::from).collect();
    (
        vec![format!("Spell the word {word}."), format!("How do you spell {word}?")],
        format!("Please spell {word} for my little sister."),
        format!("{}.", letters.join(" - ")),
    )
}

fn opposite(rng: &mut Stream) -> Asked {
    let (mut a, mut b) = pick(rng, &OPPOSITES);
    if rng.random_bool(0.5) {
        (a, b) = (b, a);
    }
    (
        vec![format!("What is the opposite of {a}?"), format!("Give the opposite of {a}.")],
        format!("I forgot the word. What is the opposite of {a}?"),
        format!("The opposite of {a} is {b}."),
    )
}

fn residence(rng: &mut Stream, world: &World) -> Asked {
    let person = Entity::random(rng, Kind::Person);
    let (name, city) = (person.name(), person.residence(world).unwrap_or("Rome"));
    (
        vec![format!("Where does {name} live?"), format!("In which city does {name} live?")],
        format!("I want to visit {name}. Where does {name} live?"),
        format!("{name} lives in {city}."),
    )
}

fn job(rng: &mut Stream, world: &World) -> Asked {
    let person = Entity::random(rng, Kind::Person);
    let (name, job) = (person.name(), person.job(world).unwrap_or("doctor"));
    (
        vec![format!("What is the job of {name}?"), format!("Who is {name}?")],
        format!("I met {name} yesterday. What is the job of {name}?"),
        format!("{name} is {}.", with_article(job)),
    )
}

fn bigger(rng: &mut Stream) -> Asked {
    let a = rng.random_range(1..20);
    let b = (a + rng.random_range(1..19) - 1) % 19 + 1; // another number from 1 to 19
    (
        vec![format!("Which is bigger, {a} or {b}?"), format!("Compare {a} and {b}.")],
        format!("Please tell me which number is bigger, {a} or {b}?"),
        format!("{} is bigger than {}.", a.max(b), a.min(b)),
    )
}

fn repeat(rng: &mut Stream) -> Asked {
    let count = rng.random_range(2..=4);
    let text = words(rng, &[&ANIMALS, &FOODS, &TOOLS], count).join(" ");
    (
        vec![format!("Repeat the words: {text}."), format!("Say this again: {text}.")],
        format!("Please repeat after me: {text}."),
        format!("{text}."),
    )
}

fn reverse(rng: &mut Stream) -> Asked {
    let count = rng.random_range(2..=3);
    let mut list = words(rng, &[&ANIMALS, &FOODS, &TOOLS], count);
    let text = list.join(" ");
    list.reverse();
    (
        vec![format!("Reverse the words: {text}."), format!("Say backwards: {text}.")],
        format!("Can you reverse these words for me: {text}."),
        format!("{}.", list.join(" ")),
    )
}

fn is_it(rng: &mut Stream) -> Asked {
    const KINDS: [(&str, &[&str]); 3] = [("animal", &ANIMALS), ("food", &FOODS), ("tool", &TOOLS)];
    let (truth, pool) = pick(rng, &KINDS);
    let (asked, _) = pick(rng, &KINDS);
    let name = pick(rng, pool);
    let yes_no = if asked == truth { "Yes" } else { "No" };
    let asked = with_article(asked);
    (
        vec![format!("Is the {name} {asked}?")],
        format!("I am not sure. Is the {name} {asked}?"),
        format!("{yes_no}, the {name} is {}.", with_article(truth)),
    )
}

fn colour(rng: &mut Stream, world: &World) -> Asked {
    let kind = pick(rng, &[Kind::Animal, Kind::Food, Kind::Tool]);
    let entity = Entity::random(rng, kind);
    let (name, colour) = (entity.name(), entity.colour(world).unwrap_or("red"));
    (
        vec![format!("What colour is the {name}?"), format!("Tell me the colour of the {name}.")],
        format!("For my picture, what colour is the {name}?"),
        format!("The {name} is {colour}."),
    )
}

fn count(rng: &mut Stream) -> Asked {
    let count = rng.random_range(1..=6);
    let text = words(rng, &[&ANIMALS, &FOODS], count).join(" ");
    let answer = match count {
        1 => "There is one word.".to_owned(),
        _ => format!("There are {} words.", NUMBERS[count]),
    };
    (
        vec![format!("How many words are here: {text}?"), format!("Count the words: {text}.")],
        format!("Please count these words for me: {text}."),
        answer,
    )
}
