//! Damaged text: replacement characters, ids without a token, leaked special tokens, letters of a foreign script.
//!
//! Not damage: up to three replacement characters at the end of a text that no terminator ended (a character cut in half);
//! special tokens that are markup, code or the subject of an answer ([`tokens`]); scripts of languages that the prompt names
//! or translations that it asks for ([`languages`]); a single foreign letter, and foreign names in quotation marks or
//! brackets.

use smpo_results::{Direction, Sample, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;
use crate::text::scripts::{Letters, Scripts, count_letters};
use crate::text::visible::{whole, without_cut_end};
use crate::text::{languages, tokens};

/// From this share of foreign letters on, a completion counts as broken.
pub const FOREIGN_SHARE: f64 = 0.02;
/// Foreign letters that one word or symbol of mathematics does not reach.
const MIN_FOREIGN: usize = 2;
/// Longest quoted name in bytes.
const MAX_QUOTED: usize = 160;

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
    description: "share of completions with a replacement character (U+FFFD), an id that no token has, a leaked special \
                  token, or 2 % of letters in a script that neither prompt nor reference uses or asks for",
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
                  language uses or asks for, quoted names aside; Latin and Greek are always allowed",
    reference: "smpo; scripts: Unicode Standard Annex 24",
};

/// The entries of the catalogue.
pub static METRICS: &[Metric] =
    &[Metric::of_sample(&INFO, broken), Metric::of_sample(&FOREIGN_INFO, |view, _| view.foreign_script)];

/// 1 if [`find`] finds damage.
fn broken(view: &View<'_>, _: &mut Scratch) -> Option<f64> {
    Some(share(damage(view.sample, &view.text, view.foreign_script).is_some()))
}

/// Damage of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Damage {
    /// U+FFFD: bytes that were no UTF-8.
    ReplacementCharacter,
    /// Token ids that no token has; they leave no trace in the text.
    UnknownIds(u32),
    /// A special token in the text that the prompt does not have.
    LeakedToken(String),
    /// Share of letters in a foreign script.
    ForeignScript(f64),
}

/// The first damage of a completion.
pub fn find(sample: &Sample) -> Option<Damage> {
    let text = whole(sample);
    damage(sample, &text, foreign_share(sample, &text))
}

fn damage(sample: &Sample, text: &str, foreign_script: Option<f64>) -> Option<Damage> {
    let text = without_cut_end(text, sample.finish_reason);
    // Its first byte is rare; its last is in half of all Cyrillic words, and that is the one that `contains` looks for.
    if text.as_bytes().contains(&0xef) && text.contains('\u{fffd}') {
        return Some(Damage::ReplacementCharacter);
    }
    if let Some(unknown) = sample.unknown_ids.filter(|&unknown| unknown > 0) {
        return Some(Damage::UnknownIds(unknown));
    }
    let prompt: Vec<&str> = sample.messages.iter().map(|message| message.content.as_str()).collect();
    if let Some(token) = tokens::leaked(text, &prompt) {
        return Some(Damage::LeakedToken(token.to_owned()));
    }
    foreign_script.filter(|&share| share >= FOREIGN_SHARE).map(Damage::ForeignScript)
}

/// Foreign letters / letters of a completion's whole text; `None` for an unknown prompt.
pub(crate) fn foreign_share(sample: &Sample, text: &str) -> Option<f64> {
    if sample.messages.is_empty() {
        return None;
    }
    let prompt = || sample.messages.iter().map(|message| message.content.as_str());
    let language = sample.language.as_deref().map(Scripts::of_language);
    let allowed = prompt()
        .chain(sample.reference.as_deref())
        .map(Scripts::of)
        .chain(language)
        .fold(Scripts::LATIN.union(Scripts::GREEK), Scripts::union);
    let letters = count_letters(text, allowed);
    if letters.foreign == 0 {
        return Some(0.0);
    }
    // Rare from here on: the prompt may have asked for them.
    let named = prompt().map(languages::asked_for).try_fold(Scripts::default(), |all, asked| Some(all.union(asked?)));
    let Some(named) = named else { return Some(0.0) };
    let foreign = unquoted_foreign(text, allowed.union(named));
    Some(if foreign < MIN_FOREIGN { 0.0 } else { foreign as f64 / letters.total as f64 })
}

