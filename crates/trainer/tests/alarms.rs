//! Each alarm provoked on the demo's model: told once, with its figure, and again by no run that goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_trainer::{Alarm, AlarmKind, Event, Finish, StepRecord, TrainConfig, TrainError, train};
use tempfile::TempDir;

fn config(out: &Path, keys: &str, loss: &str) -> TrainConfig {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo");
    let text = format!(
        "model_name_or_path = {:?}\noutput_dir = {out:?}\ndataset = {:?}\ndataset_sample = 48\nmax_length = 256\n\
         lr_scheduler_type = \"constant\"\nseed = 3\n{keys}\n[loss]\n{loss}",
        demo.join("base"),
        demo.join("preferences.jsonl"),
    );
    TrainConfig::parse(&text, Path::new("test.toml"), &[]).unwrap()
}

/// A run, stopped and gone on with after `stop_after` steps.
fn run(config: &TrainConfig, stop_after: u64) -> (Vec<StepRecord>, Vec<Alarm>, Result<Finish, TrainError>) {
    let (mut records, mut alarms) = (Vec::new(), Vec::new());
    let mut once = |stop_after: u64| {
        let stop = AtomicBool::new(false);
        train(config, false, &stop, &mut |event| match event {
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
    let keys = "per_device_train_batch_size = 4\nmax_steps = 40\nlearning_rate = 2e-3";
    // SimPO has no cross-entropy to hold the chosen side up.
    let (records, alarms, finish) = run(&config(&dir.path().join("run"), keys, "kind = \"simpo\"\nbeta = 10"), 30);
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
    let keys = "per_device_train_batch_size = 4\nmax_steps = 12\nlearning_rate = 1e-4";
    let loss = "kind = \"smpo\"\nmin_log_prob = -0.001";
    let (_, alarms, _) = run(&config(&dir.path().join("run"), keys, loss), 11);
    assert_eq!(kinds(&alarms), [AlarmKind::ClipShare]);
    assert!(alarms[0].what.contains(" % of the rejected tokens are clipped"), "{}", alarms[0].what);
}

#[test]
fn steps_that_are_not_finite_are_skipped_counted_and_at_last_too_many() {
    let dir = TempDir::new().unwrap();
    // Squared, such a β overflows for a pair that is the wrong way round; of one that is right way round the loss is 0.
    let loss = "kind = \"smpo\"\nbeta = 1e200\ntarget_margin = 0.0\nuse_margin_schedule = false";
    let keys = |allowed: u64| {
        format!(
            "save_steps = 1\nsave_total_limit = 99\nmax_steps = 24\nlearning_rate = 1e-6\nmax_skipped_steps = {allowed}"
        )
    };
    let whole = config(&dir.path().join("whole"), &keys(24), loss);
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

    let few = config(&dir.path().join("few"), &keys(count - 1), loss);
    let (records, _, finish) = run(&few, u64::MAX);
    let error = finish.unwrap_err();
    assert!(matches!(error, TrainError::TooManySkipped { step, .. } if step == last.step), "{error}");
    assert!(error.to_string().contains(&format!("max_skipped_steps = {}", count - 1)), "{error}");
    assert_eq!(records.len() as u64, last.step - 1);
    assert!(!few.output_dir.join("model").exists() && few.output_dir.join("checkpoints").is_dir());
}
