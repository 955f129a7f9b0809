//! HH-RLHF transcripts: turns that begin with "\n\nHuman: " and "\n\nAssistant: ".

use smpo_chat::Message;

/// The messages of a transcript; `None` for any other text.
pub(super) fn transcript(text: &str) -> Option<Vec<Message>> {
    const MARKS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];
    let mut rest = text;
    if !rest.starts_with(MARKS[0].0) {
        return None;
    }
    let mut messages = Vec::new();
    while let Some((mark, role)) = MARKS.into_iter().find(|(mark, _)| rest.starts_with(mark)) {
        let body = &rest[mark.len()..];
        let end = MARKS.iter().filter_map(|(mark, _)| body.find(mark)).min().unwrap_or(body.len());
        let content = body[..end].strip_prefix(' ').unwrap_or(&body[..end]);
        // a prompt ends in an open "\n\nAssistant:"
        if !(end == body.len() && role == "assistant" && content.is_empty()) {
            messages.push(Message::new(role, content));
        }
        rest = &body[end..];
    }
    Some(messages)
}
