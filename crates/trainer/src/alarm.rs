//! Alarms: warnings about a run that goes wrong, each raised once, with the measured value and a remedy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::{AlarmConfig, TrainConfig};
use crate::record::StepRecord;

/// Kinds of alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// The learning rate is far above what was published for the method.
    LearningRate,
    /// Chosen and rejected log-probs fall together.
    LogpsFall,
    /// The terminator on rejected answers is nearly gone.
    EosOnRejected,
    /// Too much of the rejected side is clipped.
    ClipShare,
    /// The loss prefers chosen on transformed log-probs, the model does not.
    NotLearned,
    /// Completions of the probe no longer end.
    ProbeEnds,
    /// A step's loss or gradient was not finite.
    NotFinite,
}

/// An alarm that was raised.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Kind.
    pub kind: AlarmKind,
    /// Step it was raised at; 0 is before training.
    pub step: u64,
    /// Message with the measured value.
    pub what: String,
    /// Remedy.
    pub remedy: &'static str,
}

/// Share of the probe's completions that ended.
const PROBE: &str = "probe/eos_rate";

/// Averages of metrics, and the alarms raised so far. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarms {
    #[serde(rename = "spoken")]
    raised: BTreeSet<AlarmKind>,
    chosen: Windowed,
    rejected: Windowed,
    eos: Windowed,
    clipped: Windowed,
    #[serde(default)]
    reward_accuracy: Windowed,
    #[serde(default)]
    logp_accuracy: Windowed,
    /// [`PROBE`] of the first probe.
    #[serde(default)]
    first_probe: Option<f64>,
}

impl Alarms {
    /// Figures that alarms are raised on.
    pub const FIGURES: [&str; 7] = [
        "logps/chosen",
        "logps/rejected",
        "eos_logp/rejected",
        "clip/share_rejected",
        "rewards/accuracies",
        "logps/accuracies_without_eos",
        PROBE,
    ];

    /// Checks the learning rate before the first step.
    pub fn before(&mut self, config: &TrainConfig, parameters: usize) -> Option<Alarm> {
        let rules = &config.alarms;
        let rates = config.loss.loss.learning_rates();
        let published = if config.adapter().is_some() { rates.lora } else { rates.full }?.highest;
        let times = config.learning_rate / published;
        if !rules.enabled || parameters < SMALLEST_JUDGED || times <= rules.learning_rate_factor {
            return None;
        }
        let kind = config.loss.loss.kind();
        let how = if config.adapter().is_some() { "with LoRA" } else { "on all weights" };
        let what = format!(
            "learning_rate is {:e}, {times:.0} times the highest published for {kind} {how} ({published:e})",
            config.learning_rate
        );
        self.raise(
            AlarmKind::LearningRate,
            0,
            what,
            "lower learning_rate; at too high a rate, answers stop ending first",
        )
    }

    /// Checks the metrics of a step.
    pub fn observe(&mut self, rules: &AlarmConfig, record: &StepRecord) -> Vec<Alarm> {
        if !rules.enabled {
            return Vec::new();
        }
        // in the order of their names
        let series = [
            &mut self.chosen,
            &mut self.rejected,
            &mut self.eos,
            &mut self.clipped,
            &mut self.reward_accuracy,
            &mut self.logp_accuracy,
        ];
        for (series, name) in series.into_iter().zip(Alarms::FIGURES) {
            if let Some(value) = record.metric(name).filter(|value| value.is_finite()) {
                series.push(value, rules.window);
            }
        }
        let step = record.step;
        let mut alarms = Vec::new();
        if let (Some(chosen), Some(rejected)) = (self.chosen.change(rules.window), self.rejected.change(rules.window))
            && chosen.max(rejected) <= -rules.logps_fall
        {
            alarms.extend(self.raise(
                AlarmKind::LogpsFall,
                step,
                format!(
                    "chosen and rejected log-probs fall together: by {:.2} and {:.2} nats per token since the first \
                     {} steps",
                    -chosen,
                    -rejected,
                    self.chosen.first(rules.window).len()
                ),
                "lower learning_rate or beta, or raise the weight of cross-entropy on chosen (chosen_sft_ratio, \
                 rpo_alpha, cpo_alpha)",
            ));
        }
        if let (Some(now), Some(change)) = (self.eos.now(rules.window), self.eos.change(rules.window))
            && (change < -rules.eos_fall || rules.eos_on_rejected.is_some_and(|bound| now < bound && change < -1.0))
        {
            alarms.extend(self.raise(
                AlarmKind::EosOnRejected,
                step,
                format!(
                    "the log-prob of the terminator on rejected answers is {now:.2} (p = {:.1e}), {:.2} nats below the \
                     first steps: the model unlearns to end its answers",
                    now.exp(),
                    -change
                ),
                KEEP_EOS,
            ));
        }
        if let Some(share) = self.clipped.now(rules.window).filter(|share| *share > rules.clip_share) {
            alarms.extend(self.raise(
                AlarmKind::ClipShare,
                step,
                format!("{:.0} % of the rejected tokens are clipped: most of that side has no gradient", 100.0 * share),
                "lower loss.min_log_prob, or lower loss.lower_clip_percentile",
            ));
        }
        alarms.extend(self.not_learned(rules, step));
        alarms.extend(self.probe_ends(rules, record));
        alarms
    }

