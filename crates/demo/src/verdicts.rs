//! The gate on the demo's arms.

use std::path::Path;

use smpo_gate::{DecideOptions, GateError, Policy, Run, decide as decide_gate};
use smpo_report::verdict::text;
use smpo_results::{Decision, Verdict};

use crate::arms::Arm;
use crate::evaluations::Evaluations;
use crate::inputs::Inputs;

/// Three comparisons under the demo's policy.
pub struct Verdicts {
    /// Modified against regular: the one the demo is about, and the one in `verdict.json`.
    pub over_regular: Verdict,
    /// Modified against the base model: what preference tuning cost.
    pub over_base: Verdict,
    /// Regular against modified: a gate that cannot fail is none.
    pub reverse: Verdict,
}

impl Verdicts {
    /// With their file names.
    pub fn all(&self) -> [(&'static str, &Verdict); 3] {
        [
            ("modified-over-regular", &self.over_regular),
            ("modified-over-base", &self.over_base),
            ("regular-over-modified", &self.reverse),
        ]
    }
}

/// Decides all three.
pub fn decide(inputs: &Inputs, evaluations: &Evaluations) -> Result<Verdicts, GateError> {
    let policy = Policy::load(&inputs.path("evals/gates/demo.toml").display().to_string())?;
    let runs = |arm: Arm| {
        let dirs = evaluations.of(arm).map(|row| row.dir.as_path());
        dirs.map(|dir: &Path| Run::load(dir)).collect::<Result<Vec<Run>, GateError>>()
    };
    let gate = |baseline: Arm, candidate: Arm| {
        decide_gate(&policy, runs(baseline)?, runs(candidate)?, DecideOptions::default())
    };
    Ok(Verdicts {
        over_regular: gate(Arm::Regular, Arm::Modified)?,
        over_base: gate(Arm::Start, Arm::Modified)?,
        reverse: gate(Arm::Modified, Arm::Regular)?,
    })
}

/// For a terminal: the verdict the demo is about in full, the others in a line.
pub fn render(verdicts: &Verdicts, style: text::Style) -> String {
    let line = |verdict: &Verdict| {
        let open = verdict.metrics.iter().filter(|metric| metric.primary && metric.verdict == verdict.verdict);
        let reasons: Vec<String> = match verdict.verdict {
            Decision::Pass => Vec::new(),
            Decision::Fail | Decision::Inconclusive => open.map(|metric| metric.reason.clone()).collect(),
        };
        let decision = match verdict.verdict {
            Decision::Pass => "pass",
            Decision::Fail => "fail",
            Decision::Inconclusive => "inconclusive",
        };
        let head =
            format!("  {} over {}: {decision} (exit {})", verdict.candidate, verdict.baseline, verdict.exit_code);
        std::iter::once(head).chain(reasons.iter().map(|reason| format!("    {reason}"))).collect::<Vec<_>>().join("\n")
    };
    format!(
        "{}\nThe same policy on other pairs:\n{}\n{}\n",
        text::render(&verdicts.over_regular, style),
        line(&verdicts.over_base),
        line(&verdicts.reverse)
    )
}
