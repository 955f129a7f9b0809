//! The prompt of a judge: text with the places `{prompt}`, `{answer}`, `{answer_a}`, `{answer_b}` and `{reference}`.

use std::path::Path;

use smpo_chat::Message;
use smpo_files::FileError;

use super::Mode;
use crate::{Answered, PairsError};

/// A judge's prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    mode: Mode,
    text: String,
}

impl Template {
    /// The shipped prompt (`evals/judges`).
    pub fn shipped(mode: Mode) -> Template {
        let text = match mode {
            Mode::Grade => include_str!("../../../../evals/judges/score.txt"),
            Mode::Compare => include_str!("../../../../evals/judges/compare.txt"),
        };
        Template { mode, text: text.to_owned() }
    }

    /// Reads a prompt.
    ///
    /// # Errors
    /// The file cannot be read, or it lacks a place that its mode needs.
    pub fn read(path: &Path, mode: Mode) -> Result<Template, PairsError> {
        let text = std::fs::read_to_string(path).map_err(FileError::at(path, "read"));
        let text = text.map_err(smpo_results::Error::from)?;
        let needed: &[&str] = match mode {
            Mode::Grade => &["{prompt}", "{answer}"],
            Mode::Compare => &["{prompt}", "{answer_a}", "{answer_b}"],
        };
        match needed.iter().find(|place| !text.contains(**place)) {
            Some(place) => Err(PairsError::Template {
                path: path.to_owned(),
                problem: format!("expected the places {}, got no {place}", needed.join(", ")),
            }),
            None => Ok(Template { mode, text }),
        }
    }

    /// Grades or comparisons.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The question about one completion, or about two of one prompt.
    pub(super) fn fill(&self, first: &Answered<'_>, second: Option<&Answered<'_>>) -> String {
        let prompt = spoken(&first.first.messages);
        let answer = spoken_answer(first);
        let other = second.map(spoken_answer).unwrap_or_default();
        let reference = first.first.reference.as_ref();
        let reference = reference.map(|right| format!("\n[Right answer]\n{right}\n[End of right answer]\n"));
        fill(
            &self.text,
            &[
                ("{prompt}", &prompt),
                ("{answer}", &answer),
                ("{answer_a}", &answer),
                ("{answer_b}", &other),
                ("{reference}", reference.as_deref().unwrap_or_default()),
            ],
        )
    }
}

/// Replaces places in one pass, so that nothing inside of a completion is taken for a place.
fn fill(text: &str, places: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        match places.iter().find(|(place, _)| from.starts_with(place)) {
            Some((place, value)) => {
                filled.push_str(value);
                rest = &from[place.len()..];
            }
            None => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled + rest
}

/// A conversation as text; a single question stands alone.
fn spoken(messages: &[Message]) -> String {
    match messages {
        [only] => only.content.clone(),
        several => several
            .iter()
            .map(|message| format!("{}: {}", message.role, message.content))
            .collect::<Vec<_>>()
            .join("\n\n"),
    }
}

/// The answer, or the rest of the conversation with a follow-up; reasoning is left out.
fn spoken_answer(answered: &Answered<'_>) -> String {
    let text = spoken(&answered.messages());
    if answered.cut() { format!("{text}\n(cut here: the answer did not end)") } else { text }
}

#[cfg(test)]
mod tests {
    use smpo_results::{FinishReason, Sample};

    use super::*;

    fn sample(text: &str) -> Sample {
        let messages = vec![Message::user("Is {answer} a place?")];
        Sample { messages, finish_reason: FinishReason::Eos, ..Sample::new("p", text) }
    }

    #[test]
    fn places_inside_of_texts_stay() {
        let (a, b) = (sample("{prompt} {answer_b}"), sample("{"));
        let answered = |first| Answered { first, follow_up: None };
        let question = Template::shipped(Mode::Compare).fill(&answered(&a), Some(&answered(&b)));
        assert!(question.contains("[Conversation]\nIs {answer} a place?\n[End"), "{question}");
        assert!(question.contains("[Answer A]\n{prompt} {answer_b}\n[End"), "{question}");
        assert!(question.contains("[Answer B]\n{\n[End"), "{question}");
        assert!(!question.contains("{reference}") && !question.contains("Right answer"));
        let right = Sample { reference: Some("42".into()), finish_reason: FinishReason::Length, ..sample("{prompt}") };
        let question = Template::shipped(Mode::Grade).fill(&answered(&right), None);
        assert!(question.contains("[Right answer]\n42\n") && question.contains("did not end"), "{question}");
    }

    #[test]
    fn a_file_that_lacks_a_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("judge.txt");
        std::fs::write(&path, "Compare {answer_a} with {answer_b}").unwrap();
        let error = Template::read(&path, Mode::Compare).unwrap_err().to_string();
        assert!(error.contains("judge.txt") && error.contains("got no {prompt}"), "{error}");
        assert!(
            Template::read(&dir.path().join("absent.txt"), Mode::Grade).unwrap_err().to_string().contains("absent.txt")
        );
    }
}
