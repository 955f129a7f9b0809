//! `smpo gate` as a user meets it: exit codes, reports, bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::str::contains;
use smpo_results::{
    Direction, Measurement, MetricEstimate, MetricsFile, ModelInfo, Observed, RunManifest, SCHEMA_VERSION, SuiteInfo,
    Unit, Verdict, read_json, write_json, write_jsonl,
};

/// An evaluation in which `finished` of `n` prompts end.
fn evaluation(root: &Path, name: &str, finished: usize, n: usize, cap: u32) -> PathBuf {
    let dir = root.join(name);
    let manifest = RunManifest {
        schema: SCHEMA_VERSION,
        kind: "eval".into(),
        model: ModelInfo {
            source: format!("models/{name}"),
            name: name.into(),
            weights_sha256: None,
            arm: None,
            training_seed: None,
        },
        suite: SuiteInfo { name: "ood".into(), sha256: "ab".into(), prompts: n, pairs_sha256: None },
        sampler: None,
        cap: Some(cap),
        samples_per_prompt: 1,
        terminators: None,
        template_sha256: None,
        seed: 1,
        versions: BTreeMap::new(),
        fidelity_max_abs_nats: None,
        observed: Observed::default(),
    };
    let share = |yes: bool| vec![f64::from(u8::from(yes))];
    let rows: Vec<Measurement> = (0..n)
        .map(|i| Measurement {
            schema: SCHEMA_VERSION,
            prompt_id: format!("p{i}"),
            slice: "chat".into(),
            values: [
                ("eos_rate", share(i < finished)),
                ("loop_rate", share(i >= finished)),
                ("seq_rep_4", vec![if i < finished { 0.1 } else { 0.8 } + (i % 7) as f64 / 100.0]),
                ("broken_rate", share(false)),
            ]
            .map(|(metric, values)| (metric.to_owned(), values))
            .into(),
        })
        .collect();
    let estimate = |metric: &str, better, primary| MetricEstimate {
        metric: metric.into(),
        slice: "all".into(),
        value: 0.5,
        ci_low: 0.4,
        ci_high: 0.6,
        n,
        unit: Unit::Share,
        better,
        primary,
    };
    let metrics = MetricsFile {
        schema: SCHEMA_VERSION,
        metrics: vec![
            estimate("eos_rate", Direction::Higher, true),
            estimate("loop_rate", Direction::Lower, true),
            estimate("seq_rep_4", Direction::Lower, false),
            estimate("broken_rate", Direction::Lower, false),
        ],
    };
    write_json(&dir.join("run.json"), "run manifest", &manifest).unwrap();
    write_jsonl(&dir.join("measurements.jsonl"), "measurement", &rows).unwrap();
    write_json(&dir.join("metrics.json"), "metrics file", &metrics).unwrap();
    dir
}

fn gate(baseline: &Path, candidate: &Path) -> Command {
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.arg("gate").arg("--baseline").arg(baseline).arg("--candidate").arg(candidate);
    command
}

#[test]
fn exit_codes_say_pass_fail_and_inconclusive() {
    let root = tempfile::tempdir().unwrap();
    let make = |name, finished, n| evaluation(root.path(), name, finished, n, 240);
    let (good, bad) = (make("good", 400, 400), make("bad", 340, 400));
    gate(&good, &bad).assert().code(1).stdout(contains("FAIL"));
    gate(&bad, &good).assert().code(0).stdout(contains("PASS"));
    gate(&good, &good).assert().code(0).stdout(contains("PASS"));
    let (few, fewer) = (make("few", 60, 60), make("fewer", 59, 60));
    gate(&few, &fewer).assert().code(3).stdout(contains("INCONCLUSIVE"));
    gate(&few, &fewer).args(["--inconclusive", "pass"]).assert().code(0).stdout(contains("INCONCLUSIVE"));
    gate(&few, &fewer).args(["--inconclusive", "fail"]).assert().code(1).stdout(contains("INCONCLUSIVE"));
}

