//! The part of the model that is trained: LoRA adapters, or modules by pattern.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_model::{LoraConfig, LoraInit, TrainedBeside};

use crate::config::builder::setters;
use crate::config::check::{Problems, is_positive};
use crate::config::{Init, TrainConfig, TrainConfigBuilder};

/// Initial weights of the adapters.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterStart {
    /// New adapters, which change nothing at first.
    Fresh(LoraConfig),
    /// The PEFT adapter in this directory.
    From(PathBuf),
}

/// Initial weights of new adapters that are not PEFT's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitLoraWeights {
    /// A from a normal distribution, B zero.
    Gaussian,
    /// The first columns' QR decomposition.
    Olora,
    /// The largest singular values with their vectors.
    Pissa,
}

impl InitLoraWeights {
    fn init(self) -> LoraInit {
        match self {
            Self::Gaussian => LoraInit::Gaussian,
            Self::Olora => LoraInit::Olora,
            Self::Pissa => LoraInit::Pissa,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Olora => "olora",
            Self::Pissa => "pissa",
        }
    }

    /// True if the base is kept without a part of it.
    pub(in crate::config) fn changes_base(self) -> bool {
        self != Self::Gaussian
    }
}

impl TrainConfigBuilder {
    setters! {
        use_peft: bool,
        adapter_name_or_path?: into PathBuf,
        lora_r?: usize,
        lora_alpha?: f64,
        lora_dropout?: f64,
        lora_target_modules[]: String,
        modules_to_save[]: String,
        trainable_token_indices[]: u32,
        use_rslora: bool,
        use_dora: bool,
        init_lora_weights?: InitLoraWeights,
        rank_pattern: BTreeMap<String, usize>,
        alpha_pattern: BTreeMap<String, f64>,
        unfreeze_layers_patterns[]: String,
    }
}

impl TrainConfig {
    /// The adapters to train; `None` if the weights themselves are trained.
    pub fn adapter(&self) -> Option<AdapterStart> {
        if let Some(dir) = &self.adapter_name_or_path {
            return Some(AdapterStart::From(dir.clone()));
        }
        let targets = match self.lora_target_modules.as_slice() {
            [] => vec!["all-linear".to_owned()],
            // As in PEFT: a module that is trained whole gets no adapter.
            given => {
                let whole = self.trained_beside().modules;
                given.iter().filter(|name| !whole.contains(name)).cloned().collect()
            }
        };
        // TRL's defaults, since the published configurations leave them out.
        self.use_peft.then(|| {
            AdapterStart::Fresh(LoraConfig {
                r: self.lora_r.unwrap_or(16),
                alpha: self.lora_alpha.unwrap_or(32.0),
                dropout: self.lora_dropout.unwrap_or(0.05),
                rslora: self.use_rslora,
                dora: self.use_dora,
                targets,
                rank_pattern: self.rank_pattern.clone(),
                alpha_pattern: self.alpha_pattern.clone(),
                init: self.init_lora_weights.map(InitLoraWeights::init).unwrap_or_default(),
            })
        })
    }

    /// Dropout of an adapter that is continued, if it is not the adapter's own.
    pub(crate) fn continued_dropout(&self) -> Option<f64> {
        self.adapter_name_or_path.as_ref()?;
        self.lora_dropout.or_else(|| self.loss.loss.needs_reference().then_some(0.0))
    }

    /// Weights to train beside the adapters: new tokens need embedding and head, which a base without them lacks.
    pub(crate) fn trained_beside(&self) -> TrainedBeside {
        let mut modules = self.modules_to_save.clone();
        let head = if self.labels().is_some() { "score" } else { "lm_head" };
        if self.adds_tokens() {
            modules.extend(["embed_tokens".to_owned(), head.to_owned()]);
        }
        // As PEFT does for SEQ_CLS: the base has no such head.
        if self.labels().is_some() && !modules.iter().any(|module| module == head) {
            modules.push(head.to_owned());
        }
        TrainedBeside { modules, tokens: self.trainable_token_indices.clone() }
    }

