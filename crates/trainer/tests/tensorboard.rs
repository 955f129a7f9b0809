//! Event files as TensorBoard itself reads them: `cargo test -p smpo-trainer --test tensorboard -- --ignored`, with a
//! Python that has the package `tensorboard` in `SMPO_PYTHON` (python3 when absent).

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_losses::Loss;
use smpo_trainer::config::Reporter;
use smpo_trainer::{EarlierRun, Event, train};
use support::demo_run;

const READ: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0}); events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))
";

#[test]
#[ignore = "needs the Python package tensorboard"]
fn tensorboard_reads_what_metrics_jsonl_says_across_an_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let config = demo_run(&dir.path().join("run"), 24, Loss::Smpo(Default::default()))
        .per_device_train_batch_size(4)
        .max_steps(6)
        .learning_rate(1e-3)
        .report_to([Reporter::Tensorboard])
        .build()
        .unwrap();
    for stop_after in [3, 6] {
        let stop = AtomicBool::new(false);
        train(&config, EarlierRun::Resume, &stop, &mut |event| {
            if let Event::Step(record) = event {
                stop.store(record.step == stop_after, Ordering::SeqCst);
            }
        })
        .unwrap();
    }
    let python = std::env::var("SMPO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python).args(["-c", READ]).arg(config.output_dir.join("tensorboard")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
    let mut compared = 0;
    for line in metrics.lines() {
        let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        for (name, value) in record.iter().filter(|(name, _)| *name != "step") {
            let points = read[name].as_array().unwrap_or_else(|| panic!("no {name}"));
            let of_step: Vec<f64> =
                points.iter().filter(|p| p[0] == record["step"]).map(|p| p[1].as_f64().unwrap()).collect();
            assert_eq!(of_step, [f64::from(value.as_f64().unwrap() as f32)], "{name}, step {}", record["step"]);
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}
