//! Early stopping, by evaluations that stop improving and by the probe's EOS rate.
//!
//! [`EarlyStopping`] decides only: it is given metrics and returns [`Action`]s, which the loop carries out, so that every
//! decision is tested without a model or a disk. Its state is part of a checkpoint.

use serde::{Deserialize, Serialize};

use crate::config::{OnDrop, TrainConfig};
use crate::record::StepRecord;

/// Action of the loop after a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write a checkpoint.
    Save,
    /// End the run here.
    Stop(StopReason),
}

/// Reason for the end of a run before its last step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// No evaluation improved on the best one for `patience` evaluations.
    EarlyStopping {
        /// Step of the best one.
        best_step: u64,
        /// Its value.
        best: f64,
        /// Number of evaluations since.
        patience: u64,
    },
    /// The EOS rate of the probe fell below its bound.
    EosRate {
        /// EOS rate now, as a share.
        rate: f64,
        /// EOS rate before training.
        start: f64,
        /// Last step at which it was within the bound.
        last_good: u64,
    },
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EarlyStopping { best_step, best, patience } => {
                write!(f, "no improvement in {patience} evaluations on {best:.4} at step {best_step}")
            }
            Self::EosRate { rate, start, last_good } => write!(
                f,
                "the probe's EOS rate is {:.1} %, it was {:.1} % before training; the last step within the bound is {last_good}",
                100.0 * rate,
                100.0 * start
            ),
        }
    }
}

/// Rules of early stopping.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Metric that evaluations are compared by.
    pub best_metric: String,
    /// True if more of it is better.
    pub greater: bool,
    /// Minimum improvement over the best.
    pub threshold: f64,
    /// True if the best checkpoint is the run's result.
    pub keep_best: bool,
    /// Evaluations in a row without improvement that end the run.
    pub patience: Option<u64>,
    /// Maximum fall of the probe's EOS rate, as a share, and the run's result after a larger one.
    pub eos_drop: Option<(f64, OnDrop)>,
}

impl Rules {
    /// Rules of a configuration.
    pub fn new(config: &TrainConfig) -> Self {
        let probe = config.probe.as_ref();
        Rules {
            best_metric: config.best_metric(),
            greater: config.best_is_greatest(),
            threshold: config.early_stopping_threshold,
            keep_best: config.load_best_model_at_end,
            patience: config.early_stopping_patience,
            eos_drop: probe.and_then(|probe| Some((probe.max_eos_drop?, probe.on_drop))),
        }
    }
}

/// State of early stopping.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    best: Option<Best>,
    since_best: u64,
    eos_rate_at_start: Option<f64>,
    last_good: Option<u64>,
    stopped: Option<StopReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Best {
    step: u64,
    value: f64,
}

impl EarlyStopping {
    /// Decides on a step's metrics. Step 0 is the model before training, the baseline of later steps.
    pub fn observe(&mut self, rules: &Rules, record: &StepRecord) -> Vec<Action> {
        let mut save = false;
        if let Some(value) = record.metric(&rules.best_metric).filter(|value| value.is_finite()) {
            if self.is_better(rules, value) {
                self.best = Some(Best { step: record.step, value });
                self.since_best = 0;
                save |= rules.keep_best;
            } else {
                self.since_best += 1;
            }
            if let (Some(patience), Some(best)) = (rules.patience, self.best)
                && self.since_best >= patience
            {
                self.stopped = Some(StopReason::EarlyStopping { best_step: best.step, best: best.value, patience });
            }
        }
        if let (Some((drop, on_drop)), Some(rate)) = (rules.eos_drop, record.metric("probe/eos_rate")) {
            let start = *self.eos_rate_at_start.get_or_insert(rate);
            // A share of n prompts is a multiple of 1/n: a fall by exactly the bound is not past it.
            if start - rate <= drop + 1e-9 {
                self.last_good = Some(record.step);
                save |= on_drop == OnDrop::KeepLastGood;
            } else {
                self.stopped = Some(StopReason::EosRate { rate, start, last_good: self.last_good.unwrap_or(0) });
            }
        }
        let stop = self.stopped.map(Action::Stop);
        (save || stop.is_some()).then_some(Action::Save).into_iter().chain(stop).collect()
    }

    fn is_better(&self, rules: &Rules, value: f64) -> bool {
        let Some(best) = self.best else { return true };
        let gain = if rules.greater { value - best.value } else { best.value - value };
        gain > rules.threshold
    }

    /// Forgets the best evaluation: those on other rows cannot be compared with it.
    pub(crate) fn compare_anew(&mut self) {
        self.best = None;
        self.since_best = 0;
    }

    /// Reason for the end of the run, if it has ended.
    pub fn stopped(&self) -> Option<StopReason> {
        self.stopped
    }

    /// Step of the best evaluation.
    pub(crate) fn best_step(&self) -> Option<u64> {
        self.best.map(|best| best.step)
    }

