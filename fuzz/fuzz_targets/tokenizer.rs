//! Tokenizer files of a model directory, and what they make of a conversation.

#![no_main]

use std::sync::LazyLock;

use smpo_chat::Message;
use smpo_fixtures::golden;
use smpo_fuzz::{Files, target};
use smpo_tokenizer::ChatTokenizer;

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let of = |name| (name, std::fs::read(golden("tokenizer", "chatml").join(name)).expect("a golden file"));
    Files::with(
        ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json", "chat_template.jinja"]
            .map(of),
    )
});

target!(
    data,
    FILES.replaced(data, |dir| {
        let Ok(tokenizer) = ChatTokenizer::from_model_dir(dir) else { return };
        let prompt = [Message::user("2+2? Ünïcode \u{1f600} 12345\n\n  x")];
        let answer = [Message::assistant("4 <|im_end|> five")];
        let _ = tokenizer.encode_completion(&prompt, &answer);
        let _ = tokenizer.fingerprint();
    })
);