#[test]
fn what_is_wrong_with_the_request_exits_2_and_is_said() {
    let root = tempfile::tempdir().unwrap();
    let make = |name, cap| evaluation(root.path(), name, 300, 300, cap);
    let (a, b) = (make("a", 240), make("b", 512));
    gate(&a, &b).assert().code(2).stderr(contains("`cap` differs: 240 against 512"));
    gate(&a, &root.path().join("nowhere")).assert().code(2).stderr(contains("not a finished evaluation"));
    gate(&a, &a).args(["--policy", "defualt"]).assert().code(2).stderr(contains("did you mean `default`?"));
    let policy = root.path().join("mine.toml");
    std::fs::write(&policy, "name = \"mine\"\n[[metric]]\nid = \"lop_rate\"\nrequire = { non_inferior = 0.02 }\n")
        .unwrap();
    gate(&a, &a).arg("--policy").arg(&policy).assert().code(2).stderr(contains("did you mean `loop_rate`?"));
    std::fs::write(b.join("measurements.jsonl"), "{\"schema\":1,\"prompt_id\":\n").unwrap();
    gate(&a, &b).assert().code(2).stderr(contains("measurements.jsonl:1: not a valid measurement"));
    std::fs::write(b.join("run.json"), "{\"schema\":99}").unwrap();
    gate(&a, &b).assert().code(2).stderr(contains("schema version 99 is newer"));
}

#[test]
fn reports_are_written_and_the_same_request_gives_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let (good, bad) = (evaluation(root.path(), "good", 400, 400, 240), evaluation(root.path(), "bad", 340, 400, 240));
    let write = |name: &str, threads: &str| -> Vec<Vec<u8>> {
        let out = root.path().join(name);
        let files = ["verdict.json", "junit.xml", "summary.md"].map(|file| out.join(file));
        let mut command = gate(&good, &bad);
        command.args(["--threads", threads, "--format", "json", "--out"]).arg(&files[0]);
        command.arg("--junit").arg(&files[1]).arg("--markdown").arg(&files[2]);
        let stdout = command.assert().code(1).get_output().stdout.clone();
        let verdict: Verdict = read_json(&files[0], "verdict").unwrap();
        assert_eq!(serde_json::from_slice::<Verdict>(&stdout).unwrap(), verdict);
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    };
    let first = write("first", "1");
    assert_eq!(first, write("second", "2"));
    let (junit, summary) = (String::from_utf8_lossy(&first[1]), String::from_utf8_lossy(&first[2]));
    assert!(junit.contains("<testcase") && junit.contains("<failure"), "{junit}");
    assert!(summary.contains("eos_rate") || summary.contains("EOS"), "{summary}");
}

#[test]
fn a_step_summary_is_added_to_and_any_other_report_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let base = evaluation(dir.path(), "base", 300, 300, 64);
    let (summary, report) = (dir.path().join("summary.md"), dir.path().join("report.md"));
    std::fs::write(&summary, "# Unit tests\n").unwrap();
    for _ in 0..2 {
        for file in [&summary, &report] {
            let mut command = gate(&base, &base);
            command.env("GITHUB_STEP_SUMMARY", &summary).arg("--markdown").arg(file).assert().success();
        }
    }
    let once = std::fs::read_to_string(&report).unwrap();
    assert_eq!(std::fs::read_to_string(&summary).unwrap(), format!("# Unit tests\n\n{once}\n{once}"));
}

/// A report that goes into a pipe without a reader waits for one; a signal ends the wait.
#[test]
#[cfg(unix)]
fn a_signal_ends_a_gate_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (evaluation(dir.path(), "a", 90, 100, 128), evaluation(dir.path(), "b", 90, 100, 128));
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut waiting = std::process::Command::new(assert_cmd::cargo::cargo_bin("smpo"));
    waiting.arg("gate").arg("--baseline").arg(a).arg("--candidate").arg(b).arg("--markdown").arg(&pipe);
    let mut waiting = waiting.stdout(std::process::Stdio::null()).spawn().unwrap();
    let pause = std::time::Duration::from_millis(100);
    for _ in 0..10 {
        std::thread::sleep(pause);
        assert!(waiting.try_wait().unwrap().is_none(), "nobody reads the pipe");
    }
    assert!(std::process::Command::new("kill").arg(waiting.id().to_string()).status().unwrap().success());
    let ended = (0..100).any(|_| {
        std::thread::sleep(pause);
        waiting.try_wait().unwrap().is_some()
    });
    let _ = waiting.kill();
    assert!(ended, "one signal is enough");
}

#[test]
fn plain_output_has_no_escape_codes() {
    let root = tempfile::tempdir().unwrap();
    let good = evaluation(root.path(), "good", 400, 400, 240);
    let output = gate(&good, &good).env("NO_COLOR", "1").assert().code(0).get_output().stdout.clone();
    assert!(!output.contains(&0x1b));
}
