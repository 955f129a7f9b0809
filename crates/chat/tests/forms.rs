//! Forms in which a model directory gives its template, and messages in which a template expects them.

use serde_json::{Value, json};
use smpo_chat::{ChatTemplate, Message, TemplateInputs};

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
    assert!(source.starts_with("{% for m in messages %}\n") && source.ends_with("\nend\n"), "{source:?}");
    assert_eq!(text, "user\n: a\r\nb\nend");
    for end in ["\r\n", "\r"] {
        assert_eq!(template(end), (text.clone(), source.clone()), "{end:?}");
    }
    assert_eq!(rendered(&json!("a\r\nb\r")).as_deref(), Ok("a\nb"));
}

#[test]
fn defaults_that_name_parameters_are_refused_behind_brackets_too() {
    let refused = |source: &str| ChatTemplate::from_source(source, "t.jinja").err().map(|error| error.to_string());
    let told = refused("{% macro f(a, b=(1), c=a) %}{% endmacro %}").unwrap();
    assert!(told.contains("the default of the parameter `c` names another one, `a`"), "{told}");
    assert_eq!(refused("{% macro f(a, b=(1), c=(2)) %}{% endmacro %}"), None);
}

#[test]
fn inputs_are_empty_without_any() {
    let filled = [json!({ "tools": [1] }), json!({ "documents": [1] }), json!({ "chat_template_kwargs": { "a": 1 } })];
    let is_empty = |inputs: &Value| serde_json::from_value::<TemplateInputs>(inputs.clone()).unwrap().is_empty();
    assert!(is_empty(&json!({})) && !filled.iter().any(is_empty));
}

#[test]
fn separators_of_none_are_those_of_python() {
    let template = ChatTemplate::from_source("{{ [1, 2]|tojson(separators=none) }}", "t.jinja").unwrap();
    assert_eq!(template.render(&[Message::user("a")][..], false).unwrap(), "[1, 2]");
}

#[test]
fn a_template_has_the_variables_that_were_set() {
    let template = ChatTemplate::from_source("{{ a }}", "t.jinja").unwrap().with_variable("a", 1);
    assert_eq!(template.variables().get("a"), Some(&json!(1)));
    assert_eq!(template.render(&[Message::user("a")][..], false).unwrap(), "1");
}

#[test]
fn a_directory_or_file_that_is_no_models_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let told = |path: &std::path::Path| ChatTemplate::from_model_dir(path).unwrap_err().to_string();
    let config = dir.path().join("tokenizer_config.json");
    std::fs::write(&config, "{}").unwrap();
    for absent in [&config, &config.join("below"), &dir.path().join("absent")] {
        assert!(told(absent).contains("expected a model directory"), "{}", told(absent));
    }
    assert!(!told(&dir.path().join("x".repeat(300))).contains("expected a model directory"), "another fault");
    assert!(told(dir.path()).contains("no chat template"), "{}", told(dir.path()));
    for (bytes, problem) in [
        (&b"version https://git-lfs.github.com/spec/v1"[..], "a Git LFS pointer"),
        (b"{}\xff", "a byte that is not UTF-8 at offset 2"),
        (b"[]", "expected a JSON object, got a list"),
        (b"{", "expected a JSON object, got EOF"),
    ] {
        std::fs::write(&config, bytes).unwrap();
        assert!(told(dir.path()).contains(problem), "{}", told(dir.path()));
    }
    std::fs::remove_file(&config).unwrap();
    std::fs::create_dir(&config).unwrap();
    assert!(!told(dir.path()).contains("no chat template"), "a file that cannot be read is not an absent one");
}

#[test]
fn json_is_laid_out_as_pythons() {
    let dumps = |keywords: &str| {
        let source =
            format!("{{{{ {{'b': [1, {{'c': none}}], 'a': 'é😀', 'e': [], 'f': {{}}}}|tojson({keywords}) }}}}");
        ChatTemplate::from_source(source, "t.jinja").unwrap().render(&[Message::user("a")][..], false).unwrap()
    };
    for (keywords, text) in [
        ("", r#"{"b": [1, {"c": null}], "a": "é😀", "e": [], "f": {}}"#),
        ("sort_keys=true", r#"{"a": "é😀", "b": [1, {"c": null}], "e": [], "f": {}}"#),
        ("separators=(',', ':')", r#"{"b":[1,{"c":null}],"a":"é😀","e":[],"f":{}}"#),
        ("ensure_ascii=true", r#"{"b": [1, {"c": null}], "a": "\u00e9\ud83d\ude00", "e": [], "f": {}}"#),
        (
            "indent='.'",
            "{\n.\"b\": [\n..1,\n..{\n...\"c\": null\n..}\n.],\n.\"a\": \"é😀\",\n.\"e\": [],\n.\"f\": {}\n}",
        ),
    ] {
        assert_eq!(dumps(keywords), text, "{keywords}");
    }
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
