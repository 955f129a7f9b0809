//! Lines of `logps.jsonl`: round trip, and the errors about lines that do not fit the schema.

use std::path::Path;

use smpo_results::{LogpsRow, parse_logps};

const GOOD: &str = r#"{"id": "a", "chosen": {"ids": [5, 2], "logps": [-0.5, -1.0], "is_terminator": [false, true]}, "rejected": {"ids": [6, 7, 2], "logps": [-4.0, -1.0, -0.5], "is_terminator": [false, false, true]}}"#;

/// float32 rounding of a log-softmax.
const MAX_LOGP: f64 = 1e-4;

fn parse(text: &str) -> Result<Vec<LogpsRow>, String> {
    parse_logps(Path::new("pairs.jsonl"), text, MAX_LOGP).map_err(|error| error.to_string())
}

#[test]
fn a_row_survives_a_round_trip() {
    let rows = parse(&format!("{GOOD}\n\n{GOOD}\n")).unwrap();
    assert_eq!((rows.len(), rows[1].line), (2, 3), "blank lines are skipped and counted");
    let written = serde_json::to_string(&rows[0]).unwrap();
    assert_eq!(written, GOOD.replace(": ", ":").replace(", ", ","));
    assert_eq!(parse(&written).unwrap(), rows[..1]);
    let referenced =
        written.replace("\"is_terminator\":[false,true]}", "\"is_terminator\":[false,true],\"ref_logps\":[-1.0,0.0]}");
    let unpaired = referenced.replace("rejected", "kl");
    for text in [referenced, unpaired] {
        assert_eq!(serde_json::to_string(&parse(&text).unwrap()[0]).unwrap(), text);
    }
}

#[test]
fn errors_name_the_line() {
    for (text, expected) in [
        ("", "pairs.jsonl:1: expected a pair on every line, got no line"),
        ("nonsense", "pairs.jsonl:1: expected a JSON object, got text that is not JSON (column 2: expected ident)"),
        ("[1]", "pairs.jsonl:1: expected a JSON object, got a list"),
        ("{}", "pairs.jsonl:1: `id`: expected a string, got nothing"),
        (r#"{"id": 3}"#, "pairs.jsonl:1: `id`: expected a string, got 3"),
    ] {
        let got = parse(text).unwrap_err();
        assert!(got.contains(expected), "{text}\n  expected {expected}\n  got      {got}");
    }
}

/// Complains about the second of two lines, where `from` is replaced by `to`.
#[track_caller]
fn second_line(from: &str, to: &str, expected: &str) {
    let got = parse(&format!("{GOOD}\n{}", GOOD.replace(from, to))).unwrap_err();
    assert!(
        got.starts_with("pairs.jsonl:2: ") && got.contains(expected),
        "{to}\n  expected {expected}\n  got      {got}"
    );
}

#[test]
fn errors_name_a_log_prob_that_is_none() {
    for (to, got) in [("0.5", "0.5"), ("NaN", "\"NaN\""), ("-Infinity", "\"-Infinity\"")] {
        let expected = format!(
            "`rejected.logps[0]`: expected a finite log-prob of at most 0 (rounding up to 0.0001 is accepted), got {got}"
        );
        second_line("-4.0", to, &expected);
    }
    second_line("-4.0", "null", "`rejected.logps[0]`: expected a finite log-prob");
    second_line("-4.0", "-1e999", "number out of range");
}

#[test]
fn errors_name_the_field_and_the_expected_value() {
    second_line("[6, 7, 2]", "[6, 7]", "`rejected.ids`: expected 3 entries, one per log-prob, got 2");
    second_line("[6, 7, 2]", "[6, -7, 2]", "`rejected.ids[1]`: expected a token id, got -7");
    second_line("[6, 7, 2]", "6", "`rejected.ids`: expected a list, got 6");
    second_line("[false, false, true]", "[0, 0, 1]", "`rejected.is_terminator[0]`: expected true or false, got 0");
    second_line(
        r#""ids": [5, 2], "logps": [-0.5, -1.0], "is_terminator": [false, true]"#,
        r#""ids": [], "logps": [], "is_terminator": []"#,
        "`chosen`: expected at least one completion token, got an empty side",
    );
}

#[test]
fn errors_name_an_unknown_key() {
    second_line(
        "\"logps\"",
        "\"logp\"",
        "`chosen.logp`: expected one of `ids`, `logps`, `is_terminator`, `ref_logps`, `collision_entropy`, `top_entropy`, got an unknown key (did you mean `logps`?)",
    );
    second_line(
        "\"rejected\"",
        "\"reject\"",
        "`reject`: expected one of `id`, `chosen`, `rejected`, `completions`, `rewards`, `kl`, got an unknown key (did you mean `rejected`?)",
    );
}

#[test]
fn rounding_above_zero_is_accepted() {
    assert!(parse(&GOOD.replace("-4.0", "0.00005")).is_ok());
}

#[test]
fn a_completion_that_did_not_end_has_no_terminator() {
    let text = GOOD.replace("[false, false, true]", "[false, false, false]");
    let rows = parse_logps(Path::new("pairs.jsonl"), &text, 1e-4).unwrap();
    assert!(!rows[0].rejected.as_ref().unwrap().is_terminator.contains(&true));
}
