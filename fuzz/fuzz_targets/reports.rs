//! Leaderboards and verdicts of any content, in every format: HTML stays inert, XML well formed, Markdown within its cells.

#![no_main]

use smpo_fuzz::target;
use smpo_report::leaderboard::{html, json, markdown as board_markdown, text as board_text};
use smpo_report::verdict::{junit, markdown, text};
use smpo_results::{Leaderboard, Verdict};

const STYLE: text::Style = text::Style { colour: false, width: Some(100) };

/// The page without what is trusted: its own style and script.
fn check_page(page: &str) {
    let untrusted = page.replace(html::STYLE, "").replace(html::SCRIPT, "");
    let count = |part: &str| untrusted.matches(part).count();
    // One with the data.
    assert_eq!(count("<script"), 2, "scripts");
    assert_eq!(count("</script"), 2, "ends of scripts");
    assert_eq!(count("<style"), 1, "styles");
    assert_eq!(count("<link"), 1, "links");
    for tag in ["<img", "<iframe", "<object", "<embed", "<form", "<base", "<textarea", "<!--"] {
        assert_eq!(count(tag), 0, "{tag}");
    }
    let lower = untrusted.to_ascii_lowercase();
    assert!(!lower.contains("href=\"javascript"));
    check_characters(&untrusted);
}

/// No control character, nothing that turns the direction of text.
fn check_characters(text: &str) {
    let bad = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert_eq!(text.chars().find(|&c| bad(c)), None);
}

/// Rows of a table keep its columns.
fn check_markdown(text: &str) {
    check_characters(text);
    let mut columns = None;
    for line in text.lines() {
        if !line.starts_with("| ") && !line.starts_with("|--") {
            columns = None;
            continue;
        }
        let pipes = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        assert_eq!(*columns.get_or_insert(pipes), pipes, "{line}");
    }
}

/// Well formed, every attribute once, one root.
fn check_xml(xml: &str) {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut open = 0;
    loop {
        match reader.read_event().expect("well formed") {
            quick_xml::events::Event::Start(start) => {
                start.attributes().for_each(|attribute| drop(attribute.expect("well formed, each once")));
                open += 1;
            }
            quick_xml::events::Event::End(_) => open -= 1,
            quick_xml::events::Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open, 0);
    let legal = |c: char| matches!(c, '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.chars().all(legal));
}

fn verdict(verdict: &Verdict) {
    check_markdown(&markdown::render(verdict));
    check_characters(&text::render(verdict, STYLE));
    if let Ok(xml) = junit::render(verdict) {
        check_xml(&xml);
    }
}

target!(data, {
    if let Ok(board) = serde_json::from_slice::<Leaderboard>(data) {
        if let Ok(page) = html::render(&board) {
            check_page(&page);
        }
        check_markdown(&board_markdown::render(&board));
        check_characters(&board_text::render(&board, STYLE));
        let _ = json::render(&board);
        board.verdicts.iter().for_each(verdict);
    } else if let Ok(found) = serde_json::from_slice::<Verdict>(data) {
        verdict(&found);
    }
});
