//! The page in a real browser. Needs chromium and chromedriver:
//!
//! ```text
//! cargo test --release -p smpo-report --test report -- --ignored browser
//! ```
//!
//! `$CHROMIUM` and `$CHROMEDRIVER` name other programs; `$SMPO_SHOTS` a directory for screenshots.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use smpo_report::leaderboard::html;
use smpo_results::Leaderboard;

use crate::webdriver::Browser;
use crate::{fixture, hostile};

const DOWN: &str = "\u{e015}";
const END: &str = "\u{e010}";
const ENTER: &str = "\u{e007}";
const LEFT_ARROW: &str = "\u{e012}";

/// A directory as `smpo leaderboard` writes it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        Site { dir: tempfile::tempdir().expect("a directory") }
    }
    fn write(&self, board: &Leaderboard) -> PathBuf {
        let file = self.dir.path().join("index.html");
        fs::write(&file, html::render(board).expect("renders")).expect("writes");
        file
    }
}

fn open(browser: &Browser, site: &Site, board: &Leaderboard) {
    let file = site.write(board);
    browser.open(&file);
    browser.wait("return document.readyState === 'complete' && !!document.querySelector('.forest svg, .note')");
}

/// Nothing on the console, nothing asked of the network but the page itself.
fn silent(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<String>::new());
    let foreign: Vec<String> = browser
        .requests()
        .into_iter()
        .filter(|url| !(url.starts_with("file://") && url.contains("index.html")) && url != "data:,")
        .collect();
    assert_eq!(foreign, Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_sorts_filters_and_slices() {
    let (browser, site) = (Browser::start(), Site::new());
    open(&browser, &site, &fixture::leaderboard());
    browser.shot("wide-light");
    let first = "return document.querySelector('.models tbody tr:not([hidden]) .name').textContent";
    let sorted = "return document.querySelector('.models th[data-key=\"1\"]').getAttribute('aria-sort')";

    assert_eq!(browser.run(first), "smpo-modified");
    browser.click(".models th[data-key='1'] button");
    assert_eq!(browser.run(sorted), "ascending", "fewer loops are better, so they come first");
    assert_eq!(browser.run(first), "smpo-modified");
    browser.keys(".models th[data-key='1'] button", ENTER);
    assert_eq!(browser.run(sorted), "descending");
    assert_eq!(browser.run(first), "smpo-regular");
    assert_eq!(browser.run("return document.querySelectorAll('[aria-sort]').length"), 1);

    browser.keys(".filter", "DPO");
    assert_eq!(browser.run(first), "dpo");
    assert_eq!(browser.run("return document.querySelectorAll('.models tbody tr:not([hidden])').length"), 1);
    assert_eq!(browser.run("return document.querySelector('.status').textContent"), "1 of 5 models");

    let value =
        "return document.querySelector('.models tr:not([hidden]) td.primary:nth-of-type(3) .value').textContent";
    let before = browser.run(value);
    browser.run("const s = document.querySelector('.slice'); s.value = '3'; s.dispatchEvent(new Event('change'))");
    assert_ne!(browser.run(value), before, "another slice, another value");

    assert_eq!(browser.run("return document.querySelector('td.extra').offsetWidth"), 0);
    browser.click(".more");
    assert!(browser.run("return document.querySelector('tr:not([hidden]) td.extra').offsetWidth").as_f64() > Some(0.0));
    silent(&browser);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_links_the_charts_and_keeps_to_its_width() {
    let (browser, site) = (Browser::start(), Site::new());
    open(&browser, &site, &fixture::leaderboard());
    assert_eq!(browser.run("return document.querySelectorAll('.forest .mark').length"), 4);
    assert_eq!(browser.run("return document.querySelectorAll('.forest .limit').length"), 1);
    assert_eq!(browser.run("return document.querySelectorAll('.survival .curve').length"), 5);
    assert_eq!(browser.run("return document.querySelectorAll('.hazard .curve').length"), 5);
    assert_eq!(browser.run("return document.querySelectorAll('.scatter .mark').length"), 5);
    let chosen = "return Array.from(document.querySelectorAll('.label.chosen'), (l) => l.textContent).join()";
    browser.click(".models tbody tr[data-entry='3']");
    assert_eq!(browser.run(chosen), "dpo,dpo,dpo,dpo", "one model, highlighted in every chart");

    browser.run("const s = document.querySelector('.highlight'); s.value = '0'; s.dispatchEvent(new Event('change'))");
    assert_eq!(browser.run("return document.querySelector('.models tr.chosen .name').textContent"), "smpo-modified");
    browser
        .run("const s = document.querySelector('.forest-metric'); s.value = '0'; s.dispatchEvent(new Event('change'))");
    assert!(
        browser
            .run("return document.querySelector('.forest').getAttribute('aria-label')")
            .to_string()
            .contains("EOS rate")
    );

    browser.run("document.querySelector('.heat td[tabindex=\"0\"]').focus()");
    browser.keys(".heat td[tabindex='0']", DOWN);
    let readout =
        browser.run("return document.querySelector('.heat').parentElement.querySelector('.readout').textContent");
    assert!(readout.to_string().contains("sft on all prompts"), "{readout}");
    browser.keys(".heat td[tabindex='0']", LEFT_ARROW);

    let paper = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.run(paper);
    browser.click("#theme");
    assert_ne!(browser.run(paper), light);
    browser.shot("wide-dark");

    for width in [390, 768, 1400] {
        browser.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser.wait(&format!("return document.querySelector('.forest svg').getBoundingClientRect().width < {width}"));
        let overflow =
            browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(overflow, 0, "at {width}");
        browser.shot(&format!("width-{width}"));
    }
    silent(&browser);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_reads_the_worst_completions() {
    let (browser, site) = (Browser::start(), Site::new());
    open(&browser, &site, &fixture::leaderboard());
    let opened = "return document.querySelector('.arm.chosen strong').textContent";
    let selected = "return document.querySelector('.sample-list [aria-selected=true]').textContent";
    assert_eq!(browser.run(opened), "smpo-regular");
    assert!(browser.run("return document.querySelectorAll('.arm.chosen .period').length").as_f64() > Some(3.0));
    assert_eq!(
        browser.run(
            "return Array.from(document.querySelectorAll('.arm strong'), (a) => a.textContent).slice(0, 2).join()"
        ),
        "smpo-regular,sft",
        "the baseline stands beside it"
    );
    let before = browser.run(selected);
    browser.keys(".sample-list", DOWN);
    assert_ne!(browser.run(selected), before);
    browser.keys(".sample-list", END);
    assert_eq!(
        browser.run("return document.querySelector('.sample-list').lastElementChild.getAttribute('aria-selected')"),
        "true"
    );

    browser.keys(".sample-search", "سيدني");
    assert_eq!(browser.run("return getComputedStyle(document.querySelector('.arm.chosen .prose')).direction"), "rtl");
    assert_eq!(browser.run("return getComputedStyle(document.querySelector('.message .prose')).direction"), "rtl");
    browser.run("document.querySelector('.browser').scrollIntoView()");
    browser.shot("right-to-left");

    let search = "const s = document.querySelector('.sample-search'); s.value = 'tom & jerry'; s.dispatchEvent(new Event('input'))";
    browser.run(search);
    let text = browser.run("return document.querySelector('.reader').textContent").to_string();
    assert!(text.contains("</script><script>window.pwned = 1</script>"), "{text}");
    assert!(text.contains("\\\\ud800"), "a spelled surrogate stays spelled");
    let marks =
        browser.run("return Array.from(document.querySelectorAll('.reader .control'), (c) => c.textContent).join(' ')");
    for mark in ["␀", "␛", "RLO", "PDF", "LRI", "LS", "BOM", "\u{fffd}"] {
        assert!(marks.as_str().expect("text").contains(mark), "{mark} in {marks}");
    }
    assert_eq!(browser.run("return document.querySelectorAll('.reader img, .reader script, .reader svg').length"), 0);
    browser.run("document.querySelector('.browser').scrollIntoView()");
    browser.shot("hostile");

    browser.run("const s = document.querySelector('.sample-search'); s.value = 'no such text'; s.dispatchEvent(new Event('input'))");
    assert_eq!(browser.run("return document.querySelector('.reader').textContent"), "");
    assert_eq!(browser.run("return String(window.pwned)"), "undefined");
    silent(&browser);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_opens_a_changed_prompt_and_prints_every_board() {
    let (browser, site) = (Browser::start(), Site::new());
    let mut board = fixture::leaderboard();
    board.boards.push(board.boards[0].clone());
    open(&browser, &site, &board);
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true })");
    let listed = "return document.querySelectorAll('.changes li').length";
    assert_eq!(browser.run(listed), 4, "two prompts of two primary shares");
    assert_eq!(
        browser.run("return document.querySelectorAll('.changes .link').length"),
        2,
        "one of them is on the page"
    );
    browser.run("document.querySelector('.changes .link').click()");
    assert_eq!(
        browser.run("return document.querySelector('.reader-head code').textContent === document.querySelector('.changes .link').textContent"),
        true
    );

    let drawn = "return Array.from(document.querySelectorAll('.board'), (b) => !b.hidden && !!b.querySelector('.forest svg')).join()";
    assert_eq!(browser.run(drawn), "true,false");
    browser.run("dispatchEvent(new Event('beforeprint'))");
    assert_eq!(browser.run(drawn), "true,true");
    assert!(browser.run("return document.querySelectorAll('.paper').length").as_f64() > Some(1.0));
    browser.run("dispatchEvent(new Event('afterprint'))");
    assert_eq!(browser.run(drawn), "true,false");
    assert_eq!(browser.run("return document.querySelectorAll('.paper').length"), 0);
    silent(&browser);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_links_to_what_is_shown_and_copies_the_table() {
    let (browser, site) = (Browser::start(), Site::new());
    let mut board = fixture::leaderboard();
    board.boards.push(board.boards[0].clone());
    open(&browser, &site, &board);
    // A completion, chosen in the second board, is what the address says.
    browser.click("#tab-1");
    assert_eq!(browser.run("return location.hash"), "#board-1");
    browser.run("document.querySelectorAll('#board-1 [role=option]')[1].click()");
    let shown = "const b = document.querySelector('#board-1'); return [b.hidden, b.querySelector('.highlight').value, \
                 b.querySelector('.reader-head code').textContent, b.querySelector('[aria-selected=true]').id].join()";
    let (before, address) = (browser.run(shown), browser.run("return location.hash"));
    assert_eq!(browser.run("return document.querySelector('#board-1 .reader-head a').hash"), address);
    browser.run("location.hash = '#board-0'");
    browser.wait("return document.querySelector('#board-1').hidden");
    browser.run(&format!("location.hash = {address}"));
    browser.wait("return !document.querySelector('#board-1').hidden");
    assert_eq!(browser.run(shown), before);
    // A link that names nothing here changes nothing.
    browser.run("location.hash = '#board-1&model=%ff&slice=nowhere&prompt=none'");
    assert_eq!(browser.run(shown), before);
    // The table is copied as it is shown: rows, columns, order.
    browser.run("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }");
    browser.keys("#board-1 .filter", "smpo");
    browser.click("#board-1 .copy");
    browser.wait("return document.querySelector('#board-1 .status').textContent.includes('Markdown')");
    let copied = browser.run("return window.copied");
    let lines: Vec<&str> = copied.as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines[0].starts_with("| Rank | Model | EOS rate |") && lines[2].contains("| smpo-modified |"),
        "{lines:#?}"
    );
    silent(&browser);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_runs_nothing_hostile() {
    let (browser, site) = (Browser::start(), Site::new());
    for attack in hostile::ATTACKS {
        open(&browser, &site, &hostile::poisoned_board(attack));
        browser.run("for (const e of document.querySelectorAll('.board *')) e.dispatchEvent(new Event('mouseover'))");
        browser.run("for (const e of document.querySelectorAll('.models tbody tr, [role=option]')) e.click()");
        assert_eq!(browser.run("return String(window.pwned)"), "undefined", "{attack:?}");
        assert_eq!(
            browser.run("return document.querySelectorAll('main img, main script, main style, main iframe').length"),
            0
        );
        silent(&browser);
    }
    // and if markup slipped through one day, the page's policy would still stop it
    browser
        .run("const s = document.createElement('script'); s.textContent = 'window.pwned = 9'; document.body.append(s)");
    browser.run("const d = document.createElement('div'); d.innerHTML = '<img src=x onerror=\"window.pwned = 9\">'; document.body.append(d)");
    assert_eq!(browser.run("return String(window.pwned)"), "undefined");
    assert!(browser.console().iter().any(|line| line.contains("Content Security Policy")));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn browser_switches_boards_and_carries_two_hundred_models() {
    let (browser, site) = (Browser::start(), Site::new());
    let mut board = fixture::leaderboard();
    board.boards.push(board.boards[0].clone());
    board.boards[1].title = "another suite".into();
    open(&browser, &site, &board);
    assert_eq!(browser.run("return document.querySelector('#board-1').hidden"), true);
    browser.click("#tab-1");
    assert_eq!(browser.run("return document.querySelector('#board-0').hidden"), true);
    browser.wait("return !!document.querySelector('#board-1 .forest svg')");
    browser.keys("#tab-1", LEFT_ARROW);
    assert_eq!(browser.run("return document.querySelector('#board-0').hidden"), false);
    assert_eq!(browser.run("return document.activeElement.id"), "tab-0");

    open(&browser, &site, &fixture::two_hundred_models());
    assert_eq!(browser.run("return document.querySelectorAll('.models tbody tr').length"), 200);
    browser.keys(".filter", "model-19");
    assert_eq!(browser.run("return document.querySelectorAll('.models tbody tr:not([hidden])').length"), 10);
    let overflow = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(overflow, 0);
    browser.shot("two-hundred");
    silent(&browser);
}
