//! Share of completions that end in a loop.
//!
//! A completion loops if its tail is at least [`MIN_COPIES`] exact copies of one cycle and the tail is at least
//! [`MIN_TOKENS`] tokens long, or, if token ids are unknown, [`MIN_CHARACTERS`] characters. The cycle may be of
//! any period, one token or a whole paragraph; a last copy cut by the cap counts with what is there of it. The
//! terminator, white space at the end and a character cut in half by the cap are no part of the tail. Reasoning that a
//! server returned in a field of its own is measured with the answer after it, as it would be inline. Where a server's own
//! detector of repetition cut the completion, it loops by that.
//!
//! The bounds were set on 6,830 completions of ten public models (AlpacaEval, Russian Arena), where every completion
//! that they flag was read. Of 170, 165 are loops to any reader; two are ASCII drawings that are one blank canvas, two
//! short poems of one stanza, one a list of hashtags three times over. What two copies or shorter tails would add are
//! refrains, closing lines of tables and more drawings.

use smpo_results::{Direction, FinishReason, LoopSpan, Sample, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::periodic::{MIN_COPIES, MIN_TOKENS, tail};
use crate::sample::{content_tokens, share};
use crate::text::visible::{whole, without_cut_character};

/// Length of the looping tail in characters, for unknown token ids.
pub const MIN_CHARACTERS: usize = 128;

/// `loop_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "loop_rate",
    name: "Loop rate",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: true,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of completions whose tail is three or more exact copies of a cycle, over at least 32 tokens \
                  (128 characters where token ids are unknown)",
    reference: "Holtzman et al. 2019, The Curious Case of Neural Text Degeneration, arXiv 1904.09751; Z-function: \
                Gusfield 1997",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_sample(&INFO, measure)];

/// 1 if the completion ends in a loop, or an engine's own detector of repetition cut it.
fn measure(view: &View<'_>, scratch: &mut Scratch) -> Option<f64> {
    if view.sample.finish_reason == FinishReason::Repetition {
        return Some(1.0);
    }
    Some(share(match view.tokens {
        Some(tokens) => tail(tokens, MIN_COPIES, MIN_TOKENS, &mut scratch.matches).is_some(),
        None => text_tail(&view.text, &mut scratch.matches).is_some(),
    }))
}

/// Byte range of a completion's loop in its whole text, reasoning first, by the same rule as the metric; `None` if it does
/// not loop.
///
/// A loop found in the tokens is looked up in the text, where it must show as a periodic tail too. Should decoding
/// hide it (a tokenizer that is not reversible), the whole text is reported as one period.
pub fn find(sample: &Sample) -> Option<LoopSpan> {
    let text = &*whole(sample);
    let everything = LoopSpan { start: 0, end: text.len(), period: text.len() };
    let mut matches = Vec::new();
    let found = match content_tokens(sample) {
        Some(tokens) => tail(tokens, MIN_COPIES, MIN_TOKENS, &mut matches),
        None => match text_tail(text, &mut matches) {
            None => None,
            found => return found,
        },
    };
    // A server's detector saw a loop, by a rule of its own.
    let detected = (sample.finish_reason == FinishReason::Repetition).then_some(everything);
    let Some(found) = found else { return detected };
    // The first copy may start in the middle of a character or with another spacing: one copy less is required.
    let copies = (found.covered / found.period - 1).clamp(2, MIN_COPIES);
    Some(text_tail_of(text, copies, 1, &mut matches).unwrap_or(everything))
}

fn text_tail(text: &str, matches: &mut Vec<u32>) -> Option<LoopSpan> {
    text_tail_of(text, MIN_COPIES, MIN_CHARACTERS, matches)
}

