//! Numbers that an objective carries from one step to the next.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// State of an objective between steps; part of a checkpoint. Empty but under the winsor scope `window` and for losses
/// that follow a statistic over steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossState {
    /// The last rejected ℓ, after the EOS term, oldest first, in nats.
    pub rejected: VecDeque<f64>,
    /// The last chosen ℓ, oldest first, in nats.
    pub chosen: VecDeque<f64>,
    /// Statistics of LMPO's margins.
    #[serde(default, skip_serializing_if = "RunningMoments::is_empty")]
    pub margins: RunningMoments,
}

/// Exponential moving averages of the mean and the standard deviation of each step's values. As in Adam, they are
/// divided by the weight that they have gathered, so that the first steps are not pulled to 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningMoments {
    mean: f64,
    deviation: f64,
    /// Sum of the weights of both.
    weight: f64,
}

impl RunningMoments {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes in the values of a step.
    pub(crate) fn update(&mut self, values: &[f64], decay: f64) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        self.mean = decay * self.mean + (1.0 - decay) * mean;
        self.deviation = decay * self.deviation + (1.0 - decay) * deviation;
        self.weight = decay * self.weight + (1.0 - decay);
    }

    /// The value in standard deviations from the mean; 0 where all values so far were alike.
    pub(crate) fn standardized(&self, value: f64) -> f64 {
        let (mean, deviation) = (self.mean / self.weight, self.deviation / self.weight);
        if deviation > 1e-12 { (value - mean) / deviation } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_standardized_by_its_own_values() {
        let mut moments = RunningMoments::default();
        moments.update(&[1.0, 3.0], 0.9);
        assert!((moments.standardized(3.0) - 1.0 / 2f64.sqrt()).abs() < 1e-12);
        moments.update(&[5.0, 5.0], 0.9);
        // weights 0.09 and 0.1: mean (0.09·2 + 0.1·5)/0.19, deviation 0.09·√2/0.19
        let expected = (5.0 - 0.68 / 0.19) / (0.09 * 2f64.sqrt() / 0.19);
        assert!((moments.standardized(5.0) - expected).abs() < 1e-12);
    }

    #[test]
    fn values_that_are_alike_are_at_the_mean() {
        let mut moments = RunningMoments::default();
        moments.update(&[0.25], 0.9);
        assert_eq!(moments.standardized(0.25), 0.0);
        // one value has no deviation, and leaves the next step's alone: weights 0.09 and 0.1
        moments.update(&[1.0, 3.0], 0.9);
        let expected = (3.0 - (0.09 * 0.25 + 0.1 * 2.0) / 0.19) / (0.1 * 2f64.sqrt() / 0.19);
        assert!((moments.standardized(3.0) - expected).abs() < 1e-12);
    }

    #[test]
    fn a_state_of_an_earlier_checkpoint_is_read() {
        let state: LossState = serde_json::from_str(r#"{"rejected": [-1.0], "chosen": []}"#).unwrap();
        assert_eq!(serde_json::to_string(&state).unwrap(), r#"{"rejected":[-1.0],"chosen":[]}"#);
    }

    #[test]
    fn margins_that_were_gathered_are_part_of_a_checkpoint() {
        let mut state = LossState::default();
        state.margins.update(&[1.0, 3.0], 0.9);
        let stored = serde_json::to_string(&state).unwrap();
        assert!(stored.contains("margins"), "{stored}");
        assert_eq!(serde_json::from_str::<LossState>(&stored).unwrap(), state);
    }
}
