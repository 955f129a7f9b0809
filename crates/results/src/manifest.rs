//! `run.json`: the settings of an evaluation, which two runs must share to be compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_chat::Terminators;
use smpo_sampling::Sampler;

/// The model that was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Directory, file or URL as it was given.
    pub source: String,
    /// Display name.
    pub name: String,
    /// SHA-256 of local weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// Arm of an experiment this checkpoint belongs to (`regular`, `modified`…).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Training seed of this checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_seed: Option<u64>,
}

/// The suite: its name, its content hash and its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteInfo {
    /// Name of the suite.
    pub name: String,
    /// SHA-256 over prompts, slices and references, in order.
    pub sha256: String,
    /// Number of prompts.
    pub prompts: usize,
    /// SHA-256 of the held-out preference pairs, if preference accuracy was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs_sha256: Option<String>,
}

/// Tokens that end a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminatorSet {
    /// Token ids, ascending.
    pub ids: Vec<u32>,
    /// The tokens' text, in the same order.
    pub tokens: Vec<String>,
}

impl From<&Terminators> for TerminatorSet {
    /// The tokens whose id is known.
    fn from(terminators: &Terminators) -> Self {
        let entries = terminators.entries().iter();
        let mut known: Vec<(u32, String)> =
            entries.filter_map(|entry| Some((entry.id?, entry.token.clone().unwrap_or_default()))).collect();
        known.sort();
        let (ids, tokens) = known.into_iter().unzip();
        TerminatorSet { ids, tokens }
    }
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// [`RunManifest::SAMPLED`] or [`RunManifest::SCORED`].
    pub kind: String,
    /// The model.
    pub model: ModelInfo,
    /// The suite.
    pub suite: SuiteInfo,
    /// The sampler; absent for scored completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Cap on generated tokens, terminator included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u32>,
    /// Samples per prompt.
    pub samples_per_prompt: u32,
    /// The terminators; absent for scored completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminators: Option<TerminatorSet>,
    /// SHA-256 of the chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_sha256: Option<String>,
    /// Sampling seed.
    pub seed: u64,
    /// Engine name and version, program versions.
    pub versions: BTreeMap<String, String>,
    /// The largest absolute disagreement, in nats, between the engine's log-probs and the project's own
    /// forward pass on re-scored completions; absent if it was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity_max_abs_nats: Option<f64>,
    /// Observations of the run, which no comparison of two runs takes for a setting.
    #[serde(default, skip_serializing_if = "Observed::is_empty")]
    pub observed: Observed,
}

/// Facts about a run that come to light only while it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The server's part in the completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerInfo>,
    /// The servers or devices of a run that several share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerInfo>,
    /// Samples by the remark on their reported end, [`crate::Sample::finish_remark`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub finish_remarks: BTreeMap<String, usize>,
    /// Number of completions that lack a fact because their file does not tell it, by fact: [`FINISH_REASON`],
    /// [`TOKENS`], [`PROMPT`]. Only scored completions have any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub untold: BTreeMap<String, usize>,
    /// Folder above the `model_answer` of scored completions whose prompts are unknown: they pair by id alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<String>,
    /// The comparison behind `fidelity_max_abs_nats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<FidelityInfo>,
    /// The reward model behind `reward`: its directory, and the hash of its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<RewardModelInfo>,
    /// The comparison with another engine that reads the same model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_check: Option<FidelityInfo>,
}

/// Key of [`Observed::untold`]: how the completion ended, so that EOS is not judged on it.
pub const FINISH_REASON: &str = "finish_reason";
/// Key of [`Observed::untold`]: the length in tokens.
pub const TOKENS: &str = "tokens";
/// Key of [`Observed::untold`]: the prompt's text, so that runs pair by id alone.
pub const PROMPT: &str = "prompt";
/// Key of [`Observed::untold`]: the prompt's text and its id, so that runs pair by the number of the line.
pub const ID: &str = "id";

impl Observed {
    fn is_empty(&self) -> bool {
        *self == Observed::default()
    }
}

/// The server's part in the completions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Names of the models that answered, as the server gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Request fields that it refused, so that its own defaults applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_defaults: Vec<String>,
}

