//! Sample numbers, and answers that are there more than once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smpo_results::{SCHEMA_VERSION, Sample};

use super::answers::{Answer, Answers};
use super::{Model, Placed, and_more};
use crate::input_error::InputError;
use crate::score::record::Record;
use crate::slices;

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

/// Numbers the answers of each prompt; copies, and failures that a retry made good, are left out and noted.
///
/// # Errors
/// Two different answers under one sample number.
pub(super) fn numbered(model: Answers, notes: &mut Vec<String>) -> Result<Model, InputError> {
    let mut findings = Findings::default();
    let mut prompts: Vec<Vec<Answer>> = Vec::new();
    let mut index_of: HashMap<String, usize> = HashMap::new();
    for answer in model.answers {
        match index_of.get(&answer.id) {
            Some(&index) => prompts[index].push(answer),
            None => {
                index_of.insert(answer.id.clone(), prompts.len());
                prompts.push(vec![answer]);
            }
        }
    }
    drop(index_of);
    let usual = usual_count(&prompts);
    let mut completions = Vec::new();
    for answers in prompts {
        let kept = match answers.iter().all(|answer| answer.record.sample.is_none()) {
            true => unnumbered(answers, usual, &mut findings),
            false => by_number(answers, &model.name, &mut findings)?,
        };
        let mut next = 0;
        for Answer { path, line, id, record } in kept {
            let number = record.sample.unwrap_or(next);
            next = next.max(number.saturating_add(1));
            let has_slice = record.slice.is_some();
            completions.push(Placed { path, line, has_slice, sample: sample(record, id, number) });
        }
    }
    notes.extend(findings.notes());
    Ok(Model { name: model.name, sources: model.sources, format: model.format, completions })
}

/// The commonest number of answers to a prompt; of several, the least.
fn usual_count(prompts: &[Vec<Answer>]) -> usize {
    let mut prompts_with: HashMap<usize, usize> = HashMap::new();
    for answers in prompts {
        *prompts_with.entry(answers.len()).or_default() += 1;
    }
    prompts_with
        .into_iter()
        .max_by_key(|(count, prompts)| (*prompts, std::cmp::Reverse(*count)))
        .map_or(1, |(count, _)| count)
}

/// The samples of a prompt whose rows have no numbers. Several are samples; more than the other prompts have are a row
/// that was written again, where they are equal or one failed.
fn unnumbered(answers: Vec<Answer>, usual: usize, findings: &mut Findings) -> Vec<Answer> {
    let mut kept: Vec<Answer> = Vec::new();
    let mut spare = answers.len().saturating_sub(usual);
    for answer in answers {
        if spare > 0 {
            if let Some(first) = kept.iter().find(|first| first.record.is_copy_of(&answer.record)) {
                findings.copy(&answer, first);
                spare -= 1;
                continue;
            }
            if let Some(failed) = kept.iter().position(|kept| kept.record.is_failed() != answer.record.is_failed()) {
                if answer.record.is_failed() {
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
    kept
}

/// The samples of a prompt whose rows have numbers.
fn by_number(answers: Vec<Answer>, model: &str, findings: &mut Findings) -> Result<Vec<Answer>, InputError> {
    let mut kept: Vec<Answer> = Vec::new();
    let mut place_of: HashMap<u32, usize> = HashMap::new();
    for answer in answers {
        let Some(number) = answer.record.sample else {
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
        match (first.record.is_failed(), answer.record.is_failed()) {
            _ if first.record.is_copy_of(&answer.record) => findings.copy(&answer, first),
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

/// A record as a sample.
pub(super) fn sample(record: Record, prompt_id: String, sample: u32) -> Sample {
    Sample {
        schema: SCHEMA_VERSION,
        prompt_id,
        slice: record.slice.unwrap_or_else(|| slices::PLAIN.into()),
        sample,
        messages: record.messages,
        reference: record.reference,
        closed: record.closed,
        language: record.language,
        reasoning: record.reasoning,
        completion: record.completion,
        token_ids: record.token_ids,
        logps: record.logps,
        terminator_logps: record.terminator_logps,
        unknown_ids: record.unknown_ids,
        finish_reason: record.finish_reason,
        finish_remark: record.finish_remark,
        tokens: record.tokens,
        cap: record.cap,
        worker: None,
        error: record.error,
    }
}
