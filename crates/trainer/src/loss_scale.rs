//! Dynamic loss scaling: float16 gradients that would vanish are computed larger and divided again in float32.
//!
//! Micikevicius et al. 2018 (arXiv 1710.03740, section 3.2), with the constants of PyTorch's `torch.amp.GradScaler`:
//! from 2^16, halved when a gradient is not finite (and the step skipped), doubled after 2,000 steps without one. The
//! scale is a power of two, so dividing by it changes no bit of a gradient that did not vanish.

use serde::{Deserialize, Serialize};

const INITIAL: f64 = 65_536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const GROWTH_INTERVAL: u32 = 2_000;

/// Current scale, and the number of finite steps since it last changed. Part of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: f64,
    good_steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: INITIAL, good_steps: 0 }
    }
}

impl LossScale {
    /// Factor that the loss is multiplied by.
    pub fn factor(&self) -> f64 {
        self.scale
    }

    /// Counts a step whose gradient was finite; doubles the scale after 2,000 of them.
    pub fn count_finite_step(&mut self) {
        self.good_steps += 1;
        if self.good_steps == GROWTH_INTERVAL {
            self.scale *= GROWTH;
            self.good_steps = 0;
        }
    }

    /// Halves the scale after a step whose gradient was not finite. False if the scale was 1 or less: nothing was
    /// enlarged then, so the gradient itself is not finite.
    pub fn back_off(&mut self) -> bool {
        self.good_steps = 0;
        if self.scale <= 1.0 {
            return false;
        }
        self.scale *= BACKOFF;
        true
    }
}

#[cfg(test)]
mod tests {
    use smpo_data::{Row, TokenizedCompletion};
    use smpo_losses::{Loss, Objective};
    use smpo_model::Decoder;

    use super::*;
    use crate::config::TrainConfig;
    use crate::learner::{Learner, StepOutcome};
    use crate::learner_options::LearnerOptions;
    use crate::memory_budget::MemoryBudget;
    use crate::scoring::StepRow;

    /// A small model under SMPO, with a scale although it is float32.
    fn learner(scale: Option<f64>) -> Learner {
        let config = TrainConfig::builder(Loss::Smpo(Default::default())).model("m").output_dir("o").train_files(["d"]);
        let config = config.learning_rate(1e-2).max_length(32).max_grad_norm(0.1).build().unwrap();
        let objective = Objective::new(config.loss.clone()).unwrap();
        let decoder = Decoder::load(smpo_fixtures::golden("model", "qwen2")).unwrap();
        let options = LearnerOptions::of(&config, decoder.spec(), MemoryBudget::host(), None).unwrap();
        let mut learner = Learner::new(decoder, objective, options).unwrap();
        assert_eq!(learner.loss_scale(), None, "float32 needs none");
        learner.set_loss_scale(scale.map(|scale| LossScale { scale, good_steps: 7 }));
        learner
    }

    fn step(learner: &mut Learner) -> StepOutcome {
        let [chosen, rejected] =
            [vec![4, 5, 6], vec![7, 6]].map(|ids| Some(TokenizedCompletion::new(ids, |id| id == 6)));
        let row = Row { id: "r".into(), prompt: vec![1, 2, 3], chosen, rejected, ..Row::default() };
        let rows = [StepRow { row: &row, reference: None, other: None }];
        learner.step(&rows, 0, 1e-2).unwrap()
    }

    fn weights(learner: &Learner) -> Vec<Vec<f32>> {
        let trainable = learner.decoder().trainable();
        trainable.iter().map(|(_, var)| var.flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    #[test]
    fn a_scaled_step_is_the_same_to_the_last_bit() {
        let (mut plain, mut scaled) = (learner(None), learner(Some(INITIAL)));
        let (expected, got) = (step(&mut plain), step(&mut scaled));
        assert_eq!((got.loss_scale, expected.loss_scale), (Some(INITIAL), None));
        assert_eq!(got.grad_norm, expected.grad_norm);
        assert!(weights(&plain) == weights(&scaled));
        assert_eq!(scaled.loss_scale(), Some(LossScale { scale: INITIAL, good_steps: 8 }));
    }

    #[test]
    fn a_scale_that_is_too_large_skips_the_step_and_is_halved() {
        let huge = 2f64.powi(120);
        let mut learner = learner(Some(huge));
        let before = weights(&learner);
        let outcome = step(&mut learner);
        assert!(!outcome.grad_norm.is_finite() && outcome.evaluation.value.is_finite(), "{outcome:?}");
        assert!(weights(&learner) == before);
        assert_eq!(learner.optimizer().steps(), 0);
        assert_eq!(learner.loss_scale(), Some(LossScale { scale: huge / 2.0, good_steps: 0 }));
    }

    #[test]
    fn it_doubles_after_two_thousand_good_steps_and_halves_at_once() {
        let mut scale = LossScale::default();
        assert_eq!(scale.factor(), 65_536.0);
        (0..1_999).for_each(|_| scale.count_finite_step());
        assert_eq!(scale.factor(), 65_536.0);
        scale.count_finite_step();
        assert_eq!(scale.factor(), 131_072.0);
        (0..1_999).for_each(|_| scale.count_finite_step());
        // What was counted is lost with the first bad one.
        assert!(scale.back_off());
        assert_eq!(scale.factor(), 65_536.0);
        scale.count_finite_step();
        assert_eq!(scale.factor(), 65_536.0);
    }

    #[test]
    fn a_scale_of_one_is_not_to_blame() {
        let mut scale = LossScale::default();
        let halvings = (0..).take_while(|_| scale.back_off()).count();
        assert_eq!((halvings, scale.factor()), (16, 1.0));
    }
}
