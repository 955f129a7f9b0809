//! Share of completions that run away: near-copies of the same words over and over.
//!
//! Beside the exact loops of [`super::loop_rate`] these are repetitions with counters or dates that go on, with drifting
//! punctuation, case or spacing, of sentences in changing order, before a stray word or two, and those in the middle of a
//! completion that recovers.
//!
//! The text is read as folded words ([`folded`]): lower case, each number one word, everything between words left out,
//! hashtags and identifiers of many words in their parts. A word is *worn* if it ends a group of three words (six characters
//! in scripts without spaces) that has been there before, often enough. A stretch of the text scores its length in worn words
//! less some times the length of all others, and the best stretch decides, in linear time (Kadane's algorithm; Bentley 1984,
//! *Programming Pearls*, CACM 27:865). Words and numbers of more than 200 characters, and more than 1,000 characters with
//! neither letters nor digits, are worn as well.
//!
//! A text that ends in the stretch reaches one of three bars ([`TO_THE_END`]): the third copy and later ones, nearly alone,
//! over 500 characters; the sixth copy and later ones over 240; the same parts in ever new combinations over 1,000. Behind
//! the stretch stand fewer than [`STRAY`] characters of new words.
//!
//! Forms, programs, plans and refrains look like that too, but a model finishes them and goes on. So where it ended the text
//! itself, where more text follows, and in closed blocks of code, copies have to differ in numbers alone, and there have to be
//! more of them ([`ANYWHERE`], twice that in code). All bars are [`ASKED`] times as high where the prompt asks for
//! repetition ("a hundred times", "repeat") or is repetitive itself. Where a server's own detector of repetition cut the
//! completion, it ran away.
//!
//! The bounds were set on 6,828 completions of ten public models (AlpacaEval, Russian Arena), of which all flagged ones were
//! read, and on 450 answers of others. `tests/degenerate` measures them on answers that they were not set on.

use std::ops::Range;

use smpo_results::{Direction, FinishReason, Message, Sample, Unit};

use super::{Metric, MetricInfo, Scratch, View};
use crate::sample::share;
use crate::text::code;
use crate::text::folded::{self, Kind, Unit as Word};
use crate::text::ngrams::{FirstSeen, mix};
use crate::text::visible::whole;

/// A bar that a stretch of text has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Times that a group of words has been there before the word that ends it is worn.
    pub before: u8,
    /// Characters of worn words that one character of another word takes back.
    pub penalty: i64,
    /// The score to reach, in characters.
    pub bar: i64,
}

/// The bars of a stretch that the text ends in: long ones of few copies, short ones of many, very long ones of parts in ever
/// new order.
pub const TO_THE_END: [Rule; 3] = [
    Rule { before: 2, penalty: 4, bar: 500 },
    Rule { before: 5, penalty: 5, bar: 240 },
    Rule { before: 2, penalty: 2, bar: 1000 },
];
/// The bars of a stretch wherever it stands: hardly a new word among the copies.
pub const ANYWHERE: [Rule; 2] = [Rule { before: 2, penalty: 20, bar: 600 }, Rule { before: 5, penalty: 20, bar: 350 }];
/// Characters of new words that the text does not go on with behind its end: a stray tail.
pub const STRAY: u32 = 60;
/// Factor of [`ANYWHERE`] in a closed block of code.
pub const CODE: i64 = 2;
/// Factor of all bars where the prompt asks for repetition.
pub const ASKED: i64 = 16;

/// Words of a group.
const GROUP: usize = 3;
/// Characters of a group in scripts without spaces.
const GROUP_OF_CHARACTERS: usize = 6;

/// `runaway_rate`.
pub static INFO: MetricInfo = MetricInfo {
    id: "runaway_rate",
    name: "Runaway rate",
    unit: Unit::Share,
    better: Direction::Lower,
    primary: true,
    binary: true,
    leaderboard: None,
    summary: true,
    description: "share of completions with a long stretch of near-copies anywhere: numbers, case and punctuation folded, \
                  in any order",
    reference: "smpo; best stretch: Bentley 1984, Programming Pearls, CACM 27:865",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_sample(&INFO, measure)];

/// 1 if the completion runs away.
fn measure(view: &View<'_>, scratch: &mut Scratch) -> Option<f64> {
    let cut = view.sample.finish_reason == FinishReason::Repetition;
    Some(share(cut || stretch(view.sample, &view.text, &mut scratch.runaway).is_some()))
}

