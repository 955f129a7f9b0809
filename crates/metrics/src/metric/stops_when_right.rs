//! Share of right answers that nothing follows.

use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View, exact_match};
use crate::sample::share;

/// `stops_when_right`.
pub static INFO: MetricInfo = MetricInfo {
    id: "stops_when_right",
    name: "Stops when right",
    unit: Unit::Share,
    better: Direction::Higher,
    primary: false,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "among completions of closed prompts that start with the gold answer, the share that says nothing more",
    reference: "smpo",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric { of_some_prompts: true, ..Metric::of_sample(&INFO, measure) }];

/// 1 if the completion of a closed prompt is exactly the gold answer, 0 if it starts with it and goes on; no value if it
/// starts otherwise. A gold answer that ends in a letter or digit must end there in the completion too: `42` does not
/// start with the answer `4`.
fn measure(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    let gold = exact_match::gold(view)?;
    let rest = view.sample.completion.trim().strip_prefix(gold)?;
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let cut_inside_a_word = is_word(gold.chars().next_back()) && is_word(rest.chars().next());
    (!cut_inside_a_word).then(|| share(rest.is_empty()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_only_completions_that_start_right() {
        for (completion, expected) in [
            ("4", Some(1.0)),
            (" 4 ", Some(1.0)),
            ("4. And then", Some(0.0)),
            ("4 4 4 4", Some(0.0)),
            ("42", None),
            ("five", None),
            ("", None),
        ] {
            let sample =
                smpo_results::Sample { reference: Some("4".into()), closed: true, ..crate::sample::sample(completion) };
            assert_eq!(crate::sample::value("stops_when_right", &sample), expected, "{completion:?}");
        }
    }
}
