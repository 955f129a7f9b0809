//! Share of the commonest answer over different prompts.
//!
//! A model that collapsed gives one answer to everything. The value of a prompt is 1 if its answer is the commonest one
//! of the run and at least two different prompts got it; answers are compared by their first [`LETTERS`] letters and
//! digits, whatever their case, punctuation and spacing. An answer of blanks is an answer too.
//!
//! Right answers are never counted: a suite of closed questions has many that are alike. An answer of up to [`SHORT`]
//! letters ("yes", "4", "positive") is counted only if at least [`SHORT_SHARE`] of at least [`SHORT_PROMPTS`] prompts got
//! it, more than a suite that asks for such answers would give to one of them.

use smpo_results::{Direction, FinishReason, Sample, Unit};

use super::{Among, Metric, MetricInfo};
use crate::sample::share;
use crate::text::ngrams::mix;
use crate::text::visible::{answer, is_visible};

/// Letters and digits of an answer that are compared. Answers to different prompts that agree so far are one answer,
/// however sampling ended them.
pub const LETTERS: usize = 512;
/// Letters and digits of a short answer.
pub const SHORT: usize = 16;
/// Share of prompts from which on a short answer is counted.
pub const SHORT_SHARE: f64 = 0.8;
/// Prompts from which on a short answer is counted.
pub const SHORT_PROMPTS: usize = 10;

/// `same_answer`.
pub static INFO: MetricInfo = MetricInfo {
    id: "same_answer",
    name: "Same answer",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: true,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of the commonest answer over different prompts; right answers aside, and short ones only where at \
                  least 80 % of the prompts got it",
    reference: "smpo",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::among(&INFO, Among { part, compare })];

/// An answer as it is compared.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    text: u64,
    prompt: u64,
    short: bool,
    right: bool,
}

/// The answer of a sample; `None` where the engine failed.
fn part(sample: &Sample) -> Option<Answer> {
    if sample.finish_reason == FinishReason::Error {
        return None;
    }
    let (text, short) = normalised(answer(&sample.completion));
    let gold = sample.reference.as_deref().filter(|gold| is_visible(gold));
    let right = gold.is_some_and(|gold| normalised(gold).0 == text);
    Some(Answer { text, prompt: prompt_of(sample), short, right })
}

/// 1 for each answer that is the commonest one.
fn compare(answers: &[Option<Answer>]) -> Vec<Option<f64>> {
    let commonest = commonest(answers);
    let value = |answer: &Answer| share(commonest == Some(answer.text) && !answer.right);
    answers.iter().map(|answer| answer.as_ref().map(value)).collect()
}

/// A hash of the letters and digits in lower case, or of the visible characters of an answer that has neither; and true
/// for a short one.
fn normalised(text: &str) -> (u64, bool) {
    let mut letters = 0;
    let mut hash = 0;
    for c in text.chars().filter(|c| c.is_alphanumeric()).take(LETTERS).flat_map(char::to_lowercase) {
        letters += 1;
        hash = mix(hash, u64::from(c));
    }
    if letters == 0 && is_visible(text) {
        hash = text.chars().filter(|c| !c.is_whitespace()).take(LETTERS).fold(1, |hash, c| mix(hash, u64::from(c)));
    }
    (hash, letters <= SHORT && is_visible(text))
}

/// The answer that most different prompts got, of those that count; the first in order of the samples on a tie.
fn commonest(answers: &[Option<Answer>]) -> Option<u64> {
    let mut given: Vec<(u64, u64)> = answers.iter().flatten().map(|answer| (answer.text, answer.prompt)).collect();
    given.sort_unstable();
    given.dedup();
    // Answers to several prompts with the number of these; no other counts.
    let several = given.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() >= 2);
    let several: Vec<(u64, usize)> = several.map(|same| (same[0].0, same.len())).collect();
    let prompts_of = |hash: u64| several.binary_search_by_key(&hash, |(hash, _)| *hash).map_or(0, |at| several[at].1);
    given.sort_unstable_by_key(|(_, prompt)| *prompt);
    let prompts = given.chunk_by(|a, b| a.1 == b.1).count();
    let counts = |answer: &Answer, prompts_of_it: usize| {
        let enough = prompts >= SHORT_PROMPTS && prompts_of_it as f64 >= SHORT_SHARE * prompts as f64;
        prompts_of_it >= 2 && (!answer.short || enough)
    };
    let mut best: Option<(u64, usize)> = None;
    for answer in answers.iter().flatten() {
        let number = prompts_of(answer.text);
        if counts(answer, number) && best.is_none_or(|(_, most)| number > most) {
            best = Some((answer.text, number));
        }
    }
    best.map(|(hash, _)| hash)
}

