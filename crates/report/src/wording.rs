//! Display names of the schema's identifiers.

use std::borrow::Cow;
use std::path::Path;

use smpo_results::{COMMON_PROMPTS, ClaimScope, Decision, Direction, FinishReason, Requirement, Unit};

/// A metric's short name in the catalogue; an unknown id with underscores as spaces.
pub fn metric(id: &str) -> Cow<'_, str> {
    if let Some(info) = smpo_metrics::find(id) {
        return Cow::Borrowed(info.name);
    }
    if let Some(name) = smpo_metrics::pass_k::name(id) {
        return Cow::Owned(name);
    }
    match super::inert::short_line(id, 60).replace('_', " ") {
        same if same == id => Cow::Borrowed(id),
        spaced => Cow::Owned(spaced),
    }
}

/// A slice's name: underscores are spaces, the whole suite is "all prompts".
pub fn slice(id: &str) -> String {
    match id {
        "all" => "all prompts".to_owned(),
        COMMON_PROMPTS => "prompts that all answered".to_owned(),
        _ => super::inert::short_line(id, 60).replace('_', " "),
    }
}

/// Finish reason of a completion, in a phrase.
pub fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos => "ended by itself",
        FinishReason::Stop => "cut by a stop string",
        FinishReason::Length => "hit the cap",
        FinishReason::Repetition => "cut by a repetition detector",
        FinishReason::Error => "engine error",
        FinishReason::Unknown => "ending unknown",
    }
}

/// The decision in one word.
pub fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Pass => "pass",
        Decision::Fail => "fail",
        Decision::Inconclusive => "inconclusive",
    }
}

/// The decision as a sign without colour.
pub fn decision_sign(decision: Decision) -> &'static str {
    match decision {
        Decision::Pass => "✓",
        Decision::Fail => "✗",
        Decision::Inconclusive => "?",
    }
}

/// Scope of the claim.
pub fn claim(scope: ClaimScope) -> &'static str {
    match scope {
        ClaimScope::Checkpoints => "a claim about these two checkpoints, not about the methods that made them",
        ClaimScope::Methods => "a claim about the two methods, over their training seeds",
    }
}

/// The requirement as a bound on the difference (on the candidate, for an absolute one): `≤ +2 points`.
pub fn bound(requirement: Requirement, margin: f64, better: Direction, unit: Unit) -> String {
    let amount = crate::figure::margin(unit, margin);
    match (requirement, better) {
        (Requirement::NonInferior, Direction::Lower) => format!("≤ +{amount}"),
        (Requirement::NonInferior, _) => format!("≥ −{amount}"),
        (Requirement::Superior, Direction::Lower) => format!("< −{amount}"),
        (Requirement::Superior, _) => format!("> +{amount}"),
        (Requirement::Equivalent, _) => format!("within ±{amount}"),
        (Requirement::Absolute, Direction::Lower) => format!("≤ {}", crate::figure::value(unit, margin)),
        (Requirement::Absolute, _) => format!("≥ {}", crate::figure::value(unit, margin)),
    }
}

/// A count with its noun, plural by adding `s`.
pub fn count(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", thousands(n)),
    }
}

/// Digits in groups of three.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The text with its first letter as a capital.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A path as one word of a shell's command.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_thousands() {
        assert_eq!(
            [thousands(0), thousands(999), thousands(1000), thousands(1234567)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
