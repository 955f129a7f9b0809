//! Chat templates: any text is refused, or rendered within bounds.

#![no_main]

use smpo_chat::{ChatTemplate, Message};
use smpo_fuzz::target;

target!(data, {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(template) = ChatTemplate::from_source(source, "fuzzed") else { return };
    let _ = (template.drops_text(), template.turn_suffix());
    let messages = [Message::system("s"), Message::user("u"), Message::assistant("a")];
    for open in [true, false] {
        if let Ok(text) = template.render(&messages[..], open) {
            let _ = template.generation_spans(&messages[..], &text);
        }
    }
});
