//! Ranges, and keys that exclude each other.

use smpo_data::HoldOut;

use super::{Init, TrainConfig};

impl TrainConfig {
    /// Ranges, and fields that exclude each other. Messages quote the field.
    pub(super) fn check(&self) -> Result<(), String> {
        let unit = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        range("learning_rate", positive(self.learning_rate), "a positive number", self.learning_rate)?;
        range("num_train_epochs", positive(self.num_train_epochs), "a positive number", self.num_train_epochs)?;
        range("max_steps", self.max_steps != Some(0), "at least 1", 0)?;
        range("max_tokens_per_pack", self.max_tokens_per_pack != Some(0), "at least 1", 0)?;
        range("per_device_train_batch_size", self.per_device_train_batch_size > 0, "at least 1", 0)?;
        range("gradient_accumulation_steps", self.gradient_accumulation_steps > 0, "at least 1", 0)?;
        range("max_length", self.max_length >= 2, "at least 2", self.max_length)?;
        range("save_steps", self.save_steps != Some(0), "at least 1", 0)?;
        range("save_total_limit", self.save_total_limit > 0, "at least 1", 0)?;
        range("dataset", !self.dataset.is_empty(), "at least one file", "none")?;
        if !self.dataset_ratio.is_empty() {
            let (ratios, files) = (self.dataset_ratio.len(), self.dataset.len());
            range("dataset_ratio", ratios == files, &format!("one number per file ({files})"), ratios)?;
            for ratio in &self.dataset_ratio {
                range("dataset_ratio", *ratio >= 0.0 && ratio.is_finite(), "0 or more", ratio)?;
            }
        }
        range("dataset_sample", self.dataset_sample != Some(0), "at least 1", 0)?;
        range("min_lr_ratio", (0.0..=1.0).contains(&self.min_lr_ratio), "from 0 to 1", self.min_lr_ratio)?;
        range(
            "weight_decay",
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            "0 or more",
            self.weight_decay,
        )?;
        range("adam_beta1", unit(self.adam_beta1), "from 0 up to but not 1", self.adam_beta1)?;
        range("adam_beta2", unit(self.adam_beta2), "from 0 up to but not 1", self.adam_beta2)?;
        range("adam_epsilon", positive(self.adam_epsilon), "a positive number", self.adam_epsilon)?;
        range(
            "max_grad_norm",
            self.max_grad_norm >= 0.0 && self.max_grad_norm.is_finite(),
            "0 (off) or more",
            self.max_grad_norm,
        )?;
        if let Some(ratio) = self.warmup_ratio {
            range("warmup_ratio", (0.0..=1.0).contains(&ratio), "from 0 to 1", ratio)?;
            if self.warmup_steps.is_some() {
                return Err("`warmup_ratio` and `warmup_steps` exclude each other: give one".to_owned());
            }
        }
        if self.bf16 && self.fp16 {
            return Err("`bf16` and `fp16` exclude each other: give one".to_owned());
        }
        if let Some(prompt) = self.max_prompt_length {
            let holds = prompt >= 1 && prompt < self.max_length;
            range("max_prompt_length", holds, &format!("from 1 to max_length - 1 = {}", self.max_length - 1), prompt)?;
        }
        if let Some(std) = self.embedding_std {
            range("embedding_std", positive(std), "a positive number", std)?;
            if self.init != Init::Random {
                return Err("`embedding_std` needs init = \"random\"".to_owned());
            }
        }
        range("lr_decay_ratio", (0.0..=1.0).contains(&self.lr_decay_ratio), "from 0 to 1", self.lr_decay_ratio)?;
        self.check_evaluation()?;
        self.check_adapter()?;
        self.alarms.check()?;
        self.probe.as_ref().map_or(Ok(()), super::ProbeConfig::check)
    }

    fn check_evaluation(&self) -> Result<(), String> {
        if let Some(HoldOut::Share(share)) = self.test_size {
            let expected = "a share from 0 up to but not 1, or a whole number of rows";
            range("test_size", (0.0..1.0).contains(&share), expected, share)?;
        }
        if self.test_size.is_some() && !self.eval_dataset.is_empty() {
            return Err("`test_size` and `eval_dataset` exclude each other: give one".to_owned());
        }
        range("eval_steps", self.eval_steps != Some(0), "at least 1", 0)?;
        range("per_device_eval_batch_size", self.per_device_eval_batch_size != Some(0), "at least 1", 0)?;
        range("early_stopping_patience", self.early_stopping_patience != Some(0), "at least 1", 0)?;
        let threshold = self.early_stopping_threshold;
        range("early_stopping_threshold", threshold >= 0.0 && threshold.is_finite(), "0 or more", threshold)?;
        let judged = [
            ("load_best_model_at_end", self.load_best_model_at_end),
            ("early_stopping_patience", self.early_stopping_patience.is_some()),
        ];
        let needs = self.best_metric();
        for (field, _) in judged.into_iter().filter(|(_, on)| *on) {
            if needs.starts_with("probe/") && self.probe.is_none() {
                return Err(format!("`{field}` goes by {needs}, which needs a [probe] table"));
            }
            if needs.starts_with("eval_") && !self.evaluates() {
                return Err(format!("`{field}` goes by {needs}, which needs `test_size` or `eval_dataset`"));
            }
        }
        Ok(())
    }
}

pub(super) fn range(field: &str, holds: bool, range: &str, given: impl std::fmt::Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("`{field}` must be {range}, got {given}")) }
}
