//! Templates and model directories that cannot be used, and their errors.

use std::path::{Path, PathBuf};

use smpo_chat::{ChatTemplate, Message};
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

fn golden(model: &str) -> PathBuf {
    smpo_fixtures::golden("tokenizer", model)
}

fn prompt() -> Vec<Message> {
    vec![Message::user("2+2?")]
}

#[test]
fn a_template_that_raises_or_loops_is_an_error() {
    for (source, expected) in [
        ("{{ raise_exception('only poems') }}", "refuses this conversation: only poems"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "did not end within"),
        ("{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}", "did not end within"),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "the chat template"),
        ("{{ messages[0].nothing.at_all }}", "the chat template failed"),
        ("{{ strftime_now('%Q') }}", "cannot use the format"),
    ] {
        let template = ChatTemplate::from_source(source, "bad.jinja").unwrap();
        let tokenizer = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
        let error = tokenizer.encode_completion(&prompt(), &[Message::assistant("4")]).unwrap_err().to_string();
        assert!(error.starts_with("bad.jinja: ") && error.contains(expected), "{error}");
    }
    let parts = "{% for m in messages %}{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endfor %}";
    let template = ChatTemplate::from_source(parts, "parts.jinja").unwrap();
    let error = ChatTokenizer::with_template(golden("chatml"), template).unwrap_err().to_string();
    assert!(error.starts_with("parts.jinja: the chat template leaves out what plain text messages say"), "{error}");
    let error = ChatTemplate::from_source("{% if %}", "bad.jinja").unwrap_err().to_string();
    assert!(error.contains("does not parse"), "{error}");
}

#[test]
fn a_template_that_rewrites_the_prompt_is_refused() {
    let template = ChatTemplate::from_source(
        "{% if messages | length > 1 %}{{ messages[-1].content }}{% else %}ask: {{ messages[0].content }}{% endif %}",
        "backwards.jinja",
    )
    .unwrap();
    let tokenizer = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
    let encoded = tokenizer.encode_completion(&prompt(), &[Message::assistant("4")]);
    assert!(matches!(encoded, Err(TokenizerError::PromptChanges { .. })));
}

#[test]
fn a_model_directory_without_what_is_needed_says_so() {
    let load = |dir: &Path| ChatTokenizer::from_model_dir(dir).unwrap_err().to_string();
    assert!(load(Path::new("/nowhere")).contains("expected a model directory"));
    let dir = tempfile::tempdir().unwrap();
    assert!(load(dir.path()).contains("no tokenizer: there is none; copy it, with the chat template, from the model"));
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(load(dir.path()).contains("no chat template"));
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ messages[-1].content }}").unwrap();
    assert!(load(dir.path()).contains("no tokenizer: there is none; copy it"));
    for (name, told) in [
        ("merges.txt", "there is none; copy it"),
        ("vocab.json", "but vocab.json and merges.txt; make tokenizer.json with transformers"),
        ("tekken.json", "but Mistral's tekken.json"),
        ("tokenizer.model", "but a SentencePiece tokenizer.model; make tokenizer.json with transformers"),
    ] {
        std::fs::write(dir.path().join(name), "x").unwrap();
        assert!(load(dir.path()).contains(told), "{}", load(dir.path()));
    }
    std::fs::write(dir.path().join("tokenizer.json"), "version https://git-lfs.github.com/spec/v1\noid\n").unwrap();
    let told = load(dir.path());
    assert!(
        told.contains("tokenizer.json") && told.contains("Git LFS pointer") && told.contains("git lfs pull"),
        "{told}"
    );
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(load(dir.path()).contains("cannot load the tokenizer"));
    std::fs::copy(golden("chatml").join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    assert!(load(dir.path()).contains("no terminator"));
    std::fs::write(dir.path().join("config.json"), r#"{"eos_token_id": "2"}"#).unwrap();
    assert!(load(dir.path()).contains("expected `eos_token_id` as a token id or a list of token ids"));
    std::fs::write(dir.path().join("config.json"), "[").unwrap();
    assert!(load(dir.path()).contains("expected a JSON object"));
    std::fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 2}"#).unwrap();
    assert!(ChatTokenizer::from_model_dir(dir.path()).is_ok());
    std::fs::write(dir.path().join("tokenizer_config.json"), b"\xff").unwrap();
    assert!(load(dir.path()).contains("expected UTF-8 text"));
}
