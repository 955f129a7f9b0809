//! Sample numbers, and answers that are there more than once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::and_more;
use super::answers::Answers;
use crate::input_error::InputError;
use crate::score::answer::Answer;
use crate::score::store::Store;
use crate::score::usual;

/// Findings about one model's answers, each with its first example.
#[derive(Default)]
struct Findings {
    copies: (usize, String),
    retries: (usize, String),
    uneven: (usize, String),
}

impl Findings {
    fn add(finding: &mut (usize, String), example: impl FnOnce() -> String) {
        if finding.0 == 0 {
            finding.1 = example();
        }
        finding.0 += 1;
    }

    fn copy(&mut self, copy: &Answer, first: &Answer) {
        Self::add(&mut self.copies, || {
            format!("{}: the answer to {:?} is already at {}; it counts once", copy.place(), copy.id, first.place())
        });
    }

    fn retry(&mut self, failed: &Answer, answered: &Answer) {
        Self::add(&mut self.retries, || {
            format!(
                "{}: this request failed and was answered at {}; the answer counts",
                failed.place(),
                answered.place()
            )
        });
    }

    fn notes(self) -> impl Iterator<Item = String> {
        let all = [self.copies, self.retries, self.uneven];
        all.into_iter().filter(|(count, _)| *count > 0).map(|(count, example)| and_more(&example, count))
    }
}

/// Numbers the answers of each prompt, and puts those of a prompt beside each other, prompts in the order of their first
/// answers; copies, and failures that a retry made good, are left out and noted.
///
/// # Errors
/// Two different answers under one sample number.
pub(super) fn numbered(model: &mut Answers, store: &Store, notes: &mut Vec<String>) -> Result<(), InputError> {
    let mut findings = Findings::default();
    let mut answers = std::mem::take(&mut model.answers);
    sort_by_prompt(&mut answers);
    let usual = usual(answers.chunk_by(|a, b| a.id == b.id).map(<[Answer]>::len)).unwrap_or(1);
    let mut left = answers.into_iter().peekable();
    while let Some(first) = left.next() {
        let id = first.id.clone();
        let mut of_prompt = vec![first];
        of_prompt.extend(std::iter::from_fn(|| left.next_if(|next| next.id == id)));
        let kept = match of_prompt.iter().all(|answer| answer.sample.is_none()) {
            true => unnumbered(of_prompt, usual, store, &mut findings)?,
            false => by_number(of_prompt, &model.name, store, &mut findings)?,
        };
        let mut next = 0;
        for answer in kept {
            let number = answer.sample.unwrap_or(next);
            next = next.max(number.saturating_add(1));
            model.answers.push(Answer { sample: Some(number), ..answer });
        }
    }
    notes.extend(findings.notes());
    Ok(())
}

/// Sorts answers by the first appearance of their prompt, those of one prompt in their order.
fn sort_by_prompt(answers: &mut [Answer]) {
    let mut number_of: HashMap<Arc<str>, usize> = HashMap::new();
    for answer in answers.iter() {
        let next = number_of.len();
        number_of.entry(answer.id.clone()).or_insert(next);
    }
    answers.sort_by_cached_key(|answer| number_of[&answer.id]);
}

/// The samples of a prompt whose rows have no numbers. Several are samples; more than the other prompts have are a row
/// that was written again, where they are equal or one failed.
fn unnumbered(
    answers: Vec<Answer>,
    usual: usize,
    store: &Store,
    findings: &mut Findings,
) -> Result<Vec<Answer>, InputError> {
    let mut kept: Vec<Answer> = Vec::new();
    let mut spare = answers.len().saturating_sub(usual);
    for answer in answers {
        if spare > 0 {
            if let Some(first) = copied(&kept, &answer, store)? {
                findings.copy(&answer, first);
                spare -= 1;
                continue;
            }
            if let Some(failed) = kept.iter().position(|kept| kept.failed != answer.failed) {
                if answer.failed {
                    findings.retry(&answer, &kept[failed]);
                } else {
                    let failure = std::mem::replace(&mut kept[failed], answer);
                    findings.retry(&failure, &kept[failed]);
                }
                spare -= 1;
                continue;
            }
        }
        kept.push(answer);
    }
    if kept.len() > usual {
        Findings::add(&mut findings.uneven, || {
            let (first, second) = (&kept[0], &kept[1]);
            format!(
                "{}: the prompt {:?} has {} different answers, also at {}, where most prompts have {usual}: they are \
                 averaged",
                second.place(),
                second.id,
                kept.len(),
                first.place()
            )
        });
    }
    Ok(kept)
}

/// The first of some answers that another is a copy of.
fn copied<'a>(kept: &'a [Answer], answer: &Answer, store: &Store) -> Result<Option<&'a Answer>, InputError> {
    for first in kept {
        if first.is_copy_of(answer, store)? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// The samples of a prompt whose rows have numbers.
fn by_number(
    answers: Vec<Answer>,
    model: &str,
    store: &Store,
    findings: &mut Findings,
) -> Result<Vec<Answer>, InputError> {
    let mut kept: Vec<Answer> = Vec::new();
    let mut place_of: HashMap<u32, usize> = HashMap::new();
    for answer in answers {
        let Some(number) = answer.sample else {
            kept.push(answer);
            continue;
        };
        let place = match place_of.entry(number) {
            Entry::Vacant(vacant) => {
                vacant.insert(kept.len());
                kept.push(answer);
                continue;
            }
            Entry::Occupied(place) => *place.get(),
        };
        let first = &kept[place];
        match (first.failed, answer.failed) {
            _ if first.is_copy_of(&answer, store)? => findings.copy(&answer, first),
            (true, true) => findings.copy(&answer, first),
            (true, false) => {
                let failure = std::mem::replace(&mut kept[place], answer);
                findings.retry(&failure, &kept[place]);
            }
            (false, true) => findings.retry(&answer, first),
            (false, false) => {
                let problem = format!(
                    "sample {number} of prompt {:?} by {model:?} is already at {}, with another answer; if these are \
                     different tasks or runs, score them apart",
                    answer.id,
                    first.place()
                );
                return Err(InputError::line(&answer.path, answer.line, problem));
            }
        }
    }
    Ok(kept)
}
