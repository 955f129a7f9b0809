//! Excerpt of a completion: its beginning, the loop with its period marked, its end, and the size of every gap.

use serde::Serialize;
use smpo_results::{LoopSpan, WorstSample};

use crate::inert::runs::{Run, runs};
use crate::wording;

/// A part of an excerpt, in reading order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "k", content = "v")]
pub enum Piece {
    /// Ordinary text.
    #[serde(rename = "t")]
    Text(Vec<Run>),
    /// One copy of the loop's period (the last one may be partial).
    #[serde(rename = "p")]
    Period(Vec<Run>),
    /// Text of a loop without exact copies.
    #[serde(rename = "l")]
    Loop(Vec<Run>),
    /// Description of the omitted text.
    #[serde(rename = "g")]
    Gap(String),
}

/// The loop of a completion, measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// Characters of one period.
    pub chars: usize,
    /// Whole copies.
    pub copies: usize,
}

/// An excerpt, with the measure of its loop if the completion loops in exact copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The parts.
    pub pieces: Vec<Piece>,
    /// The loop.
    pub cycle: Option<Cycle>,
}

/// Number of characters kept at the head and the tail of a stretch of text.
#[derive(Debug, Clone, Copy)]
struct Keep {
    head: usize,
    tail: usize,
}

const WHOLE: Keep = Keep { head: 1500, tail: 700 };
const BEFORE_LOOP: Keep = Keep { head: 500, tail: 600 };
const AFTER_LOOP: Keep = Keep { head: 500, tail: 300 };
const PERIOD: Keep = Keep { head: 400, tail: 150 };
const PROMPT: Keep = Keep { head: 900, tail: 500 };
/// Copies are shown until they fill this many characters, at least three.
const LOOP_CHARS: usize = 480;

/// Cuts the completion of a sample. A span that does not fit the text is clamped to it, never trusted. Bytes that the
/// sample's writer omitted are counted; they continue a loop that reaches the cut, for loops are tails.
pub fn completion(worst: &WorstSample) -> Excerpt {
    let text = worst.sample.completion.as_str();
    let span = worst.loop_span.and_then(|span| clamp(text, span));
    let mut pieces = Vec::new();
    let mut cycle = None;
    let mut counted = false;
    match span {
        None => stretch(&mut pieces, text, WHOLE, Piece::Text),
        Some(span) => {
            let (before, rest) = text.split_at(span.start);
            let (cycling, after) = rest.split_at(span.end - span.start);
            let continued = if after.is_empty() { worst.omitted_bytes } else { 0 };
            stretch(&mut pieces, before, BEFORE_LOOP, Piece::Text);
            cycle = periods(&mut pieces, cycling, span.period, continued);
            counted = cycle.is_some() && continued > 0;
            stretch(&mut pieces, after, AFTER_LOOP, Piece::Text);
        }
    }
    if worst.omitted_bytes > 0 && !counted {
        pieces.push(Piece::Gap(format!("{} left out", wording::count(worst.omitted_bytes, "more byte"))));
    }
    Excerpt { pieces, cycle }
}

/// Cuts a prompt or a reference.
pub fn prompt(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    stretch(&mut pieces, text, PROMPT, Piece::Text);
    pieces
}

fn clamp(text: &str, span: LoopSpan) -> Option<LoopSpan> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (floor(span.start), floor(span.end));
    (start < end && span.period > 0).then_some(LoopSpan { start, end, period: span.period })
}

/// The copies of a loop, `continued` more bytes of it having been cut; `None` if the bytes are not exact copies of
/// the first period.
fn periods(pieces: &mut Vec<Piece>, cycling: &str, period: usize, continued: usize) -> Option<Cycle> {
    let bytes = cycling.as_bytes();
    let exact = period < bytes.len() && bytes[period..] == bytes[..bytes.len() - period];
    if !exact {
        stretch(pieces, cycling, WHOLE, Piece::Loop);
        return None;
    }
    // a copy starts with the byte the loop starts with, so every cut is between characters
    let copy = &cycling[..period];
    let chars = copy.chars().count();
    let copies = (cycling.len() + continued) / period;
    let rest = if continued == 0 { &cycling[cycling.len() / period * period..] } else { "" };
    let shown = (LOOP_CHARS / chars.max(1)).clamp(3, 160);
    if copies <= shown + 1 {
        (0..copies).for_each(|_| stretch(pieces, copy, PERIOD, Piece::Period));
    } else {
        (0..shown).for_each(|_| stretch(pieces, copy, PERIOD, Piece::Period));
        let left = copies - shown - 1;
        let more = match left {
            1 => "1 more copy".to_owned(),
            _ => format!("{} more copies", wording::thousands(left)),
        };
        pieces.push(Piece::Gap(format!("{more}, {}", wording::count(left * chars, "character"))));
        stretch(pieces, copy, PERIOD, Piece::Period);
    }
    if !rest.is_empty() {
        stretch(pieces, rest, PERIOD, Piece::Period);
    }
    Some(Cycle { chars, copies })
}

