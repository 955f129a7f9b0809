//! Damaged text: replacement characters, leaked special tokens, letters of a foreign script.

use smpo_results::{Direction, FinishReason, Message, Sample, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;
use crate::text::scripts::{Scripts, count_letters};

/// From this share of foreign letters on, a completion counts as broken.
pub const FOREIGN_SHARE: f64 = 0.02;

/// `broken_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "broken_rate",
    name: "Broken text",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: true,
    leaderboard: Some(2),
    summary: true,
    description: "share of completions with a replacement character (U+FFFD), a leaked special token, or 2 % of letters \
                  in a script that neither prompt nor reference uses",
    reference: "smpo; scripts: Unicode Standard Annex 24",
};

/// `foreign_script`.
pub static FOREIGN_INFO: MetricInfo = MetricInfo {
    id: "foreign_script",
    name: "Foreign script",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: false,
    binary: false,
    leaderboard: None,
    summary: false,
    description: "share of a completion's letters in a script that neither prompt nor reference nor the declared \
                  language uses; Latin and Greek are always allowed",
    reference: "smpo; scripts: Unicode Standard Annex 24",
};

/// The entries of the catalogue.
pub static METRICS: &[Metric] =
    &[Metric::of_sample(&INFO, broken), Metric::of_sample(&FOREIGN_INFO, |view, _| view.foreign_script)];

/// 1 if [`find`] finds damage.
fn broken(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    Some(share(damage(view.sample, view.foreign_script).is_some()))
}

/// Damage of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Damage {
    /// U+FFFD: bytes that were no UTF-8.
    ReplacementCharacter,
    /// A special token in the text that the prompt does not have.
    LeakedToken(String),
    /// Share of letters in a foreign script.
    ForeignScript(f64),
}

/// The first damage of a completion. A replacement character at the very end is none if the cap may have cut a
/// character in half.
pub fn find(sample: &Sample) -> Option<Damage> {
    damage(sample, foreign_share(sample))
}

fn damage(sample: &Sample, foreign_script: Option<f64>) -> Option<Damage> {
    let text = match sample.finish_reason {
        FinishReason::Eos => sample.completion.as_str(),
        _ => sample.completion.trim_end_matches('\u{fffd}'),
    };
    if text.contains('\u{fffd}') {
        return Some(Damage::ReplacementCharacter);
    }
    if let Some(token) = leaked_token(text, &sample.messages) {
        return Some(Damage::LeakedToken(token.to_owned()));
    }
    foreign_script.filter(|&share| share >= FOREIGN_SHARE).map(Damage::ForeignScript)
}

/// Foreign letters / letters; `None` for an unknown prompt.
pub(crate) fn foreign_share(sample: &Sample) -> Option<f64> {
    if sample.messages.is_empty() {
        return None;
    }
    let prompt = sample.messages.iter().map(|message| message.content.as_str());
    let language = sample.language.as_deref().map(Scripts::of_language);
    let allowed = prompt
        .chain(sample.reference.as_deref())
        .map(Scripts::of)
        .chain(language)
        .fold(Scripts::LATIN.union(Scripts::GREEK), Scripts::union);
    let letters = count_letters(&sample.completion, allowed);
    Some(if letters.total == 0 { 0.0 } else { letters.foreign as f64 / letters.total as f64 })
}

/// Special tokens that are not of the form `<|name|>`.
const TOKENS: [&str; 17] = [
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<<SYS>>",
    "<</SYS>>",
    "[INST]",
    "[/INST]",
    "[BOS]",
    "[EOS]",
    "[PAD]",
];

