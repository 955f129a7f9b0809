//! Forms in which a model directory gives its template, and messages in which a template expects them.

use serde_json::{Value, json};
use smpo_chat::{ChatTemplate, Message};

fn rendered(form: &Value) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({ "chat_template": form }).to_string();
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let template = ChatTemplate::from_model_dir(dir.path()).map_err(|error| error.to_string())?;
    Ok(template.render(&[Message::user("a")][..], false).unwrap())
}

#[test]
fn a_template_is_a_text_or_the_default_of_named_ones() {
    for form in [
        json!("yes"),
        json!([{ "name": "default", "template": "yes" }, { "name": "rag", "template": "no" }]),
        json!([{ "template": "yes" }]),
        json!({ "rag": "no", "default": "yes" }),
        json!({ "chatml": "yes" }),
    ] {
        assert_eq!(rendered(&form).as_deref(), Ok("yes"), "{form}");
    }
    for form in [
        json!([{ "name": "rag", "template": "no" }, { "name": "tool_use", "template": "no" }]),
        json!({ "rag": "no", "tool_use": "no" }),
        json!({ "default": 3 }),
    ] {
        assert!(rendered(&form).unwrap_err().contains("expected a chat template named `default`, got"), "{form}");
    }
    assert!(rendered(&json!(true)).unwrap_err().contains("as a string or named templates, got a boolean"));
}

/// As Jinja reads them, in texts of the template too.
#[test]
fn ends_of_lines_are_line_feeds_however_a_template_was_saved() {
    let template = |end: &str| {
        let source =
            ["{% for m in messages %}", "{{ m.role + '", "' }}: {{ m.content }}", "{% endfor %}", "end", ""].join(end);
        let template = ChatTemplate::from_source(source, "t.jinja").unwrap();
        (template.render(&[Message::user("a\r\nb")][..], false).unwrap(), template.source().to_string())
    };
    let (text, source) = template("\n");
    assert_eq!(text, "user\n: a\r\nb\nend");
    for end in ["\r\n", "\r"] {
        assert_eq!(template(end), (text.clone(), source.clone()), "{end:?}");
    }
    assert_eq!(rendered(&json!("a\r\nb\r")).as_deref(), Ok("a\nb"));
}

#[test]
fn only_a_template_for_parts_drops_text() {
    let drops = |source: &str| ChatTemplate::from_source(source, "t.jinja").unwrap().drops_text();
    assert!(drops(
        "{% for m in messages %}{% for part in m.content if part.text %}{{ part.text }}{% endfor %}{% endfor %}"
    ));
    assert!(!drops("{% for m in messages %}{{ m.content }}{% endfor %}"));
    assert!(!drops("{% for m in messages %}{{ m.role }}{% endfor %}"), "as it is written, in either form");
    assert!(!drops("{{ raise_exception('no') }}"));
}
