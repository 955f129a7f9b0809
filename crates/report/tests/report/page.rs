//! The leaderboard page.

use crate::fixture;
use smpo_report::leaderboard::html;

/// The page without its style and script, which have their own history.
fn bones(page: &str) -> String {
    let policy_end = page.find("img-src").expect("a policy");
    let policy_start = page.find("default-src").expect("a policy");
    page.replace(html::STYLE, "/* leaderboard.css */")
        .replace(html::SCRIPT, "/* leaderboard.js */")
        .replace(&page[policy_start..policy_end], "default-src 'none'; script-src 'sha256-…'; style-src 'sha256-…'; ")
}

#[test]
fn the_page_of_five_arms() {
    let page = html::render(&fixture::leaderboard()).expect("renders");
    insta::assert_snapshot!(bones(&page));
}

#[test]
fn many_verdicts_are_folded_and_failures_come_first() {
    let mut board = fixture::leaderboard();
    let few = html::render(&board).expect("renders");
    assert!(!few.contains("class=\"further\""));
    let [passed, failed] = [fixture::verdict(0), fixture::verdict(4)].map(|one| (one.verdict, one));
    assert_ne!(passed.0, failed.0, "one of each");
    board.verdicts = vec![passed.1; 20];
    board.verdicts.push(failed.1);
    let page = html::render(&board).expect("renders");
    let (open, folded) = page.split_once("<details class=\"further\">").expect("folded");
    let cards = |text: &str| text.matches("<details class=\"verdict ").count();
    assert_eq!((cards(open), cards(folded)), (4, 17));
    let word = |text: &str| text.split_once("<details class=\"verdict ").expect("a card").1[..4].to_owned();
    assert_eq!((word(open), word(folded)), ("fail".to_owned(), "pass".to_owned()));
    assert!(folded.contains("<summary>17 more verdicts: 17 pass</summary>"));
    assert_eq!(page.matches("<details").count(), page.matches("</details>").count());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let one = html::render(&fixture::leaderboard()).expect("renders");
    assert_eq!(one, html::render(&fixture::leaderboard()).expect("renders"));
}

#[test]
fn the_page_allows_only_itself() {
    let page = html::render(&fixture::leaderboard()).expect("renders");
    assert!(page.contains("default-src &#39;none&#39;; script-src &#39;sha256-"));
    assert!(!page.contains("unsafe-inline"));
    for address in ["src=\"", "href=\"http", "href=\"//", "<iframe", "<object", "<base"] {
        assert!(!bones(&page).contains(address), "{address}");
    }
    assert!(!html::STYLE.contains("@import") && !html::STYLE.contains("url("));
    // the only address in the script is the SVG namespace; it fetches nothing
    assert_eq!(html::SCRIPT.matches("http").count(), 1);
    for way in ["fetch(", "XMLHttpRequest", "WebSocket", "innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!html::SCRIPT.contains(way), "{way}");
    }
    assert!(!html::SCRIPT.contains("</script") && !html::STYLE.contains("</style"));
}

#[test]
fn two_hundred_models_over_805_prompts_stay_below_five_megabytes() {
    let board = fixture::two_hundred_models();
    let page = html::render(&board).expect("renders");
    assert!(page.len() < 5_000_000, "{}", page.len());
    assert!(page.len() > 2_000_000, "the room that is left is used: {}", page.len());
    assert!(page.contains("\"left_out\":"));
}

#[test]
fn odd_boards_render() {
    let mut empty = fixture::leaderboard();
    empty.boards[0].entries.clear();
    assert!(html::render(&empty).expect("renders").contains("No model on this board."));
    empty.boards.clear();
    empty.verdicts.clear();
    html::render(&empty).expect("renders");

    let mut bare = fixture::leaderboard();
    for entry in &mut bare.boards[0].entries {
        entry.metrics.retain(|m| m.metric == "loop_rate");
        entry.comparisons.clear();
        entry.survival.clear();
        entry.hazard.clear();
        entry.worst.clear();
        entry.provenance.clear();
        for m in &mut entry.metrics {
            m.ci_low = f64::NAN;
            m.ci_high = f64::NAN;
        }
    }
    bare.boards[0].baseline = None;
    let page = html::render(&bare).expect("renders");
    assert!(page.contains("these completions do not say how they ended"));
    assert!(!page.contains("NaN"));
}