fn stretch(pieces: &mut Vec<Piece>, text: &str, keep: Keep, piece: fn(Vec<Run>) -> Piece) {
    if text.is_empty() {
        return;
    }
    let total = text.chars().count();
    // leaving out less than the note would take is no gain
    if total <= keep.head + keep.tail + 40 {
        pieces.push(piece(runs(text)));
        return;
    }
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(index, _)| index);
    pieces.push(piece(runs(&text[..at(keep.head)])));
    pieces.push(Piece::Gap(wording::count(total - keep.head - keep.tail, "character")));
    pieces.push(piece(runs(&text[at(total - keep.tail)..])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(piece: &Piece) -> String {
        match piece {
            Piece::Text(runs) | Piece::Period(runs) | Piece::Loop(runs) => runs
                .iter()
                .map(|run| match run {
                    Run::Text(text) => text.as_str(),
                    Run::Mark([label, _]) => label.as_str(),
                })
                .collect(),
            Piece::Gap(note) => format!("[{note}]"),
        }
    }

    fn cut(text: &str, loop_span: Option<LoopSpan>, omitted_bytes: usize) -> Excerpt {
        let sample = serde_json::from_value(serde_json::json!({
            "schema": 1, "prompt_id": "p", "slice": "s", "sample": 0, "completion": text, "finish_reason": "length",
        }))
        .unwrap();
        completion(&WorstSample { sample, omitted_bytes, flags: Vec::new(), loop_span })
    }

    #[test]
    fn a_loop_is_cut_into_its_periods() {
        let looped = format!("Ответ: {}при", "привет ".repeat(200));
        let start = "Ответ: ".len();
        let span = LoopSpan { start, end: looped.len(), period: "привет ".len() };
        let excerpt = cut(&looped, Some(span), 0);
        assert_eq!(excerpt.cycle, Some(Cycle { chars: 7, copies: 200 }));
        assert_eq!(excerpt.pieces[0], Piece::Text(runs("Ответ: ")));
        assert_eq!(excerpt.pieces[1], Piece::Period(runs("привет ")));
        assert_eq!(text(excerpt.pieces.last().unwrap()), "при");
        let gap = excerpt.pieces.iter().find(|piece| matches!(piece, Piece::Gap(_))).unwrap();
        assert_eq!(text(gap), "[131 more copies, 917 characters]");
    }

    #[test]
    fn a_loop_that_was_cut_keeps_its_count() {
        let span = LoopSpan { start: 0, end: 12, period: 3 };
        assert_eq!(cut("abcabcabcabc", Some(span), 3 * 996).cycle, Some(Cycle { chars: 3, copies: 1000 }));
        let plain = cut("abc", None, 7);
        assert_eq!(text(&plain.pieces[1]), "[7 more bytes left out]");
    }

    #[test]
    fn a_false_span_is_clamped_and_never_panics() {
        let text = "да да нет";
        for start in 0..20 {
            for end in 0..20 {
                for period in 0..20 {
                    let excerpt = cut(text, Some(LoopSpan { start, end, period }), 0);
                    let shown: String = excerpt.pieces.iter().map(self::text).collect();
                    assert_eq!(shown, text);
                }
            }
        }
        let inexact = cut("abcabd", Some(LoopSpan { start: 0, end: 6, period: 3 }), 0);
        assert_eq!(inexact.cycle, None);
        assert_eq!(inexact.pieces, [Piece::Loop(runs("abcabd"))]);
    }

    #[test]
    fn long_text_keeps_both_ends_and_says_what_is_missing() {
        let long: String = "я".repeat(5000);
        let excerpt = cut(&long, None, 0);
        assert_eq!(excerpt.pieces.len(), 3);
        assert_eq!(text(&excerpt.pieces[1]), "[2,800 characters]");
        assert_eq!(text(&excerpt.pieces[2]).chars().count(), 700);
    }
}
