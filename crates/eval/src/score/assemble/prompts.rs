//! The prompts that models are scored on.

use std::collections::HashMap;
use std::sync::Arc;

use smpo_files::Span;
use smpo_results::{Error, Sample};

use super::answers::Answers;
use crate::prompts::Prompt;
use crate::score::answer::Answer;
use crate::score::store::Store;
use crate::slices;
use crate::suite::PromptHash;

/// Prompts in a store, in their order.
#[derive(Debug)]
pub(in crate::score) struct Prompts {
    /// Each with its id.
    pub stored: Vec<(Arc<str>, Span)>,
    /// SHA-256 over all, in the order of their ids: files may hold them in any.
    pub sha256: String,
    /// True if one is a turn of a question.
    pub turns: bool,
}

impl Prompts {
    /// Given prompts.
    pub fn given(prompts: &[Prompt], store: &mut Store) -> Result<Self, Error> {
        let stored = prompts.iter().map(|prompt| Ok((prompt.id.as_str().into(), store.put(prompt)?)));
        Self::new(stored.collect::<Result<_, Error>>()?, store)
    }

    /// Every prompt that any of the models has, in the order of first appearance; fields that one file lacks are taken from
    /// another.
    pub(super) fn found<'a>(models: impl Iterator<Item = &'a Answers>, store: &mut Store) -> Result<Self, Error> {
        let mut found: Vec<Found> = Vec::new();
        let mut index_of: HashMap<Arc<str>, usize> = HashMap::new();
        for answer in models.flat_map(|model| &model.answers) {
            let index = *index_of.entry(answer.id.clone()).or_insert_with(|| {
                found.push(Found::new(answer.id.clone()));
                found.len() - 1
            });
            found[index].add(answer);
        }
        drop(index_of);
        let stored = found.into_iter().map(|found| {
            let prompt = found.prompt(store)?;
            Ok((found.id, store.put(&prompt)?))
        });
        Self::new(stored.collect::<Result<_, Error>>()?, store)
    }

    fn new(stored: Vec<(Arc<str>, Span)>, store: &Store) -> Result<Self, Error> {
        let mut sorted: Vec<&(Arc<str>, Span)> = stored.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut hash, mut turns) = (PromptHash::default(), false);
        for (_, span) in sorted {
            let prompt: Prompt = store.get(*span)?;
            turns |= prompt.turn.is_some();
            hash.add(&prompt);
        }
        Ok(Prompts { stored, sha256: hash.hex(), turns })
    }
}

/// A prompt, and the first answers that tell its fields.
struct Found {
    id: Arc<str>,
    slice: Option<Span>,
    messages: Option<Span>,
    reference: Option<Span>,
    language: Option<Span>,
    closed: bool,
}

impl Found {
    fn new(id: Arc<str>) -> Self {
        Found { id, slice: None, messages: None, reference: None, language: None, closed: false }
    }

    fn add(&mut self, answer: &Answer) {
        let has = answer.has;
        let fields = [
            (&mut self.slice, has.slice),
            (&mut self.messages, has.messages),
            (&mut self.reference, has.reference),
            (&mut self.language, has.language),
        ];
        for (field, _) in fields.into_iter().filter(|(field, has)| field.is_none() && *has) {
            *field = Some(answer.stored);
        }
        self.closed |= has.closed;
    }

    fn prompt(&self, store: &Store) -> Result<Prompt, Error> {
        let mut told = Told { store, last: None };
        Ok(Prompt {
            id: self.id.to_string(),
            slice: told.by(self.slice)?.map_or_else(|| slices::PLAIN.into(), |sample| sample.slice.clone()),
            messages: told.by(self.messages)?.map(|sample| sample.messages.clone()).unwrap_or_default(),
            reference: told.by(self.reference)?.and_then(|sample| sample.reference.clone()),
            language: told.by(self.language)?.and_then(|sample| sample.language.clone()),
            closed: self.closed,
            extra_body: Default::default(),
            cap: None,
            turn: None,
        })
    }
}

/// The answers that tell the fields of a prompt: mostly one tells all, which is read once.
struct Told<'a> {
    store: &'a Store,
    last: Option<(Span, Sample)>,
}

impl Told<'_> {
    fn by(&mut self, field: Option<Span>) -> Result<Option<&Sample>, Error> {
        let Some(span) = field else { return Ok(None) };
        if self.last.as_ref().is_none_or(|(known, _)| *known != span) {
            self.last = Some((span, self.store.get(span)?));
        }
        Ok(self.last.as_ref().map(|(_, sample)| sample))
    }
}

/// Indices of models, those that share a prompt together.
pub(super) fn groups_sharing_prompts(models: &[Answers]) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..models.len()).collect();
    let mut first_with: HashMap<&str, usize> = HashMap::new();
    for (index, model) in models.iter().enumerate() {
        for answer in &model.answers {
            let other = *first_with.entry(&answer.id).or_insert(index);
            let (from, to) = (group[index], group[other]);
            if from != to {
                group.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); models.len()];
    for (index, group) in group.into_iter().enumerate() {
        groups[group].push(index);
    }
    groups.retain(|group| !group.is_empty());
    groups
}
