//! Each alarm provoked on the demo's model: told once, with its figure, and again by no run that goes on.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_trainer::{
    Alarm, AlarmKind, EarlierRun, Event, Finish, Schedule, StepRecord, TrainConfig, TrainConfigBuilder, TrainError,
    train,
};
use support::{demo_run, loss};
use tempfile::TempDir;

fn config(out: &Path, keys: &str) -> TrainConfigBuilder {
    demo_run(out, 48, loss(keys)).lr_scheduler_type(Schedule::Constant)
}

/// A run, stopped and gone on with after `stop_after` steps.
fn run(config: &TrainConfig, stop_after: u64) -> (Vec<StepRecord>, Vec<Alarm>, Result<Finish, TrainError>) {
    let (mut records, mut alarms) = (Vec::new(), Vec::new());
    let mut once = |stop_after: u64| {
        let stop = AtomicBool::new(false);
        train(config, EarlierRun::Resume, &stop, &mut |event| match event {
            Event::Step(record) => {
                stop.store(record.step == stop_after, Ordering::SeqCst);
                records.push(record.clone());
            }
            Event::Alarm(alarm) => alarms.push(alarm.clone()),
            _ => {}
        })
    };
    let first = once(stop_after);
    let finish = if matches!(first, Ok(Finish::Stopped { .. })) { once(u64::MAX) } else { first };
    (records, alarms, finish)
}

fn kinds(alarms: &[Alarm]) -> Vec<AlarmKind> {
    let mut kinds: Vec<AlarmKind> = alarms.iter().map(|alarm| alarm.kind).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn displacement_and_the_loss_of_eos_are_told_once() {
    let dir = TempDir::new().unwrap();
    // SimPO has no cross-entropy to hold the chosen side up.
    let config = config(&dir.path().join("run"), "kind = \"simpo\"\nbeta = 10").per_device_train_batch_size(4);
    let config = config.max_steps(40).learning_rate(2e-3).build().unwrap();
    let (records, alarms, finish) = run(&config, 30);
    assert!(matches!(finish.unwrap(), Finish::Done { .. }));
    assert_eq!(kinds(&alarms), [AlarmKind::LogpsFall, AlarmKind::EosOnRejected], "{alarms:?}");
    assert!(alarms.iter().all(|alarm| alarm.step < 30), "{alarms:?}");
    // The figure is the one of the run.
    let eos = alarms.iter().find(|alarm| alarm.kind == AlarmKind::EosOnRejected).unwrap();
    let window = records.iter().filter(|record| (eos.step - 9..=eos.step).contains(&record.step));
    let mean = window.map(|record| record.metric("eos_logp/rejected").unwrap()).sum::<f64>() / 10.0;
    assert!(eos.what.contains(&format!("{mean:.2}")), "{mean}: {}", eos.what);
    assert!(alarms.iter().all(|alarm| !alarm.remedy.is_empty()));
}

#[test]
fn a_floor_that_clips_most_of_a_side_is_told() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir.path().join("run"), "kind = \"smpo\"\nmin_log_prob = -0.001");
    let config = config.per_device_train_batch_size(4).max_steps(12).learning_rate(1e-4).build().unwrap();
    let (_, alarms, _) = run(&config, 11);
    assert_eq!(kinds(&alarms), [AlarmKind::ClipShare]);
    assert!(alarms[0].what.contains(" % of the rejected tokens are clipped"), "{}", alarms[0].what);
}

#[test]
fn steps_that_are_not_finite_are_skipped_counted_and_at_last_too_many() {
    let dir = TempDir::new().unwrap();
    // Squared, such a β overflows for a pair that is the wrong way round; of one that is right way round the loss is 0.
    let loss = "kind = \"smpo\"\nbeta = 1e200\ntarget_margin = 0.0\nuse_margin_schedule = false";
    let allowing = |name: &str, skipped: u64| {
        let config = config(&dir.path().join(name), loss).save_steps(1).save_total_limit(99);
        config.max_steps(24).learning_rate(1e-6).max_skipped_steps(skipped).build().unwrap()
    };
    let whole = allowing("whole", 24);
    let (records, alarms, finish) = run(&whole, 12);
    assert!(matches!(finish.unwrap(), Finish::Done { .. }));
    let skipped = |record: &&StepRecord| record.metric("loss").is_none();
    let count = records.iter().filter(skipped).count() as u64;
    assert!((2..22).contains(&count) && records.len() == 24, "{count} of {}", records.len());
    let last = records.iter().rfind(skipped).unwrap();
    assert_eq!(last.metric("skipped_steps"), Some(count as f64));
    assert_eq!(kinds(&alarms), [AlarmKind::NotFinite], "once, over two starts: {alarms:?}");
    assert!(alarms[0].what.contains("the loss is inf"), "{}", alarms[0].what);
    // A step that is skipped is no update.
    let newest = records.iter().rfind(|record| record.step < 24 && record.metric("loss").is_some()).unwrap().step;
    let state = whole.output_dir.join(format!("checkpoints/step-{newest}/state.json"));
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let updates = records.iter().filter(|record| record.step <= newest && record.metric("loss").is_some()).count();
    assert_eq!(state["updates"].as_u64(), Some(updates as u64));

    let few = allowing("few", count - 1);
    let (records, _, finish) = run(&few, u64::MAX);
    let error = finish.unwrap_err();
    assert!(matches!(error, TrainError::TooManySkipped { step, .. } if step == last.step), "{error}");
    assert!(error.to_string().contains(&format!("max_skipped_steps = {}", count - 1)), "{error}");
    assert_eq!(records.len() as u64, last.step - 1);
    assert!(!few.output_dir.join("model").exists() && few.output_dir.join("checkpoints").is_dir());
}