/// Prompts of one text are one prompt, whatever their ids.
fn prompt_of(sample: &Sample) -> u64 {
    let text = |text: &str| text.bytes().fold(0, |hash, byte| mix(hash, u64::from(byte)));
    if sample.messages.is_empty() {
        return text(&sample.prompt_id);
    }
    sample.messages.iter().fold(1, |hash, message| mix(mix(hash, text(&message.role)), text(&message.content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(answers: &[&str]) -> Vec<Sample> {
        answers.iter().enumerate().map(|(index, text)| Sample::new(format!("p{index}"), *text)).collect()
    }

    fn measure(samples: &[Sample]) -> Vec<Option<f64>> {
        Among { part, compare }.measure(samples)
    }

    fn rate(samples: &[Sample]) -> f64 {
        let values: Vec<f64> = measure(samples).into_iter().flatten().collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn one_sentence_for_everything_is_a_collapse_and_different_ones_are_not() {
        assert_eq!(rate(&run(&["I am sorry, I cannot help with that."; 12])), 1.0);
        assert_eq!(
            rate(&run(&[
                "I am sorry, I cannot help.",
                "i am sorry - I cannot HELP!",
                "The capital of France is Paris.",
                "Bread needs an hour."
            ])),
            0.5
        );
        assert_eq!(
            rate(&run(&["The first of the answers.", "The second of the answers.", "A third one, longer."])),
            0.0
        );
        assert_eq!(rate(&run(&[""; 12])), 1.0);
        assert_eq!(rate(&run(&["…"; 12])), 1.0);
        assert_eq!(rate(&[]).to_string(), "NaN");
    }

    #[test]
    fn long_answers_that_agree_at_length_are_one() {
        let beginning = "It is a truth that every answer begins in the same manner. ".repeat(20);
        let ends = [format!("{beginning}So."), format!("{beginning}Or not."), format!("{beginning}{beginning}")];
        assert_eq!(rate(&run(&ends.each_ref().map(String::as_str))), 1.0);
    }

    #[test]
    fn short_answers_are_alike_without_a_collapse() {
        let balanced: Vec<&str> = (0..100).map(|i| if i < 70 { "Yes." } else { "No." }).collect();
        assert_eq!(rate(&run(&balanced)), 0.0);
        assert_eq!(rate(&run(&["Yes"; 100])), 1.0);
        assert_eq!(rate(&run(&["4"; 3])), 0.0);
        // A short one that is common does not hide a long one.
        let mixed: Vec<&str> = (0..10).map(|i| if i < 6 { "Yes" } else { "I cannot answer this question." }).collect();
        assert_eq!(rate(&run(&mixed)), 0.4);
    }

    #[test]
    fn the_bounds_of_short_answers_and_of_their_share() {
        let twice = |letters: usize| rate(&run(&["a".repeat(letters).as_str(); 2]));
        assert_eq!((twice(SHORT), twice(SHORT + 1)), (0.0, 1.0));
        let among = |same: usize, prompts: usize| {
            let others: Vec<String> = (0..prompts - same).map(|i| format!("no{i}")).collect();
            rate(&run(&others.iter().map(String::as_str).chain(vec!["yes"; same]).collect::<Vec<_>>()))
        };
        assert_eq!((among(8, 10), among(7, 10), among(9, 9)), (0.8, 0.0, 0.0));
        let differing_at = |letter: usize| {
            let ends = ["x", "y"].map(|end| "a".repeat(letter - 1) + end);
            rate(&run(&ends.each_ref().map(String::as_str)))
        };
        assert_eq!((differing_at(LETTERS), differing_at(LETTERS + 1)), (0.0, 1.0));
    }

    #[test]
    fn right_answers_do_not_count() {
        let mut samples = run(&["No, it is not possible."; 20]);
        for sample in &mut samples[..12] {
            sample.reference = Some("no, it is not possible".into());
        }
        assert_eq!(rate(&samples), 0.4);
    }

    #[test]
    fn samples_of_one_prompt_are_expected_to_be_alike() {
        let text = "The capital of France is Paris.";
        let of = |ids: [&str; 4]| ids.map(|id| Sample::new(id, text)).to_vec();
        assert_eq!(rate(&of(["a", "a", "a", "a"])), 0.0);
        assert_eq!(rate(&of(["a", "a", "b", "b"])), 1.0);
        // One prompt under two ids.
        let twice = of(["a", "b", "c", "d"])
            .into_iter()
            .map(|sample| Sample { messages: vec![smpo_results::Message::user("Capital?")], ..sample });
        assert_eq!(rate(&twice.collect::<Vec<_>>()), 0.0);
    }

    #[test]
    fn failed_samples_have_no_value_and_reasoning_is_left_out() {
        let mut samples =
            run(&["<think>one</think>I cannot help you there.", "<think>two</think>I cannot help you there.", "x"]);
        samples[2].finish_reason = FinishReason::Error;
        assert_eq!(measure(&samples), [Some(1.0), Some(1.0), None]);
    }
}
