//! `verdict.json`: the gate's answer, per metric and as a whole, with every number it rests on.

use serde::{Deserialize, Serialize};

/// The three answers a gate can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The requirement is shown to hold.
    Pass,
    /// It is shown not to hold.
    Fail,
    /// The data cannot tell.
    Inconclusive,
}

/// What a policy demands of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// The candidate is not worse than the baseline by more than the margin.
    NonInferior,
    /// The candidate is better than the baseline by more than the margin.
    Superior,
    /// The candidate's own value respects a bound.
    Absolute,
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
    /// What was demanded.
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
    /// p value of the test named in `test`, adjusted where `adjustment` says so.
    pub p: Option<f64>,
    /// The test, by its usual name.
    pub test: String,
    /// `none`, `holm` or `bh`.
    pub adjustment: String,
    /// The answer.
    pub verdict: Decision,
    /// Why, in one sentence.
    pub reason: String,
    /// Prompts compared.
    pub n: usize,
    /// Power the comparison had at the margin, from 0 to 1.
    pub power: Option<f64>,
    /// Prompts needed for 80 % power.
    pub n_needed: Option<usize>,
    /// `higher`, `lower`.
    pub better: crate::Direction,
    /// Unit of the values.
    pub unit: crate::Unit,
}

/// How far the verdict reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimScope {
    /// One checkpoint per arm: a claim about these two checkpoints.
    Checkpoints,
    /// Several training seeds per arm: a claim about the two methods.
    Methods,
}

/// `verdict.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// The whole answer.
    pub verdict: Decision,
    /// Exit code that goes with it.
    pub exit_code: u8,
    /// Name of the baseline.
    pub baseline: String,
    /// Name of the candidate.
    pub candidate: String,
    /// Evaluation directories of the baseline, one per training seed.
    pub baseline_runs: Vec<String>,
    /// Evaluation directories of the candidate.
    pub candidate_runs: Vec<String>,
    /// What the verdict is about.
    pub claim: ClaimScope,
    /// Name of the policy.
    pub policy: String,
    /// SHA-256 of the policy.
    pub policy_sha256: String,
    /// Significance level of every test (two-sided intervals are 1 − 2·alpha for non-inferiority, see the policy's page).
    pub alpha: f64,
    /// Seed of the resampling.
    pub seed: u64,
    /// Bootstrap resamples.
    pub resamples: u32,
    /// Primary metrics first.
    pub metrics: Vec<MetricVerdict>,
}
