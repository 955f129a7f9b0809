//! The leaderboard as text, Markdown and JSON.

use crate::fixture;
use smpo_report::leaderboard::{json, markdown, text};
use smpo_report::verdict::text::Style;

#[test]
fn markdown_of_five_arms() {
    insta::assert_snapshot!(markdown::render(&fixture::leaderboard()));
}

#[test]
fn text_of_five_arms() {
    let shown = text::render(&fixture::leaderboard(), Style::default());
    assert!(!shown.contains('\u{1b}'));
    insta::assert_snapshot!(shown);
}

#[test]
fn json_reads_back_as_it_was() {
    let board = fixture::leaderboard();
    let text = json::render(&board).expect("renders");
    assert_eq!(serde_json::from_str::<smpo_results::Leaderboard>(&text).expect("reads"), board);
    let outline: serde_json::Value = serde_json::from_str(&text).expect("reads");
    let entry = &outline["boards"][0]["entries"][4];
    insta::assert_json_snapshot!(serde_json::json!({
        "keys": outline.as_object().expect("an object").keys().collect::<Vec<_>>(),
        "entry_keys": entry.as_object().expect("an object").keys().collect::<Vec<_>>(),
        "first_metric": entry["metrics"][0],
        "first_comparison": entry["comparisons"][0],
        "first_worst": entry["worst"][0],
        "verdict": outline["verdicts"][0]["verdict"],
    }));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (one, two) = (fixture::leaderboard(), fixture::leaderboard());
    assert_eq!(markdown::render(&one), markdown::render(&two));
    assert_eq!(json::render(&one).expect("renders"), json::render(&two).expect("renders"));
}

#[test]
fn a_board_with_nothing_on_it_says_so() {
    let mut board = fixture::leaderboard();
    board.boards[0].entries.clear();
    board.boards[0].metrics.clear();
    board.verdicts.clear();
    let text = markdown::render(&board);
    assert!(text.contains("No model on this board."), "{text}");
    assert!(!text.contains('|'), "{text}");
}
