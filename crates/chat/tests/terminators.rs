//! The token that ends a turn, for the ways in which templates end theirs.

use std::fs;

use smpo_chat::{TerminatorSource, Terminators};

/// A model directory with one template; tokens `<a>`, `<b>`, `<eos>`, `<user>` have the ids 0, 1, 2, 3.
fn terminators(template: &str, eos: &str) -> Terminators {
    let dir = tempfile::tempdir().unwrap();
    let added = ["<a>", "<b>", "<eos>", "<user>"].iter().enumerate();
    let added: Vec<_> =
        added.map(|(id, content)| serde_json::json!({"id": id, "content": content, "special": true})).collect();
    fs::write(dir.path().join("tokenizer.json"), serde_json::json!({"added_tokens": added}).to_string()).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), serde_json::json!({"eos_token": eos}).to_string()).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    Terminators::from_model_dir(dir.path()).unwrap()
}

/// A template that writes `after` each assistant message and `last` at the end of a conversation.
fn template(after: &str, last: &str) -> String {
    format!(
        "{{% for m in messages %}}{{% if m.role == 'user' %}}<user>{{{{ m.content }}}}{{% else %}}{{{{ m.content }}}}{after}\
         {{% endif %}}{{% endfor %}}{{% if not add_generation_prompt %}}{last}{{% endif %}}"
    )
}

#[test]
fn the_turn_end_is_what_closes_every_turn() {
    for (after, last, eos, ids) in [
        // ChatML: one token, which the tokenizer may or may not call its EOS
        ("<a>", "", "<a>", vec![0]),
        ("<a>", "", "<eos>", vec![0, 2]),
        // Cohere: the answer ends, then the turn
        ("<a><b>", "", "<eos>", vec![1, 2]),
        // Phi-3: the conversation's end is no turn's end
        ("<a>", "<eos>", "<eos>", vec![0, 2]),
        // GLM: nothing; the tokenizer's EOS is all there is
        ("", "", "<eos>", vec![2]),
        ("", "<b>", "<eos>", vec![1, 2]),
    ] {
        let found = terminators(&template(after, last), eos);
        assert_eq!(found.ids(), ids, "{after} {last} {eos}");
        assert_eq!(found.primary().unwrap().id, Some(ids[0]));
    }
}

#[test]
fn a_last_turn_that_ends_otherwise_counts() {
    let gpt_oss = "{% for m in messages %}<user>{{ m.content }}{{ '<a>' if loop.last else '<b>' }}{% endfor %}";
    let found = terminators(gpt_oss, "<eos>");
    assert_eq!(found.ids(), [0, 2]);
    assert_eq!(found.primary().unwrap().sources, [TerminatorSource::TurnEnd]);
}

#[test]
fn sources_of_one_token_are_joined_and_the_first_in_a_text_is_found() {
    let found = terminators(&template("<eos>", ""), "<eos>");
    assert_eq!(found.entries().len(), 1);
    assert_eq!(found.entries()[0].sources, [TerminatorSource::TurnEnd, TerminatorSource::Tokenizer]);
    assert_eq!(found.find("x<a><eos><eos>"), Some(4..9));
    assert_eq!(found.find("x<a>"), None);
}

#[test]
fn an_ordinary_word_of_a_stale_config_ends_nothing_where_another_file_names_the_end() {
    let added = serde_json::json!({"added_tokens": [{"id": 2, "content": "<eos>", "special": true}]}).to_string();
    for (generation, config, ids, ordinary) in [
        // transformers does not ask config.json where generation_config.json names its own
        (Some(2), serde_json::json!(900), vec![2], vec![(900, false)]),
        (None, serde_json::json!([2, 900]), vec![2, 900], vec![(900, true)]),
        (Some(7), serde_json::json!([2, 900]), vec![7, 2], vec![(7, true), (900, false)]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), &added).unwrap();
        fs::write(dir.path().join("config.json"), serde_json::json!({"eos_token_id": config}).to_string()).unwrap();
        if let Some(id) = generation {
            let text = serde_json::json!({"eos_token_id": id}).to_string();
            fs::write(dir.path().join("generation_config.json"), text).unwrap();
        }
        let found = Terminators::from_model_dir(dir.path()).unwrap();
        assert_eq!(found.ids(), ids, "{generation:?} {config}");
        let told: Vec<_> = found.ordinary().iter().map(|end| (end.id, end.counts)).collect();
        assert_eq!(told, ordinary, "{generation:?} {config}");
    }
}
