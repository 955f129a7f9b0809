//! `smpo score` as a user meets it: the formats people have, models side by side, and files that are not quite files.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::Value;
use smpo_results::{FinishReason, MetricsFile, Sample, read_json, read_jsonl};

fn score(files: &[&Path], out: &Path) -> Command {
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.arg("score").args(files).arg("--out").arg(out);
    command
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn samples(out: &Path) -> Vec<Sample> {
    read_jsonl(&out.join("samples.jsonl"), "sample").unwrap()
}

fn metrics(out: &Path) -> MetricsFile {
    read_json(&out.join("metrics.json"), "metrics file").unwrap()
}

const LOOP: &str = "The box was opened and the cat was alive. ";

#[test]
fn every_format_is_detected_and_comes_back_through_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let answer = LOOP.repeat(9);
    let answer = answer.as_str();
    for (name, text) in [
        (
            "fastchat.jsonl",
            format!(r#"{{"question_id": 1, "model_id": "m", "choices": [{{"index": 0, "turns": ["{answer}"]}}]}}"#),
        ),
        ("alpaca.json", format!(r#"[{{"instruction": "q", "output": "{answer}", "generator": "m", "dataset": "d"}}]"#)),
        (
            "lm_eval.jsonl",
            format!(
                r#"{{"doc_id": 1, "doc": {{"question": "q"}}, "arguments": [["q", {{}}]], "resps": [["{answer}"]]}}"#
            ),
        ),
        (
            "batch.jsonl",
            format!(
                r#"{{"custom_id": "1", "response": {{"status_code": 200, "body": {{"model": "m", "choices": [{{"finish_reason": "length", "message": {{"content": "{answer}"}}}}], "usage": {{"completion_tokens": 90}}}}}}, "error": null}}"#
            ),
        ),
        ("plain.jsonl", format!(r#"{{"prompt": "q", "completion": "{answer}"}}"#)),
    ] {
        let file = write(dir.path(), name, &text);
        let out = dir.path().join("out").join(name);
        score(&[&file], &out).assert().success().stdout(contains("100.0 %"));
        let first = samples(&out);
        assert_eq!((first.len(), first[0].completion.as_str()), (1, answer), "{name}");
        assert_eq!(metrics(&out).get("loop_rate", "all").map(|rate| rate.value), Some(1.0), "{name}");
        // What was written is read as what it was.
        let again = dir.path().join("again").join(name);
        score(&[&out.join("samples.jsonl")], &again).assert().success();
        assert_eq!(samples(&again), first, "{name}");
        assert_eq!(metrics(&again), metrics(&out), "{name}");
        // Only the batch says how it ended.
        let known = first[0].finish_reason == FinishReason::Length;
        assert_eq!(
            (known, metrics(&out).get("eos_rate", "all").is_some()),
            (name == "batch.jsonl", name == "batch.jsonl")
        );
    }
}

#[test]
fn several_models_go_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let questions = write(
        dir.path(),
        "question.jsonl",
        "{\"question_id\": 1, \"category\": \"math\", \"turns\": [\"two?\"]}\n{\"question_id\": 2, \"category\": \"code\", \"turns\": [\"go?\"]}",
    );
    let answers = |name: &str, texts: [&str; 2]| {
        let line = |id: usize| {
            format!(r#"{{"question_id": {id}, "model_id": "{name}", "choices": [{{"turns": ["{}"]}}]}}"#, texts[id - 1])
        };
        write(dir.path(), &format!("model_answer/{name}.jsonl"), &format!("{}\n{}\n", line(1), line(2)))
    };
    let good = answers("org/good", ["2", "run go"]);
    let looping = LOOP.repeat(9);
    let bad = answers("org/bad", [&looping, "run"]);
    let out = dir.path().join("out");
    let mut command = score(&[&good, &bad], &out);
    let output = command.arg("--prompts").arg(&questions).args(["--format", "json"]).assert().success();
    let printed: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!((&printed[0]["model"], &printed[1]["model"]), (&"org/good".into(), &"org/bad".into()));
    for (name, rate) in [("org_good", 0.0), ("org_bad", 0.5)] {
        assert_eq!(metrics(&out.join(name)).get("loop_rate", "all").unwrap().value, rate, "{name}");
        assert_eq!(samples(&out.join(name))[0].messages[0].content, "two?");
    }
    // Straight on to the gate and the leaderboard.
    let board = dir.path().join("board");
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.arg("leaderboard").arg(out.join("org_good")).arg(out.join("org_bad")).arg("--out").arg(&board);
    command.assert().success();
    assert!(fs::read_to_string(board.join("leaderboard.md")).unwrap().contains("org/bad"));
}

#[test]
fn text_that_is_not_quite_text_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let long = "a".repeat(10_000_000);
    let mut bytes = format!(
        "{}\n{}\n{}\n{}\n",
        r#"{"prompt": "nul", "completion": "a\u0000b"}"#,
        r#"{"prompt": "lone surrogates", "completion": "x \ud83d y \udc00"}"#,
        format_args!(r#"{{"prompt": "long", "completion": "{long}"}}"#),
        r#"{"prompt": "empty", "completion": ""}"#,
    )
    .into_bytes();
    bytes.extend_from_slice(b"{\"prompt\": \"no utf-8\", \"completion\": \"\xff\xfe bytes\"}\n");
    let file = dir.path().join("odd.jsonl");
    fs::write(&file, bytes).unwrap();
    let out = dir.path().join("out");
    let started = std::time::Instant::now();
    score(&[&file], &out).assert().success();
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    let samples = samples(&out);
    let text = |prompt: &str| {
        let of = |sample: &&Sample| sample.messages[0].content == prompt;
        samples.iter().find(of).map(|sample| sample.completion.as_str()).unwrap()
    };
    assert_eq!((text("nul"), text("lone surrogates")), ("a\0b", "x \u{fffd} y \u{fffd}"));
    assert_eq!((text("long").len(), text("empty"), text("no utf-8")), (10_000_000, "", "\u{fffd}\u{fffd} bytes"));
    assert_eq!(metrics(&out).get("loop_rate", "all").unwrap().value, 0.2);
    assert_eq!(metrics(&out).get("broken_rate", "all").unwrap().value, 0.4);
}

#[test]
fn what_cannot_be_scored_is_said_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, word) in [
        ("cut.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\"}\n{\"prompt\": \"q\", \"compl", "cut.jsonl:2"),
        ("what.jsonl", "{\"weather\": \"fine\"}", "what.jsonl:1"),
        ("empty.jsonl", "\n\n", "empty.jsonl"),
        ("list.jsonl", "[1, 2]", "list.jsonl:1"),
    ] {
        let file = write(dir.path(), name, text);
        score(&[&file], &dir.path().join("out")).assert().code(2).stderr(contains(word));
    }
    score(&[&dir.path().join("none.jsonl")], &dir.path().join("out")).assert().code(2).stderr(contains("none.jsonl"));
    assert!(!dir.path().join("out").exists());
    let file = write(dir.path(), "plain.jsonl", r#"{"prompt": "q", "completion": "a"}"#);
    let run = score(&[&file], &dir.path().join("out")).args(["--input-format", "fastcaht"]).assert().code(2);
    run.stderr(contains("fastchat"));
}
