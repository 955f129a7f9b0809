//! Changes of a record before it is rendered: the answers that are learned, and the system message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_chat::Message;

use crate::record::Record;

/// Answers of a conversation that an instruction example teaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every answer of the conversation.
    #[default]
    All,
    /// The last answer; the earlier ones belong to the prompt.
    Last,
    /// Everything that the template writes, questions and system message included, but for the first token, which nothing
    /// predicts. `max_prompt_length` has no effect then: the end is cut.
    Everything,
}

impl TrainOn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::Last, Self::Everything];

    /// Name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Last => "last",
            Self::Everything => "everything",
        }
    }
}

/// The way to read a row that can be several things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reading {
    /// Something to learn answers from: a label judges the answer (KTO), unless it can only be one of several names.
    #[default]
    Answers,
    /// A text or a whole conversation with labels, or to be given some. Pairs and groups stay what they are.
    Labels,
}

/// Reading of rows, and changes of every record before it is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// The way to read a row that can be several things.
    pub reading: Reading,
    /// Answers that instruction examples teach.
    pub train_on: TrainOn,
    /// System message of conversations that have none.
    pub system_prompt: Option<String>,
    /// False: the template has no system turn, so a system message is put before the first question, with a line feed.
    pub system_role: bool,
}

impl Default for Preparation {
    fn default() -> Self {
        Self { reading: Reading::default(), train_on: TrainOn::default(), system_prompt: None, system_role: true }
    }
}

impl Preparation {
    /// Prepares a record. Its id stays.
    pub(crate) fn prepare(&self, mut record: Record) -> Record {
        if let (TrainOn::Last, Record::Example(row)) = (self.train_on, &mut record) {
            let begun = row.completion.iter().rposition(|message| message.role != "assistant").map_or(0, |at| at + 1);
            row.prompt.extend(row.completion.drain(..begun));
        }
        if matches!(&record, Record::Classified(row) if row.text.is_some()) {
            return record;
        }
        self.put_system(record.prompt_mut());
        record
    }

    /// Gives a prompt the system message, or folds its own into the first question where the template has no system turn.
    pub fn put_system(&self, prompt: &mut Vec<Message>) {
        let has_system = prompt.first().is_some_and(|first| first.role == "system");
        if let (Some(text), false) = (&self.system_prompt, has_system) {
            prompt.insert(0, Message::system(text));
        }
        if !self.system_role && prompt.first().is_some_and(|first| first.role == "system") {
            fold_system(prompt);
        }
    }

    /// Everything that decides the outcome, for the token cache.
    pub(crate) fn key(&self) -> String {
        // so that rows that were read before there were labels are found
        let reading = if self.reading == Reading::Labels { " labels" } else { "" };
        format!("{} {:?} {}{reading}", self.train_on.name(), self.system_prompt, self.system_role)
    }
}

/// Puts the system message, the first one, before the question after it.
fn fold_system(prompt: &mut Vec<Message>) {
    match prompt.get_mut(1).filter(|next| next.role == "user") {
        None => prompt[0].role = "user".to_string(),
        Some(_) => {
            let system = prompt.remove(0);
            prompt[0].content = format!("{}\n{}", system.content, prompt[0].content);
        }
    }
}

#[cfg(test)]
mod tests {
    use smpo_chat::TemplateInputs;

    use super::*;
    use crate::record::Example;

    fn example() -> Record {
        let [a, b, c, d] = ["a", "b", "c", "d"];
        Record::Example(Example {
            id: "row".into(),
            prompt: vec![Message::user(a)],
            inputs: TemplateInputs::default(),
            completion: vec![Message::assistant(b), Message::user(c), Message::assistant(d)],
        })
    }

    fn prompt(preparation: &Preparation) -> Vec<(String, String)> {
        let messages = preparation.prepare(example()).prompt().to_vec();
        messages.into_iter().map(|message| (message.role, message.content)).collect()
    }

    #[test]
    fn the_last_answer_has_the_others_in_its_prompt() {
        assert_eq!(Preparation::default().prepare(example()), example());
        let last = Preparation { train_on: TrainOn::Last, ..Preparation::default() }.prepare(example());
        assert_eq!(last.prompt().len(), 3);
        assert_eq!(last.completions()[0].1, [Message::assistant("d")]);
    }

    #[test]
    fn a_system_message_is_added_and_folded_as_effective_llm_alignment_does() {
        let told = Preparation { system_prompt: Some("be brief".into()), ..Preparation::default() };
        assert_eq!(prompt(&told)[0], ("system".into(), "be brief".into()));
        let folded = Preparation { system_role: false, ..told };
        assert_eq!(prompt(&folded), [("user".into(), "be brief\na".into())]);
    }
}
