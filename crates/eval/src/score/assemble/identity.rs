//! Ids that mean one prompt each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smpo_files::sha256;
use smpo_results::{Error, Sample};

use super::and_more;
use super::answers::Answers;
use crate::prompts::Turn;
use crate::score::answer::{Answer, asked};
use crate::score::store::Store;
use crate::suite::Suite;

/// Characters of a hash in an id.
const DIGITS: usize = 8;

/// The only answer to a question of several turns is that to the first one.
pub(super) fn of_suite(models: &mut [Answers], suite: &Suite) {
    let questions: HashSet<&str> =
        suite.prompts.iter().filter_map(|p| Some(p.turn.as_ref()?.question.as_str())).collect();
    for answer in models.iter_mut().flat_map(|model| &mut model.answers) {
        if questions.contains(&*answer.id) {
            answer.id = Turn::prompt_id(&answer.id, 1).into();
        }
    }
}

/// A note on answers whose file has another prompt under the id than the suite has. Bare and in its template it is the same.
pub(super) fn other_prompts(models: &[Answers], suite: &Suite, store: &Store) -> Result<Option<String>, Error> {
    let single = suite.prompts.iter().filter(|prompt| prompt.turn.is_none());
    let given: HashMap<&str, String> = single.filter_map(|p| Some((p.id.as_str(), asked(&p.messages)?))).collect();
    let (mut first, mut number, mut seen) = (None, 0, HashSet::new());
    for answer in models.iter().flat_map(|model| &model.answers).filter(|answer| answer.asked.is_some()) {
        let Some(given) = given.get(&*answer.id).filter(|_| seen.insert((&answer.path, &answer.id))) else { continue };
        if answer.asks(given) {
            continue;
        }
        let sample: Sample = store.get(answer.stored)?;
        let own = asked(&sample.messages).unwrap_or_default();
        if !own.contains(given) && !given.contains(&own) {
            number += 1;
            first.get_or_insert(answer);
        }
    }
    Ok(first.map(|answer| {
        let example =
            format!("{}: another prompt than the one given for the id {:?}, which counts", answer.place(), answer.id);
        and_more(&example, number)
    }))
}

/// A prompt that goes by an id: the answer that it was seen with first, and that answer's model.
struct Meaning<'a> {
    answer: &'a Answer,
    model: usize,
}

impl Meaning<'_> {
    fn text(&self, store: &Store) -> Result<String, Error> {
        let sample: Sample = store.get(self.answer.stored)?;
        Ok(asked(&sample.messages).unwrap_or_default())
    }

    /// Two models may write one prompt differently, bare and in their templates: between models, a prompt that contains the
    /// other is the same.
    fn is_of(&self, other: &Meaning<'_>, store: &Store) -> Result<bool, Error> {
        if self.answer.asked == other.answer.asked || self.model == other.model {
            return Ok(self.answer.asked == other.answer.asked);
        }
        let (own, others) = (self.text(store)?, other.text(store)?);
        Ok(own.contains(&others) || others.contains(&own))
    }
}

/// The first of the meanings that is that of another answer.
fn position(known: &[Meaning<'_>], new: &Meaning<'_>, store: &Store) -> Result<Option<usize>, Error> {
    for (index, meaning) in known.iter().enumerate() {
        if meaning.is_of(new, store)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Question numbers are unique within a task at best: an id under which the files hold several prompts is told apart by
/// their texts.
pub(super) fn tell_apart(models: &mut [Answers], store: &Store, notes: &mut Vec<String>) -> Result<(), Error> {
    let mut meanings: HashMap<&str, Vec<Meaning<'_>>> = HashMap::new();
    let mut meaning_of: Vec<Vec<Option<u32>>> = Vec::new();
    for (model, answers) in models.iter().enumerate() {
        let mut of_model = Vec::with_capacity(answers.answers.len());
        for answer in &answers.answers {
            if answer.asked.is_none() {
                of_model.push(None);
                continue;
            }
            let known = meanings.entry(&answer.id).or_insert_with(|| Vec::with_capacity(1));
            let new = Meaning { answer, model };
            let place = match position(known, &new, store)? {
                Some(place) => place,
                None => {
                    known.push(new);
                    known.len() - 1
                }
            };
            of_model.push(Some(place as u32));
        }
        meaning_of.push(of_model);
    }
    let mut ambiguous: Vec<_> = meanings.into_iter().filter(|(_, known)| known.len() > 1).collect();
    ambiguous.sort_by_cached_key(|(id, known)| (known[0].answer.place(), *id));
    if let Some((id, known)) = ambiguous.first() {
        let example = format!(
            "the id {id:?} stands for different prompts ({}, {}): they are told apart by their texts",
            known[0].answer.place(),
            known[1].answer.place()
        );
        notes.push(and_more(&example, ambiguous.len()));
    }
    let mut ids_of: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
    for (id, known) in ambiguous {
        let named = known.iter().map(|meaning| {
            let text = meaning.text(store)?;
            Ok(format!("{id}#{}", &sha256(text.as_bytes())[..DIGITS]).into())
        });
        ids_of.insert(known[0].answer.id.clone(), named.collect::<Result<_, Error>>()?);
    }
    for (answers, meanings_of) in models.iter_mut().zip(meaning_of) {
        for (answer, meaning) in answers.answers.iter_mut().zip(meanings_of) {
            if let (Some(meaning), Some(ids)) = (meaning, ids_of.get(&answer.id)) {
                answer.id = ids[meaning as usize].clone();
            }
        }
    }
    Ok(())
}
