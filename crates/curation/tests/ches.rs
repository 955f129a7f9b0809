//! CHES against transformers: the scores of `tests/golden/generate.py`.

use std::fs;
use std::ops::ControlFlow;

use serde_json::Value;
use smpo_curation::CurationError;
use smpo_curation::ches::{Variant, rank};
use smpo_data::Truncation;
use smpo_fixtures::{demo, golden};
use smpo_model::ModelDir;
use smpo_tokenizer::ChatTokenizer;

#[test]
fn scores_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let golden: Value = serde_json::from_str(&fs::read_to_string(golden("curation", "ches.json")).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    fs::write(&pairs, cases.iter().map(|case| case["pair"].to_string() + "\n").collect::<String>()).unwrap();
    let decoder =
        ModelDir::open(demo("base"), None).unwrap().load_frozen(&Default::default(), &Default::default()).unwrap();
    let tokenizer = ChatTokenizer::from_model_dir(demo("base")).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let files = [pairs.clone()];
    let ranking = rank(&files, &decoder, &tokenizer, &Truncation::default(), &go_on).unwrap().unwrap();
    let out = dir.path().join("ranked.jsonl");
    let report = ranking.write(Some(&out), 0.0, Variant::Normalized).unwrap();
    assert_eq!((report.pairs, report.kept), (cases.len() as u64, cases.len() as u64));
    for (line, case) in fs::read_to_string(&out).unwrap().lines().zip(cases) {
        let row: Value = serde_json::from_str(line).unwrap();
        for name in ["ches", "ches_normalized"] {
            let [got, expected] = [&row, case].map(|row| row[name].as_f64().unwrap());
            // a difference of two products some orders of magnitude larger
            let tolerance = 2e-5 * if name == "ches" { 1e5 } else { 200.0 };
            assert!((got - expected).abs() < tolerance, "{name}: {got}, expected {expected}");
        }
    }

    // the highest are left out, and what is left is in order
    let report = ranking.write(Some(&out), 0.25, Variant::Sum).unwrap();
    let dropped = (cases.len() as f64 * 0.25).round() as u64;
    assert_eq!((report.left_out, report.kept), (dropped, cases.len() as u64 - dropped));
    let mut expected: Vec<f64> = cases.iter().map(|case| case["ches"].as_f64().unwrap()).collect();
    expected.sort_by(f64::total_cmp);
    let highest = expected[report.kept as usize - 1];
    for line in fs::read_to_string(&out).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert!(row["ches"].as_f64().unwrap() <= highest + 2.0);
    }
    assert_eq!(report.highest[0].scores.ches, report.ches.last().unwrap().value);

    fs::write(&pairs, "{}\n").unwrap();
    fs::remove_file(&out).unwrap();
    let error = ranking.write(Some(&out), 0.0, Variant::Sum).unwrap_err();
    assert!(matches!(error, CurationError::Changed { .. }), "{error}");
    assert!(!out.exists());
    fs::write(&pairs, r#"{"prompt": "q", "completion": "a"}"#).unwrap();
    let refused = rank(&files, &decoder, &tokenizer, &Truncation::default(), &go_on);
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("pairs.jsonl:1: expected a preference pair, got an instruction example"), "{error}");
}