/// One of several servers or devices that share a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// URL without credentials, or device; [`crate::Sample::worker`] names it.
    pub name: String,
    /// Samples that are from it.
    pub samples: usize,
    /// Names of the models that answered, as the server gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Versions and names of the server's build (`system_fingerprint`), where it gives any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<String>,
    /// Request fields that it refused, so that its own defaults applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_defaults: Vec<String>,
    /// Its own fidelity check, the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<FidelityInfo>,
    /// Reasons for which it was set aside, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<String>,
}

/// A reward model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewardModelInfo {
    /// Directory as it was given.
    pub source: String,
    /// SHA-256 of its weights.
    pub weights_sha256: String,
}

/// |Δ log-prob| between an engine and an independent implementation, in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FidelityInfo {
    /// The independent implementation.
    pub reference: String,
    /// Completions compared.
    pub completions: usize,
    /// Tokens compared.
    pub tokens: usize,
    /// Mean.
    pub mean: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Maximum.
    pub max: f64,
}

impl RunManifest {
    /// `kind` of an evaluation whose answers were sampled here.
    pub const SAMPLED: &str = "eval";
    /// `kind` of an evaluation of completions that another generator made.
    pub const SCORED: &str = "score";

    /// True for completions that another generator made.
    #[must_use]
    pub fn is_scored(&self) -> bool {
        self.kind == Self::SCORED
    }

    /// The first field in which two runs differ that must agree before they may be compared, with both
    /// values; `None` if they are comparable. The model, its arm and the training seed may differ, the
    /// sampling seed too. Two scored files may hold different prompts (answers of other generators are
    /// seldom complete): a comparison pairs by prompt and counts prompts without a partner. They may hold different
    /// numbers of answers to a prompt, which are averaged first.
    pub fn incomparable(&self, other: &RunManifest) -> Option<(&'static str, String, String)> {
        fn show<T: Serialize>(value: &T) -> String {
            serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
        }
        let scored = self.is_scored() && other.is_scored();
        // Question numbers are unique within a benchmark at best.
        if let [Some(own), Some(others)] = [self, other].map(|run| run.observed.benchmark.as_deref())
            && own != others
        {
            let shown = |name: &str| format!("{name:?}, its prompts unknown (`smpo score --prompts` gives them)");
            return Some(("observed.benchmark", shown(own), shown(others)));
        }
        // Scales of two reward models have nothing in common.
        if let [Some(own), Some(others)] = [self, other].map(|run| run.observed.reward_model.as_ref())
            && own.weights_sha256 != others.weights_sha256
        {
            return Some(("observed.reward_model", show(own), show(others)));
        }
        let fields = [
            ("kind", show(&self.kind), show(&other.kind)),
            ("suite.sha256", show(&self.suite.sha256), show(&other.suite.sha256)),
            ("suite.pairs_sha256", show(&self.suite.pairs_sha256), show(&other.suite.pairs_sha256)),
            ("sampler", show(&self.sampler), show(&other.sampler)),
            ("cap", show(&self.cap), show(&other.cap)),
            ("samples_per_prompt", show(&self.samples_per_prompt), show(&other.samples_per_prompt)),
            ("terminators", show(&self.terminators), show(&other.terminators)),
            ("template_sha256", show(&self.template_sha256), show(&other.template_sha256)),
        ];
        let free = ["suite.sha256", "samples_per_prompt"];
        fields.into_iter().find(|(field, a, b)| a != b && !(scored && free.contains(field)))
    }
}

/// The paths inside an evaluation directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationDir(PathBuf);

impl EvaluationDir {
    /// Names the directory; touches nothing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        EvaluationDir(dir.into())
    }
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// `run.json`
    pub fn manifest(&self) -> PathBuf {
        self.0.join("run.json")
    }
    /// `samples.jsonl`
    pub fn samples(&self) -> PathBuf {
        self.0.join("samples.jsonl")
    }
    /// `measurements.jsonl`
    pub fn measurements(&self) -> PathBuf {
        self.0.join("measurements.jsonl")
    }
    /// `metrics.json`, written last: a directory that has it is finished.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.json")
    }
}
