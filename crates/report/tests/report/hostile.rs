//! Text that attacks: every string of the input, in every format, stays text.

use crate::{fixture, junit_xml};
use smpo_report::leaderboard::{html, markdown as board_markdown, text as board_text};
use smpo_report::verdict::{junit, markdown, text};
use smpo_results::{Leaderboard, Verdict};

pub const ATTACKS: [&str; 8] = [
    "</script><script>window.pwned=1</script>",
    "\"><img src=x onerror=window.pwned=1>",
    "' onmouseover='window.pwned=1",
    "[x](javascript:window.pwned=1) | `a` ``` <b>\n## heading\n@everyone https://evil.invalid",
    "\u{0}\u{1b}[31m\u{1b}]8;;https://evil.invalid\u{7}link\u{9b}2J\u{fffe}\u{ffff}",
    "\u{202e}gnp.exe\u{2066}\u{2028}\u{feff}",
    "]]> &amp; &lt; <!-- --> <![CDATA[ ${7*7} {{7*7}}",
    "</textarea></title></style><svg/onload=window.pwned=1>",
];

/// Replaces every string of a document by an attack, except identifiers that select behaviour.
fn poison(value: &mut serde_json::Value, attack: &str) {
    const KEPT: [&str; 10] = [
        "unit",
        "better",
        "verdict",
        "requirement",
        "claim",
        "finish_reason",
        "kind",
        "baseline",
        "name",
        "adjustment",
    ];
    match value {
        serde_json::Value::String(text) => *text = format!("{attack}{text}"),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| poison(item, attack)),
        serde_json::Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                if !(KEPT.contains(&key.as_str()) && field.is_string()) {
                    poison(field, attack);
                }
            }
            // names must stay equal to each other, so they get the attack in one way
            for key in ["name", "baseline", "candidate"] {
                match fields.get_mut(key) {
                    Some(serde_json::Value::String(text)) if !text.starts_with(attack) => {
                        *text = format!("{attack}{text}")
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

pub fn poisoned_board(attack: &str) -> Leaderboard {
    let mut value = serde_json::to_value(fixture::leaderboard()).expect("serializes");
    poison(&mut value, attack);
    serde_json::from_value(value).expect("still a leaderboard")
}

fn poisoned_verdict(attack: &str) -> Verdict {
    let mut value = serde_json::to_value(fixture::verdict(4)).expect("serializes");
    poison(&mut value, attack);
    serde_json::from_value(value).expect("still a verdict")
}

/// The page without what is trusted: its own style and script.
fn untrusted(page: &str) -> String {
    page.replace(html::STYLE, "").replace(html::SCRIPT, "")
}

#[test]
fn pages_hold_no_tag_that_the_template_did_not_write() {
    let honest = untrusted(&html::render(&fixture::leaderboard()).expect("renders"));
    let tags = |page: &str| {
        let mut counts = std::collections::BTreeMap::new();
        for piece in page.split('<').skip(1) {
            let name: String =
                piece.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '!' | '-')).collect();
            *counts.entry(name).or_insert(0usize) += 1;
        }
        counts
    };
    let known = tags(&honest);
    for attack in ATTACKS {
        let page = html::render(&poisoned_board(attack)).expect("renders");
        let page = untrusted(&page);
        for (tag, count) in tags(&page) {
            let expected = known.get(&tag);
            assert!(expected.is_some(), "new tag <{tag} by {attack:?}");
            if matches!(tag.as_str(), "script" | "/script" | "style" | "/style" | "img" | "title" | "/title" | "link") {
                assert_eq!(Some(&count), expected, "<{tag} by {attack:?}");
            }
        }
        let live = page.chars().filter(|c| matches!(c, '\0' | '\u{1b}' | '\u{202e}' | '\u{2066}' | '\u{2028}')).count();
        assert_eq!(live, 0, "{attack:?}");
        assert!(!page.to_ascii_lowercase().contains("href=\"javascript"), "{attack:?}");
    }
}

#[test]
fn markdown_holds_no_markup_from_outside() {
    for attack in ATTACKS {
        let verdict = markdown::render(&poisoned_verdict(attack));
        let board = board_markdown::render(&poisoned_board(attack));
        for shown in [verdict, board] {
            let outside = without_code(&shown);
            for line in outside.lines() {
                let bare = line
                    .replace("<details>", "")
                    .replace("</details>", "")
                    .replace("<summary>", "")
                    .replace("</summary>", "");
                assert!(!bare.contains('<'), "{attack:?}: {line}");
                assert!(!bare.replace("\\]", "").contains("](javascript"), "{attack:?}: {line}");
                assert!(!bare.contains("@everyone"), "{attack:?}: {line}");
                assert!(!bare.contains("https://"), "{attack:?}: {line}");
                assert!(!bare.contains("\n## heading"), "{attack:?}: {line}");
            }
            assert!(shown.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{attack:?}");
            assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{2028}']), "{attack:?}");
        }
    }
}

/// Leaves out fenced blocks and code spans, as CommonMark finds them.
fn without_code(markdown: &str) -> String {
    let mut out = String::new();
    let mut fence: Option<usize> = None;
    for line in markdown.lines() {
        let ticks = line.chars().take_while(|c| *c == '`').count();
        match fence {
            Some(open) if ticks >= open && line.trim_start_matches('`').is_empty() => fence = None,
            Some(_) => {}
            None if ticks >= 3 && !line.trim_start_matches('`').contains('`') => fence = Some(ticks),
            None => {
                out.push_str(&without_spans(line));
                out.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "an open fence");
    out
}

fn without_spans(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        out.push_str(&rest[..at]);
        let escaped = rest[..at].ends_with('\\');
        let run: usize = rest[at..].chars().take_while(|c| *c == '`').count();
        let inner = &rest[at + run..];
        let closing = (0..inner.len())
            .filter(|i| inner.is_char_boundary(*i))
            .find(|i| inner[*i..].chars().take_while(|c| *c == '`').count() == run && !inner[..*i].ends_with('`'));
        match closing.filter(|_| !escaped) {
            Some(close) => rest = &inner[close + run..],
            None => rest = inner,
        }
    }
    out.push_str(rest);
    out
}

#[test]
fn every_table_row_keeps_its_columns() {
    for attack in ATTACKS {
        for shown in [markdown::render(&poisoned_verdict(attack)), board_markdown::render(&poisoned_board(attack))] {
            let mut columns = None;
            for line in shown.lines() {
                if !line.starts_with("| ") && !line.starts_with("|--") {
                    columns = None;
                    continue;
                }
                let pipes = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
                assert_eq!(*columns.get_or_insert(pipes), pipes, "{attack:?}: {line}");
            }
        }
    }
}

#[test]
fn junit_stays_well_formed_and_xml_legal() {
    for attack in ATTACKS {
        let xml = junit::render(&poisoned_verdict(attack)).expect("renders");
        let cases = junit_xml::valid(&xml).into_iter().filter(|element| element.name == "testcase");
        assert_eq!(cases.count(), 6, "{attack:?}");
        let legal =
            |c: char| matches!(c, '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        assert!(xml.chars().all(legal), "{attack:?}");
    }
}

#[test]
fn terminals_get_no_control_sequence() {
    for attack in ATTACKS {
        let style = text::Style { colour: false, width: Some(120) };
        let shown =
            text::render(&poisoned_verdict(attack), style) + &board_text::render(&poisoned_board(attack), style);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{attack:?}");
        assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{2028}']), "{attack:?}");
    }
}
