//! `metrics.prom` as Prometheus' own client reads it: `cargo test -p smpo-trainer --test openmetrics -- --ignored`, with
//! a Python that has the package `prometheus_client` in `SMPO_PYTHON` (python3 when absent).

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use smpo_trainer::{TrainConfig, train};

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
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo");
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\ndataset_sample = 24\ntest_size = 4\neval_steps = 3\n\
         max_length = 256\nper_device_train_batch_size = 4\nmax_steps = 4\nlearning_rate = 1e-3\n\
         report_to = [\"tensorboard\", \"openmetrics\"]\n[loss]\nkind = \"smpo\"\n",
        demo.join("base"),
        dir.path().join("a \"run\""),
        demo.join("preferences.jsonl"),
    );
    let config = TrainConfig::parse(&text, Path::new("test.toml"), &[]).unwrap();
    train(&config, false, &AtomicBool::new(false), &mut |_| {}).unwrap();
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
