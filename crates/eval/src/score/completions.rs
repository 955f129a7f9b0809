//! One model's completions, read back from the store by prompt.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use smpo_files::Span;
use smpo_results::{Error, FinishReason, Message, Sample, SuiteInfo};

use super::answer::{Answer, sample};
use super::assemble::Prompts;
use super::record::Record;
use super::store::Store;
use crate::measure::Samples;
use crate::prompts::{Prompt, Turn};

/// One model's completions: those of each prompt of its suite, and a failed sample where there is none.
#[derive(Debug, Clone)]
pub struct ModelCompletions {
    /// Model name in its files, or the file's name.
    pub name: String,
    /// Its files.
    pub sources: Vec<PathBuf>,
    /// Prompts that it was scored on.
    pub suite: SuiteInfo,
    prompts: Arc<Prompts>,
    /// In the order of the prompts, each with its sample number.
    answers: Vec<(Span, u32)>,
    /// End of each prompt's answers.
    ends: Vec<usize>,
    failed: usize,
    /// Answers by prompt and sample, where later turns follow them.
    answer_to: HashMap<(Arc<str>, u32), Span>,
    store: Arc<Store>,
}

impl ModelCompletions {
    /// A model's answers over prompts. Those of one prompt lie beside each other.
    pub(super) fn new(
        (name, sources): (String, Vec<PathBuf>),
        found: &[Answer],
        prompts: Arc<Prompts>,
        suite: String,
        store: Arc<Store>,
    ) -> Self {
        let number = |answer: &Answer| answer.sample.unwrap_or(0);
        let answer_to = found.iter().filter(|_| prompts.turns);
        let answer_to = answer_to.map(|answer| ((answer.id.clone(), number(answer)), answer.stored)).collect();
        let by_prompt: HashMap<&str, &[Answer]> =
            found.chunk_by(|a, b| a.id == b.id).map(|of_prompt| (&*of_prompt[0].id, of_prompt)).collect();
        let mut answers = Vec::with_capacity(found.len());
        let (mut ends, mut failed) = (Vec::with_capacity(prompts.stored.len()), 0);
        for (id, _) in &prompts.stored {
            let (start, of_prompt) = (answers.len(), by_prompt.get(&**id).copied().unwrap_or_default());
            answers.extend(of_prompt.iter().map(|answer| (answer.stored, number(answer))));
            answers[start..].sort_by_key(|(_, number)| *number);
            ends.push(answers.len());
            failed += of_prompt.iter().filter(|answer| answer.failed).count() + usize::from(of_prompt.is_empty());
        }
        let count = prompts.stored.len();
        let suite = SuiteInfo { name: suite, sha256: prompts.sha256.clone(), prompts: count, pairs_sha256: None };
        ModelCompletions { name, sources, suite, prompts, answers, ends, failed, answer_to, store }
    }

    /// Number of samples that are missing or failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Numbers of the samples of each prompt.
    pub(super) fn counts(&self) -> impl Iterator<Item = usize> {
        (0..self.ends.len()).map(|prompt| self.of(prompt).len().max(1))
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.counts().sum()
    }

    /// All samples, grouped by prompt, one after the other.
    ///
    /// # Errors
    /// Each, when it cannot be read.
    pub fn samples(&self) -> impl Iterator<Item = Result<Sample, Error>> {
        (0..self.ends.len()).flat_map(|prompt| match self.read(prompt) {
            Ok(samples) => samples.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }

    fn of(&self, prompt: usize) -> &[(Span, u32)] {
        let start = prompt.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.answers[start..self.ends[prompt]]
    }

    /// The samples of a prompt, with its fields.
    fn read(&self, prompt: usize) -> Result<Vec<Sample>, Error> {
        let asked: Prompt = self.store.get(self.prompts.stored[prompt].1)?;
        let mut samples = Vec::new();
        for &(span, number) in self.of(prompt) {
            samples.push((self.store.get(span)?, number));
        }
        if samples.is_empty() {
            samples.push((sample(Record::failed("no completion of this prompt in the file")), 0));
        }
        let complete = |(sample, number): (Sample, u32)| {
            Ok(Sample {
                prompt_id: asked.id.clone(),
                slice: asked.slice.clone(),
                sample: number,
                messages: self.conversation(&asked, number)?,
                reference: asked.reference.clone(),
                language: asked.language.clone(),
                closed: asked.closed,
                ..within_cap(sample, asked.cap)
            })
        };
        samples.into_iter().map(complete).collect()
    }

    /// The messages before a completion; of a later turn, with the model's own answers to the earlier ones.
    fn conversation(&self, prompt: &Prompt, sample: u32) -> Result<Vec<Message>, Error> {
        let Some(turn) = &prompt.turn else { return Ok(prompt.messages.clone()) };
        let mut messages = Vec::new();
        for (index, asked) in prompt.messages.iter().enumerate() {
            messages.push(asked.clone());
            if index + 1 < turn.number {
                let earlier = Turn::prompt_id(&turn.question, index + 1).into();
                let answer = self.answer_to.get(&(earlier, sample)).map(|span| self.store.get::<Sample>(*span));
                let answer = answer.transpose()?.map(|sample| sample.completion);
                messages.push(Message::assistant(answer.unwrap_or_default()));
            }
        }
        Ok(messages)
    }
}

impl Samples for ModelCompletions {
    type Error = Error;

    fn prompts(&self) -> usize {
        self.ends.len()
    }

    fn of_prompt(&self, prompt: usize) -> Result<Cow<'_, [Sample]>, Error> {
        self.read(prompt).map(Cow::Owned)
    }
}

/// The sample under the cap of its request, where its own file has none: an end at the cap is the cap's.
fn within_cap(sample: Sample, requested: Option<u32>) -> Sample {
    let (None, Some(cap)) = (sample.cap, requested) else { return sample };
    let sample = Sample { cap: requested, ..sample };
    if sample.finish_reason == FinishReason::Eos && sample.tokens.is_some_and(|tokens| tokens >= cap) {
        let finish_remark = Some("an end at the cap of the request, counted as cut".to_owned());
        return Sample { finish_reason: FinishReason::Length, finish_remark, ..sample };
    }
    sample
}
