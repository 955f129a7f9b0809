//! The model to train and the run's directory.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_losses::Loss;
use smpo_model::{Labels, ModelDir, ModelError};

use crate::config::builder::setters;
use crate::config::check::{Problems, is_positive};
use crate::config::{TrainConfig, TrainConfigBuilder, defaults};

/// Steps between updates that TRL's configurations had by default in earlier releases: files that list every key have them.
const FORMER_SYNC_STEPS: u64 = 64;

/// Initial weights of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// The model directory's weights.
    #[default]
    Pretrained,
    /// Random weights from `seed`: only configuration and tokenizer are read from the model directory.
    Random,
}

/// The reference model of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The model that the run starts from.
    Start,
    /// The model or adapter in this directory.
    Model(PathBuf),
}

impl TrainConfigBuilder {
    /// Sets [`TrainConfig::model_name_or_path`].
    #[must_use]
    pub fn model(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.model_name_or_path = dir.into();
        self.given("model_name_or_path");
        self
    }

    /// Sets [`TrainConfig::output_dir`].
    #[must_use]
    pub fn output_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.output_dir = dir.into();
        self.given("output_dir");
        self
    }

    setters! {
        reference_model_name_or_path?: into PathBuf,
        sync_ref_model: bool,
        ref_model_mixup_alpha: f64,
        ref_model_sync_steps: u64,
        init: Init,
        embedding_std?: f64,
        seed: u64,
    }
}

impl TrainConfig {
    /// The reference model, for objectives that need one.
    pub fn reference(&self) -> Reference {
        self.reference_model_name_or_path.clone().map_or(Reference::Start, Reference::Model)
    }

    /// Directory that the reference is read from beside the base model, if there is one.
    pub(crate) fn reference_dir(&self) -> Option<PathBuf> {
        self.reference_model_name_or_path.clone().or_else(|| self.adapter_name_or_path.clone())
    }

    /// Opens a reference model; an adapter whose own base is not found is one of the model that is trained.
    pub(crate) fn open_reference(&self, dir: &Path) -> Result<ModelDir, ModelError> {
        match ModelDir::open(dir, None) {
            Err(ModelError::Field { .. }) => ModelDir::open(dir, Some(&self.model_name_or_path)),
            opened => opened,
        }
    }

    /// Directory of the teacher, for a loss that has one.
    pub(crate) fn teacher(&self) -> Option<PathBuf> {
        self.loss.loss.distance().and(self.reference_model_name_or_path.clone())
    }

    /// Labels of the head that is trained; `None` for a language model.
    pub fn labels(&self) -> Option<Labels> {
        match &self.loss.loss {
            Loss::Classification(keys) if keys.labels.is_empty() => {
                // as transformers assumes until the data is read
                Some(Labels::numbered(keys.num_labels.unwrap_or(2), keys.is_multiple()))
            }
            Loss::Classification(keys) => Some(Labels { names: keys.labels.clone(), multiple: keys.is_multiple() }),
            loss => loss.pooled().map(|_| Labels::reward()),
        }
    }

    /// The reference model, in words.
    pub(crate) fn reference_in_words(&self) -> String {
        let start = self.first_reference_in_words();
        if !self.sync_ref_model {
            return start;
        }
        let (alpha, steps) = (self.ref_model_mixup_alpha, self.ref_model_sync_steps);
        format!("{start}; it moves by {alpha} towards the policy every {steps} steps")
    }

    fn first_reference_in_words(&self) -> String {
        let model = self.model_name_or_path.display();
        match (self.reference(), &self.adapter_name_or_path) {
            (Reference::Model(dir), _) => dir.display().to_string(),
            (Reference::Start, Some(adapter)) => {
                format!("{model} with the adapter {}, the start of training", adapter.display())
            }
            (Reference::Start, None) if self.init == Init::Random => "the random weights before training".to_owned(),
            (Reference::Start, None) => format!("{model}, the start of training"),
        }
    }

    pub(in crate::config) fn check_paths(&self, problems: &mut Problems) {
        let paths = [("model_name_or_path", &self.model_name_or_path), ("output_dir", &self.output_dir)];
        for (key, path) in paths {
            problems.range(key, !path.as_os_str().is_empty(), "a path", "\"\"");
        }
    }

    fn check_sync(&self, problems: &mut Problems) {
        let share = self.ref_model_mixup_alpha;
        problems.range("ref_model_mixup_alpha", share > 0.0 && share <= 1.0, "a number in (0, 1]", share);
        problems.range("ref_model_sync_steps", self.ref_model_sync_steps > 0, "at least 1", self.ref_model_sync_steps);
        if !self.sync_ref_model {
            let steps = self.ref_model_sync_steps;
            if steps != defaults::ref_model_sync_steps() && steps != FORMER_SYNC_STEPS {
                let message = "`ref_model_sync_steps` has no effect without sync_ref_model = true".to_owned();
                problems.refuse(&["ref_model_sync_steps", "sync_ref_model"], message);
            }
            return;
        }
        let kind = self.loss.loss.kind();
        if !self.loss.loss.needs_reference() {
            let message = format!("`sync_ref_model` has no effect: loss `{kind}` has no reference model");
            problems.refuse(&["sync_ref_model", "loss"], message);
        }
        if self.adapter().is_some() {
            let message =
                "`sync_ref_model` moves a reference with all weights, and the reference of adapters is the model \
                           without them: expected a run without `use_peft` or `adapter_name_or_path`"
                    .to_owned();
            problems.refuse(&["sync_ref_model", "use_peft"], message);
        }
    }

    /// A head of labels gives no text and no log-probs.
    fn check_head(&self, problems: &mut Problems) {
        if self.labels().is_none() {
            return;
        }
        let kind = self.loss.loss.kind();
        if self.probe.is_some() {
            let message = format!(
                "`probe` completes prompts, and loss `{kind}` trains a model that gives no text: remove it, and evaluate \
                 on held-out rows (`test_size`, `eval_dataset`)"
            );
            problems.refuse(&["probe", "loss"], message);
        }
    }

    pub(in crate::config) fn check_model(&self, problems: &mut Problems) {
        if self.loss.loss.distance().is_some() && self.reference_model_name_or_path.is_none() {
            let message =
                "loss `distill` needs a teacher: give its directory as `teacher_model_name_or_path`".to_owned();
            problems.refuse(&["loss"], message);
        }
        let reads = self.loss.loss.needs_reference() || self.loss.loss.distance().is_some();
        if self.reference_model_name_or_path.is_some() && !reads {
            let kind = self.loss.loss.kind();
            let message = format!("`reference_model_name_or_path` has no effect: loss `{kind}` has no reference model");
            problems.refuse(&["reference_model_name_or_path", "loss"], message);
        }
        self.check_paths(problems);
        self.check_sync(problems);
        self.check_head(problems);
        if let Some(std) = self.embedding_std {
            problems.range("embedding_std", is_positive(std), "a positive number", std);
            if self.init != Init::Random {
                problems.refuse(&["embedding_std", "init"], "`embedding_std` needs init = \"random\"".to_owned());
            }
        }
    }
}
