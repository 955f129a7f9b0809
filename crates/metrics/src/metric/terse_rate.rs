//! Share of answers of a few words.
//!
//! A model can keep the ends of its answers and lose the answers: `Sure!`, `Indeed!`, each in one prompt of ten. The value
//! is 1 for an answer with something visible but at most [`LETTERS`] letters and digits. Where the gold answer is as
//! short there is none: a closed question asks for such answers, and `exact_match` says whether they are right.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;
use crate::text::visible::is_visible;
use crate::text::words::is_unspaced;

/// Letters and digits of a terse answer: about five words of English.
pub const LETTERS: usize = 24;
/// Letters that a character of a script without spaces counts.
pub const UNSPACED: usize = 3;

/// `terse_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "terse_rate",
    name: "Terse answers",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: true,
    leaderboard: None,
    summary: false,
    description: "share of answers of a few words: visible, with at most 24 letters and digits (a character of a script \
                  without spaces counts 3); prompts with a gold answer as short aside",
    reference: "smpo",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric { of_some_prompts: true, ..Metric::of_sample(&INFO, measure) }];

/// 1 if the answer is terse; `None` if the gold answer is.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    let asked_for = view.sample.reference.as_deref().is_some_and(is_terse);
    (!asked_for).then(|| share(is_terse(view.answer)))
}

fn is_terse(text: &str) -> bool {
    let mut left = LETTERS;
    for c in text.chars().filter(|c| c.is_alphanumeric()) {
        let letters = if is_unspaced(c) { UNSPACED } else { 1 };
        match left.checked_sub(letters) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    is_visible(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{sample, value};

    fn terse(completion: &str) -> Option<f64> {
        value("terse_rate", &sample(completion))
    }

    #[test]
    fn a_few_words_are_terse_and_nothing_or_a_sentence_are_not() {
        for (completion, expected) in [
            ("Sure!", 1.0),
            ("Indeed!\n", 1.0),
            ("I can't help with that.", 1.0),
            ("…", 1.0),
            ("好的，我可以。", 1.0),
            ("<think>The user greets me, so I greet back.</think>Hello!", 1.0),
            ("", 0.0),
            (" \n\u{200b}", 0.0),
            ("I am sorry, but I cannot help with that request.", 0.0),
            ("好的，我可以帮你写一首关于春天的诗。", 0.0),
            ("Конечно, вот короткий рассказ о море.", 0.0),
        ] {
            assert_eq!(terse(completion), Some(expected), "{completion:?}");
        }
    }

    #[test]
    fn the_bound_is_in_letters_and_digits() {
        for letter in ["a", "7", "ж"] {
            let of = |letters: usize| terse(&format!(" {}!?", letter.repeat(letters)));
            assert_eq!((of(LETTERS), of(LETTERS + 1)), (Some(1.0), Some(0.0)), "{letter}");
        }
        let of = |letters: usize| terse(&"的".repeat(letters));
        assert_eq!((of(LETTERS / UNSPACED), of(LETTERS / UNSPACED + 1)), (Some(1.0), Some(0.0)));
        assert_eq!(terse(&format!("{}的", "a".repeat(LETTERS - UNSPACED))), Some(1.0));
        assert_eq!(terse(&format!("{}的", "a".repeat(LETTERS - UNSPACED + 1))), Some(0.0));
    }

    #[test]
    fn where_the_gold_answer_is_as_short_there_is_no_value() {
        let to = |gold: &str| {
            let mut asked = sample("Paris");
            asked.reference = Some(gold.to_owned());
            value("terse_rate", &asked)
        };
        assert_eq!(to("Lyon"), None);
        assert_eq!(to("Paris, which has been the capital of France since 987."), Some(1.0));
        assert_eq!(to(" "), Some(1.0)); // no gold answer
    }
}
