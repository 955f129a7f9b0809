//! `smpo leaderboard` as a user meets it, from completions that others generated to the page.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::str::contains;
use smpo_results::{Leaderboard, read_json};

fn smpo(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.args(arguments);
    command
}

/// Scored completions to 40 prompts, of which the first `loops` never come to an end.
fn scored(root: &Path, name: &str, loops: usize) -> PathBuf {
    let lines: Vec<String> = (0..40)
        .map(|i| {
            let answer = format!("Ответ номер {i} </script><img src=x onerror=alert(1)>. ");
            let completion = if i < loops { answer + &"и снова, ".repeat(300) } else { answer };
            serde_json::json!({ "prompt": format!("Вопрос {i}?"), "completion": completion }).to_string()
        })
        .collect();
    let file = root.join(format!("{name}.jsonl"));
    fs::write(&file, lines.join("\n")).unwrap();
    let dir = root.join("scored").join(name);
    smpo(&["score", file.to_str().unwrap(), "--out", dir.to_str().unwrap()]).assert().success();
    dir
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_page_with_everything_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let (sound, looping) = (scored(root.path(), "sound", 0), scored(root.path(), "looping", 12));
    let verdict = root.path().join("verdict.json");
    smpo(&["gate", "--out", verdict.to_str().unwrap()])
        .arg("--baseline")
        .arg(&sound)
        .arg("--candidate")
        .arg(&looping)
        .assert()
        .code(1);
    let make = |out: &str| {
        let out = root.path().join(out);
        smpo(&["leaderboard", "--title", "Who <b>loops</b>?", "--baseline", "sound"])
            .args([&looping, &sound])
            .arg("--out")
            .arg(&out)
            .arg("--verdict")
            .arg(&verdict)
            .assert()
            .success()
            .stdout(contains("Loops most: looping, 30.0 %"))
            .stdout(contains("index.html"));
        out
    };
    let (one, two) = (make("one"), make("two"));

    let board: Leaderboard = read_json(&one.join("leaderboard.json"), "leaderboard").unwrap();
    let names: Vec<&str> = board.boards[0].entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["sound", "looping"], "best first");
    assert_eq!(board.boards[0].baseline.as_deref(), Some("sound"));
    assert_eq!(board.verdicts.len(), 1);
    let worst = &board.boards[0].entries[1].worst[0];
    let span = worst.loop_span.expect("the loop is located");
    assert_eq!(
        &worst.sample.completion[span.start..span.start + span.period].chars().count(),
        &"и снова, ".chars().count()
    );

    let page = text(one.join("index.html"));
    assert!(page.contains("Who &#60;b&#62;loops&#60;/b&#62;?") && !page.contains("<img"));
    assert!(text(one.join("leaderboard.md")).contains("| 1 | sound (baseline) |"));
    for entry in &board.boards[0].entries {
        for file in &entry.sample_files {
            assert_eq!(text(one.join(file)).lines().count(), 40, "{file}");
            assert!(page.contains(&format!("href=\"{file}\"")), "{file} is linked");
        }
    }
    for file in ["index.html", "leaderboard.json", "leaderboard.md", "samples/sound.jsonl", "samples/looping.jsonl"] {
        assert_eq!(text(one.join(file)), text(two.join(file)), "{file}: the same bytes");
    }
}

#[test]
fn bad_input_is_named() {
    let root = tempfile::tempdir().unwrap();
    let sound = scored(root.path(), "sound", 0);
    let run = |arguments: &[&str]| {
        let mut command = smpo(arguments);
        command.arg("--out").arg(root.path().join("out"));
        command.assert().code(2)
    };
    let sound = sound.to_str().unwrap();
    run(&["leaderboard", sound, "--baseline", "sond"]).stderr(contains("did you mean `sound`"));
    run(&["leaderboard", root.path().to_str().unwrap()]).stderr(contains("run.json is missing"));
    run(&["leaderboard", sound, "--policy", "strikt"]).stderr(contains("did you mean"));
    run(&["leaderboard", sound, "--verdict", &format!("{sound}/run.json")]).stderr(contains("run.json:"));
    run(&["leaderboard"]).stderr(contains("required"));
    assert!(!root.path().join("out").exists(), "nothing half-made is left");
}
