//! Code in Markdown: what stands there is quoted, not said.

use std::ops::Range;

/// Byte ranges of closed fenced blocks and of code spans within a line, in order. A block that never closes is none: a
/// completion that was cut, or ran away.
pub fn ranges(text: &str) -> Vec<Range<usize>> {
    read(text, spans)
}

/// Byte ranges of closed fenced blocks, in order.
pub fn blocks(text: &str) -> Vec<Range<usize>> {
    read(text, |_, _, _| {})
}

/// Fenced blocks, and what `outside` finds in each line outside them.
fn read(text: &str, outside: impl Fn(&str, usize, &mut Vec<Range<usize>>)) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut fence: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        match (fence, is_fence) {
            (None, true) => fence = Some(at),
            (Some(start), true) => {
                ranges.push(start..at + line.len());
                fence = None;
            }
            (None, false) => outside(line, at, &mut ranges),
            (Some(_), false) => {}
        }
        at += line.len();
    }
    ranges
}

/// Code spans of one line.
fn spans(line: &str, at: usize, ranges: &mut Vec<Range<usize>>) {
    let mut rest = 0;
    while let Some(open) = line[rest..].find('`').map(|open| rest + open) {
        let ticks = line[open..].bytes().take_while(|&byte| byte == b'`').count();
        let Some(close) = line[open + ticks..].find(&line[open..open + ticks]).map(|close| open + ticks + close) else {
            rest = open + ticks;
            continue;
        };
        ranges.push(at + open..at + close + ticks);
        rest = close + ticks;
    }
}

/// True if a position is inside one of the ranges.
pub fn contains(ranges: &[Range<usize>], at: usize) -> bool {
    let after = ranges.partition_point(|range| range.start <= at);
    after > 0 && ranges[after - 1].end > at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_spans_are_code_and_open_ones_are_not() {
        let text = "Say `a <b> c` or ``d ` e``:\n```html\n<s>f</s>\n```\nthen ` and\n```\ng";
        let inside: Vec<bool> =
            ["<b>", " e``", "<s>f", "then", "g"].map(|part| contains(&ranges(text), text.rfind(part).unwrap())).into();
        assert_eq!(inside, [true, true, true, false, false]);
        let block = text.find("```").unwrap()..text.find("then").unwrap();
        assert_eq!(blocks(text), std::slice::from_ref(&block));
        assert!(ranges("").is_empty() && ranges("no code").is_empty());
        assert!(!contains(&[], 3));
    }

    #[test]
    fn a_span_has_its_ticks_and_ends_before_the_next() {
        let text = "One `a` b `c`.\nTwo ``d ` e`` or `f`.\n";
        let spans: Vec<&str> = ranges(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(spans, ["`a`", "`c`", "``d ` e``", "`f`"]);
    }
}
