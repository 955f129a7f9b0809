//! The GitHub Action's script, as its steps run it: gate, step summary, outputs, JUnit, board.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use smpo_fixtures::repository;

/// A file of answers of which `finished` of 60 end.
fn answers(dir: &Path, name: &str, finished: usize) -> PathBuf {
    let path = dir.join(name);
    let row = |i: usize| {
        let end = if i < finished { "stop" } else { "length" };
        format!("{{\"prompt\": \"Question {i}\", \"completion\": \"Answer {i}.\", \"finish_reason\": \"{end}\"}}\n")
    };
    fs::write(&path, (0..60).map(row).collect::<String>()).unwrap();
    path
}

fn action(dir: &Path, baseline: &str, candidate: &str) -> Output {
    Command::new(repository().join("packaging/action.sh"))
        .current_dir(dir)
        .env("SMPO", cargo_bin("smpo"))
        .env("SMPO_BASELINE", baseline)
        .env("SMPO_CANDIDATE", candidate)
        .env("SMPO_POLICY", "smoke")
        .env("GITHUB_STEP_SUMMARY", dir.join("summary.md"))
        .env("GITHUB_OUTPUT", dir.join("outputs"))
        .output()
        .unwrap()
}

#[test]
fn answers_are_gated_and_everything_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (answers(dir.path(), "good.jsonl", 60), answers(dir.path(), "bad candidate.jsonl", 20));
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let output = action(dir.path(), &format!("\n  {good}  \n"), &bad);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("::error title=smpo gate::the candidate against the baseline: fail"), "{said}");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("outputs"), "verdict=fail\nexit-code=1\nout=smpo-gate\n");
    assert!(read("summary.md").contains("EOS rate"));
    assert!(read("smpo-gate/junit.xml").contains("<testsuite"));
    assert!(read("smpo-gate/board/index.html").contains("Model gate"));
    // The same answers pass; the evaluation of before is a side as well.
    fs::remove_file(dir.path().join("outputs")).unwrap();
    let output = action(dir.path(), "smpo-gate/baseline", &good);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(read("outputs"), "verdict=pass\nexit-code=0\nout=smpo-gate\n");
}

#[test]
fn a_side_that_is_missing_is_an_error_of_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let good = answers(dir.path(), "good.jsonl", 60).display().to_string();
    for (baseline, candidate, expected) in [
        ("  \n", good.as_str(), "baseline: expected"),
        (good.as_str(), "", "candidate: expected"),
        (good.as_str(), "nowhere", "nowhere"),
    ] {
        let output = action(dir.path(), baseline, candidate);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!dir.path().join("outputs").exists());
    }
}

/// Inputs that the action declares are those that its script reads, and every path in it exists.
#[test]
fn the_action_and_its_script_agree() {
    let read = |name: &str| fs::read_to_string(repository().join(name)).unwrap();
    let (action, script) = (read("action.yml"), read("packaging/action.sh"));
    let given = action.lines().filter_map(|line| line.trim().split_once(": ${{ inputs.").map(|(name, _)| name.trim()));
    let variables: Vec<&str> = given.filter(|name| name.starts_with("SMPO_")).collect();
    assert_eq!(variables.len(), 7);
    for name in variables {
        assert!(script.contains(&format!("${{{name}:-")) || script.contains(&format!("\"${name}\"")), "{name}");
    }
    assert!(action.contains("$GITHUB_ACTION_PATH/packaging/action.sh"));
}
