//! Entries of LLaMA-Factory's `dataset_info.json`, and its held-out part.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{problems, read, value};

/// A file over two data sets of four rows each, of which the first has these further keys.
fn file(dir: &Path, entry: &Value, more: &Value) -> Value {
    let mut info = json!({"a": {"file_name": "a.json"}, "b": {"file_name": "b.json"}});
    info["a"].as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    std::fs::write(dir.join("dataset_info.json"), info.to_string()).unwrap();
    for name in ["a.json", "b.json"] {
        std::fs::write(dir.join(name), "[{}, {}, {}, {}]").unwrap();
    }
    let mut file = json!({"stage": "sft", "model_name_or_path": "base", "dataset": "a,b", "dataset_dir": dir});
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    file
}

#[test]
fn an_unknown_key_of_an_entry_is_an_error_with_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    for (entry, message) in [
        (json!({"rankng": false}), "unknown key `rankng` (did you mean `ranking`?)"),
        (json!({"columns": {"promt": "q"}}), "`columns`: unknown key `promt` (did you mean `prompt`?)"),
        (json!({"tags": {"usr_tag": "me"}}), "`tags`: unknown key `usr_tag` (did you mean `user_tag`?)"),
        (json!({"num_samples": 0}), "`num_samples`: expected a number of rows, got 0"),
        (json!({"split": "test"}), "`split`: expected train, the one split of a file, got test"),
    ] {
        let found = problems("llamafactory", &file(dir.path(), &entry, &json!({})));
        let path = dir.path().join("dataset_info.json");
        assert_eq!(found, [format!("`dataset`: `a` in {}: {message}", path.display())]);
    }
    let read = read("llamafactory", &file(dir.path(), &json!({"file_sha1": "0", "split": "train"}), &json!({})));
    assert!(read.problems.is_empty(), "{:?}", read.problems);
}

#[test]
fn columns_are_known_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let entry: Value =
        serde_json::from_str(r#"{"columns": {"response": "a", "history": "h", "prompt": "q"}}"#).unwrap();
    let read = read("llamafactory", &file(dir.path(), &entry, &json!({})));
    assert!(read.problems.is_empty(), "{:?}", read.problems);
}

/// Rows are drawn there as here; more than there are repeats some.
#[test]
fn a_number_of_rows_is_a_share_of_the_data_set() {
    let dir = tempfile::tempdir().unwrap();
    for (samples, more, ratios) in [
        (2, json!({}), json!([0.5, 1.0])),
        (6, json!({}), json!([1.5, 1.0])),
        (2, json!({"max_samples": 3}), json!([0.5, 0.75])),
        (3, json!({"max_samples": 1}), json!([0.25, 0.25])),
    ] {
        let read = read("llamafactory", &file(dir.path(), &json!({"num_samples": samples}), &more));
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        assert_eq!(value(&read, "dataset_ratio"), Some(ratios), "{samples} {more}");
    }
    let of_hub = json!({"num_samples": 5, "hf_hub_url": "org/data"});
    let one = read("llamafactory", &file(dir.path(), &of_hub, &json!({"dataset": "a"})));
    assert_eq!(value(&one, "dataset_sample"), Some(json!(5)));
    let two = problems("llamafactory", &file(dir.path(), &of_hub, &json!({})));
    assert!(two[0].contains("`num_samples` needs the number of rows"), "{two:?}");
    let held_out = json!({"dataset": "b", "eval_dataset": "a"});
    let held_out = problems("llamafactory", &file(dir.path(), &json!({"num_samples": 2}), &held_out));
    assert!(held_out[0].starts_with("`eval_dataset`: `num_samples` of "), "{held_out:?}");
}

#[test]
fn a_held_out_part_of_zero_is_none() {
    let dir = tempfile::tempdir().unwrap();
    for (size, expected) in [(json!(0.0), None), (json!(0), None), (json!("0.0"), None), (json!(0.1), Some(json!(0.1)))]
    {
        let read = read("llamafactory", &file(dir.path(), &json!({}), &json!({"val_size": size})));
        assert_eq!(value(&read, "test_size"), expected, "{size}");
    }
}