/// Byte range of the stretch of near-copies in a completion's whole text, reasoning first; `None` if there is none.
pub fn find(sample: &Sample) -> Option<Range<usize>> {
    stretch(sample, &whole(sample), &mut Buffers::default())
}

/// Buffers of the detector.
#[derive(Debug, Default)]
pub struct Buffers {
    units: Vec<Word>,
    groups: Vec<u64>,
    /// Times that a group has been there so far, at its first place.
    counts: Vec<u8>,
    /// Times that a group had been there before, at every place.
    times: Vec<u8>,
    seen: FirstSeen,
}

fn stretch(sample: &Sample, text: &str, buffers: &mut Buffers) -> Option<Range<usize>> {
    let ended = sample.finish_reason == FinishReason::Eos;
    let found = best(text, ended, 1, buffers)?;
    if !asks_for_repetition(&sample.messages, buffers) {
        return Some(found);
    }
    best(text, ended, ASKED, buffers)
}

/// The best stretch of the first rule whose bar, times `factor`, is reached.
fn best(text: &str, ended: bool, factor: i64, buffers: &mut Buffers) -> Option<Range<usize>> {
    let rules = || TO_THE_END.iter().filter(|_| !ended).chain(&ANYWHERE);
    let least = rules().map(|rule| rule.bar).min().unwrap_or(0) * factor;
    // A character of two bytes or more weighs four at most.
    if (text.len() as i64) < least / 2 {
        return None;
    }
    buffers.units.clear();
    folded::fold(text, &mut buffers.units);
    count_groups(buffers);
    let Buffers { units, times, .. } = buffers;
    // No stretch scores more than everything that is worn anywhere, which in most texts is little.
    let first = rules().map(|rule| rule.before).min().unwrap_or(0);
    let worn = |(unit, &times): (&Word, &u8)| u32::from(unit.weight) * u32::from(times >= first) + unit.excess;
    if units.iter().zip(times.iter()).map(worn).fold(0i64, |sum, worn| sum + i64::from(worn)) < least {
        return None;
    }
    let blocks = code::blocks(text);
    let at_the_end = if ended { None } else { at_the_end(units, times, &blocks, factor) };
    at_the_end.or_else(|| anywhere(units, times, &blocks, factor))
}

/// The stretch that the text ends in, behind its last closed block of code.
fn at_the_end(units: &[Word], times: &[u8], blocks: &[Range<usize>], factor: i64) -> Option<Range<usize>> {
    let begins = blocks.last().map_or(0, |block| block.end);
    let first = units.partition_point(|unit| (unit.start as usize) < begins);
    let (units, times) = (&units[first..], &times[first..]);
    let mut behind = 0;
    let is_too_early = |(unit, &times): (&Word, &u8)| {
        behind += if times < 2 { u32::from(unit.weight) } else { 0 };
        behind >= STRAY
    };
    let last = units.len().saturating_sub(1);
    let from = units.iter().zip(times).rev().position(is_too_early).map_or(0, |behind| last - behind);
    TO_THE_END.iter().find_map(|rule| {
        let (score, range) = best_stretch(units, times, *rule, from);
        (score >= rule.bar * factor).then_some(range)
    })
}

/// A stretch of copies that differ in numbers alone.
fn anywhere(units: &[Word], times: &[u8], blocks: &[Range<usize>], factor: i64) -> Option<Range<usize>> {
    ANYWHERE.iter().find_map(|rule| {
        let (score, range) = best_stretch(units, times, *rule, 0);
        let in_code = blocks.iter().any(|block| block.start <= range.start && range.end <= block.end);
        (score >= rule.bar * factor * if in_code { CODE } else { 1 }).then_some(range)
    })
}

/// For each unit, the times that the group it ends has been there before.
fn count_groups(buffers: &mut Buffers) {
    let Buffers { units, groups, counts, times, seen } = buffers;
    groups.clear();
    groups.extend((0..units.len()).map(|last| {
        let words = if units[last].kind == Kind::Character { GROUP_OF_CHARACTERS } else { GROUP };
        let group = &units[(last + 1).saturating_sub(words)..=last];
        group.iter().fold(group.len() as u64, |hash, unit| mix(hash, unit.hash))
    }));
    seen.clear_for(units.len());
    counts.clear();
    counts.resize(units.len(), 0);
    times.clear();
    for place in 0..u32::try_from(units.len()).unwrap_or(u32::MAX) {
        let count = &mut counts[seen.insert(groups, place) as usize];
        times.push(*count);
        *count = count.saturating_add(1);
    }
}

