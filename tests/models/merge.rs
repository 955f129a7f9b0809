//! `smpo merge`.

use std::fs;
use std::path::Path;

use predicates::str::contains;
use serde_json::json;

use crate::{Desk, base, difference, json_of, smpo};

#[test]
fn models_are_merged_by_each_method() {
    let desk = Desk::new();
    let (one, two) = (desk.tuned("one", 0.01), desk.tuned("two", -0.02));
    let merge = |out: &str, options: &[&str]| {
        let out = desk.path(out);
        let written = json_of(
            smpo().arg("merge").arg(&one).arg(&two).arg("--out").arg(&out).args(options).args(["--threads", "2"]),
        );
        assert_eq!((&written["parameters"], &written["shards"]), (&json!(648_832), &json!(1)));
        desk.logps(&out, &[])
    };
    let (first, second) = (desk.logps(&one, &[]), desk.logps(&two, &[]));
    assert_eq!(difference(&merge("all-one", &["--weights", "1,0"]), &first, "logps"), 0.0);
    assert_eq!(difference(&merge("slerp", &["--method", "slerp", "--t", "0"]), &first, "logps"), 0.0);
    // Two thirds of +0.01 and one of −0.02 are the base.
    let back = merge("back", &["--weights", "2,1"]);
    assert!(difference(&back, &desk.logps(&base(), &[]), "logps") < 1e-4);
    let base_name = base().display().to_string();
    let ties = merge("ties", &["--method", "ties", "--base", &base_name, "--density", "0.5", "--lambda", "0.5"]);
    assert!(difference(&ties, &first, "logps") > 0.0 && difference(&ties, &second, "logps") > 0.0);
    smpo()
        .arg("merge")
        .arg(&one)
        .arg(&two)
        .args(["--dtype", "bfloat16", "--out"])
        .arg(desk.path("half"))
        .assert()
        .success()
        .stdout(contains("half: 38 tensors, 648832 parameters, 1 file"));
}

#[test]
fn a_merge_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let desk = Desk::new();
    let (one, two) = (desk.tuned("one", 0.01), desk.tuned("two", -0.02));
    let adapter = desk.adapter("adapter", false, &base().display().to_string());
    let other = smpo_fixtures::golden("model", "qwen3");
    let before = desk.names();
    let base_name = base().display().to_string();
    let cases: [(&[&Path], &[&str], &str); 9] = [
        (&[&one, &two], &["--t", "0.5"], "--t has no effect with --method linear"),
        (&[&one, &two], &["--method", "slerp", "--weights", "1,2"], "--weights has no effect with --method slerp"),
        (&[&one, &two], &["--method", "ties"], "--method ties needs --base, the common base model"),
        (&[&one, &two], &["--weights", "1,2,3"], "merge weights: expected 2, one a model, got 3"),
        (&[&one], &["--method", "slerp"], "models to merge by slerp: expected 2, got 1"),
        (&[&one, &two], &["--method", "ties", "--base", &base_name, "--density", "2"], "ties density: expected"),
        (&[&one, &adapter], &[], "expected full weights, got an adapter; `smpo export` folds it into its base"),
        (&[&one, &other], &[], "tensors: `"),
        (
            &[&one, &desk.path("absent")],
            &[],
            "absent: expected a model directory or a GGUF file, got nothing of that name",
        ),
    ];
    for (models, options, expected) in cases {
        let mut command = smpo();
        command.arg("merge").args(models).args(options).arg("--out").arg(desk.path("out"));
        command.assert().code(2).stdout("").stderr(contains(expected));
        assert_eq!(desk.names(), before, "{expected}");
    }
    fs::write(two.join("tokenizer.json"), "{}").unwrap();
    smpo()
        .arg("merge")
        .arg(&one)
        .arg(&two)
        .arg("--out")
        .arg(desk.path("out"))
        .assert()
        .success()
        .stderr(contains("warning: tokenizer.json of"));
    smpo()
        .arg("merge")
        .arg(&one)
        .arg(&two)
        .arg("--out")
        .arg(desk.path("out"))
        .assert()
        .code(2)
        .stderr(contains("not empty"));
}
