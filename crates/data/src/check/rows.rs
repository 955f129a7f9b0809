//! What one row shows by itself.

use smpo_chat::Message;
use smpo_tokenizer::{ChatTokenizer, PromptCompletions};

use crate::Truncation;
use crate::check::Rule;
use crate::record::Record;

/// What was found in a row.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Broken rules, each with a detail for the table.
    pub broken: Vec<(Rule, String)>,
    /// Length of the completions, chosen first: tokens, or characters where there is no tokenizer.
    pub lengths: Vec<usize>,
}

impl Facts {
    fn add(&mut self, rule: Rule, detail: impl Into<String>) {
        if !self.broken.iter().any(|(known, _)| *known == rule) {
            self.broken.push((rule, detail.into()));
        }
    }
}

pub(crate) fn inspect(record: &Record, tokenizer: Option<&ChatTokenizer>, truncation: &Truncation) -> Facts {
    let mut facts = Facts::default();
    let sides = record.completions();
    for (name, messages) in &sides {
        if messages.iter().all(|message| message.content.trim().is_empty()) {
            facts.add(Rule::EmptyCompletion, *name);
        }
    }
    if let [(_, chosen), (_, rejected)] = sides[..]
        && same(chosen, rejected)
    {
        facts.add(Rule::IdenticalSides, "");
    }
    let all = record.prompt().iter().chain(sides.iter().flat_map(|(_, messages)| messages.iter()));
    if let Some(message) = all.clone().find(|message| message.content.contains(['\u{fffd}', '\0'])) {
        facts.add(Rule::DamagedText, message.role.as_str());
    }
    match tokenizer {
        None => facts.lengths = sides.iter().map(|(_, messages)| characters(messages)).collect(),
        Some(tokenizer) => {
            spelt_out(record, tokenizer, &mut facts);
            tokens(record, tokenizer, truncation, &mut facts);
        }
    }
    facts
}

/// Special tokens that the text itself spells.
fn spelt_out(record: &Record, tokenizer: &ChatTokenizer, facts: &mut Facts) {
    let terminators = tokenizer.terminators().tokens();
    for (name, messages) in record.completions() {
        if let Some(last) = messages.last()
            && let Some(token) = terminators.iter().find(|token| last.content.trim_end().ends_with(**token))
        {
            facts.add(Rule::TerminatorInData, format!("{name} ends in {token}"));
        }
    }
    let completions = record.completions();
    let texts = record.prompt().iter().chain(completions.iter().flat_map(|(_, messages)| messages.iter()));
    for message in texts {
        let text = message.content.trim_end();
        if let Some(token) = tokenizer.special_token_in(text) {
            facts.add(Rule::SpecialTokenInText, format!("{token} in a text of role {}", message.role));
        }
    }
}

fn tokens(record: &Record, tokenizer: &ChatTokenizer, truncation: &Truncation, facts: &mut Facts) {
    let sides = record.completions();
    let messages: Vec<&[Message]> = sides.iter().map(|(_, messages)| *messages).collect();
    let (mut prompt, mut completions) = match tokenizer.encode_completions(record.prompt(), &messages) {
        Ok(PromptCompletions { prompt_ids, completion_ids }) => (prompt_ids, completion_ids),
        Err(error) => {
            facts.add(Rule::NotRenderable, error.to_string());
            return;
        }
    };
    facts.lengths = completions.iter().map(Vec::len).collect();
    for ((name, messages), ids) in sides.iter().zip(&completions) {
        // one terminator per assistant message is the template's own
        let turns = messages.iter().filter(|message| message.role == "assistant").count();
        let ends = ids.iter().filter(|&&id| tokenizer.is_terminator(id)).count();
        if ends > turns {
            facts.add(Rule::TerminatorInside, format!("{name}: {ends} terminators in {turns} turns"));
        }
        if tokenizer.bos().is_some_and(|bos| !tokenizer.is_terminator(bos) && ids.contains(&bos)) {
            facts.add(Rule::BosInCompletion, *name);
        }
    }
    if let Ok(opened) = tokenizer.encode_prompt(record.prompt())
        && opened.len() > prompt.len()
        && opened.starts_with(&prompt)
        && straddles(tokenizer, &opened[prompt.len()..], &completions)
    {
        facts.add(Rule::BoundaryMerge, "");
    }
    let mut slots: Vec<&mut Vec<u32>> = completions.iter_mut().collect();
    let cut = truncation.apply(&mut prompt, &mut slots);
    if cut.prompt > 0 {
        facts.add(Rule::PromptTruncated, format!("{} tokens cut", cut.prompt));
    }
    if cut.completion > 0 {
        facts.add(Rule::CompletionTruncated, format!("{} tokens cut", cut.completion));
    }
}

/// True if some completion begins with a token that merges the prompt's last tokens, `rest`, with its own text.
fn straddles(tokenizer: &ChatTokenizer, rest: &[u32], completions: &[Vec<u32>]) -> bool {
    let Ok(rest) = tokenizer.decode(rest) else { return false };
    completions.iter().any(|ids| {
        let first = ids.first().map(|&id| tokenizer.decode(&[id]).unwrap_or_default());
        first.is_some_and(|first| first.len() > rest.len() && first.starts_with(&rest))
    })
}

fn same(a: &[Message], b: &[Message]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.role == b.role && a.content.trim() == b.content.trim())
}

fn characters(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.content.chars().count()).sum()
}