    /// Compares the accuracies of a loss that clips: without bounds, its rewards need not be the log-probs.
    fn not_learned(&mut self, rules: &AlarmConfig, step: u64) -> Option<Alarm> {
        self.clipped.now(rules.window)?;
        let (of_loss, of_model) = (self.reward_accuracy.now(rules.window)?, self.logp_accuracy.now(rules.window)?);
        if of_loss - of_model <= rules.accuracy_gap {
            return None;
        }
        let what = format!(
            "the loss prefers chosen in {:.0} % of pairs, the model's log-probs without the terminator in {:.0} %: bounds and \
             the EOS term win the objective, the preference is not learned",
            100.0 * of_loss,
            100.0 * of_model
        );
        let remedy = "leave loss.min_log_prob and loss.lower_clip_percentile out, or lower them";
        self.raise(AlarmKind::NotLearned, step, what, remedy)
    }

    /// Compares a probe with the first one.
    fn probe_ends(&mut self, rules: &AlarmConfig, record: &StepRecord) -> Option<Alarm> {
        let now = record.metric(PROBE).filter(|share| share.is_finite())?;
        let first = *self.first_probe.get_or_insert(now);
        if first - now <= rules.probe_fall {
            return None;
        }
        let what = format!(
            "{:.0} % of the probe's completions end, {:.0} % did at the first probe: the model unlearns to stop on prompts \
             unlike the training data",
            100.0 * now,
            100.0 * first
        );
        self.raise(AlarmKind::ProbeEnds, record.step, what, KEEP_EOS)
    }

    /// Raises the alarm of a skipped step.
    pub fn not_finite(&mut self, rules: &AlarmConfig, step: u64, what: &str) -> Option<Alarm> {
        let remedy = "lower learning_rate, or look at the data of this step; such steps change nothing";
        rules.enabled.then(|| self.raise(AlarmKind::NotFinite, step, what.to_owned(), remedy)).flatten()
    }

    fn raise(&mut self, kind: AlarmKind, step: u64, what: String, remedy: &'static str) -> Option<Alarm> {
        self.raised.insert(kind).then_some(Alarm { kind, step, what, remedy })
    }
}

/// First and last values of a metric. A resumed run may have another window: bounds are of the window it has now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Windowed {
    first: Vec<f64>,
    last: Vec<f64>,
    /// True once `first` has filled a window: it takes no later values, whatever the window becomes.
    #[serde(default)]
    full: bool,
}

impl Windowed {
    fn push(&mut self, value: f64, window: usize) {
        // Files of earlier versions have no `full`: both lists are the same as long as nothing was taken out.
        if !self.full && self.first == self.last {
            self.first.push(value);
        }
        self.first.truncate(window);
        self.full |= self.first.len() == window;
        let surplus = (self.last.len() + 1).saturating_sub(window);
        self.last.drain(..surplus);
        self.last.push(value);
    }

