//! Text of a template's `{% generation %}` blocks, and several conversations rendered at once.

use smpo_chat::{ChatTemplate, Conversation, Message, TemplateInputs};

const MARKED: &str = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}\
    {% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source(source, "t.jinja").unwrap()
}

fn exchange() -> [Message; 4] {
    [Message::user("é"), Message::assistant("ab"), Message::user("q"), Message::assistant("")]
}

#[test]
fn spans_cover_what_the_blocks_write() {
    let (messages, marked) = (exchange(), template(MARKED));
    let text = marked.render(&messages, false).unwrap();
    assert_eq!(text, "<user>é<assistant>ab</s><user>q<assistant></s>");
    let spans = marked.generation_spans(&messages, &text).unwrap().unwrap();
    assert_eq!(spans.iter().map(|span| &text[span.clone()]).collect::<Vec<_>>(), ["ab</s>", "</s>"]);
    assert_eq!(marked.generation_spans(&messages, &text[1..]).unwrap(), None, "another text");
    assert_eq!(marked.generation_spans(&messages[..1], "<user>é").unwrap(), Some(vec![]));
    let unmarked = template("{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_eq!(unmarked.generation_spans(&messages, "éabq").unwrap(), None);
    assert!(marked.has_generation_blocks() && !unmarked.has_generation_blocks());
    assert!(
        template("{% generation %}{{ raise_exception('no') }}{% endgeneration %}")
            .generation_spans(&messages, "")
            .is_err()
    );
}

#[test]
fn several_conversations_render_as_each_alone() {
    let (messages, inputs, template) = (exchange(), TemplateInputs::default(), template(MARKED));
    let part = |count: usize| Conversation { messages: &messages[..count], inputs: &inputs };
    let texts: Vec<String> = template
        .render_all(&[(part(1), true), (part(2), false), (part(0), true)])
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(texts, ["<user>é<assistant>", "<user>é<assistant>ab</s>", "<assistant>"]);
    assert!(template.render_all(&[]).is_empty());
    let refusing = self::template("{% if messages|length > 1 %}{{ raise_exception('no') }}{% endif %}a");
    let results = refusing.render_all(&[(part(1), false), (part(2), false), (part(1), false)]);
    assert_eq!(results.iter().map(|text| text.as_deref().ok()).collect::<Vec<_>>(), [Some("a"), None, Some("a")]);
}

#[test]
fn a_template_is_named_by_its_origin() {
    let template = template("{{ raise_exception('no') }}");
    assert_eq!(template.origin(), "t.jinja");
    let renamed = template.with_origin("u.jinja");
    assert_eq!(renamed.origin(), "u.jinja");
    let told = renamed.render(&exchange(), false).unwrap_err().to_string();
    assert!(told.contains("u.jinja") && told.contains("no"), "{told}");
}
