//! Stored log-probs in, explanation out; and what is said about stored log-probs that are none.

use std::path::Path;

use smpo_losses::explain::{Report, explain, read_rows, summarize};
use smpo_losses::{LossConfig, Objective, Side};

const GOOD: &str = r#"{"id": "a", "chosen": {"ids": [5, 2], "logps": [-0.5, -1.0], "is_terminator": [false, true]}, "rejected": {"ids": [6, 7, 2], "logps": [-4.0, -1.0, -0.5], "is_terminator": [false, false, true]}}"#;

fn objective(table: &str) -> Objective {
    Objective::new(toml::from_str::<LossConfig>(table).unwrap()).unwrap()
}

/// The complaint about `rows` under a loss.
fn complaint(table: &str, rows: &str) -> String {
    let path = Path::new("pairs.jsonl");
    match read_rows(path, rows) {
        Err(error) => error.to_string(),
        Ok(rows) => explain(&objective(table), path, &rows).expect_err(table).to_string(),
    }
}

#[test]
fn the_report_has_the_documented_keys_and_the_numbers_of_the_loss() {
    let rows = read_rows(Path::new("p"), &format!("{GOOD}\n\n{GOOD}\n")).unwrap();
    assert_eq!((rows.len(), rows[1].line), (2, 3), "blank lines are skipped and counted");
    let objective =
        objective("kind = \"smpo\"\nmin_log_prob = -2.3\nchosen_sft_ratio = 1.0").with_target_margin(0.1).unwrap();
    let evaluation = explain(&objective, Path::new("p"), &rows).unwrap();
    let report = serde_json::to_value(Report::new(&rows, &evaluation)).unwrap();

    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["loss", "po_loss", "sft_chosen_loss", "sft_rejected_loss", "clip", "pairs"]);
    assert_eq!(keys(&report["clip"]), ["bound", "share_rejected", "share_chosen"]);
    let pair_keys = ["id", "po_loss", "chosen_reward", "rejected_reward", "chosen_weights", "rejected_weights"];
    assert_eq!(keys(&report["pairs"][0]), pair_keys);

    // s+ = −0.75, s− = (−2.3 − 1 − 0.5)/3, γ = 0.1: Δ = 0.41667, no pair loss; cross-entropy 0.75.
    assert_eq!((report["po_loss"].as_f64(), report["loss"].as_f64()), (Some(0.0), Some(0.75)));
    assert_eq!(report["clip"]["bound"].as_f64(), Some(-2.3));
    assert_eq!(report["clip"]["share_rejected"].as_f64(), Some(1.0 / 3.0));
    assert_eq!(report["pairs"][1]["chosen_weights"], serde_json::json!([-0.25, -0.25]));
    assert_eq!(report["pairs"][1]["rejected_weights"], serde_json::json!([0.0, 0.0, 0.0]));
}

#[test]
fn the_tokens_that_pull_are_found() {
    // A certain token has the weight of the others and pulls at nothing.
    let row = GOOD.replace("[-0.5, -1.0]", "[0.0, -3.0]");
    let rows = read_rows(Path::new("p"), &row).unwrap();
    let evaluation = explain(&objective("kind = \"smpo\"\nloss_type = \"sigmoid\""), Path::new("p"), &rows).unwrap();
    let summaries = summarize(&rows, &evaluation);
    assert_eq!(summaries.len(), 5);
    let total = |part: fn(&smpo_losses::explain::TokenSummary) -> f64| summaries.iter().map(part).sum::<f64>();
    assert!((total(|token| token.weight_share) - 1.0).abs() < 1e-12);
    assert!((total(|token| token.pull_share) - 1.0).abs() < 1e-12);
    let heaviest = &summaries[0];
    assert_eq!((heaviest.side, heaviest.id, heaviest.is_terminator, heaviest.count), (Side::Chosen, 2, true, 1));
    assert!(heaviest.weight < 0.0, "a training step raises it");
    let certain = summaries.iter().find(|token| token.id == 5).unwrap();
    assert_eq!((certain.pull_share, certain.weight_share), (0.0, heaviest.weight_share));
    assert_eq!(certain.mean_change, None);
}

