//! Ids that mean one prompt each.

use std::collections::{HashMap, HashSet};

use smpo_files::sha256;
use smpo_results::Message;

use super::and_more;
use super::answers::Answers;
use crate::prompts::Turn;
use crate::suite::Suite;

/// Characters of a hash in an id.
const DIGITS: usize = 8;

/// The only answer to a question of several turns is that to the first one.
pub(super) fn of_suite(models: &mut [Answers], suite: &Suite) {
    let questions: HashSet<&str> =
        suite.prompts.iter().filter_map(|p| Some(p.turn.as_ref()?.question.as_str())).collect();
    for answer in models.iter_mut().flat_map(|model| &mut model.answers) {
        if questions.contains(answer.id.as_str()) {
            answer.id = Turn::prompt_id(&answer.id, 1);
        }
    }
}

/// A prompt that goes by an id, and the model that it was seen with first.
struct Meaning {
    text: String,
    model: usize,
    place: String,
}

/// Question numbers are unique within a task at best: an id under which the files hold several prompts is told apart by
/// their texts.
///
/// Two models may write one prompt differently, bare and in their templates: between models, a prompt that contains the
/// other is the same.
pub(super) fn tell_apart(models: &mut [Answers], notes: &mut Vec<String>) {
    let mut meanings: HashMap<String, Vec<Meaning>> = HashMap::new();
    let mut meaning_of: Vec<Vec<Option<usize>>> = Vec::new();
    for (model, answers) in models.iter().enumerate() {
        let mut of_model = Vec::with_capacity(answers.answers.len());
        for answer in &answers.answers {
            let own_id = answer.record.id.is_some();
            of_model.push(own_id.then(|| asked(&answer.record.messages)).flatten().map(|text| {
                let known = meanings.entry(answer.id.clone()).or_default();
                let same = |known: &Meaning| {
                    known.text == text
                        || known.model != model && (known.text.contains(&text) || text.contains(&known.text))
                };
                known.iter().position(same).unwrap_or_else(|| {
                    known.push(Meaning { text, model, place: answer.place() });
                    known.len() - 1
                })
            }));
        }
        meaning_of.push(of_model);
    }
    let mut ambiguous: Vec<_> = meanings.iter().filter(|(_, known)| known.len() > 1).collect();
    ambiguous.sort_by(|a, b| a.1[0].place.cmp(&b.1[0].place));
    if let Some((id, known)) = ambiguous.first() {
        let example = format!(
            "the id {id:?} stands for different prompts ({}, {}): they are told apart by their texts",
            known[0].place, known[1].place
        );
        notes.push(and_more(&example, ambiguous.len()));
    }
    for (answers, meanings_of) in models.iter_mut().zip(meaning_of) {
        for (answer, meaning) in answers.answers.iter_mut().zip(meanings_of) {
            if let (Some(meaning), Some(known)) = (meaning, meanings.get(&answer.id).filter(|known| known.len() > 1)) {
                answer.id = format!("{}#{}", answer.id, &sha256(known[meaning].text.as_bytes())[..DIGITS]);
            }
        }
    }
}

/// The last message, white space aside.
fn asked(messages: &[Message]) -> Option<String> {
    let words: Vec<&str> = messages.last()?.content.split_whitespace().collect();
    Some(words.join(" ")).filter(|text| !text.is_empty())
}