/// Foreign letters outside short quotations and brackets.
fn unquoted_foreign(text: &str, allowed: Scripts) -> usize {
    const QUOTES: [(char, char); 9] =
        [('«', '»'), ('“', '”'), ('„', '“'), ('"', '"'), ('(', ')'), ('（', '）'), ('「', '」'), ('『', '』'), ('《', '》')];
    let mut foreign = 0;
    let mut rest = text;
    loop {
        let open = rest.char_indices().find_map(|(at, c)| {
            let (_, close) = QUOTES.iter().find(|(open, _)| *open == c)?;
            let inside = at + c.len_utf8();
            let window = &rest[inside..(inside + MAX_QUOTED..=rest.len()).find(|&end| rest.is_char_boundary(end)).unwrap_or(rest.len())];
            let len = window.find(*close).filter(|&len| !window[..len].contains('\n'))?;
            Some((at, inside + len + close.len_utf8()))
        });
        let Some((start, end)) = open else {
            let Letters { foreign: last, .. } = count_letters(rest, allowed);
            return foreign + last;
        };
        foreign += count_letters(&rest[..start], allowed).foreign;
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use smpo_results::{FinishReason, Message};

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
    fn floods_of_replacement_characters_are_no_cut() {
        let mut flood = asked("hi", &"\u{fffd}".repeat(500));
        flood.finish_reason = FinishReason::Length;
        assert_eq!(find(&flood), Some(Damage::ReplacementCharacter));
        flood.completion = "well \u{fffd}\u{fffd}\u{fffd}".into();
        assert_eq!(find(&flood), None);
        flood.completion.push('\u{fffd}');
        assert_eq!(find(&flood), Some(Damage::ReplacementCharacter));
    }

    #[test]
    fn ids_without_a_token_leave_no_trace_in_the_text() {
        let mut sample = asked("Which is bigger?", "11 is bigger.");
        sample.unknown_ids = Some(0);
        assert_eq!(find(&sample), None);
        sample.unknown_ids = Some(2);
        assert_eq!(find(&sample), Some(Damage::UnknownIds(2)));
        assert_eq!(crate::sample::value("broken_rate", &sample), Some(1.0));
    }

    #[test]
    fn tokens_that_the_prompt_has_do_not_leak() {
        assert_eq!(find(&asked("hi", "Sure.<|im_end|>")), Some(Damage::LeakedToken("<|im_end|>".into())));
        assert_eq!(find(&asked("What does <|im_end|> mean?", "<|im_end|> ends a turn.")), None);
    }

    #[test]
    fn damage_in_the_reasoning_counts() {
        let mut sample = asked("hi", "fine");
        sample.reasoning = Some("so<|eot_id|>".into());
        assert_eq!(find(&sample), Some(Damage::LeakedToken("<|eot_id|>".into())));
    }

    #[test]
    fn scripts_that_were_asked_for_or_quoted_are_not_foreign() {
        for (prompt, answer) in [
            ("How do you say good morning in Japanese?", "おはようございます (ohayō gozaimasu)."),
            ("Translate into the language of your choice: cat", "猫"),
            ("Who wrote War and Peace?", "Leo Tolstoy; in Russian it is «Война и мир»."),
            ("Where is Kyoto?", "Kyoto (京都) is a city of Japan."),
            ("Are the reals countable?", "ℝ is uncountable, |ℝ| > ℵ₀, and א is a letter."),
        ] {
            assert_eq!(find(&asked(prompt, answer)), None, "{prompt}");
        }
        assert!(find(&asked("Where is Kyoto?", "Kyoto 是一个 city (of 日本).")).is_some());
        let garbage = format!("It is ({})", "是一个城市".repeat(40));
        assert!(find(&asked("Where is Kyoto?", &garbage)).is_some());
    }

    #[test]
    fn foreign_scripts() {
        assert!(
            matches!(find(&asked("Как дела?", "Всё 非常 хорошо")), Some(Damage::ForeignScript(share)) if share > 0.1)
        );
        assert_eq!(find(&asked("Как дела?", "Отлично, thanks, α = 2")), None);
        assert_eq!(find(&asked("What is π?", "About 3.14 — 🥧")), None);
        let mut translation = asked("Which animal purrs?", "猫猫");
        assert!(find(&translation).is_some());
        translation.language = Some("ja".into());
        assert_eq!(find(&translation), None);
        translation.language = None;
        translation.reference = Some("ねこ".into());
        assert_eq!(find(&translation), None);
    }

    #[test]
    fn two_in_a_hundred_foreign_letters_are_damage_and_one_letter_never_is() {
        let found = |latin: usize, foreign: &str| find(&asked("Where?", &("a".repeat(latin) + foreign)));
        assert_eq!(found(98, "是一"), Some(Damage::ForeignScript(0.02)));
        assert_eq!((found(99, "是一"), found(0, "是")), (None, None));
    }

    #[test]
    fn a_quotation_is_short_and_on_one_line() {
        let quoted = |inside: String| find(&asked("Where?", &format!("It is ({inside}).")));
        assert_eq!(quoted("是".repeat(52)), None, "156 bytes, and the bracket is the 157th");
        assert!(quoted("是".repeat(54)).is_some() && quoted("是\n一".into()).is_some());
    }

    #[test]
    fn without_a_prompt_no_script_is_foreign() {
        let sample = crate::sample::sample("日本");
        assert_eq!(crate::sample::value("foreign_script", &sample), None);
        assert_eq!(crate::sample::value("broken_rate", &sample), Some(0.0));
    }
}