/// The stretch of the highest score among those that end at unit `from` or behind it, and that score.
fn best_stretch(units: &[Word], times: &[u8], rule: Rule, from: usize) -> (i64, Range<usize>) {
    let (mut best, mut range) = (0, 0..0);
    let (mut score, mut start) = (0, 0);
    for (index, (unit, &times)) in units.iter().zip(times).enumerate() {
        if score <= 0 {
            (score, start) = (0, unit.start);
        }
        score += value(unit, times, rule);
        if score > best && index >= from {
            (best, range) = (score, start as usize..unit.end as usize);
        }
    }
    (best, range)
}

/// Characters that a unit adds to a stretch, or takes away. A number alone takes nothing away: it is not the same twice.
fn value(unit: &Word, times: u8, rule: Rule) -> i64 {
    let weight = i64::from(unit.weight);
    let own = match unit.kind {
        _ if times >= rule.before => weight,
        Kind::Number => 0,
        _ => -rule.penalty * weight,
    };
    own + i64::from(unit.excess)
}

/// Beginnings of words of prompts that ask for repetition.
const REPETITION: &[&str] = &[
    "repeat", "repetit", "over and over", "again and again", "digit", "mantra", "chant", "повтор", "wiederhol", "répét", "répèt",
    "repit", "цифр", "мантр", "重复", "重複", "繰り返", "반복", "كرر",
];

/// True if the prompt asks for repetition, or repeats itself: a translation of a refrain is a refrain.
fn asks_for_repetition(prompt: &[Message], buffers: &mut Buffers) -> bool {
    prompt.iter().any(|message| {
        let text = message.content.to_lowercase();
        let names = REPETITION.iter().any(|word| {
            let spaced = word.starts_with(|c: char| (c as u32) < 0x3000);
            text.match_indices(word).any(|(at, _)| !spaced || !text[..at].ends_with(char::is_alphanumeric))
        });
        names || counts_times(&text) || best(&message.content, false, 1, buffers).is_some()
    })
}

