//! Special tokens that leaked into a text.
//!
//! Tokens of chat formats (`<|im_end|>`, `<end_of_turn>`) have no other use: they leak wherever they stand, unless the
//! prompt has them or a piece of code quotes them. Others are also HTML, C++ or the subject of an answer (`<s>`,
//! `vector<s>`, `[PAD]`): they leak at the very beginning, at the very end, or next to another special token.

use std::ops::Range;

use super::code;

/// Tokens of chat formats that are not of the form `<|name|>`.
const CHAT: [&str; 13] = [
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<<SYS>>",
    "<</SYS>>",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[THINK]",
];

/// Tokens with another meaning in markup, code or prose.
const AMBIGUOUS: [&str; 12] =
    ["<s>", "</s>", "<mask>", "[INST]", "[/INST]", "[BOS]", "[EOS]", "[PAD]", "[UNK]", "[SEP]", "[CLS]", "[MASK]"];

/// Names of `<|name|>` that people write about; as code they are quoted. Others (`future_token_4`) leak in code as well.
const DOCUMENTED: [&str; 14] = [
    "im_start",
    "im_end",
    "endoftext",
    "begin_of_text",
    "end_of_text",
    "eot_id",
    "start_header_id",
    "end_header_id",
    "user",
    "assistant",
    "system",
    "end",
    "channel",
    "message",
];

/// Beginnings of words of prompts and answers that are about special tokens or markup.
const ABOUT_TOKENS: [&str; 13] = [
    "token",
    "токен",
    "bert",
    "html",
    "svg",
    "xml",
    "markup",
    "padding",
    "prompt format",
    "prompt template",
    "chat template",
    "llama",
    "mistral",
];

/// A special token at a place of a text.
struct Found<'a> {
    at: usize,
    token: &'a str,
    ambiguous: bool,
}

/// The first special token of the text that no text of the prompt contains and that has no better explanation.
pub fn leaked<'a>(text: &'a str, prompt: &[&str]) -> Option<&'a str> {
    let mut found: Vec<Found<'_>> = Vec::new();
    let opens = |byte: u8| byte == b'<' || byte == b'[';
    // Most blocks of 64 bytes have neither bracket, and a whole block is one vector comparison.
    for (number, block) in text.as_bytes().chunks(64).enumerate() {
        if !block.iter().fold(false, |found, &byte| found | opens(byte)) {
            continue;
        }
        for at in (0..block.len()).filter(|&offset| opens(block[offset])).map(|offset| number * 64 + offset) {
            found.extend(token_at(&text[at..]).map(|(token, ambiguous)| Found { at, token, ambiguous }));
        }
    }
    found.retain(|found| !prompt.iter().any(|message| message.contains(found.token)));
    if found.is_empty() {
        return None;
    }
    let code = code::ranges(text);
    let about = |text: &str| {
        let text = text.to_lowercase();
        ABOUT_TOKENS.iter().any(|word| text.contains(word))
    };
    let explained =
        found.iter().any(|found| found.ambiguous) && (about(text) || prompt.iter().any(|message| about(message)));
    let leaks = |index: usize| {
        let Found { at, token, ambiguous } = found[index];
        if ambiguous {
            !code::contains(&code, at) && stands_alone(text, &found, index) && !explained
        } else {
            !(code::contains(&code, at) && is_documented(token))
        }
    };
    (0..found.len()).find(|&index| leaks(index)).map(|index| found[index].token)
}

/// Tokens that are a pair of tags as well.
const PAIRS: [(&str, &str); 3] = [("<s>", "</s>"), ("<mask>", "</mask>"), ("[INST]", "[/INST]")];

