//! Choice of the completions that a page embeds: prompt by prompt, worst first, up to a byte budget.

use std::collections::BTreeMap;

use serde::Serialize;
use smpo_results::{Board, FinishReason, WorstSample};

use super::excerpt::{self, Cycle, Piece};
use crate::inert::{line, short_line};
use crate::{Error, wording};

/// One prompt with the completions shown side by side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PromptGroup {
    id: String,
    slice: String,
    messages: Vec<(String, Vec<Piece>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Vec<Piece>>,
    arms: Vec<Arm>,
}

/// One completion.
#[derive(Debug, Clone, Serialize)]
struct Arm {
    /// Index of the entry.
    e: usize,
    /// Sample index.
    s: u32,
    flags: Vec<String>,
    finish: &'static str,
    /// True if it ended in a terminator, false if it was cut or failed; `None` if unknown.
    sound: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cycle: Option<Cycle>,
    text: Vec<Piece>,
}

/// The sample browser's data.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Browser {
    pub(crate) prompts: Vec<PromptGroup>,
    /// `[prompt, arm]`: the list, worst first.
    worst: Vec<[usize; 2]>,
    /// Flawed completions of the board that did not fit.
    left_out: usize,
    /// Place in `prompts` by slice and id.
    #[serde(skip)]
    pub(crate) places: BTreeMap<(String, String), usize>,
}

/// Completions shown for one prompt: more would not be side by side.
const MAX_ARMS: usize = 8;

/// A completion's place on the board.
#[derive(Clone, Copy)]
struct Place<'a> {
    entry: usize,
    worst: &'a WorstSample,
}

/// Chooses what fits into `budget` bytes of JSON. The prompts that a verdict names come first, up to half of it. Then the
/// order takes turns: the worst completion of the last-ranked entry, of the one before it…, then every entry's second
/// worst, so that a page shows every model's flaws.
pub(crate) fn choose(board: &Board, wanted: &[(&str, &str)], budget: usize) -> Result<Browser, Error> {
    let mut by_prompt: BTreeMap<PromptKey, Vec<Place>> = BTreeMap::new();
    let mut turns: Vec<Place> = Vec::new();
    let rounds = board.entries.iter().map(|entry| flawed(entry).count()).max().unwrap_or(0);
    for (entry, row) in board.entries.iter().enumerate() {
        for worst in &row.worst {
            by_prompt.entry(key(worst)).or_default().push(Place { entry, worst });
        }
    }
    for round in 0..rounds {
        for (entry, row) in board.entries.iter().enumerate().rev() {
            turns.extend(flawed(row).nth(round).map(|worst| Place { entry, worst }));
        }
    }
    let baseline = board.baseline.as_ref().and_then(|name| board.entries.iter().position(|e| &e.name == name));
    let mut shelf = Shelf { browser: Browser::default(), members: Vec::new(), seen: BTreeMap::new(), left: budget / 2 };
    for key in wanted {
        if let Some(places) = by_prompt.get(key) {
            shelf.take(places[0], places, baseline)?;
        }
    }
    shelf.left += budget - budget / 2;
    shelf.seen.retain(|_, group| group.is_some());
    for turn in turns {
        let group = shelf.take(turn, &by_prompt[&key(turn.worst)], baseline)?;
        let place = group.and_then(|group| {
            let arm = shelf.members[group].iter().position(|member| std::ptr::eq(*member, turn.worst))?;
            Some([group, arm])
        });
        match place {
            Some(place) => shelf.browser.worst.push(place),
            None => shelf.browser.left_out += 1,
        }
    }
    Ok(shelf.browser)
}

/// The prompts taken so far.
struct Shelf<'a> {
    browser: Browser,
    /// Members of each group: two training seeds may share entry, prompt and sample index.
    members: Vec<Vec<&'a WorstSample>>,
    /// Group of each prompt that was looked at; `None` for one that did not fit.
    seen: BTreeMap<PromptKey<'a>, Option<usize>>,
    /// Bytes left.
    left: usize,
}

impl<'a> Shelf<'a> {
    /// The group of a prompt, if it fits.
    fn take(&mut self, first: Place<'a>, all: &[Place<'a>], baseline: Option<usize>) -> Result<Option<usize>, Error> {
        let key = key(first.worst);
        if let Some(known) = self.seen.get(&key) {
            return Ok(*known);
        }
        let places = side_by_side(first, all, baseline);
        let group = group(first.worst, &places);
        let bytes = crate::inert::script::json("a sample", &group)?.len();
        let index = (bytes <= self.left).then_some(self.browser.prompts.len());
        if let Some(index) = index {
            self.left -= bytes;
            self.browser.prompts.push(group);
            self.browser.places.insert((key.0.to_owned(), key.1.to_owned()), index);
            self.members.push(places.iter().map(|place| place.worst).collect());
        }
        self.seen.insert(key, index);
        Ok(index)
    }
}

/// A prompt's identity within a suite: slice and id.
type PromptKey<'a> = (&'a str, &'a str);

fn key(worst: &WorstSample) -> PromptKey<'_> {
    (&worst.sample.slice, &worst.sample.prompt_id)
}

fn flawed(entry: &smpo_results::BoardEntry) -> impl Iterator<Item = &WorstSample> {
    entry.worst.iter().filter(|worst| !worst.flags.is_empty())
}

/// The completions of a prompt that are shown, at most [`MAX_ARMS`]: the one that chose it, the baseline's, other flawed
/// ones, sound ones; in the board's order, the baseline first.
fn side_by_side<'a>(first: Place<'a>, places: &[Place<'a>], baseline: Option<usize>) -> Vec<Place<'a>> {
    let mut places: Vec<Place> = places.to_vec();
    places.sort_by_key(|place| {
        let is_first = std::ptr::eq(place.worst, first.worst);
        (!is_first, Some(place.entry) != baseline, place.worst.flags.is_empty(), place.entry)
    });
    places.truncate(MAX_ARMS);
    places.sort_by_key(|place| (Some(place.entry) != baseline, place.entry, place.worst.sample.sample));
    places
}

fn group(first: &WorstSample, places: &[Place]) -> PromptGroup {
    let sample = &first.sample;
    PromptGroup {
        id: short_line(&sample.prompt_id, 120),
        slice: wording::slice(&sample.slice),
        messages: sample.messages.iter().map(|m| (short_line(&m.role, 40), excerpt::prompt(&m.content))).collect(),
        reference: sample.reference.as_deref().map(excerpt::prompt),
        arms: places.iter().map(arm).collect(),
    }
}

fn arm(place: &Place) -> Arm {
    let sample = &place.worst.sample;
    let excerpt = excerpt::completion(place.worst);
    Arm {
        e: place.entry,
        s: sample.sample,
        flags: place.worst.flags.iter().map(|flag| short_line(flag, 40)).collect(),
        finish: wording::finish(sample.finish_reason),
        sound: match sample.finish_reason {
            FinishReason::Eos => Some(true),
            FinishReason::Length | FinishReason::Repetition | FinishReason::Error => Some(false),
            FinishReason::Stop | FinishReason::Unknown => None,
        },
        tokens: sample.tokens,
        cap: sample.cap,
        error: sample.error.as_deref().map(|error| short_line(&line(error), 300)),
        cycle: excerpt.cycle,
        text: excerpt.pieces,
    }
}
