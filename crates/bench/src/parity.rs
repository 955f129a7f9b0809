//! Ten float32 training steps on a device and on the processor: the losses must be the same.

use smpo_devices::{Choice, OpenDevice};
use smpo_losses::{EosTerm, Loss, LossConfig, Objective, Transforms};
use smpo_model::{Decoder, LoraConfig, Placement};
use smpo_trainer::{Learner, StepRow, TrainConfig, TrainError, on_device};

use crate::error::BenchError;
use crate::made;
use crate::shape::Shape;

/// Steps that are compared.
pub const STEPS: u64 = 10;
/// The largest difference of two losses that passes.
pub const BOUND: f64 = 1e-4;

/// Losses of the same steps, the processor's first.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// What was trained.
    pub trained: &'static str,
    /// On the processor.
    pub expected: Vec<f64>,
    /// On the device.
    pub got: Vec<f64>,
}

impl Parity {
    /// The largest difference; not a number where a loss is not.
    pub fn difference(&self) -> f64 {
        let differences = self.expected.iter().zip(&self.got).map(|(expected, got)| (expected - got).abs());
        differences.fold(0.0, |largest, next| if next > largest || next.is_nan() { next } else { largest })
    }

    /// Whether all differences are within [`BOUND`], and something was learnt.
    pub fn passed(&self) -> bool {
        let learnt = self.expected.last() < self.expected.first();
        learnt && self.expected.len() == self.got.len() && self.difference() <= BOUND
    }
}

/// Trains all weights, then adapters with checkpointing, on both.
///
/// # Errors
/// When a step fails on either.
pub fn ten_steps(device: &OpenDevice) -> Result<Vec<Parity>, BenchError> {
    let processor = Choice::Cpu.open()?;
    let mut found = Vec::new();
    for (trained, adapters) in [("all weights", false), ("adapters, checkpointed", true)] {
        let expected = losses(&processor, adapters)?;
        let got = on_device(device, || losses(device, adapters))?;
        found.push(Parity { trained, expected, got });
    }
    Ok(found)
}

fn losses(device: &OpenDevice, adapters: bool) -> Result<Vec<f64>, BenchError> {
    let config = Shape::Tiny.config()?;
    let placement = Placement { device: device.device().clone(), ..Placement::default() };
    let mut decoder = Decoder::init_on(&config, 1, None, &placement)?;
    if adapters {
        let targets = vec!["all-linear".to_owned()];
        let lora = LoraConfig { r: 4, alpha: 8.0, dropout: 0.0, rslora: false, dora: false, targets };
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
    let mut learner = Learner::new(decoder, Objective::new(settings.loss.clone())?, &settings)?;
    let rows = made::pairs(4, 48, config.spec().vocab_size, 1);
    let rows: Vec<StepRow<'_>> = rows.iter().map(|row| StepRow { row, reference: None }).collect();
    let is_terminator = |id| id % 97 == 0;
    let step = |step| Ok(learner.step(&rows, &is_terminator, step, None, settings.learning_rate)?.evaluation.value);
    (0..STEPS).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_agrees_with_itself_to_the_last_bit() {
        for parity in ten_steps(&Choice::Cpu.open().unwrap()).unwrap() {
            assert_eq!(parity.expected.len(), 10);
            assert_eq!(parity.difference(), 0.0, "{parity:?}");
            assert!(parity.passed(), "{parity:?}");
        }
    }

    #[test]
    fn what_differs_or_is_no_number_fails() {
        let parity = |got: Vec<f64>| Parity { trained: "t", expected: vec![2.0, 1.0], got };
        assert!(parity(vec![2.0, 1.00009]).passed());
        assert!(!parity(vec![2.0, 1.0002]).passed());
        assert!(!parity(vec![f64::NAN, 1.0]).passed());
        assert!(!parity(vec![2.0]).passed());
        let nothing_learnt = Parity { trained: "t", expected: vec![1.0, 1.0], got: vec![1.0, 1.0] };
        assert!(!nothing_learnt.passed());
    }
}
