//! `metrics.prom` as Prometheus' own client reads it: `cargo test -p smpo-trainer --test openmetrics -- --ignored`, with
//! a Python that has the package `prometheus_client` in `SMPO_PYTHON` (python3 when absent).

mod support;

use std::process::Command;

use smpo_data::HoldOut;
use smpo_losses::Loss;
use smpo_trainer::config::Reporter;
use support::{demo_run, run};

const READ: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
text = open(sys.argv[1]).read()
read = lambda parse: {s.name: [s.labels, s.value] for family in parse(text) for s in family.samples}
assert read(openmetrics) == read(prometheus)
print(json.dumps(read(openmetrics)))
";

#[test]
#[ignore = "needs the Python package prometheus_client"]
fn prometheus_reads_the_last_step() {
    let dir = tempfile::tempdir().unwrap();
    let config = demo_run(&dir.path().join("a \"run\""), 24, Loss::Smpo(Default::default()))
        .test_size(HoldOut::Rows(4))
        .eval_steps(3)
        .per_device_train_batch_size(4)
        .max_steps(4)
        .learning_rate(1e-3)
        .report_to([Reporter::Tensorboard, Reporter::Openmetrics])
        .build()
        .unwrap();
    run(&config);
    let python = std::env::var("SMPO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python).args(["-c", READ]).arg(config.output_dir.join("metrics.prom")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = std::fs::read_to_string(config.output_dir.join("metrics.jsonl")).unwrap();
    let last: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last.len() > 30 && last["step"] == 4, "{last:?}");
    for (name, value) in last {
        let gauge = format!("smpo_{}", name.replace('/', "_"));
        assert_eq!(read[&gauge][0]["run"], "a \"run\"");
        assert_eq!(read[&gauge][1].as_f64(), value.as_f64(), "{name}");
    }
}