/// The first special token or byte token (`<0x0A>`) in the text that no message of the prompt contains.
fn leaked_token<'a>(text: &'a str, prompt: &[Message]) -> Option<&'a str> {
    // Most blocks of 64 bytes have neither bracket, and a whole block is one vector comparison.
    let opens = |byte: u8| byte == b'<' || byte == b'[';
    for (number, block) in text.as_bytes().chunks(64).enumerate() {
        if !block.iter().fold(false, |found, &byte| found | opens(byte)) {
            continue;
        }
        for offset in (0..block.len()).filter(|&offset| opens(block[offset])) {
            if let Some(token) = token_at(&text[number * 64 + offset..])
                && !prompt.iter().any(|message| message.content.contains(token))
            {
                return Some(token);
            }
        }
    }
    None
}

fn token_at(text: &str) -> Option<&str> {
    if let Some(token) = TOKENS.iter().find(|token| text.starts_with(**token)) {
        return Some(&text[..token.len()]);
    }
    // <|im_end|>, <｜end▁of▁sentence｜>
    for (open, close) in [("<|", "|>"), ("<｜", "｜>")] {
        if let Some(rest) = text.strip_prefix(open) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '▁');
            let name = rest.find(|c| !is_name(c)).filter(|len| (1..=40).contains(len))?;
            return rest[name..].starts_with(close).then(|| &text[..open.len() + name + close.len()]);
        }
    }
    let byte_token = text.as_bytes().get(..6)?;
    let is_byte = byte_token.starts_with(b"<0x") && byte_token[3..5].iter().all(u8::is_ascii_hexdigit);
    (is_byte && byte_token[5] == b'>').then(|| &text[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(prompt: &str, completion: &str) -> Sample {
        let messages = vec![Message::user(prompt)];
        Sample { messages, ..crate::sample::sample(completion) }
    }

    #[test]
    fn replacement_characters() {
        assert_eq!(find(&asked("hi", "a \u{fffd} b")), Some(Damage::ReplacementCharacter));
        let mut cut = asked("hi", "cut by the cap \u{fffd}");
        cut.finish_reason = FinishReason::Length;
        assert_eq!(find(&cut), None);
        cut.finish_reason = FinishReason::Eos;
        assert_eq!(find(&cut), Some(Damage::ReplacementCharacter));
    }

    #[test]
    fn leaked_tokens() {
        for (completion, token) in [
            ("Sure.<|im_end|>", "<|im_end|>"),
            ("<|im_start|>user", "<|im_start|>"),
            ("ok</s>", "</s>"),
            ("[INST] and so", "[INST]"),
            ("line<0x0A>line", "<0x0A>"),
            ("fin<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
            ("<<|eot_id|>", "<|eot_id|>"),
        ] {
            assert_eq!(find(&asked("hi", completion)), Some(Damage::LeakedToken(token.into())), "{completion:?}");
        }
        for fine in ["a <| b |> c", "<|", "x[0] < y[1]", "<b>bold</b>", "<0xZZ>", "<", "List<|>", "<｜", "[", "Vec<<|"]
        {
            assert_eq!(find(&asked("hi", fine)), None, "{fine:?}");
        }
        assert_eq!(find(&asked("What does <|im_end|> mean?", "<|im_end|> ends a turn.")), None);
    }

    #[test]
    fn foreign_scripts() {
        assert!(
            matches!(find(&asked("Как дела?", "Всё 非常 хорошо")), Some(Damage::ForeignScript(share)) if share > 0.1)
        );
        assert_eq!(find(&asked("Как дела?", "Отлично, thanks, α = 2")), None);
        assert_eq!(find(&asked("What is π?", "About 3.14 — 🥧")), None);
        let mut translation = asked("Translate into Japanese: cat", "猫");
        assert!(find(&translation).is_some());
        translation.language = Some("ja".into());
        assert_eq!(find(&translation), None);
        translation.language = None;
        translation.reference = Some("ねこ".into());
        assert_eq!(find(&translation), None);
    }

    #[test]
    fn without_a_prompt_no_script_is_foreign() {
        let sample = crate::sample::sample("日本");
        assert_eq!(crate::sample::value("foreign_script", &sample), None);
        assert_eq!(crate::sample::value("broken_rate", &sample), Some(0.0));
    }
}
