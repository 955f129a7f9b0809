//! `smpo logps`.

use std::fs;

use serde_json::Value;

use crate::{Desk, base, difference, smpo};

#[test]
fn logps_scores_under_a_reference_too() {
    let desk = Desk::new();
    let adapter = desk.adapter("adapter", false, &base().display().to_string());
    let (policy, reference) = (desk.logps(&base(), &[]), desk.logps(&adapter, &[]));
    let both = desk.logps(&base(), &["--reference", &adapter.display().to_string()]);
    assert_eq!(both.len(), 5);
    assert_eq!(difference(&policy, &both, "logps"), 0.0);
    assert_eq!(difference(&reference, &both, "ref_logps"), 0.0);
    assert!(policy[0]["chosen"].get("ref_logps").is_none());
    // `smpo explain` takes them as they are.
    let lines: Vec<String> = both.iter().map(Value::to_string).collect();
    fs::write(desk.path("both.jsonl"), lines.join("\n")).unwrap();
    fs::write(desk.path("dpo.toml"), "[loss]\nkind = \"dpo\"\n").unwrap();
    smpo().arg("explain").arg(desk.path("dpo.toml")).arg(desk.path("both.jsonl")).assert().success();
}

#[test]
fn logps_writes_the_entropies_that_losses_need() {
    let desk = Desk::new();
    let plain = desk.logps(&base(), &[]);
    for (entropy, field, loss) in [
        ("collision", "collision_entropy", "kind = \"dpo\"\nuse_weighting = true\nreference_free = true\n"),
        ("top", "top_entropy", "kind = \"sft\"\nloss_type = \"eaft\"\n"),
    ] {
        let rows = desk.logps(&base(), &["--entropy", entropy]);
        assert_eq!(difference(&plain, &rows, "logps"), 0.0);
        let values = |row: &Value| row["rejected"][field].as_array().unwrap().len();
        assert_eq!(values(&rows[0]), rows[0]["rejected"]["ids"].as_array().unwrap().len());
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        fs::write(desk.path("rows.jsonl"), lines.join("\n")).unwrap();
        fs::write(desk.path("loss.toml"), format!("[loss]\n{loss}")).unwrap();
        smpo().arg("explain").arg(desk.path("loss.toml")).arg(desk.path("rows.jsonl")).assert().success();
        let lines: Vec<String> = plain.iter().map(Value::to_string).collect();
        fs::write(desk.path("rows.jsonl"), lines.join("\n")).unwrap();
        let explained = smpo().arg("explain").arg(desk.path("loss.toml")).arg(desk.path("rows.jsonl")).assert().code(2);
        let error = String::from_utf8_lossy(&explained.get_output().stderr).into_owned();
        assert!(error.contains(&format!("rows.jsonl:1: `chosen.{field}`: expected")), "{error}");
    }
}
