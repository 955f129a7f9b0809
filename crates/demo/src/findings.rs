//! Expectations of the demo, each with what was observed. Nothing is tuned to make them hold; one that does not is
//! printed as such.

use serde::Serialize;

use crate::arms::Arm;
use crate::evaluations::{Decoding, Evaluations};
use crate::table::mean;

/// An expectation and what was observed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Expectation.
    pub expectation: String,
    /// Observed values.
    pub observed: String,
    /// True if it was observed.
    pub holds: bool,
}

/// Every expectation of the demo.
pub fn of(evaluations: &Evaluations) -> Vec<Finding> {
    let value = |arm, metric| mean(&evaluations.values(arm, Decoding::Sampled, metric)).unwrap_or(f64::NAN);
    let gold = |arm| value(arm, "eos_logp_gold");
    let (base, regular, modified) = (gold(Arm::Start), gold(Arm::Regular), gold(Arm::Modified));
    let accuracies =
        [Arm::Regular, Arm::Modified].map(|arm| evaluations.values(arm, Decoding::Sampled, "pref_accuracy"));
    let worst_accuracy = accuracies.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let ends = |arm| value(arm, "eos_rate");
    vec![
        Finding {
            expectation: "both arms learn the preference: held-out accuracy at least 0.97 under every seed".to_owned(),
            observed: format!("lowest {worst_accuracy:.3}"),
            holds: worst_accuracy >= 0.97,
        },
        Finding {
            expectation: "regular SMPO ruins EOS: its log p after gold answers is at least 2 nats below modified's"
                .to_owned(),
            observed: format!("{regular:.2} against {modified:.2}"),
            holds: modified - regular >= 2.0,
        },
        Finding {
            expectation: "modified SMPO keeps EOS: within 0.5 nat of the base model".to_owned(),
            observed: format!("{modified:.2} against {base:.2}"),
            holds: (modified - base).abs() <= 0.5,
        },
        Finding {
            expectation: "modified answers end: at least 95 % within 64 tokens at T 0.8, and more than regular's"
                .to_owned(),
            observed: format!("{:.3} against {:.3}", ends(Arm::Modified), ends(Arm::Regular)),
            holds: ends(Arm::Modified) >= 0.95 && ends(Arm::Modified) > ends(Arm::Regular),
        },
    ]
}

/// For a terminal.
pub fn render(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let mark = if finding.holds { "seen    " } else { "NOT SEEN" };
        format!("  {mark}  {}: {}", finding.expectation, finding.observed)
    });
    let limits = "One tiny model at a steep learning rate. Other losses, rates and kinds of pairs: docs/study.md; the objective that did best \
                  there: configs/anchored.toml.";
    format!("What to see in it:\n{}\n{limits}\n", lines.collect::<Vec<_>>().join("\n"))
}
