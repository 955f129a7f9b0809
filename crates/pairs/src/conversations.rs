//! Samples as sides of a row: an answer, or an answer, a second question and its answer.

use std::collections::HashMap;

use smpo_chat::Message;
use smpo_eval::reward::answer as message;
use smpo_eval::{Prompt, Suite};
use smpo_results::{FinishReason, Sample};

use crate::Basket;

/// A sample of a prompt with what came after it.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The answer to the prompt.
    pub first: &'a Sample,
    /// The second question with its answer.
    pub follow_up: Option<(&'a str, &'a Sample)>,
}

impl<'a> Answered<'a> {
    /// The samples of a basket in their order, each with its follow-up.
    ///
    /// A prompt whose follow-up was not sampled, because its first answer failed, has none.
    pub fn all(basket: &'a Basket, samples: &'a [Sample], follow_ups: &'a [Sample]) -> Vec<Answered<'a>> {
        let by_id: HashMap<&str, &Sample> =
            follow_ups.iter().map(|sample| (sample.prompt_id.as_str(), sample)).collect();
        let follow_up = |first: &Sample| {
            let question = basket.entry(&first.prompt_id)?.follow_up.as_deref()?;
            Some((question, *by_id.get(follow_up_id(first).as_str())?))
        };
        samples.iter().map(|first| Answered { first, follow_up: follow_up(first) }).collect()
    }

    /// The answers, one or two.
    pub fn answers(&self) -> impl Iterator<Item = &'a Sample> {
        std::iter::once(self.first).chain(self.follow_up.map(|(_, sample)| sample))
    }

    /// True if the engine failed on an answer.
    pub fn failed(&self) -> bool {
        self.answers().any(|answer| answer.finish_reason == FinishReason::Error)
    }

    /// True if an answer is known to have been cut before its end.
    pub fn cut(&self) -> bool {
        self.answers().any(|answer| answer.finish_reason.ended() == Some(false))
    }

    /// Everything after the prompt, as training data holds it.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = vec![message(self.first)];
        if let Some((question, sample)) = self.follow_up {
            messages.push(Message::user(question));
            messages.push(message(sample));
        }
        messages
    }

    /// Length in tokens of all answers; `None` where one is unknown.
    pub fn tokens(&self) -> Option<u32> {
        self.answers().map(|answer| answer.tokens).sum()
    }

    /// True if both read the same.
    pub fn same_text(&self, other: &Answered<'_>) -> bool {
        let texts = |one: &Answered<'_>| {
            one.answers().map(|answer| (answer.reasoning.clone(), answer.completion.clone())).collect::<Vec<_>>()
        };
        texts(self) == texts(other)
    }
}

/// The prompts that ask the second questions: one for each sample of a prompt that has one. `None` if none has.
pub fn follow_up_suite(basket: &Basket, samples: &[Sample]) -> Option<Suite> {
    let prompts: HashMap<&str, &Prompt> =
        basket.suite.prompts.iter().map(|prompt| (prompt.id.as_str(), prompt)).collect();
    let ask = |sample: &Sample| {
        let prompt = prompts.get(sample.prompt_id.as_str())?;
        let question = basket.entry(&sample.prompt_id)?.follow_up.as_deref()?;
        let mut messages = prompt.messages.clone();
        messages.extend([message(sample), Message::user(question)]);
        Some(Prompt { id: follow_up_id(sample), messages, reference: None, closed: false, ..(*prompt).clone() })
    };
    let answered = samples.iter().filter(|sample| sample.finish_reason != FinishReason::Error);
    let prompts: Vec<Prompt> = answered.filter_map(ask).collect();
    let name = format!("{}-follow-up", basket.suite.name);
    let suite = Suite { name, samples_per_prompt: 1, pairs: None, prompts, ..basket.suite.clone() };
    (!suite.prompts.is_empty()).then_some(suite)
}

/// Id of the second question to one sample.
fn follow_up_id(first: &Sample) -> String {
    format!("{}#{}", first.prompt_id, first.sample)
}