/// True for "100 times", "a dozen times", "сто раз".
fn counts_times(text: &str) -> bool {
    const NUMBERS: [&str; 14] = [
        "ten", "twenty", "thirty", "forty", "fifty", "hundred", "thousand", "dozen", "many", "сто", "десять", "двадцать",
        "пятьдесят", "тысячу",
    ];
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is_number = |word: &str| NUMBERS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit());
    words.windows(2).any(|pair| is_number(pair[0]) && matches!(pair[1], "times" | "раз" | "mal" | "fois" | "veces" | "vezes"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn runs_away(text: &str) -> bool {
        crate::sample::value("runaway_rate", &crate::sample::sample(text)) == Some(1.0)
    }

    const LOCK: &str = "The keeper opens the lock and lets two small boats in before the water falls. ";
    const BELL: &str = "Then a bell rings on the quay and the fishermen carry their baskets home. ";
    const FOG: &str = "Fog rolls over the northern pier while the lamp turns slowly in its tower. ";

    /// A deterministic series of numbers.
    fn series(len: usize) -> impl Iterator<Item = usize> {
        (0..len).scan(7usize, |state, _| {
            *state = (*state * 1_103 + 12_345) % 65_536;
            Some(*state / 7)
        })
    }

    fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
        (1..=count).map(line).collect()
    }

    #[test]
    fn near_copies_run_away() {
        let prose: String = series(300).map(|n| format!("word{} ", char::from(b'a' + (n % 26) as u8).to_string().repeat(n % 9 + 1))).collect();
        for text in [
            lines(80, |i| format!("Now I write step {i} of the plan and go on with the next step.\n")),
            lines(90, |i| format!("{i}. Improve the work of teams.\n")),
            lines(300, |i| format!("{i}. Swift\n")),
            lines(90, |i| format!("[12:{:02}:{:02}] trying to reach the server, please wait.\n", i / 60, i % 60)),
            lines(150, |i| format!("- 2031-{:02}-{:02}: nothing was seen on this day.\n", i % 12 + 1, i % 28 + 1)),
            lines(150, |i| format!("https://example.org/page/{i}?ref=quay\n")),
            lines(60, |i| format!("第{i}步，检查系统状态并继续下一步。")),
            series(120).map(|n| format!("I will do it now{} ", "!".repeat(n % 4 + 1))).collect(),
            series(60).map(|n| [LOCK, BELL, FOG][n % 3]).collect(),
            LOCK.repeat(40) + "Done",
            LOCK.repeat(40) + "<|eot_id|>",
            "print('x')\n".repeat(60) + "```\n",
            format!("{prose}{}All right: the pump failed at four, and the crew mended it by hand.", "I should check the log. ".repeat(80)),
            format!("{{\"width\": 0.{}", series(3000).map(|n| (n % 10).to_string()).collect::<String>()),
            format!("So: {} and", "💖".repeat(1000)),
            format!("Sure:{}ok", "\n".repeat(3000)),
            lines(25, |i| "and then ".repeat(i) + "stop. "),
        ] {
            assert!(runs_away(&text), "{text}");
        }
    }

    #[test]
    fn ordinary_repetition_does_not() {
        let chorus = "Sing it low, sing it slow,\nlet the river take the snow,\nlet the lantern lead us home.\n\n";
        let verses = ["stone", "wheat", "iron", "salt"];
        for text in [
            String::new(),
            "a ".repeat(50),
            verses.map(|word| format!("A verse of its own about {word} and the road.\n{chorus}")).concat(),
lines(8, |i| format!("to him who made the {}, for his mercy endures for ever;\n", verses[i % 4])),
            lines(12, |i| format!(".col-{i} {{ margin: 0; padding: 0; border: 0; }}\n")),
            lines(12, |i| format!("from package.module import Class{i}\n")),
            format!("INSERT INTO t VALUES\n{}(0, 0);", "(0, 0, 0, 0),\n".repeat(30)),
            format!("| Day | Open |\n|---|---|\n{}", lines(7, |i| format!("| {i} | 9:00-17:00 |\n"))),
            "Name: ____________________\nDate: ____________________\n\n".repeat(5),
            "| ☐ | ☐ | ☐ | ☐ | ☐ |\n".repeat(10),
            lines(100, |i| format!("{i}, ")),
            format!("pi is 3.{}", "1415926535".repeat(10)),
            LOCK.repeat(3) + BELL + FOG,
        ] {
            assert!(!runs_away(&text), "{text}");
        }
    }

    /// A line for each button, notes of one form for each cell, a plan of one form a month: finished, and the text goes on.
    #[test]
    fn finished_forms_do_not_run_away() {
        let button = |i: usize| format!("    <button onclick=\"press('{i}')\">{i}</button>\n");
        let month = |i: usize| {
            let aims = ["strength", "speed", "balance", "patience", "breath", "rest"];
            let hours = [2, 4, 3, 5, 6, 1][i % 6];
            format!("Month {i}: train three times a week for {hours} hours, with {} in mind, then rest for a day.\n", aims[i % 6])
        };
        let after = "Each of these can be changed as you like. Tell me if you want the script that goes with it, or a shorter one.";
        for text in [
            format!("Here it is:\n```html\n{}```\n", lines(12, button)),
            format!("Here it is:\n```html\n{}```\n{after}", lines(12, button)),
            format!("{}\n{after}", lines(8, month)),
        ] {
            assert!(!runs_away(&text), "{text}");
        }
        // Many more, or a block that never closes.
        assert!(runs_away(&format!("Here it is:\n```html\n{}```\n{after}", lines(60, button))));
        assert!(runs_away(&format!("Here it is:\n```html\n{}", lines(25, button))));
    }

    #[test]
    fn words_run_together_run_away_as_words_apart_do() {
        let parts = ["Garden", "Winter", "Market", "Harbour", "Family", "Evening", "Lantern"];
        let tag = |i: usize| format!("#{}{}CommunityLearningDays ", parts[i % 7], parts[i / 7 % 7]);
        assert!(runs_away(&format!("See you there! {}", lines(250, tag))));
        assert!(!runs_away(&format!("See you there! {}", lines(60, tag))));
    }

    /// Lists without end whose items bring in a new word now and then.
    #[test]
    fn parts_in_ever_new_order_run_away_where_the_text_ends_in_them() {
        let item = |i: usize| format!("Assist with the preparation of medicine for people with {} problems\n", ["heart", "lung", "bone"][i % 3].repeat(i / 3 % 5 + 1));
        assert!(runs_away(&lines(60, item)));
        let after = "These are the tasks of an ordinary day; ask me for those of the night, or of the weekend, whenever you like.";
        assert!(!runs_away(&format!("{}{after}", lines(18, item))));
    }

    #[test]
    fn a_text_that_the_model_ended_meets_a_higher_bar() {
        let mut sample = crate::sample::sample(&LOCK.repeat(9));
        assert!(find(&sample).is_some());
        sample.finish_reason = FinishReason::Eos;
        assert_eq!(find(&sample), None);
        sample.completion = LOCK.repeat(30);
        assert!(find(&sample).is_some());
        sample.completion.clear();
        sample.finish_reason = FinishReason::Repetition;
        assert_eq!(crate::sample::value("runaway_rate", &sample), Some(1.0), "a server cut it for that");
    }

    #[test]
    fn repetition_that_was_asked_for_does_not_run_away() {
        let answer = "I must not talk in class.\n".repeat(100);
        let source = format!("Translate word for word: {}", "und die Glocke läutet ".repeat(25));
        for (prompt, expected) in [
            ("Write the sentence a hundred times.", 0.0),
            ("Repeat the sentence.", 0.0),
            ("Напиши это 100 раз.", 0.0),
            (&source, 0.0),
            ("What must you not do?", 1.0),
            ("Name the times of the day.", 1.0),
        ] {
            let sample = Sample { messages: vec![Message::user(prompt)], ..crate::sample::sample(&answer) };
            assert_eq!(crate::sample::value("runaway_rate", &sample), Some(expected), "{prompt}");
        }
        let endless = Sample { messages: vec![Message::user("Repeat it.")], ..crate::sample::sample(&answer.repeat(5)) };
        assert_eq!(crate::sample::value("runaway_rate", &endless), Some(1.0));
    }

    #[test]
    fn reasoning_that_runs_away_counts() {
        let mut sample = crate::sample::sample("The pump failed at four.");
        sample.reasoning = Some(lines(80, |i| format!("Wait, I should look at line {i} of the log once more. ")));
        let found = find(&sample).expect("in the reasoning");
        assert!(found.end <= sample.reasoning.as_ref().map_or(0, String::len));
    }

    proptest! {
        /// Score of the best stretch, by the definition: every stretch, every group compared with all before it.
        #[test]
        fn the_best_stretch_is_that_of_the_definition(words in prop::collection::vec("[a-c]{1,2}|[0-9]", 0..40), before in 0u8..4, penalty in 1i64..6) {
            let text = words.join(" ");
            let rule = Rule { before, penalty, bar: 0 };
            let mut buffers = Buffers::default();
            folded::fold(&text, &mut buffers.units);
            count_groups(&mut buffers);
            let Buffers { units, times, .. } = &buffers;
            let fold = |word: &String| if word.parse::<u32>().is_ok() { "0".to_owned() } else { word.clone() };
            let words: Vec<String> = words.iter().map(fold).collect();
            let mut counts: HashMap<Vec<String>, i64> = HashMap::new();
            let values: Vec<i64> = (0..words.len()).map(|last| {
                let count = counts.entry(words[(last + 1).saturating_sub(GROUP)..=last].to_vec()).or_default();
                *count += 1;
                let is_number = words[last] == "0";
                let weight = if is_number { 1 } else { words[last].len() as i64 + 1 };
                if *count > i64::from(before) { weight } else if is_number { 0 } else { -penalty * weight }
            }).collect();
            let sums = (0..values.len()).flat_map(|start| (start..values.len()).map(move |end| (start, end)));
            let expected = sums.map(|(start, end)| values[start..=end].iter().sum::<i64>()).max().unwrap_or(0).max(0);
            prop_assert_eq!(best_stretch(units, times, rule, 0).0, expected);
        }

        /// Words that nobody repeats.
        #[test]
        fn random_words_do_not_run_away(words in prop::collection::vec("[a-z]{2,7}", 0..400)) {
            prop_assert!(!runs_away(&words.join(" ")));
        }
    }

    #[test]
    fn long_completions_take_linear_time() {
        let counters = lines(200_000, |i| format!("{i}. the same line again\n"));
        for text in ["x".repeat(8_000_000), "ab ".repeat(3_000_000), counters, "\u{1f496}".repeat(2_000_000)] {
            let started = std::time::Instant::now();
            assert!(runs_away(&text));
            assert!(started.elapsed().as_secs_f64() < 4.0, "{:?}", started.elapsed());
        }
    }
}
