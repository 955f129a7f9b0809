//! `smpo explain` as a user meets it: exit codes, standard output and standard error, JSON keys.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

const PAIR: &str = r#"{"id": "a", "chosen": {"ids": [5, 2], "logps": [-0.5, -1.0], "is_terminator": [false, true]}, "rejected": {"ids": [6, 7, 2], "logps": [-4.0, -1.0, -0.5], "is_terminator": [false, false, true]}}"#;
const MODIFIED: &str = "[loss]\nkind = \"smpo\"\neos_term = \"invert\"\nmin_log_prob = -2.3\n";

struct Files {
    dir: TempDir,
}

impl Files {
    fn new(config: &str, logps: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("loss.toml"), config).unwrap();
        fs::write(dir.path().join("pairs.jsonl"), logps).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn explain(&self) -> Command {
        let mut command = Command::cargo_bin("smpo").unwrap();
        command.args(["explain"]).arg(self.path("loss.toml")).arg(self.path("pairs.jsonl"));
        command
    }
}

#[test]
fn json_has_the_documented_keys_and_nothing_else() {
    let files = Files::new(MODIFIED, PAIR);
    let output = files.explain().args(["--format", "json", "--margin", "0.2"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let expected = ["schema", "loss", "po_loss", "sft_chosen_loss", "sft_rejected_loss", "clip", "pairs"];
    assert_eq!(keys(&report), expected);
    // s+ = −0.75, s− = (−2.3 − 1 + 0.5)/3, γ = 0.2: Δ = −0.01667, (1.2·Δ)² = 0.0004.
    assert!((report["po_loss"].as_f64().unwrap() - 0.0004).abs() < 1e-12);
    assert_eq!(report["clip"]["bound"], -2.3);
    // Floored, the first token keeps its cross-entropy weight alone: −0.2/3.
    let weights: Vec<f64> = serde_json::from_value(report["pairs"][0]["rejected_weights"].clone()).unwrap();
    assert!((weights[0] + 0.2 / 3.0).abs() < 1e-12);
    assert!(weights[2] < weights[0] && weights[0] < weights[1], "the terminator is held up, the other lowered");
}

#[test]
fn text_names_tokens_and_lists_a_pair() {
    let files = Files::new(MODIFIED, PAIR);
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/demo/base/tokenizer.json");
    files
        .explain()
        .args(["--tokenizer", tokenizer, "--pair", "a"])
        .assert()
        .success()
        .stdout(contains("smpo: 1 pair, 2 chosen and 3 rejected tokens, target margin 0.35"))
        .stdout(contains("Tokens that carry most of the gradient"))
        .stdout(contains("a: rejected (■ terminator)"))
        .stdout(contains("' 2 ■"));
}

#[test]
fn bad_input_exits_with_2_and_says_where() {
    let regular = "[loss]\nkind = \"smpo\"\n";
    let cases = [
        ("[loss]\nkind = \"smppo\"\n", PAIR, "loss.toml:2: unknown loss `smppo`"),
        (
            "[loss]\nkind = \"smpo\"\nbetta = 1\n",
            PAIR,
            "loss.toml:3: loss `smpo`: unknown key `betta` (did you mean `beta`?)",
        ),
        (
            "[loss]\nkind = \"smpo\"\n\nbeta = -1\n",
            PAIR,
            "loss.toml:4: loss `smpo`: `beta` must be finite and greater than 0, got -1",
        ),
        ("kind = \"smpo\"\n", PAIR, "loss.toml:1: `kind` stands outside a table"),
        ("[los]\nkind = \"smpo\"\n", PAIR, "loss.toml:1: `los`: expected a table [loss]"),
        (
            "[loss]\nkind = \"dpo\"\n",
            PAIR,
            "pairs.jsonl:1: `chosen.ref_logps`: expected the reference model's log-probs",
        ),
        (regular, "", "pairs.jsonl:1: expected a pair on every line"),
        (regular, &PAIR.replace("-4.0", "0.1"), "pairs.jsonl:1: `rejected.logps[0]`: expected a finite log-prob"),
        (regular, &PAIR.replace("-4.0", "NaN"), "got \"NaN\""),
        (regular, &PAIR.replace("logps", "logp"), "did you mean `logps`?"),
    ];
    for (config, logps, expected) in cases {
        let stderr = contains(expected).and(predicate::str::starts_with("error: "));
        Files::new(config, logps).explain().assert().code(2).stdout("").stderr(stderr);
    }
    let files = Files::new(regular, PAIR);
    files.explain().args(["--margin", "-1"]).assert().code(2).stderr(contains("--margin: expected"));
    files.explain().args(["--pair", "b"]).assert().code(2).stderr(contains("has no pair `b`"));
    fs::remove_file(files.path("pairs.jsonl")).unwrap();
    files.explain().assert().code(2).stderr(contains("pairs.jsonl: cannot read"));
}
