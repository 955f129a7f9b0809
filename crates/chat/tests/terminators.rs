//! The token that ends a turn, for the ways in which templates end theirs.

use std::fs;

use smpo_chat::{ChatTemplate, OrdinaryEnd, TerminatorSource, Terminators};

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
        let mut found = Terminators::from_model_dir(dir.path()).unwrap();
        assert_eq!(found.ids(), ids, "{generation:?} {config}");
        let told = |found: &Terminators| found.ordinary().iter().map(|end| (end.id, end.counts)).collect::<Vec<_>>();
        assert_eq!(told(&found), ordinary, "{generation:?} {config}");
        found.resolve(|_| None, |id| Some(id.to_string()));
        assert_eq!(told(&found), ordinary, "{generation:?} {config}");
    }
}

/// A directory whose tokenizer has these added tokens, all special, from id 0 on.
fn with_tokens(tokens: &[&str], files: &[(&str, serde_json::Value)]) -> Terminators {
    let dir = tempfile::tempdir().unwrap();
    let added = tokens.iter().enumerate();
    let added: Vec<_> =
        added.map(|(id, content)| serde_json::json!({"id": id, "content": content, "special": true})).collect();
    fs::write(dir.path().join("tokenizer.json"), serde_json::json!({"added_tokens": added}).to_string()).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text.as_str().map_or_else(|| text.to_string(), str::to_owned)).unwrap();
    }
    Terminators::from_model_dir(dir.path()).unwrap()
}

#[test]
fn of_tokens_that_end_at_one_place_the_longest_ends_the_turn() {
    for tokens in [["<a>", "x<a>"], ["x<a>", "<a>"]] {
        let found = with_tokens(&tokens, &[("chat_template.jinja", serde_json::json!(template(" x<a>", "")))]);
        assert_eq!(found.primary().unwrap().token.as_deref(), Some("x<a>"));
        // and of those that begin at one place, in a text and where only the conversation's end is marked
        let both = |tokens| with_tokens(tokens, &[("chat_template.jinja", serde_json::json!(template("", "<a>x")))]);
        assert_eq!(both(&["<a>", "<a>x"]).primary().unwrap().token.as_deref(), Some("<a>x"));
    }
    let ids = serde_json::json!({"eos_token_id": [0, 1]});
    assert_eq!(with_tokens(&["<a>", "<a>x"], &[("config.json", ids)]).find("..<a>x"), Some(2..6));
}

#[test]
fn ids_that_no_table_explains_stay_apart() {
    let ids = serde_json::json!({"eos_token_id": [5, 6, null, 5]});
    let mut found =
        with_tokens(&[], &[("config.json", ids), ("tokenizer_config.json", serde_json::json!({"eos_token": "<e>"}))]);
    assert_eq!((found.ids(), found.tokens()), (vec![5, 6], vec!["<e>"]));
    assert!(found.ordinary().is_empty() && found.contains(6) && !found.contains(7) && !found.is_empty());
    // the vocabulary joins the text with its id, and knows nothing of the other
    let unknown = found.resolve(|token| (token == "<e>").then_some(5), |id| (id == 5).then(|| "<e>".to_owned()));
    assert_eq!((found.ids(), found.tokens()), (vec![5], vec!["<e>"]));
    assert_eq!(found.entries()[0].sources, [TerminatorSource::Tokenizer, TerminatorSource::Config]);
    assert_eq!(unknown.iter().map(|entry| entry.id).collect::<Vec<_>>(), [Some(6)]);
}

/// A template of its own in the place of the directory's, and tokens of which some are marked special.
fn with_marked_tokens(tokens: &[(&str, bool)], after: &str) -> Terminators {
    let dir = tempfile::tempdir().unwrap();
    let added: Vec<_> = (0..)
        .zip(tokens)
        .map(|(id, (content, special))| serde_json::json!({"id": id, "content": content, "special": special}))
        .collect();
    fs::write(dir.path().join("tokenizer.json"), serde_json::json!({"added_tokens": added}).to_string()).unwrap();
    let template = ChatTemplate::from_source(template(after, ""), "t.jinja").unwrap();
    Terminators::for_template(dir.path(), &template).unwrap()
}

#[test]
fn a_token_that_is_not_special_ends_the_turn_where_no_special_one_does() {
    for (tokens, after, token) in [
        (&[("<a>", true), ("<b>", false)][..], "<a><b>", Some("<a>")),
        (&[("<a>", true), ("<b>", false)], "<b>", Some("<b>")),
        (&[("<a>", true), (" ", true), (" ", false)], "<a> .", Some("<a>")),
        (&[(" ", true), (" ", false)], " .", None),
    ] {
        let found = with_marked_tokens(tokens, after);
        assert_eq!(found.primary().and_then(|end| end.token.as_deref()), token, "{tokens:?} {after:?}");
        assert_eq!(found.is_empty(), token.is_none(), "{tokens:?} {after:?}");
    }
}

#[test]
fn an_ordinary_end_is_told_with_its_file_and_effect() {
    for (counts, effect) in [(true, "answers end before it"), (false, "it is left out, as in transformers")] {
        let told = OrdinaryEnd { id: 9, file: "config.json", counts }.to_string();
        assert!(
            told.starts_with("`eos_token_id` 9 of config.json is an ordinary word") && told.ends_with(effect),
            "{told}"
        );
    }
}