#[test]
fn a_kto_row_brings_its_own_baseline() {
    let side = r#"{"ids": [5, 2], "logps": [-0.5, -1.0], "is_terminator": [false, true], "ref_logps": [-1.0, -1.0]}"#;
    let rows = read_rows(Path::new("p"), &format!(r#"{{"id": "a", "rejected": {side}, "kl": {side}}}"#)).unwrap();
    let evaluation = explain(&objective("kind = \"kto\""), Path::new("p"), &rows).unwrap();
    assert_eq!(evaluation.po_loss, 0.5, "rejected is exactly as likely as the baseline");
}

#[test]
fn complaints_name_the_line_the_field_and_what_belongs_there() {
    let smpo = "kind = \"smpo\"";
    let dpo = "kind = \"dpo\"";
    let cases = [
        (smpo, "", "pairs.jsonl:1: expected a pair on every line, got no line"),
        (
            smpo,
            "nonsense",
            "pairs.jsonl:1: expected a JSON object, got text that is not JSON (column 2: expected ident)",
        ),
        (smpo, "[1]", "pairs.jsonl:1: expected a JSON object, got a list"),
        (smpo, "{}", "pairs.jsonl:1: `id`: expected a string, got nothing"),
        (smpo, r#"{"id": 3}"#, "pairs.jsonl:1: `id`: expected a string, got 3"),
        (
            smpo,
            r#"{"id": "a"}"#,
            "pairs.jsonl:1: `chosen`: expected a completion, as loss `smpo` needs one, got nothing",
        ),
        ("kind = \"kto\"", r#"{"id": "a"}"#, "expected a completion on one side at least for loss `kto`"),
    ];
    for (table, rows, expected) in cases {
        let got = complaint(table, rows);
        assert!(got.contains(expected), "{rows}\n  expected {expected}\n  got      {got}");
    }
    // One good line first, so that the line number means something.
    let edits = [
        (
            smpo,
            "-4.0",
            "0.5",
            "`rejected.logps[0]`: expected a finite log-prob of at most 0 (rounding up to 0.0001 is accepted), got 0.5",
        ),
        (
            smpo,
            "-4.0",
            "NaN",
            "`rejected.logps[0]`: expected a finite log-prob of at most 0 (rounding up to 0.0001 is accepted), got \"NaN\"",
        ),
        (
            smpo,
            "-4.0",
            "-Infinity",
            "`rejected.logps[0]`: expected a finite log-prob of at most 0 (rounding up to 0.0001 is accepted), got \"-Infinity\"",
        ),
        (smpo, "-4.0", "null", "`rejected.logps[0]`: expected a finite log-prob"),
        (smpo, "-4.0", "-1e999", "number out of range"),
        (smpo, "[6, 7, 2]", "[6, 7]", "`rejected.ids`: expected 3 entries, one per log-prob, got 2"),
        (smpo, "[6, 7, 2]", "[6, -7, 2]", "`rejected.ids[1]`: expected a token id, got -7"),
        (smpo, "[6, 7, 2]", "6", "`rejected.ids`: expected a list, got 6"),
        (
            smpo,
            "[false, false, true]",
            "[false, false, false]",
            "`rejected.is_terminator`: expected a terminator, which ends every whole completion, got none",
        ),
        (smpo, "[false, false, true]", "[0, 0, 1]", "`rejected.is_terminator[0]`: expected true or false, got 0"),
        (
            smpo,
            r#""ids": [5, 2], "logps": [-0.5, -1.0], "is_terminator": [false, true]"#,
            r#""ids": [], "logps": [], "is_terminator": []"#,
            "`chosen`: expected at least one completion token, got an empty side",
        ),
        (
            smpo,
            "\"logps\"",
            "\"logp\"",
            "`chosen.logp`: expected one of `ids`, `logps`, `is_terminator`, `ref_logps`, got an unknown key (did you mean `logps`?)",
        ),
        (
            smpo,
            "\"rejected\"",
            "\"reject\"",
            "`reject`: expected one of `id`, `chosen`, `rejected`, `kl`, got an unknown key (did you mean `rejected`?)",
        ),
        (
            dpo,
            "\"a\"",
            "\"b\"",
            "pairs.jsonl:1: `chosen.ref_logps`: expected the reference model's log-probs, as loss `dpo` compares with them, got nothing",
        ),
    ];
    for (table, from, to, expected) in edits {
        let rows = format!("{GOOD}\n{}", GOOD.replace(from, to));
        let got = complaint(table, &rows);
        assert!(got.contains(expected), "{to}\n  expected {expected}\n  got      {got}");
        assert!(got.starts_with("pairs.jsonl:2: ") || table == dpo, "{got}");
    }
    let margin = objective("kind = \"cpo\"").with_target_margin(0.1);
    assert_eq!(margin.unwrap_err().to_string(), "loss `cpo` has no target margin, got 0.1");
}

#[test]
fn rounding_above_zero_is_accepted() {
    assert!(read_rows(Path::new("p"), &GOOD.replace("-4.0", "0.00005")).is_ok());
}