    /// Mean of the last values, once there are `window` of them.
    fn now(&self, window: usize) -> Option<f64> {
        Some(mean(&self.last[self.last.len().checked_sub(window)?..]))
    }

    /// Difference of [`Windowed::now`] and the mean of the first values.
    fn change(&self, window: usize) -> Option<f64> {
        Some(self.now(window)? - mean(self.first(window)))
    }

    /// The first values, `window` at most.
    fn first(&self, window: usize) -> &[f64] {
        &self.first[..self.first.len().min(window)]
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Settings that keep the terminator at gentle and at steep rates (docs/study.md).
const KEEP_EOS: &str =
    "set loss.eos_term = \"mask\" and loss.eos_anchor = 0.1, lower learning_rate, or stop at an earlier checkpoint";

/// Published learning rates are of models with more than a billion parameters; small ones take far higher rates.
const SMALLEST_JUDGED: usize = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64, metrics: &[(&'static str, f64)]) -> StepRecord {
        let metrics = metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        StepRecord { step, epoch: 0.0, metrics, update: None }
    }

    fn raised(rules: &AlarmConfig, series: impl Fn(u64) -> Vec<(&'static str, f64)>) -> Vec<Alarm> {
        let mut alarms = Alarms::default();
        (1..=40).flat_map(|step| alarms.observe(rules, &record(step, &series(step)))).collect()
    }

    #[test]
    fn each_is_raised_once_when_its_bound_is_passed() {
        let rules = AlarmConfig::default();
        let falls = |from: f64, by: f64| move |step: u64| from - by * step as f64;
        let both = raised(&rules, |step| {
            vec![("logps/chosen", falls(-1.0, 0.05)(step)), ("logps/rejected", falls(-1.0, 0.2)(step))]
        });
        assert_eq!(both.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::LogpsFall]);
        // Means of steps 1–10 and 11–20 are 10 steps apart: 0.05 a step has fallen by 0.5 then.
        assert_eq!(both[0].step, 20);
        // A margin that opens by rejected alone is the aim of training.
        let wanted = raised(&rules, |step| vec![("logps/chosen", -1.0), ("logps/rejected", falls(-1.0, 0.2)(step))]);
        assert_eq!(wanted, []);

        let eos = raised(&rules, |step| vec![("eos_logp/rejected", falls(0.0, 0.4)(step))]);
        assert_eq!(eos.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::EosOnRejected]);
        // 1.6 below the first mean, −2.2.
        assert!(eos[0].step == 14 && eos[0].what.contains("-3.80"), "{}", eos[0].what);
        let bound = AlarmConfig { eos_fall: 99.0, eos_on_rejected: Some(-4.6), ..rules.clone() };
        let low = raised(&bound, |step| vec![("eos_logp/rejected", falls(0.0, 0.3)(step))]);
        assert!(low[0].what.contains("-4.65"), "{}", low[0].what);
        let probe = raised(&rules, |step| vec![("probe/eos_rate", if step < 20 { 0.9 } else { 0.65 })]);
        assert_eq!(probe.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::ProbeEnds]);
        assert!(probe[0].step == 20 && probe[0].what.starts_with("65 % of the probe's completions end, 90 %"));
        // Low from the start is a property of the data.
        assert_eq!(raised(&rules, |_| vec![("eos_logp/rejected", -9.0)]), []);

        let clipped = raised(&rules, |_| vec![("clip/share_rejected", 0.7)]);
        assert_eq!(clipped.len(), 1);
        assert_eq!(clipped[0].step, 10);

        let accuracies = |of_loss, of_model, clips: bool| {
            raised(&rules, |_| {
                let mut metrics = vec![("rewards/accuracies", of_loss), ("logps/accuracies_without_eos", of_model)];
                metrics.extend(clips.then_some(("clip/share_rejected", 0.4)));
                metrics
            })
        };
        let unlearned = accuracies(0.9, 0.5, true);
        assert_eq!(unlearned.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::NotLearned]);
        assert!(
            unlearned[0].what.contains("90 % of pairs") && unlearned[0].what.contains("50 %"),
            "{}",
            unlearned[0].what
        );
        assert_eq!(accuracies(0.9, 0.8, true), []);
        // DPO's rewards are ratios, which a reference can turn around.
        assert_eq!(accuracies(0.9, 0.5, false), []);
        let off = AlarmConfig { enabled: false, ..rules };
        assert_eq!(raised(&off, |_| vec![("clip/share_rejected", 0.7)]), []);
    }

    #[test]
    fn a_learning_rate_is_judged_by_method_and_size() {
        let config = |lr: f64, lora: bool| {
            let builder = TrainConfig::builder(smpo_losses::Loss::Dpo(Default::default())).model("m").output_dir("o");
            builder.train_files(["d"]).learning_rate(lr).use_peft(lora).build().unwrap()
        };
        let alarm = |lr, lora, size| Alarms::default().before(&config(lr, lora), size);
        let said = alarm(2e-5, false, 1_500_000_000).unwrap();
        assert!(said.what.contains("20 times the highest published for dpo on all weights"), "{}", said.what);
        assert_eq!(alarm(2e-5, true, 1_500_000_000), None);
        assert_eq!(alarm(2e-5, false, 649_000), None);
    }

    /// Steps at which a metric that changes by `by` a step, from `from` on, raises an alarm.
    fn steps(rules: &AlarmConfig, name: &'static str, from: f64, by: f64) -> Vec<u64> {
        raised(rules, |step| vec![(name, from + by * step as f64)]).iter().map(|alarm| alarm.step).collect()
    }

    /// Eighths and quarters are exact: the means of the last ten steps and of the first are 10 steps apart at step 20.
    #[test]
    fn a_bound_that_is_met_is_not_passed() {
        let rules = || AlarmConfig { window: 10, ..AlarmConfig::default() };
        let eos = AlarmConfig { eos_fall: 1.0, eos_on_rejected: None, ..rules() };
        assert_eq!(steps(&eos, "eos_logp/rejected", 0.0, -0.125), [19], "1.0 below at step 18");
        let low = AlarmConfig { eos_fall: 99.0, eos_on_rejected: Some(-4.5), ..rules() };
        assert_eq!(
            steps(&low, "eos_logp/rejected", -8.0, -0.125),
            [19],
            "low from the start, and 1.0 lower at step 18"
        );
        let bound = AlarmConfig { eos_fall: 99.0, eos_on_rejected: Some(-5.875), ..rules() };
        assert_eq!(steps(&bound, "eos_logp/rejected", -2.0, -0.25), [21], "the mean is the bound at step 20");
        assert_eq!(steps(&AlarmConfig { clip_share: 0.5, ..rules() }, "clip/share_rejected", 0.5, 0.0), [0; 0]);
        assert_eq!(steps(&AlarmConfig { probe_fall: 0.25, ..rules() }, "probe/eos_rate", 1.0, -0.125), [4]);

        let fall = AlarmConfig { logps_fall: 0.625, ..rules() };
        let together =
            |step: u64| vec![("logps/chosen", -0.0625 * step as f64), ("logps/rejected", -0.25 * step as f64)];
        let alarms = raised(&fall, together);
        assert_eq!(alarms.iter().map(|alarm| alarm.step).collect::<Vec<_>>(), [20]);
        assert!(
            alarms[0].what.contains("by 0.62 and 2.50 nats per token since the first 10 steps"),
            "{}",
            alarms[0].what
        );

        let gap = |bound: f64| {
            let rules = AlarmConfig { accuracy_gap: bound, ..rules() };
            let accuracies =
                [("rewards/accuracies", 0.75), ("logps/accuracies_without_eos", 0.5), ("clip/share_rejected", 0.1)];
            raised(&rules, |_| accuracies.to_vec()).len()
        };
        assert_eq!((gap(0.25), gap(0.125)), (0, 1));
    }

    #[test]
    fn messages_tell_the_measured_numbers() {
        let rules = AlarmConfig { window: 10, eos_fall: 1.0, clip_share: 0.5, ..AlarmConfig::default() };
        let eos = raised(&rules, |step| vec![("eos_logp/rejected", -0.125 * step as f64)]);
        assert!(eos[0].what.contains("is -1.81 (p = 1.6e-1), 1.12 nats below"), "{}", eos[0].what);
        let clipped = raised(&rules, |_| vec![("clip/share_rejected", 0.7)]);
        assert!(clipped[0].what.starts_with("70 % of the rejected tokens"), "{}", clipped[0].what);
    }

    #[test]
    fn a_step_that_is_not_finite_is_told_once_and_not_at_all_without_alarms() {
        let mut alarms = Alarms::default();
        let off = AlarmConfig { enabled: false, ..AlarmConfig::default() };
        assert_eq!(alarms.not_finite(&off, 3, "the loss is NaN"), None);
        let told = alarms.not_finite(&AlarmConfig::default(), 4, "the loss is NaN").unwrap();
        assert_eq!((told.kind, told.step, told.what.as_str()), (AlarmKind::NotFinite, 4, "the loss is NaN"));
        assert_eq!(alarms.not_finite(&AlarmConfig::default(), 5, "the loss is NaN"), None);
    }

    #[test]
    fn a_learning_rate_at_the_bound_is_let_pass() {
        let judged = |factor: f64, enabled: bool, parameters: usize| {
            let builder = TrainConfig::builder(smpo_losses::Loss::Dpo(Default::default())).model("m").output_dir("o");
            let mut config = builder.train_files(["d"]).learning_rate(2e-6).use_peft(false).build().unwrap();
            config.alarms = AlarmConfig { learning_rate_factor: factor, enabled, ..AlarmConfig::default() };
            Alarms::default().before(&config, parameters).is_some()
        };
        assert_eq!((judged(2.0, true, 100_000_000), judged(1.5, true, 100_000_000)), (false, true));
        assert_eq!((judged(1.5, true, 99_999_999), judged(1.5, false, 100_000_000)), (false, false));
    }

    /// Values 1, 2, … under one window, then more of them under another, as after a resume.
    fn resumed(before: (usize, u64), after: (usize, u64)) -> Windowed {
        let mut series = Windowed::default();
        for (window, step) in (1..=before.1).map(|step| (before.0, step)) {
            series.push(step as f64, window);
        }
        for (window, step) in (1..=after.1).map(|step| (after.0, before.1 + step)) {
            series.push(step as f64, window);
        }
        series
    }

    #[test]
    fn a_smaller_window_of_a_resumed_run_is_kept() {
        let series = resumed((10, 32), (3, 10));
        assert_eq!((series.first.as_slice(), series.last.as_slice()), (&[1.0, 2.0, 3.0][..], &[40.0, 41.0, 42.0][..]));
        assert_eq!((series.now(3), series.change(3)), (Some(41.0), Some(39.0)));
        // A metric without a value since is judged under the new window too.
        let quiet = resumed((10, 32), (3, 0));
        assert_eq!((quiet.now(3), quiet.change(3)), (Some(31.0), Some(29.0)));
        // What an earlier version let grow is cut.
        let mut grown = Windowed { first: vec![0.0; 10], last: vec![1.0; 42], full: false };
        grown.push(2.0, 3);
        assert_eq!((grown.first.len(), grown.last.as_slice()), (3, &[1.0, 1.0, 2.0][..]));
    }

    #[test]
    fn a_larger_window_of_a_resumed_run_takes_no_late_value_for_a_first_one() {
        let series = resumed((3, 20), (5, 10));
        assert_eq!(series.first, [1.0, 2.0, 3.0]);
        assert_eq!(series.last, [26.0, 27.0, 28.0, 29.0, 30.0]);
        assert_eq!(series.change(5), Some(26.0));
        // Its first steps are not over: the new window is that of the first values too.
        assert_eq!(resumed((5, 2), (7, 9)).first, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        // Values that stay the same do not look like first ones either, and files of earlier versions are read.
        let mut constant = Windowed::default();
        (0..20).for_each(|_| constant.push(-1.0, 3));
        constant.push(-9.0, 5);
        assert_eq!(constant.first, [-1.0; 3]);
        let mut earlier: Windowed = serde_json::from_str(r#"{"first": [1, 2, 3], "last": [7, 8, 9]}"#).unwrap();
        earlier.push(10.0, 5);
        assert_eq!((earlier.first.len(), earlier.last.len()), (3, 4));
    }
}
