//! Errors of the gate. All are usage errors: of the request, the policy or the runs.

use std::path::{Path, PathBuf};

use smpo_stats::StatsError;

/// The inputs do not allow a verdict.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A file of a run is missing, damaged or newer than this program.
    #[error(transparent)]
    Results(#[from] smpo_results::Error),
    /// The policy is not valid TOML of the expected shape.
    #[error("{origin}:{line}: {message}")]
    PolicySyntax {
        /// File or name of the policy.
        origin: String,
        /// 1-based line.
        line: usize,
        /// The problem, with the nearest valid name if there is one.
        message: String,
    },
    /// A value of the policy is out of range.
    #[error("{origin}: {what}: expected {expected}, got {got}")]
    PolicyValue {
        /// File or name of the policy, with the line of a key outside of its rules.
        origin: String,
        /// The field, with its metric and slice.
        what: String,
        /// Allowed values.
        expected: String,
        /// The value.
        got: String,
    },
    /// The policy is neither a file nor one of the shipped ones.
    #[error("no policy `{name}`: expected a file or one of {}{suggestion}", .known.join(", "))]
    UnknownPolicy {
        /// The requested name.
        name: String,
        /// The shipped policies.
        known: Vec<&'static str>,
        /// Empty, or the nearest of them.
        suggestion: String,
    },
    /// The policy names a metric that nothing measures.
    #[error("{origin}: unknown metric `{metric}`{suggestion}; metrics of these runs: {}", .measured.join(", "))]
    UnknownMetric {
        /// File or name of the policy.
        origin: String,
        /// The name.
        metric: String,
        /// Empty, or the nearest known name.
        suggestion: String,
        /// Metrics of the runs.
        measured: Vec<String>,
    },
    /// The policy names a slice that no run has, and nearly one that they have.
    #[error("{origin}: no run has the slice `{slice}`; did you mean `{meant}`?")]
    MisspeltSlice {
        /// File or name of the policy.
        origin: String,
        /// The name.
        slice: String,
        /// The slice of that name but for a letter or two.
        meant: String,
    },
    /// The metric is a property of all completions together.
    #[error(
        "{origin}: `{metric}` is measured over a whole run, not prompt by prompt, so two runs cannot be paired on it; \
         gate on another metric and read this one in the leaderboard"
    )]
    NotPerPrompt {
        /// File or name of the policy.
        origin: String,
        /// The name.
        metric: String,
    },
    /// Neither more nor less of the metric is better.
    #[error("{origin}: `{metric}` has no better direction; use `at_least` or `at_most`")]
    NoDirection {
        /// File or name of the policy.
        origin: String,
        /// The name.
        metric: String,
    },
    /// Two runs differ in a field that must agree.
    #[error(
        "{} and {} cannot be compared: `{field}` differs: {left_value} against {right_value}; \
         evaluate both in the same way", left.display(), right.display()
    )]
    Incomparable {
        /// One run.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// Field of `run.json`.
        field: String,
        /// Its value in one.
        left_value: String,
        /// Its value in the other.
        right_value: String,
    },
    /// The same id names different prompts.
    #[error(
        "{} and {} cannot be compared: prompt `{prompt_id}` is not the same text in both", left.display(), right.display()
    )]
    DifferentPrompt {
        /// One run.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// The prompt.
        prompt_id: String,
    },
    /// No prompt was answered by both arms.
    #[error(
        "{} and {} cannot be compared: they have no prompt in common, by their ids ({}); {}", left.display(),
        right.display(), ids.join(" and "),
        match same_text {
            true => "the texts of prompts are the same: give both files the same ids, or score them with one `--prompts`",
            false => "evaluate both on the same prompts",
        }
    )]
    NoOverlap {
        /// One run.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// An id of each that has one.
        ids: Vec<String>,
        /// True if both have prompts of the same text.
        same_text: bool,
    },
    /// The prompts of both arms have the same ids, and none the same slice.
    #[error(
        "{} and {} cannot be compared: prompt `{prompt_id}` is of slice `{}` in the first and of `{}` in the second, \
         and so is every other; score both files in one call, or give their rows the same `slice`, `category` or `dataset`",
        left.display(), right.display(), slices[0], slices[1]
    )]
    OtherSlices {
        /// One run.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// A prompt of both.
        prompt_id: String,
        /// Its slice in each.
        slices: Box<[String; 2]>,
    },
    /// A prompt occurs twice in `measurements.jsonl`.
    #[error("{}: prompt `{prompt_id}` of slice `{slice}` occurs twice; evaluate again", path.display())]
    DuplicatePrompt {
        /// The file.
        path: PathBuf,
        /// The prompt.
        prompt_id: String,
        /// Its slice.
        slice: String,
    },
    /// A value that the metric cannot have.
    #[error("{}: `{metric}` of prompt `{prompt_id}`: expected {expected}, got {got}", path.display())]
    Impossible {
        /// The file.
        path: PathBuf,
        /// The prompt.
        prompt_id: String,
        /// The metric.
        metric: String,
        /// Values that it may have.
        expected: &'static str,
        /// The value.
        got: f64,
    },
    /// Not an evaluation directory, or one that was interrupted.
    #[error("{}: not a finished evaluation: {}", dir.display(), instead(dir, missing))]
    Unfinished {
        /// The directory.
        dir: PathBuf,
        /// Name of the missing file.
        missing: &'static str,
    },
    /// One checkpoint given as if it were two training seeds.
    #[error(
        "{} and {} are the same checkpoint ({why}): an arm's runs must be different training seeds", left.display(), right.display()
    )]
    SameCheckpoint {
        /// One run.
        left: PathBuf,
        /// The other.
        right: PathBuf,
        /// The identical property.
        why: &'static str,
    },
    /// An arm without runs.
    #[error("the {arm} arm has no evaluation directory")]
    EmptyArm {
        /// `baseline` or `candidate`.
        arm: &'static str,
    },
    /// The leaderboard's baseline is not on the board.
    #[error("no entry `{name}` to compare with{suggestion}; entries: {}", .known.join(", "))]
    UnknownEntry {
        /// The requested name.
        name: String,
        /// Empty, or the nearest entry.
        suggestion: String,
        /// All entries.
        known: Vec<String>,
    },
    /// The numbers do not allow the analysis.
    #[error("{metric}: {source}")]
    Stats {
        /// Metric id.
        metric: String,
        /// The problem.
        source: StatsError,
    },
}

/// Remedy for a directory that is no finished evaluation, by what is in it.
fn instead(dir: &Path, missing: &str) -> String {
    let evaluate = |model: &Path| format!("`smpo eval {} --suite ood-smoke --out DIR` makes one", model.display());
    if !dir.exists() {
        "there is no such directory; give one that `smpo eval` or `smpo score` wrote".to_owned()
    } else if dir.join("metrics.jsonl").is_file() && dir.join("config.toml").is_file() {
        format!("it is a training run; {}", evaluate(&dir.join("model")))
    } else if ["config.json", "adapter_config.json"].iter().any(|name| dir.join(name).is_file()) {
        format!("it is a model; {}", evaluate(dir))
    } else {
        format!("{missing} is missing; run `smpo eval` or `smpo score` again")
    }
}