    /// Last step whose EOS rate was within the bound.
    pub(crate) fn last_good(&self) -> Option<u64> {
        self.last_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            best_metric: "eval_loss".to_owned(),
            greater: false,
            threshold: 0.0,
            keep_best: true,
            patience: Some(2),
            eos_drop: None,
        }
    }

    fn record(step: u64, name: &'static str, value: f64) -> StepRecord {
        StepRecord { step, epoch: 0.0, metrics: vec![(name.into(), value)], update: None }
    }

    #[test]
    fn the_best_is_saved_kept_and_returned_and_patience_ends_the_run() {
        let (rules, mut state) = (rules(), EarlyStopping::default());
        let mut see = |step, value| state.observe(&rules, &record(step, "eval_loss", value));
        assert_eq!(see(0, 1.0), [Action::Save]);
        assert_eq!(see(10, 0.5), [Action::Save]);
        assert_eq!(see(20, 0.6), []);
        assert_eq!(see(25, f64::NAN), []);
        let reason = StopReason::EarlyStopping { best_step: 10, best: 0.5, patience: 2 };
        assert_eq!(see(30, 0.5), [Action::Save, Action::Stop(reason)]);
        assert_eq!(state.result(&rules), Some(10));
        assert_eq!(state.result(&Rules { keep_best: false, ..rules.clone() }), None, "the best is not asked for");
        assert_eq!(state.superseded(&rules, &[0, 10, 20, 25, 30], 2), [0, 20]);
    }

    #[test]
    fn a_threshold_and_a_direction_decide_what_is_better() {
        let rules = Rules { greater: true, threshold: 0.1, patience: None, ..rules() };
        let mut state = EarlyStopping::default();
        for (step, value, saved) in [(0, 0.5, true), (1, 0.58, false), (2, 0.61, true), (3, 0.1, false)] {
            assert_eq!(!state.observe(&rules, &record(step, "eval_loss", value)).is_empty(), saved, "step {step}");
        }
        assert_eq!(state.result(&rules), Some(2));
    }

    #[test]
    fn a_fall_of_the_eos_rate_ends_the_run_at_the_last_good_step() {
        let rules = Rules { eos_drop: Some((0.05, OnDrop::KeepLastGood)), keep_best: false, ..rules() };
        let mut state = EarlyStopping::default();
        let mut see = |step, rate| state.observe(&rules, &record(step, "probe/eos_rate", rate));
        assert_eq!(see(0, 0.95), [Action::Save]);
        assert_eq!(see(5, 0.90), [Action::Save]);
        assert!(matches!(see(10, 0.89)[..], [Action::Save, Action::Stop(StopReason::EosRate { last_good: 5, .. })]));
        assert_eq!(state.result(&rules), Some(5));
        assert_eq!(state.superseded(&rules, &[0, 5, 10], 1), [0]);
        // The state survives a checkpoint.
        let kept: EarlyStopping = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        assert_eq!(kept, state);

        let stop = Rules { eos_drop: Some((0.05, OnDrop::Stop)), ..rules };
        let mut state = EarlyStopping::default();
        assert_eq!(state.observe(&stop, &record(0, "probe/eos_rate", 1.0)), []);
        assert_eq!(state.observe(&stop, &record(5, "probe/eos_rate", 0.5)).len(), 2);
        assert_eq!(state.result(&stop), None);
    }

    #[test]
    fn one_checkpoint_serves_the_best_evaluation_and_the_last_good_probe() {
        let rules = Rules { eos_drop: Some((0.25, OnDrop::KeepLastGood)), ..rules() };
        let mut state = EarlyStopping::default();
        let mut see = |step, loss, rate| {
            let metrics = vec![("eval_loss".into(), loss), ("probe/eos_rate".into(), rate)];
            state.observe(&rules, &StepRecord { step, epoch: 0.0, metrics, update: None })
        };
        assert_eq!(see(1, 1.0, 1.0), [Action::Save]);
        assert_eq!(see(2, 1.5, 0.875), [Action::Save], "within the bound");
        assert_eq!(see(3, 0.5, 0.75), [Action::Save], "a fall by the bound is not past it");
        assert!(matches!(
            see(4, 0.25, 0.625)[..],
            [Action::Save, Action::Stop(StopReason::EosRate { last_good: 3, .. })]
        ));
        assert_eq!(state.superseded(&rules, &[1, 2, 3, 4], 0), [1, 2]);
        assert_eq!(state.superseded(&Rules { keep_best: false, ..rules.clone() }, &[1, 2, 3, 4], 0), [1, 2, 4]);
        assert_eq!(state.superseded(&Rules { eos_drop: None, ..rules }, &[1, 2, 3, 4], 1), [1, 2, 3]);
    }

    #[test]
    fn an_improvement_by_the_threshold_alone_is_none() {
        let rules = Rules { threshold: 0.25, ..rules() };
        let mut state = EarlyStopping::default();
        let mut see = |step, value| state.observe(&rules, &record(step, "eval_loss", value));
        assert_eq!((see(0, 1.0), see(1, 0.75), see(2, 0.5)), (vec![Action::Save], vec![], vec![Action::Save]));
        assert_eq!((see(3, 0.5), see(4, 0.26).len()), (vec![], 2), "patience is counted from the best one");
    }

    #[test]
    fn evaluations_on_other_rows_are_a_new_start() {
        let (rules, mut state) = (rules(), EarlyStopping::default());
        for (step, value) in [(0, 0.5), (1, 0.75)] {
            state.observe(&rules, &record(step, "eval_loss", value));
        }
        state.compare_anew();
        assert_eq!((state.best_step(), state.stopped()), (None, None));
        let seen = [(2, 0.875), (3, 0.9)].map(|(step, value)| state.observe(&rules, &record(step, "eval_loss", value)));
        assert_eq!(seen, [vec![Action::Save], vec![]]);
        assert_eq!(state.best_step(), Some(2));
    }

    #[test]
    fn the_reason_is_told_with_its_numbers() {
        let improvement = StopReason::EarlyStopping { best_step: 7, best: 0.5, patience: 2 };
        assert_eq!(improvement.to_string(), "no improvement in 2 evaluations on 0.5000 at step 7");
        let ends = StopReason::EosRate { rate: 0.625, start: 0.95, last_good: 3 };
        let told = "the probe's EOS rate is 62.5 %, it was 95.0 % before training; the last step within the bound is 3";
        assert_eq!(ends.to_string(), told);
    }
}
