//! `verdict.json`: the gate's decision, per metric and as a whole, with every number behind it.

use serde::{Deserialize, Serialize};

/// The three decisions of a gate. The policy's alpha bounds both errors: a false alarm (type I: `fail` although the arms
/// do not differ) and a missed regression (type II: `pass` although the harm is as large as the margin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The requirement is shown to hold: the interval lies wholly on the right side of the margin or bound.
    Pass,
    /// A regression is shown (the arms differ, in the wrong direction) and its estimate exceeds the margin;
    /// for `superior` and `absolute`: the interval lies wholly on the wrong side.
    Fail,
    /// The data decide neither.
    Inconclusive,
}

/// Exit code of a gate: 0, 1 or 3. (2, a usage error, and 4, an execution error, come with no verdict.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum ExitCode {
    /// 0
    Pass,
    /// 1
    Fail,
    /// 3
    Inconclusive,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> u8 {
        match code {
            ExitCode::Pass => 0,
            ExitCode::Fail => 1,
            ExitCode::Inconclusive => 3,
        }
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = String;

    fn try_from(code: u8) -> Result<ExitCode, String> {
        let codes = [ExitCode::Pass, ExitCode::Fail, ExitCode::Inconclusive];
        let known = codes.into_iter().find(|known| u8::from(*known) == code);
        known.ok_or_else(|| format!("expected the exit code of a gate (0, 1 or 3), got {code}"))
    }
}

impl std::fmt::Display for ExitCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        u8::from(*self).fmt(f)
    }
}

/// Kind of a policy's requirement on a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// The candidate is not worse than the baseline by more than the margin.
    NonInferior,
    /// The candidate is better than the baseline by more than the margin.
    Superior,
    /// The candidate differs from the baseline by less than the margin, in either direction.
    Equivalent,
    /// The candidate's own value respects a bound.
    Absolute,
}

/// A 2 × 2 table of paired binary outcomes over prompts, from which McNemar's test and Tango's interval can be
/// recomputed. "One" is the metric's value 1: finished for `eos_rate`, looping for `loop_rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounts {
    /// One in both arms.
    pub both: usize,
    /// One in the baseline only.
    pub baseline_only: usize,
    /// One in the candidate only.
    pub candidate_only: usize,
    /// Zero in both arms.
    pub neither: usize,
}

/// A prompt on which the arms differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// Slice of the prompt.
    pub slice: String,
    /// Its id.
    pub prompt_id: String,
    /// Mean of the baseline's samples.
    pub baseline: f64,
    /// Mean of the candidate's.
    pub candidate: f64,
}

/// Prompts on which the arms differ, those that changed most first; the lists are bounded, the counts are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flips {
    /// Better in the baseline.
    pub worse: Vec<Flip>,
    /// Number of all of them.
    pub worse_total: usize,
    /// Better in the candidate.
    pub better: Vec<Flip>,
    /// Number of all of them.
    pub better_total: usize,
}

/// One metric on one slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricVerdict {
    /// Metric id.
    pub metric: String,
    /// Slice.
    pub slice: String,
    /// Primary metrics decide; secondary ones are reported.
    pub primary: bool,
    /// Kind of the requirement.
    pub requirement: Requirement,
    /// The margin or bound, in the metric's unit.
    pub margin: f64,
    /// Baseline estimate; absent for an absolute bound.
    pub baseline: Option<f64>,
    /// Candidate estimate.
    pub candidate: Option<f64>,
    /// candidate − baseline.
    pub difference: Option<f64>,
    /// Lower end of the interval of the difference (of the candidate, for an absolute bound).
    pub ci_low: Option<f64>,
    /// Upper end.
    pub ci_high: Option<f64>,
    /// Confidence level of that interval, two-sided.
    pub level: f64,
    /// Two-sided p value of the null hypothesis "the arms do not differ", by the test named in `test`; not adjusted.
    pub p: Option<f64>,
    /// The exact two-sided p value, if `p` is a mid-p value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_exact: Option<f64>,
    /// One-sided p value of the alarm (harm; for `superior` and `absolute`: the requirement is broken),
    /// adjusted as `adjustment` says: `fail` rests on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_harm: Option<f64>,
    /// p value of "the arms are not within the margin of each other" (two one-sided tests), for `equivalent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_equivalence: Option<f64>,
    /// The test and the interval, by their usual names.
    pub test: String,
    /// Adjustment of `p_harm` for multiple testing: `none`, `holm` (over primary metrics) or `bh` (over secondary ones: exploratory).
    pub adjustment: String,
    /// The paired table, for one binary sample per prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairCounts>,
    /// Prompts that changed, for a share compared with the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Flips>,
    /// The decision.
    pub verdict: Decision,
    /// Reason in one sentence.
    pub reason: String,
    /// Prompts compared.
    pub n: usize,
    /// Prompts of the slice that some run was asked, with or without a value of this metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<usize>,
    /// Power of the comparison at the margin if the arms are equal, from 0 to 1.
    pub power: Option<f64>,
    /// Prompts needed for the policy's power.
    pub n_needed: Option<usize>,
    /// Smallest true harm that this comparison shows with the policy's power, in the metric's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
    /// Direction in which the metric is better: `higher` or `lower`.
    pub better: crate::Direction,
    /// Unit of the values.
    pub unit: crate::Unit,
}

/// Scope of a verdict's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimScope {
    /// One checkpoint per arm: a claim about these two checkpoints.
    Checkpoints,
    /// Several training seeds per arm: a claim about the two methods.
    Methods,
}

/// A part of the policy that the verdict says nothing about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotJudged {
    /// The primary metric, its slice and, if only some prompts are left out, their number.
    pub subject: String,
    /// Reason for which it could not be judged.
    pub reason: String,
}

/// A rule of the policy that neither arm has data for, and that the policy allows to be absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkippedRule {
    /// Metric id.
    pub metric: String,
    /// Slice.
    pub slice: String,
    /// Reason for which it could not be judged.
    pub reason: String,
    /// True for a primary rule.
    #[serde(default)]
    pub primary: bool,
}

/// `verdict.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// The decision over all primary metrics.
    pub verdict: Decision,
    /// Exit code of the gate.
    pub exit_code: ExitCode,
    /// Primary metrics and prompts that the decision leaves out: part of every headline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_judged: Vec<NotJudged>,
    /// Name of the suite that both arms answered; absent where their files name different ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Name of the baseline.
    pub baseline: String,
    /// Name of the candidate.
    pub candidate: String,
    /// Evaluation directories of the baseline, one per training seed.
    pub baseline_runs: Vec<String>,
    /// Evaluation directories of the candidate.
    pub candidate_runs: Vec<String>,
    /// Scope of the claim.
    pub claim: ClaimScope,
    /// Name of the policy.
    pub policy: String,
    /// SHA-256 of the policy.
    pub policy_sha256: String,
    /// One-sided significance level of every test; intervals are two-sided at 1 − 2·alpha.
    pub alpha: f64,
    /// Seed of the resampling.
    pub seed: u64,
    /// Bootstrap resamples.
    pub resamples: u32,
    /// Primary metrics first.
    pub metrics: Vec<MetricVerdict>,
    /// Rules that were not judged, with reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedRule>,
    /// Caveats: scope of the claim, prompts left out, adjustments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