    /// Keys of new adapters that are given.
    fn lora_keys(&self) -> Vec<&'static str> {
        [
            ("lora_r", self.lora_r.is_some()),
            ("lora_alpha", self.lora_alpha.is_some()),
            ("lora_dropout", self.lora_dropout.is_some()),
            ("lora_target_modules", !self.lora_target_modules.is_empty()),
            ("use_rslora", self.use_rslora),
            ("use_dora", self.use_dora),
            ("init_lora_weights", self.init_lora_weights.is_some()),
            ("rank_pattern", !self.rank_pattern.is_empty()),
            ("alpha_pattern", !self.alpha_pattern.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }

    pub(in crate::config) fn check_adapter(&self, problems: &mut Problems) {
        for key in self.lora_keys() {
            if let Some(dir) = self.adapter_name_or_path.as_ref().filter(|_| key != "lora_dropout") {
                let dir = dir.display();
                let message =
                    format!("`{key}` is set by the adapter and cannot change: remove it, or train without {dir}");
                problems.refuse(&[key, "adapter_name_or_path"], message);
            } else if !self.use_peft && self.adapter_name_or_path.is_none() {
                problems.refuse(&[key, "use_peft"], format!("`{key}` has no effect without use_peft = true"));
            }
        }
        let adapted = self.use_peft || self.adapter_name_or_path.is_some();
        for (key, given) in [
            ("modules_to_save", !self.modules_to_save.is_empty()),
            ("trainable_token_indices", !self.trainable_token_indices.is_empty()),
        ] {
            if given && !adapted {
                let message = format!("`{key}` has no effect without adapters: set use_peft = true");
                problems.refuse(&[key, "use_peft", "adapter_name_or_path"], message);
            }
        }
        if self.adds_tokens() && !self.trainable_token_indices.is_empty() {
            let message = "`trainable_token_indices` and added tokens exclude each other: embedding and head are trained \
                           and saved whole where tokens are added";
            problems.refuse(&["trainable_token_indices", "added_special_tokens", "added_tokens"], message.to_owned());
        }
        if adapted && !self.unfreeze_layers_patterns.is_empty() {
            let message = "`unfreeze_layers_patterns` and adapters exclude each other: give one".to_owned();
            problems.refuse(&["unfreeze_layers_patterns", "use_peft", "adapter_name_or_path"], message);
        }
        if adapted && self.init == Init::Random {
            let message = "`init` = \"random\" and adapters exclude each other: an adapter is of no use without the \
                           weights it was trained on, and random ones are not saved";
            problems.refuse(&["init", "use_peft", "adapter_name_or_path"], message.to_owned());
        }
        if let Some(init) = self.init_lora_weights.filter(|init| init.changes_base()) {
            for (key, given) in [("use_dora", self.use_dora), ("load_in_4bit", self.load_in_4bit)] {
                if given {
                    let init = init.name();
                    let message = format!(
                        "`{key}` and `init_lora_weights` = {init:?}, which changes the base, exclude each other: give one"
                    );
                    problems.refuse(&[key, "init_lora_weights"], message);
                }
            }
        }
        problems.range("lora_r", self.lora_r != Some(0), "at least 1", 0);
        for (pattern, rank) in &self.rank_pattern {
            problems.range("rank_pattern", *rank > 0, "ranks of at least 1", format!("{rank} for {pattern}"));
        }
        for (pattern, alpha) in &self.alpha_pattern {
            problems.range("alpha_pattern", is_positive(*alpha), "positive numbers", format!("{alpha} for {pattern}"));
        }
        if let Some(alpha) = self.lora_alpha {
            problems.range("lora_alpha", is_positive(alpha), "a positive number", alpha);
        }
        if let Some(dropout) = self.lora_dropout {
            problems.range("lora_dropout", (0.0..1.0).contains(&dropout), "from 0 up to but not 1", dropout);
        }
    }
}