/// True for an ambiguous token at the beginning, at the end, or next to another token.
fn stands_alone(text: &str, found: &[Found<'_>], index: usize) -> bool {
    let Found { at, token, .. } = found[index];
    let end = at + token.len();
    let is_blank = |range: Range<usize>| text[range].trim().is_empty();
    // Beginnings of sequences are set apart, tags of markup are not.
    let set_apart = |end: usize| text[end..].starts_with(char::is_whitespace);
    let closing = PAIRS.iter().find(|(open, _)| *open == token).map(|(_, close)| *close);
    let opening = PAIRS.iter().find(|(_, close)| *close == token).map(|(open, _)| *open);
    let opens_markup = !set_apart(end) && closing.is_some_and(|close| text[end..].contains(close));
    let closes_markup = opening
        .is_some_and(|open| text[..at].rfind(open).is_some_and(|place| place > 0 || !set_apart(place + open.len())));
    // `vector<s>` at the end of a line of code
    let is_generic = token == "<s>" && text[..at].ends_with(|c: char| c.is_alphanumeric());
    let first = is_blank(0..at) && !opens_markup;
    let last = is_blank(end..text.len()) && !closes_markup && !is_generic;
    let beside = found.get(index + 1).is_some_and(|next| is_blank(end..next.at) && closing != Some(next.token));
    first || last || beside
}

fn is_documented(token: &str) -> bool {
    let name = token.trim_start_matches("<|").trim_end_matches("|>");
    !token.starts_with("<|") || DOCUMENTED.contains(&name)
}

/// The special token that the text begins with, and its ambiguity.
fn token_at(text: &str) -> Option<(&str, bool)> {
    for (tokens, ambiguous) in [(&CHAT[..], false), (&AMBIGUOUS[..], true)] {
        if let Some(token) = tokens.iter().find(|token| text.starts_with(**token)) {
            return Some((&text[..token.len()], ambiguous));
        }
    }
    // <|im_end|>, <｜end▁of▁sentence｜>; shorter names are operators around a variable
    for (open, close) in [("<|", "|>"), ("<｜", "｜>")] {
        if let Some(rest) = text.strip_prefix(open) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '▁');
            let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let whole = (3..=40).contains(&len) && rest[len..].starts_with(close);
            // Cut within its own name: the end of the text.
            let cut = len == rest.len() && DOCUMENTED.contains(&rest) && rest.contains('_');
            let token = open.len() + len + if whole { close.len() } else { 0 };
            return (whole || cut).then(|| (&text[..token], false));
        }
    }
    let unused = text.strip_prefix("<unused").and_then(|rest| {
        rest.find('>').filter(|&len| (1..=5).contains(&len) && rest[..len].bytes().all(|byte| byte.is_ascii_digit()))
    });
    if let Some(digits) = unused {
        return Some((&text[.."<unused".len() + digits + 1], false));
    }
    let byte_token = text.as_bytes().get(..6)?;
    let is_byte = byte_token.starts_with(b"<0x") && byte_token[3..5].iter().all(u8::is_ascii_hexdigit);
    (is_byte && byte_token[5] == b'>').then(|| (&text[..6], false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_leak() {
        for (text, token) in [
            ("Sure.<|im_end|>", "<|im_end|>"),
            ("<|im_start|>user", "<|im_start|>"),
            ("Sure.<|im_end", "<|im_end"),
            ("ok</s>", "</s>"),
            ("ok</s><s>more", "</s>"),
            ("<s> ok", "<s>"),
            ("<s> ok</s>", "<s>"),
            ("[INST] and so", "[INST]"),
            ("one [SEP] two [SEP]", "[SEP]"),
            ("and [PAD] [PAD] [PAD] so", "[PAD]"),
            ("line<0x0A>line", "<0x0A>"),
            ("four <unused7>", "<unused7>"),
            ("fin<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
            ("<<|eot_id|>", "<|eot_id|>"),
            ("the <unk> of the year", "<unk>"),
            ("[TOOL_CALLS][{\"name\": \"f\"}]", "[TOOL_CALLS]"),
            ("```js\na.b<|future_token_3|> = 1\n```", "<|future_token_3|>"),
            ("```py\nprint(1)<|im_end|>", "<|im_end|>"),
        ] {
            assert_eq!(leaked(text, &["hi"]), Some(token), "{text:?}");
        }
    }

    #[test]
    fn names_of_tokens_have_their_lengths() {
        let named = |len: usize| leaked(&format!("a <|{}|> b", "x".repeat(len)), &[]).is_some();
        assert_eq!([2, 3, 40, 41].map(named), [false, true, true, false]);
        let unused = |digits: usize| leaked(&format!("a <unused{}> b", "7".repeat(digits)), &[]).is_some();
        assert_eq!([0, 1, 5, 6].map(unused), [false, true, true, false]);
        let brackets = "a ".repeat(31) + "[" + "<|im_end|> and <|eot_id|>";
        assert_eq!(leaked(&brackets, &[]), Some("<|im_end|>"), "at the 64th byte");
        assert_eq!(leaked(&("a ".repeat(40) + "<|im_end|> b"), &[]), Some("<|im_end|>"), "beyond it");
    }

    #[test]
    fn markup_code_and_prose_do_not() {
        for text in [
            "a <| b |> c",
            "<|",
            "x[0] < y[1]",
            "<b>bold</b>",
            "<0xZZ>",
            "<",
            "List<|>",
            "<｜",
            "[",
            "Vec<<|",
            "f <|a|> b",
            "f <|end",
            "f <|my_name",
            "f <| a_b c",
            "Fill with [PAD] after [SEP] in it.",
            "now <s>40</s> 30",
            "<p>Was <s>40 €</s></p>",
            "<s>40 €</s>",
            "std::vector<s> v;",
            "auto v = std::vector<s>",
            "for (i=0;i<s;i++)",
            "<svg><mask><circle/></mask></svg>",
            "Fill with [PAD] to the end.",
            "Wrap it: [INST] your question [/INST]",
            "Write `<|im_end|>` last.",
            "```\n<|im_start|>user\nhi<|im_end|>\n```",
            "The first token is [CLS], the last [SEP]",
        ] {
            assert_eq!(leaked(text, &["hi"]), None, "{text:?}");
        }
        assert_eq!(leaked("<|im_end|> ends a turn.", &["What does <|im_end|> mean?"]), None);
        assert_eq!(leaked("<s>ok</s>", &["Begin with <s>."]), None, "a pair of tags");
        assert_eq!(leaked("<s> ok</s>", &["Begin with <s>."]), Some("</s>"), "the beginning of a sequence, set apart");
    }
}
