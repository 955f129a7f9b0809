//! Forms in which a model directory gives its template, and messages in which a template expects them.

use serde_json::{Value, json};
use smpo_chat::{ChatTemplate, Message, TemplateInputs, special_token};

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

#[test]
fn a_refused_call_tells_what_was_expected_and_what_was_got() {
    for (expression, told) in [
        ("'a'.center([true, none])", "center: expected an integer, got [True, None]"),
        ("'a'.center((1,))", "center: expected an integer, got (1,)"),
        ("'a'.center(messages[0])", "center: expected an integer, got {'role': 'user', 'content': 'a'}"),
        ("'a'.center(messages | map('upper'))", "center: expected an integer, got <generator>"),
        ("[1, 'a'] | sum", "sum: expected numbers, got number and string"),
        ("['a', 1.5] | sum", "sum: expected numbers, got number and string"),
        ("1 / a", "/: expected two numbers, got number and undefined"),
        ("'a' // 2.5", "//: expected two numbers, got string and number"),
        ("'é'.casefold()", "casefold: expected ASCII, got another character"),
        ("'é'.isidentifier()", "isidentifier: expected ASCII, got another character"),
    ] {
        let template = ChatTemplate::from_source(format!("{{{{ {expression} }}}}"), "t.jinja").unwrap();
        let error = template.render(&[Message::user("a")][..], false).unwrap_err().to_string();
        assert!(error.contains(told), "{expression}: {error}");
    }
}

/// JSON is, to a template, dictionaries with Python's methods, whose names are no items.
#[test]
fn dictionaries_in_lists_and_in_dictionaries_have_methods() {
    let call = json!([{ "arguments": { "items": 1 } }]);
    let message = Message::assistant("").with_field("tool_calls", call.clone());
    for (expression, text) in [
        ("messages[0].tool_calls[0].arguments.items is callable", "True"),
        ("messages[0].tool_calls[0].keys is callable", "True"),
        ("given[0].arguments.items is callable", "True"),
        ("nested.inner.items is callable", "True"),
        ("nested.inner['items']", "1"),
        ("nested.inner.pop is defined", "False"),
        ("nested.inner['pop']", "2"),
    ] {
        let template = ChatTemplate::from_source(format!("{{{{ {expression} }}}}"), "t.jinja").unwrap();
        let template = template.with_variable("given", call.clone());
        let template = template.with_variable("nested", json!({ "inner": { "items": 1, "pop": 2 } }));
        assert_eq!(template.render(std::slice::from_ref(&message), false).unwrap(), text, "{expression}");
    }
}

#[test]
fn a_template_is_given_no_field_that_is_null_but_the_content() {
    let template = ChatTemplate::from_source("{{ messages[0] }}", "t.jinja").unwrap();
    let message = Message::assistant("a").with_field("tool_calls", json!(null)).with_field("name", "b");
    let calls = Message::assistant("a").with_field("content", json!(null));
    for (message, text) in [
        (message, "{'role': 'assistant', 'content': 'a', 'name': 'b'}"),
        (calls, "{'role': 'assistant', 'content': None}"),
    ] {
        assert_eq!(template.render(&[message][..], false).unwrap(), text);
    }
}

#[test]
fn a_message_is_read_and_written_as_one_object() {
    for row in [
        json!({ "role": "user", "content": "a" }),
        json!({ "role": "assistant", "content": "a", "finished": false }),
        json!({ "role": "assistant", "content": "a", "train": false, "reasoning_content": "b" }),
        json!({ "role": "assistant", "content": "a", "finished": false, "train": false }),
    ] {
        let message: Message = serde_json::from_value(row.clone()).unwrap();
        let (finished, scored) = (row.get("finished").is_none(), row.get("train").is_none());
        assert_eq!((message.finished, message.scored), (finished, scored), "{row}");
        assert_eq!(serde_json::to_value(&message).unwrap(), row);
    }
    let parts = json!([{ "type": "text", "text": "b" }]);
    let written = serde_json::to_string(&Message::user("a").with_field("content", parts)).unwrap();
    assert_eq!(written, r#"{"role":"user","content":[{"type":"text","text":"b"}]}"#, "the content is written once");
}

#[test]
fn reasoning_is_the_first_of_its_fields() {
    let message = Message::assistant("a");
    assert_eq!(message.reasoning(), None);
    let message = message.with_field("reasoning", "c");
    assert_eq!(message.reasoning(), Some("c"));
    assert_eq!(message.with_field("thinking", "b").reasoning(), Some("b"));
}

#[test]
fn special_tokens_are_texts_or_objects_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>", "lstrip": false }, "unk_token": null });
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let map = json!({ "bos_token": "<other>", "unk_token": "<unk>" });
    std::fs::write(dir.path().join("special_tokens_map.json"), map.to_string()).unwrap();
    for (name, token) in
        [("bos_token", Some("<s>")), ("eos_token", Some("</s>")), ("unk_token", Some("<unk>")), ("pad_token", None)]
    {
        assert_eq!(special_token(dir.path(), name).unwrap().as_deref(), token, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_device_in_the_place_of_a_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/null", dir.path().join("config.json")).unwrap();
    let told = special_token(dir.path(), "eos_token").unwrap_err().to_string();
    assert!(told.contains("a pipe or a device"), "{told}");
}
