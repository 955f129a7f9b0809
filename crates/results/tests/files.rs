//! Round trips, and what a damaged or newer file says.

use std::fs;

use smpo_results::{Error, FinishReason, Sample, read_json, read_jsonl, write_json, write_jsonl};

fn sample(id: &str) -> Sample {
    Sample {
        schema: smpo_results::SCHEMA_VERSION,
        prompt_id: id.to_owned(),
        slice: "day".to_owned(),
        sample: 0,
        messages: vec![],
        reference: None,
        closed: false,
        reasoning: None,
        language: None,
        completion: "\u{202e}</script>\0 привет".to_owned(),
        token_ids: Some(vec![3, 2]),
        logps: Some(vec![-0.1, -0.2]),
        terminator_logps: None,
        unknown_ids: Some(0),
        finish_reason: FinishReason::Eos,
        finish_remark: None,
        tokens: Some(2),
        cap: Some(64),
        worker: None,
        error: None,
    }
}

#[test]
fn samples_survive_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/samples.jsonl");
    let rows = vec![sample("a"), sample("b")];
    write_jsonl(&path, "sample", &rows).unwrap();
    assert_eq!(read_jsonl::<Sample>(&path, "sample").unwrap(), rows);
}

#[test]
fn a_damaged_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.jsonl");
    let good = serde_json::to_string(&sample("a")).unwrap();
    fs::write(&path, format!("{good}\n\n{}", &good[..20])).unwrap();
    let error = read_jsonl::<Sample>(&path, "sample").unwrap_err().to_string();
    assert!(error.contains("samples.jsonl:3: not a valid sample"), "{error}");
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.jsonl");
    fs::write(&path, "{\"schema\": 99, \"future\": true}\n").unwrap();
    assert!(matches!(read_jsonl::<Sample>(&path, "sample"), Err(Error::NewerSchema { found: 99, line: 1, .. })));
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.json");
    write_json(&path, "number", &1).unwrap();
    let below_a_file = path.join("run.json");
    assert!(matches!(write_json(&below_a_file, "number", &2), Err(Error::Io { .. })));
    assert_eq!(read_json::<i32>(&path, "number").unwrap(), 1);
}
