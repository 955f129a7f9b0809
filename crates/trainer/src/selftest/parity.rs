//! Ten float32 training steps on a device and on the CPU: the losses must agree.

use serde_json::json;
use smpo_devices::{Choice, OpenDevice, on_device};
use smpo_losses::{EosTerm, Loss, LossConfig, Objective, Transforms};
use smpo_model::{Config, Decoder, LoraConfig, Placement};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::learner::Learner;
use crate::learner_options::LearnerOptions;
use crate::memory_budget::MemoryBudget;
use crate::scoring::StepRow;
use crate::synthetic;

/// Number of steps compared.
pub const STEPS: u64 = 10;
/// Largest difference of two losses that passes, in nats.
pub const BOUND: f64 = 1e-4;

/// Losses of the same steps on the CPU and on the device, in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// Parameters trained.
    pub trained: &'static str,
    /// Losses on the CPU.
    pub expected: Vec<f64>,
    /// Losses on the device.
    pub got: Vec<f64>,
}

impl Parity {
    /// Maximum absolute difference; NaN where a loss is.
    pub fn difference(&self) -> f64 {
        let differences = self.expected.iter().zip(&self.got).map(|(expected, got)| (expected - got).abs());
        differences.fold(0.0, |largest, next| if next > largest || next.is_nan() { next } else { largest })
    }

    /// True if all differences are within [`BOUND`] and the loss fell.
    pub fn passed(&self) -> bool {
        let learnt = self.expected.last() < self.expected.first();
        learnt && self.expected.len() == self.got.len() && self.difference() <= BOUND
    }
}

/// Trains all weights, then adapters with gradient checkpointing, on the CPU and on the device.
///
/// # Errors
/// When a step fails on one of them.
pub fn ten_steps(device: &OpenDevice) -> Result<Vec<Parity>, TrainError> {
    let cpu = Choice::Cpu.open()?;
    let mut found = Vec::new();
    for (trained, adapters) in [("all weights", false), ("adapters, checkpointed", true)] {
        let expected = losses(&cpu, adapters)?;
        let got = on_device(device, || losses(device, adapters))?;
        found.push(Parity { trained, expected, got });
    }
    Ok(found)
}

/// Two blocks of 64.
fn tiny() -> Result<Config, TrainError> {
    Ok(Config::from_json(json!({
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": true,
        "use_sliding_window": false,
    }))?)
}

fn losses(device: &OpenDevice, adapters: bool) -> Result<Vec<f64>, TrainError> {
    let config = tiny()?;
    let placement = Placement { device: device.device().clone(), ..Placement::default() };
    let mut decoder = Decoder::init_on(&config, 1, None, &placement)?;
    if adapters {
        let targets = vec!["all-linear".to_owned()];
        let lora = LoraConfig { r: 4, alpha: 8.0, targets, ..LoraConfig::default() };
        decoder.add_lora(&lora, 1)?;
    }
    let transforms = Transforms { eos_term: EosTerm::Invert, min_log_prob: Some(-2.3), ..Transforms::default() };
    let settings = TrainConfig::builder(LossConfig::from(Loss::Smpo(Default::default())).with_transforms(transforms))
        .model("random")
        .output_dir("none")
        .train_files(["synthetic"])
        .learning_rate(2e-3)
        .max_length(48)
        .per_device_train_batch_size(2)
        .gradient_checkpointing(adapters)
        .build()
        .map_err(TrainError::from)?;
    let options = LearnerOptions::of(&settings, decoder.spec(), MemoryBudget::host(), None)?;
    let mut learner = Learner::new(decoder, Objective::new(settings.loss.clone())?, options)?;
    let rows = synthetic::pairs(4, 48, config.spec().vocab_size, |id| id % 97 == 0, 1);
    let rows: Vec<StepRow<'_>> = rows.iter().map(|row| StepRow { row, reference: None, other: None }).collect();
    let step = |step| Ok(learner.step(&rows, step, settings.learning_rate)?.evaluation.value);
    (0..STEPS).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_to_the_last_bit() {
        for parity in ten_steps(&Choice::Cpu.open().unwrap()).unwrap() {
            assert_eq!(parity.expected.len(), 10);
            assert_eq!(parity.difference(), 0.0, "{parity:?}");
            assert!(parity.passed(), "{parity:?}");
        }
    }

    #[test]
    fn a_difference_or_a_nan_fails() {
        let parity = |got: Vec<f64>| Parity { trained: "t", expected: vec![2.0, 1.0], got };
        assert!(parity(vec![2.0, 1.00009]).passed());
        assert!(!parity(vec![2.0, 1.0002]).passed());
        assert!(!parity(vec![f64::NAN, 1.0]).passed());
        assert!(!parity(vec![2.0]).passed());
        let nothing_learnt = Parity { trained: "t", expected: vec![1.0, 1.0], got: vec![1.0, 1.0] };
        assert!(!nothing_learnt.passed());
    }
}
