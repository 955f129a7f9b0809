//! A verdict in its three formats.

use crate::fixture;
use smpo_report::verdict::{junit, markdown, text};
use smpo_results::{Decision, ExitCode, Verdict};

const PLAIN: text::Style = text::Style { colour: false, width: None };

fn failing() -> Verdict {
    fixture::verdict(4)
}

#[test]
fn text_on_a_pipe() {
    insta::assert_snapshot!(text::render(&failing(), PLAIN));
}

#[test]
fn text_on_a_narrow_terminal() {
    for width in [80, 90, 100, 110, 120] {
        let shown = text::render(&failing(), text::Style { colour: false, width: Some(width) });
        let table: Vec<&str> = shown.lines().filter(|line| line.starts_with(['─', ' '])).collect();
        assert!(table.len() > 5);
        assert!(table.iter().all(|line| line.chars().count() <= usize::from(width)), "{shown}");
        if width == 80 {
            insta::assert_snapshot!(shown);
        }
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let coloured = text::render(&failing(), text::Style { colour: true, width: None });
    assert!(coloured.contains("\u{1b}[1;31m✗ FAIL\u{1b}[0m"));
    assert!(!text::render(&failing(), PLAIN).contains('\u{1b}'));
}

#[test]
fn markdown_for_a_step_summary() {
    insta::assert_snapshot!(markdown::render(&failing()));
}

#[test]
fn junit_for_a_dashboard() {
    insta::assert_snapshot!(junit::render(&failing()).expect("renders"));
}

#[test]
fn inconclusive_in_every_format() {
    let verdict = inconclusive();
    insta::assert_snapshot!("inconclusive_text", text::render(&verdict, PLAIN));
    insta::assert_snapshot!("inconclusive_markdown", markdown::render(&verdict));
    insta::assert_snapshot!("inconclusive_junit", junit::render(&verdict).expect("renders"));
}

fn inconclusive() -> Verdict {
    let mut verdict = fixture::verdict(0);
    verdict.metrics[0].verdict = Decision::Inconclusive;
    verdict.metrics[0].reason = "the interval holds both the margin and no harm".into();
    verdict.metrics[0].n_needed = Some(1240);
    verdict.verdict = Decision::Inconclusive;
    verdict.exit_code = ExitCode::Inconclusive;
    verdict
}

/// Failures and errors, as JUnit's readers count them.
fn counts(verdict: &Verdict) -> (usize, usize) {
    let xml = junit::render(verdict).expect("renders");
    let report = quick_junit::Report::deserialize_from_str(&xml).expect("well-formed, as the schema has it");
    let suite = &report.test_suites[0];
    (suite.failures, suite.errors)
}

#[test]
fn junit_never_contradicts_the_exit_code() {
    assert_eq!(counts(&failing()).0, 2, "two primary metrics fail");
    assert_eq!(counts(&inconclusive()).1, 1, "an undecided primary metric is an error");

    let mut let_through = inconclusive();
    let_through.exit_code = ExitCode::Pass;
    let (failures, errors) = counts(&let_through);
    assert_eq!((failures, errors), (0, 0), "exit 0 is green");

    let mut nothing = inconclusive();
    nothing.metrics.clear();
    assert_eq!(counts(&nothing).1, 1, "a gate that judged nothing is red");

    let mut secondary = failing();
    secondary.metrics.retain(|metric| !metric.primary);
    secondary.metrics[0].verdict = Decision::Fail;
    assert!(counts(&secondary).0 >= 1, "whatever made the gate fail shows");
}

#[test]
fn a_thousand_rows_stay_far_below_a_mebibyte() {
    let mut verdict = failing();
    let row = verdict.metrics[0].clone();
    verdict.metrics = (0..5000)
        .map(|index| smpo_results::MetricVerdict {
            metric: format!("metric_{index}_{}", "long ".repeat(50)),
            reason: "because ".repeat(500),
            primary: index % 2 == 0,
            ..row.clone()
        })
        .collect();
    verdict.notes = vec!["note ".repeat(1000); 500];
    let shown = markdown::render(&verdict);
    assert!(shown.len() < 512 * 1024, "{}", shown.len());
    assert!(shown.contains("more in `verdict.json`"));
    assert_eq!(shown.matches("<details>").count(), shown.matches("</details>").count());
}
