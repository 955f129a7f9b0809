//! Answers that were cut: nothing that the template writes after the model's last words is scored.

use std::fs;

use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_fixtures::golden;
use smpo_tokenizer::ChatTokenizer;

/// As Qwen3's: thoughts in a block that every answer has, calls as JSON.
const TEMPLATE: &str = r#"{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}<think>
{{ m.reasoning_content or '' }}
</think>

{{ m.content or '' }}{% for call in m.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"#;

fn tokenizer(dir: &std::path::Path) -> ChatTokenizer {
    for file in fs::read_dir(golden("tokenizer", "chatml")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.join(file.file_name())).unwrap();
    }
    fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    ChatTokenizer::from_model_dir(dir).unwrap()
}

#[test]
fn an_answer_that_was_cut_ends_with_its_own_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(dir.path());
    let scored = |answers: &[Value]| {
        let mut messages = vec![Message::user("q")];
        for answer in answers {
            let message: Message = serde_json::from_value(answer.clone()).unwrap();
            messages.extend([message, Message::user("on")]);
        }
        messages.pop();
        let encoded = tokenizer.encode_completion(&messages[..1], &messages[1..]).unwrap();
        let turn = if answers.len() > 1 { &encoded.turns[0] } else { encoded.turns.last().unwrap() };
        let ids = &encoded.completion_ids[turn.tokens.start..turn.cut.expect("cut")];
        tokenizer.tokenizer().decode(ids, false).unwrap()
    };
    let cut = |fields: Value| {
        let mut message = json!({"role": "assistant", "content": "", "finished": false});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    let call = |arguments: Value| json!([{"type": "function", "function": {"name": "f", "arguments": arguments}}]);
    for (fields, expected) in [
        (json!({"content": "abc"}), "<think>\n\n</think>\n\nabc"),
        (json!({"reasoning_content": "wait wait"}), "<think>\nwait wait"),
        (json!({"content": "<think>\nwait wait"}), "<think>\nwait wait"),
        (json!({"content": "abc", "reasoning_content": "hm"}), "<think>\nhm\n</think>\n\nabc"),
        (
            json!({"tool_calls": call(json!("{\"a\": 1"))}),
            "<think>\n\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1",
        ),
        (
            json!({"tool_calls": call(json!({}))}),
            "<think>\n\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}",
        ),
    ] {
        assert_eq!(scored(&[cut(fields.clone())]), expected, "{fields}");
        let then = json!({"role": "assistant", "content": "more"});
        if !fields["content"].as_str().unwrap_or_default().contains("<think>") {
            assert_eq!(scored(&[cut(fields.clone()), then]), expected, "{fields}, in the middle");
        }
    }
}