/// The looping tail of a text: once as it ends, and, if it ends in white space, once without that.
fn text_tail_of(text: &str, copies: usize, characters: usize, matches: &mut Vec<u32>) -> Option<LoopSpan> {
    let whole = without_cut_character(text);
    let trimmed = whole.trim_end();
    let span = |text: &str, matches: &mut Vec<u32>| {
        let found = tail(text.as_bytes(), copies, characters, matches)?;
        // UTF-8 synchronises itself, so a tail of several equal cycles has the same character boundaries in each.
        let start = (text.len() - found.covered..text.len()).find(|&at| text.is_char_boundary(at))?;
        let span = LoopSpan { start, end: text.len(), period: found.period };
        // One character is up to four bytes.
        let long_enough = text[start..].len() >= 4 * characters || text[start..].chars().nth(characters - 1).is_some();
        long_enough.then_some(span)
    };
    span(whole, matches).or_else(|| if trimmed.len() < whole.len() { span(trimmed, matches) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use crate::periodic::Tail;

    fn in_text(text: &str) -> Option<LoopSpan> {
        find(&crate::sample::sample(text))
    }

    fn in_tokens(units: &[u32]) -> Option<Tail> {
        tail(units, MIN_COPIES, MIN_TOKENS, &mut Vec::new())
    }

    /// The definition, spelled out: quadratic.
    fn by_definition(units: &[u32], copies: usize, covered: usize) -> Option<Tail> {
        let mut best: Option<Tail> = None;
        for period in 1..=units.len() / copies {
            let mut cover = period;
            while cover < units.len() && units[units.len() - 1 - cover] == units[units.len() - 1 - cover + period] {
                cover += 1;
            }
            if cover >= covered && cover >= copies * period && best.is_none_or(|best| cover > best.covered) {
                best = Some(Tail { period, covered: cover });
            }
        }
        best
    }

    proptest! {
        #[test]
        fn equals_the_definition(units in prop::collection::vec(0u32..3, 0..40), copies in 2usize..5, covered in 1usize..12) {
            prop_assert_eq!(tail(&units, copies, covered, &mut Vec::new()), by_definition(&units, copies, covered));
        }

        /// A cycle of any period, repeated often enough, behind any text, with its last copy cut anywhere.
        #[test]
        fn planted_cycles_are_found(
            before in prop::collection::vec(0u32..5000, 0..300),
            cycle in prop::collection::vec(0u32..5000, 1..200),
            extra in 0usize..5,
            cut in 0usize..200,
        ) {
            let copies = MIN_COPIES.max(MIN_TOKENS.div_ceil(cycle.len())) + extra;
            let mut units = before.clone();
            for _ in 0..copies {
                units.extend(&cycle);
            }
            units.extend(&cycle[..cut % cycle.len()]);
            let found = in_tokens(&units).expect("planted");
            prop_assert!(found.covered >= units.len() - before.len());
            prop_assert!(found.period <= cycle.len() && cycle.len() % found.period == 0
                || found.covered > units.len() - before.len());
        }

        #[test]
        fn planted_cycles_are_found_in_text_and_located(
            before in "[a-zа-я ,.\n]{0,200}",
            cycle in "[a-zа-яё💖日 ,.\n]{1,80}",
            extra in 0usize..5,
        ) {
            let copies = MIN_COPIES.max(MIN_CHARACTERS.div_ceil(cycle.trim().chars().count().max(1))) + extra;
            let text = format!("{before}#{}", cycle.repeat(copies));
            prop_assume!(!cycle.trim().is_empty());
            let span = in_text(&text).expect("planted");
            prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
            prop_assert_eq!(span.start, before.len() + 1);
            let looping = &text[span.start..span.end];
            prop_assert!(looping.is_char_boundary(span.period));
            prop_assert_eq!(&looping.as_bytes()[span.period..], &looping.as_bytes()[..looping.len() - span.period]);
        }

        /// Random words, whatever the vocabulary: no loop. 2⁻⁶⁴-like odds for a false one.
        #[test]
        fn random_text_is_not_flagged(units in prop::collection::vec(0u32..30, 0..600)) {
            prop_assert_eq!(in_tokens(&units), None);
        }

        /// Numbered lists, tables with equal columns, JSON rows: alike, not equal.
        #[test]
        fn lists_and_tables_are_not_flagged(rows in prop::collection::vec((1u32..10_000, "[a-z]{1,9}"), 0..60)) {
            let (mut list, mut table, mut json) = (String::new(), "| n | name |\n|---|---|\n".to_owned(), "[".to_owned());
            for (index, (number, name)) in rows.iter().enumerate() {
                list += &format!("{}. The item is called {name}.\n", index + 1);
                table += &format!("| {index} {number} | {name} | yes | yes | 0.00 |\n");
                json += &format!("{{\"id\": {index}, \"name\": \"{name}\", \"ok\": true}},\n");
            }
            for text in [list, table, json + "]"] {
                prop_assert_eq!(in_text(&text), None, "{}", text);
            }
        }
    }

    proptest! {
        /// Verses that differ, each with the same refrain behind it, and the refrain twice at the end.
        #[test]
        fn poems_with_a_refrain_are_not_flagged(
            verses in prop::collection::vec("[a-zа-я]{3,9}( [a-zа-я]{1,9}){3,7}", 1..12),
            refrain in prop::collection::vec("[a-zа-я]{3,9}( [a-zа-я]{1,9}){3,7}", 1..5),
        ) {
            let refrain = refrain.join("\n") + "\n\n";
            let poem: String = verses.iter().map(|verse| format!("{verse}\n{refrain}")).collect::<String>() + &refrain;
            // A single line sung over and over is a loop to this metric, and to a reader.
            prop_assume!(verses.iter().collect::<std::collections::HashSet<_>>().len() == verses.len());
            prop_assert_eq!(in_text(&poem), None, "{}", poem);
        }

        /// Functions of one shape with names and numbers of their own, down to a tail of closing braces.
        #[test]
        fn code_is_not_flagged(
            functions in prop::collection::vec(("[a-z_]{3,12}", 0u32..1000, 1usize..6), 1..25),
            depth in 1usize..8,
        ) {
            let mut code = String::from("use std::fmt;\n\n");
            for (index, (name, number, arguments)) in functions.iter().enumerate() {
                let list: Vec<String> = (0..*arguments).map(|i| format!("a{i}: u32")).collect();
                code += &format!("fn {name}_{index}({}) -> u32 {{\n    a0 + {number}\n}}\n\n", list.join(", "));
            }
            for level in 0..depth {
                code += &format!("{}if ready({level}) {{\n", "    ".repeat(level));
            }
            for level in (0..depth).rev() {
                code += &format!("{}}}\n", "    ".repeat(level));
            }
            prop_assert_eq!(in_text(&code), None, "{}", code);
        }
    }

    #[test]
    fn short_repetition_is_no_loop() {
        for text in [
            "",
            "aaa",
            "Noooooooooooooooooooooooooo!",
            "ha ha ha ha ha ha ha ha ha ha ha ha",
            "a list:\n- yes\n- yes\n- yes\n- yes\n- yes\n",
            "Dear Sir,\n\nthank you.\n\n--------------------------------------------------------------------------------",
            "fn main() {\n    if a {\n        if b {\n            if c {\n                run();\n            }\n        }\n    }\n}\n",
            "| a | b | c |\n|---|---|---|\n| 0 | 0 | 0 |\n| 0 | 0 | 0 |\n| 0 | 0 | 0 |\n",
        ] {
            assert_eq!(in_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn cycles_of_every_period_are_found_and_one_of_a_megabyte() {
        for period in (1..=700u32).chain([10_000, 300_000]) {
            let copies = MIN_COPIES.max(MIN_TOKENS.div_ceil(period as usize));
            let units: Vec<u32> =
                (0..50).map(|i| 1_000_000 + i).chain((0..period).cycle().take(copies * period as usize)).collect();
            let found = in_tokens(&units).map(|tail| (tail.period, tail.covered));
            assert_eq!(found, Some((period as usize, units.len() - 50)), "period {period}");
        }
    }

    #[test]
    fn a_poem_with_a_refrain_is_no_loop() {
        let refrain = "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, merrily,\nLife is but a dream.\n\n";
        let verses = [
            "The river bends beyond the mill,\n",
            "A heron stands upon the hill,\n",
            "The evening bell is never still,\n",
        ];
        let poem: String = verses.iter().map(|verse| format!("{verse}{refrain}")).collect();
        assert_eq!(in_text(&poem), None);
        // The refrain twice at the end: still a song.
        assert_eq!(in_text(&format!("{poem}{refrain}")), None);
    }

    #[test]
    fn real_ways_to_loop_are_loops() {
        for (text, period) in [
            ("Sincerely,\n\n".repeat(12), 12),
            ("0".repeat(128), 1),
            ("\n".repeat(500), 1),
            (format!("Answer: {}", "я не знаю, ".repeat(13)), "я не знаю, ".len()),
            (format!("Answer: {}\u{fffd}", "⠀".repeat(200)), "⠀".len()),
            (format!("{}\n\n\n", "The box was opened and the cat was alive. ".repeat(4)), 42),
        ] {
            assert_eq!(in_text(&text).expect(&text).period, period, "{text:?}");
        }
    }

    #[test]
    fn the_largest_cycle_is_reported_not_the_dots_at_its_end() {
        let line = format!("Chapter {}\n", ".".repeat(200));
        let span = in_text(&line.repeat(4)).expect("loop");
        assert_eq!((span.start, span.period), (0, line.len()));
    }

    #[test]
    fn tokens_decide_where_they_are_known() {
        let mut sample = crate::sample::sample(&format!("So: {}", "go on ".repeat(20)));
        let mut ids = vec![9, 8];
        ids.extend([1, 2].repeat(20));
        ids.push(0);
        sample.token_ids = Some(ids.clone());
        sample.finish_reason = FinishReason::Eos;
        // 40 looping tokens before the terminator: a loop, though 120 characters alone would be none.
        assert_eq!(crate::sample::value("loop_rate", &sample), Some(1.0));
        assert_eq!(find(&sample).map(|span| (span.start, span.period)), Some((3, 6)));
        // Without a terminator the last id is content, and it breaks the cycle.
        sample.finish_reason = FinishReason::Length;
        assert_eq!(crate::sample::value("loop_rate", &sample), Some(0.0));
        assert_eq!(find(&sample), None);
        // Ids whose text does not show the loop.
        sample.finish_reason = FinishReason::Eos;
        sample.completion = "?".into();
        assert_eq!(find(&sample), Some(LoopSpan { start: 0, end: 1, period: 1 }));
    }

    #[test]
    fn what_a_servers_detector_cut_loops() {
        let mut sample = crate::sample::sample("and so on and so on");
        assert_eq!(crate::sample::value("loop_rate", &sample), Some(0.0));
        sample.finish_reason = FinishReason::Repetition;
        assert_eq!(crate::sample::value("loop_rate", &sample), Some(1.0));
        assert_eq!(find(&sample), Some(LoopSpan { start: 0, end: 19, period: 19 }));
    }

    #[test]
    fn reasoning_in_a_field_of_its_own_loops_as_it_would_inline() {
        let mut sample = crate::sample::sample("");
        sample.reasoning = Some("I should check the log. ".repeat(20));
        assert_eq!(crate::sample::value("loop_rate", &sample), Some(1.0));
        assert_eq!(find(&sample).map(|span| span.period), Some(24));
        sample.completion = "The pump failed at four in the morning.".into();
        assert_eq!(crate::sample::value("loop_rate", &sample), Some(0.0), "it recovered");
    }

    /// Periods that almost match everywhere are the worst case of naive matching: seconds there, milliseconds here.
    #[test]
    fn long_completions_take_linear_time() {
        let mut nearly = "ab".repeat(2_000_000);
        nearly.push('c');
        nearly.push_str(&"ab".repeat(2_000_000));
        for text in ["x".repeat(10_000_000), nearly, "x".repeat(5_000_000) + "y"] {
            let started = std::time::Instant::now();
            std::hint::black_box(in_text(&text));
            assert!(started.elapsed().as_secs_f64() < 2.0, "{:?}", started.elapsed());
        }
    }
}
