//! Scores by rule: a weighted sum of metrics of one completion.

use std::str::FromStr;

use smpo_metrics::{Scratch, find, measure_sample, sample_metrics, similar};
use smpo_results::{FinishReason, Sample};

/// A weighted sum: `eos_rate=1,loop_rate=-1,length:20..400=0.5`.
///
/// A term names a metric that has a value for one completion (`smpo_metrics`); where it has none, the term is 0.
/// `length:MIN..MAX` is 1 for a length within the bounds, in tokens, and 0 outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    kind: Kind,
    weight: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Index among [`sample_metrics`].
    Metric(usize),
    /// Index of `length`, and its bounds.
    Window { length: usize, min: f64, max: f64 },
}

/// The rule where none is given: ended by itself, right where only one answer is, and not degenerate.
pub const DEFAULT: &str =
    "eos_rate=1,exact_match=1,loop_rate=-1,runaway_rate=-1,broken_rate=-1,empty_rate=-1,self_talk_rate=-1";

impl Default for Rule {
    fn default() -> Self {
        DEFAULT.parse().unwrap_or(Rule { terms: Vec::new() })
    }
}

impl Rule {
    /// The score of a completion; `None` for one that the engine failed on.
    pub fn score(&self, sample: &Sample, scratch: &mut Scratch) -> Option<f64> {
        if sample.finish_reason == FinishReason::Error {
            return None;
        }
        let values = measure_sample(sample, scratch);
        let value = |index: usize| values.get(index).copied().flatten();
        let of = |kind: &Kind| match *kind {
            Kind::Metric(index) => value(index).unwrap_or(0.0),
            Kind::Window { length, min, max } => {
                f64::from(u8::from(value(length).is_some_and(|length| (min..=max).contains(&length))))
            }
        };
        Some(self.terms.iter().map(|term| term.weight * of(&term.kind)).sum())
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty()).map(term);
        let terms = terms.collect::<Result<Vec<_>, _>>()?;
        if terms.is_empty() {
            return Err(format!("expected METRIC=WEIGHT, such as {DEFAULT}, got nothing"));
        }
        Ok(Rule { terms })
    }
}

fn term(text: &str) -> Result<Term, String> {
    let (name, weight) = text.rsplit_once('=').ok_or_else(|| format!("expected METRIC=WEIGHT, got {text:?}"))?;
    let weight = match weight.trim().parse::<f64>() {
        Ok(weight) if weight.is_finite() => weight,
        _ => return Err(format!("{name}: expected a weight, got {weight:?}")),
    };
    let kind = match name.trim().split_once(':') {
        None => Kind::Metric(metric(name.trim())?),
        Some(("length", bounds)) => window(bounds)?,
        Some((metric, _)) => return Err(format!("expected bounds after `length:` alone, got them after {metric:?}")),
    };
    Ok(Term { kind, weight })
}

fn metric(id: &str) -> Result<usize, String> {
    if let Some(index) = sample_metrics().position(|metric| metric.info.id == id) {
        return Ok(index);
    }
    let known = sample_metrics().map(|metric| metric.info.id).collect::<Vec<_>>().join(", ");
    let problem = match (find(id), similar(id)) {
        (Some(_), _) => format!("{id} has no value for one completion alone"),
        (None, Some(near)) => format!("unknown metric {id:?}, did you mean {near:?}?"),
        (None, None) => format!("unknown metric {id:?}"),
    };
    Err(format!("{problem} (known: {known})"))
}

fn window(bounds: &str) -> Result<Kind, String> {
    let problem = || format!("length: expected bounds in tokens, such as 20..400, got {bounds:?}");
    let (min, max) = bounds.split_once("..").ok_or_else(problem)?;
    let parse = |text: &str, open: f64| match text.trim() {
        "" => Ok(open),
        text => text.parse::<u32>().map(f64::from).map_err(|_| problem()),
    };
    let (min, max) = (parse(min, 0.0)?, parse(max, f64::INFINITY)?);
    if min > max {
        return Err(problem());
    }
    Ok(Kind::Window { length: metric("length")?, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &str, finish: FinishReason, tokens: u32) -> Sample {
        Sample { finish_reason: finish, tokens: Some(tokens), ..Sample::new("p", text) }
    }

    fn score(rule: &str, sample: &Sample) -> Option<f64> {
        rule.parse::<Rule>().unwrap().score(sample, &mut Scratch::default())
    }

    #[test]
    fn an_ended_answer_beats_a_cut_loop() {
        let good = sample("It is Paris.", FinishReason::Eos, 5);
        let looping = sample(&"and so on ".repeat(60), FinishReason::Length, 200);
        let rule = Rule::default();
        let mut scratch = Scratch::default();
        assert_eq!(rule.score(&good, &mut scratch), Some(1.0));
        assert!(rule.score(&looping, &mut scratch).unwrap() <= -1.0);
        assert_eq!(rule.score(&sample("half", FinishReason::Error, 1), &mut scratch), None);
    }

    #[test]
    fn terms_are_weighted_and_windows_count_tokens() {
        let answer = sample("It is Paris.", FinishReason::Eos, 5);
        assert_eq!(score("eos_rate=2, length:3..8=0.5", &answer), Some(2.5));
        assert_eq!(score("length:6..=1", &answer), Some(0.0));
        assert_eq!(score("length:..5=1", &answer), Some(1.0));
        // unknown ending: the term is nothing, neither reward nor penalty
        assert_eq!(score("eos_rate=2", &sample("x", FinishReason::Unknown, 1)), Some(0.0));
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| text.parse::<Rule>().unwrap_err();
        assert!(refused("loop_rat=1").contains("did you mean \"loop_rate\""));
        assert!(refused("same_answer=1").contains("no value for one completion"));
        assert!(refused("loop_rate").contains("METRIC=WEIGHT"));
        assert!(refused("loop_rate=NaN").contains("expected a weight"));
        assert!(refused("length:9..3=1").contains("20..400"));
        assert!(refused("zlib_ratio:1..2=1").contains("`length:` alone"));
        assert!(refused(" , ").contains("got nothing"));
    }
}
