//! Entries of axolotl's `datasets`, and its settings of rows and tokenizer.

#[path = "support/mod.rs"]
mod support;

use serde_json::{Value, json};
use support::{problems, read, value};

/// A file with one data set of these keys, and these settings beside it.
fn file(entry: &Value, more: &Value) -> Value {
    let mut file = json!({"base_model": "base", "datasets": [{"path": "chat.jsonl", "type": "chat_template"}]});
    file["datasets"][0].as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    file
}

fn sft(entry: &Value) -> Vec<String> {
    problems("axolotl", &file(entry, &json!({})))
}

#[test]
fn an_unknown_key_of_an_entry_is_an_error_with_the_nearest_one() {
    let typo = "`datasets[0]`: unknown key `feild_messages` (did you mean `field_messages`?)";
    assert_eq!(sft(&json!({"feild_messages": "x"})), [typo]);
    let of_type = sft(&json!({"type": {"field_promt": "q", "system_prompt": "Be good."}}));
    assert_eq!(of_type.len(), 2, "{of_type:?}");
    assert_eq!(of_type[0], "`datasets[0].type`: unknown key `field_promt` (did you mean `field_prompt`?)");
    assert!(of_type[1].contains("`default_system_message`"), "{of_type:?}");
    let test = problems("axolotl", &file(&json!({}), &json!({"test_datasets": [{"path": "t.jsonl", "slit": "x"}]})));
    assert_eq!(test, ["`test_datasets[0]`: unknown key `slit` (did you mean `split`?)"]);
    let share = json!({"test_datasets": [{"path": "t.jsonl", "split": "train[:10%]"}]});
    let share = problems("axolotl", &file(&json!({}), &share));
    assert!(share[0].contains("expected the name of a split, got a share"), "{share:?}");
    let column = sft(&json!({"field_messages": 5, "roles": "gpt"}));
    assert!(column[0].contains("`datasets[0].field_messages`: expected the name of a column, got 5"), "{column:?}");
    assert!(column[1].contains("`datasets[0].roles`: expected a table"), "{column:?}");
}

#[test]
fn keys_of_an_entry_that_change_what_is_trained_are_refused() {
    for (entry, name) in [
        (json!({"message_field_training": "learn"}), "message_field_training: learn"),
        (json!({"message_field_training_detail": "spans"}), "message_field_training_detail: spans"),
        (json!({"roles_to_train": ["user"]}), r#"roles_to_train: ["user"]"#),
        (json!({"roles_to_train": []}), "roles_to_train: []"),
        (json!({"roles_to_train": ["gpt"], "roles": {"assistant": ["us"]}}), r#"roles_to_train: ["gpt"]"#),
        (json!({"train_on_eos": "none"}), "train_on_eos: none"),
        (json!({"train_on_eot": "all"}), "train_on_eot: all"),
        (json!({"drop_system_message": true}), "drop_system_message: true"),
        (json!({"shards": 3}), "shards: 3"),
        (json!({"split_thinking": true}), "split_thinking: true"),
        (json!({"field_thinking": "thought"}), "field_thinking: thought"),
        (json!({"template_thinking_key": "why"}), "template_thinking_key: why"),
        (json!({"chat_template_jinja": "{{ x }}"}), "chat_template_jinja: {{ x }}"),
        (json!({"message_property_mappings": {"role": "from", "weight": "w"}}), "message_property_mappings.weight: w"),
        (json!({"type": {"format": "[INST] {instruction} [/INST]"}}), "type.format: [INST] {instruction} [/INST]"),
    ] {
        let found = sft(&entry);
        let start = format!("`datasets[0].{name}` is not supported: ");
        assert!(found.len() == 1 && found[0].starts_with(&start), "{entry}: {found:?}");
    }
}

#[test]
fn values_that_are_what_is_done_here_are_accepted_in_silence() {
    let same = json!({
        "message_field_training": "train", "roles_to_train": ["assistant", "us"], "roles": {"assistant": ["us"]},
        "train_on_eos": "turn", "train_on_eot": "turn", "drop_system_message": false, "shards": 1,
        "split_thinking": false, "field_thinking": "thinking", "template_thinking_key": "thinking", "field_tools": "fns",
        "message_property_mappings": {"role": "from", "content": "value", "tool_calls": "tool_calls"},
        "revision": null, "chat_template": "tokenizer_default"
    });
    let read = read("axolotl", &file(&same, &json!({"min_sample_len": 2, "tokenizer_config": "base/"})));
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    assert!(read.notes.iter().all(|note| !note.contains("ignored")), "{:?}", read.notes);
    let columns = value(&read, "dataset_columns").unwrap();
    assert_eq!((&columns[0]["role"], &columns[0]["tools"]), (&json!("from"), &json!("fns")));
}

/// axolotl reads these in SFT alone.
#[test]
fn settings_of_answers_have_no_effect_on_preferences() {
    let entry = json!({"roles_to_train": ["user"], "train_on_eos": "none", "shards": 3, "ds_type": "json"});
    let read = read("axolotl", &file(&entry, &json!({"rl": "dpo", "min_sample_len": 100})));
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let ignored = read.notes.last().unwrap();
    for name in ["roles_to_train", "train_on_eos", "shards"] {
        let remark = format!("`datasets[0].{name}` (a setting of SFT, and this is DPO)");
        assert!(ignored.contains(&remark), "{ignored}");
    }
    assert!(ignored.contains("`datasets[0].ds_type`") && ignored.contains("`min_sample_len`"), "{ignored}");
}

#[test]
fn short_rows_and_another_tokenizer_are_refused() {
    let more = json!({
        "min_sample_len": 100, "tokenizer_config": "some/other-tokenizer", "base_model_config": "some/other-config"
    });
    let found = problems("axolotl", &file(&json!({}), &more));
    for name in
        ["min_sample_len: 100", "tokenizer_config: some/other-tokenizer", "base_model_config: some/other-config"]
    {
        let start = format!("`{name}` is not supported: ");
        assert!(found.iter().any(|message| message.starts_with(&start)), "{name}: {found:?}");
    }
    assert_eq!(found.len(), 3, "{found:?}");
}
