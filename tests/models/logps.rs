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
