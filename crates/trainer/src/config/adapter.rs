//! The LoRA keys together: what is trained instead of the weights.

use std::path::PathBuf;

use smpo_model::LoraConfig;

use super::check::range;
use super::{Init, TrainConfig};

/// Where adapters start.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterStart {
    /// From nothing.
    Fresh(LoraConfig),
    /// From a PEFT adapter in this directory.
    From(PathBuf),
}

impl TrainConfig {
    /// The adapters to train; `None` where the weights themselves are.
    pub fn adapter(&self) -> Option<AdapterStart> {
        if let Some(dir) = &self.adapter_name_or_path {
            return Some(AdapterStart::From(dir.clone()));
        }
        let targets = match self.lora_target_modules.as_slice() {
            [] => vec!["all-linear".to_owned()],
            given => given.to_vec(),
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
            })
        })
    }

    /// The LoRA keys that are given, for messages.
    pub(super) fn lora_keys(&self) -> impl Iterator<Item = &'static str> {
        [
            ("lora_r", self.lora_r.is_some()),
            ("lora_alpha", self.lora_alpha.is_some()),
            ("lora_dropout", self.lora_dropout.is_some()),
            ("lora_target_modules", !self.lora_target_modules.is_empty()),
            ("use_rslora", self.use_rslora),
            ("use_dora", self.use_dora),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
    }

    pub(super) fn check_adapter(&self) -> Result<(), String> {
        let first = self.lora_keys().next();
        if let (Some(key), Some(dir)) = (first, &self.adapter_name_or_path) {
            let dir = dir.display();
            return Err(format!("`{key}` is the adapter's own and cannot change: remove it, or train without {dir}"));
        }
        if let (Some(key), false) = (first, self.use_peft) {
            return Err(format!("`{key}` has no effect without use_peft = true"));
        }
        let adapted = self.use_peft || self.adapter_name_or_path.is_some();
        if adapted && !self.unfreeze_layers_patterns.is_empty() {
            return Err("`unfreeze_layers_patterns` and adapters exclude each other: give one".to_owned());
        }
        if adapted && self.init == Init::Random {
            return Err("`init` = \"random\" and adapters exclude each other: nobody else has those weights".to_owned());
        }
        range("lora_r", self.lora_r != Some(0), "at least 1", 0)?;
        if let Some(alpha) = self.lora_alpha {
            range("lora_alpha", alpha > 0.0 && alpha.is_finite(), "a positive number", alpha)?;
        }
        if let Some(dropout) = self.lora_dropout {
            range("lora_dropout", (0.0..1.0).contains(&dropout), "from 0 up to but not 1", dropout)?;
        }
        Ok(())
    }
}
