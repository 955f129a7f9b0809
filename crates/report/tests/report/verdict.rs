//! A verdict in its three formats.

use crate::{fixture, junit_xml};
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
    let elements = junit_xml::valid(&xml);
    let suite = elements.iter().find(|element| element.name == "testsuite").expect("a suite");
    let said = |attribute: &str| suite.get(attribute).expect("a count").parse().expect("a number");
    let counted = |name: &str| elements.iter().filter(|element| element.name == name).count();
    let counts = (counted("failure"), counted("error"));
    assert_eq!(counts, (said("failures"), said("errors")), "the counts are those of the cases");
    assert_eq!((counted("testcase"), counted("skipped")), (said("tests"), said("skipped")));
    counts
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

/// 1,200 rules: what failed stands before what is undecided, and is never cut in its favour.
#[test]
fn failures_come_first_and_are_not_cut_for_others() {
    let mut verdict = failing();
    let row = verdict.metrics[0].clone();
    verdict.metrics = (0..1200)
        .map(|index| {
            let decision = if index % 12 == 11 { Decision::Fail } else { Decision::Inconclusive };
            smpo_results::MetricVerdict {
                metric: format!("metric_{index}"),
                verdict: decision,
                reason: format!("finding {index} {}", "of some length ".repeat(20)),
                ..row.clone()
            }
        })
        .collect();
    let failed: Vec<usize> = (0..1200).filter(|index| index % 12 == 11).collect();
    let shown = markdown::render(&verdict);
    let place = |document: &str, needle: &str| document.find(needle).unwrap_or_else(|| panic!("{needle} is missing"));
    let last = failed.iter().map(|index| place(&shown, &format!("finding {index} "))).max().expect("some");
    assert!(last < place(&shown, "❔ inconclusive"), "findings of failures come before the first undecided row");
    assert!(shown.contains("more in `verdict.json`"), "others are cut");

    let terminal = text::render(&verdict, PLAIN);
    let xml = junit::render(&verdict).expect("renders");
    junit_xml::valid(&xml);
    for document in [&terminal, &xml] {
        let last = failed.iter().map(|index| place(document, &format!("finding {index} "))).max().expect("some");
        assert!(last < place(document, "finding 0 "), "an undecided one comes later");
    }
}

#[test]
fn every_report_says_in_its_headline_what_was_not_judged() {
    let verdict = fixture::verdict(0);
    for shown in [text::render(&verdict, PLAIN), markdown::render(&verdict)] {
        let first = shown.lines().next().expect("a line");
        assert!(first.contains("3 of 4 primary metrics pass; not judged: Gold EOS rank"), "{first}");
    }
    let xml = junit::render(&verdict).expect("renders");
    let suite = junit_xml::valid(&xml).into_iter().find(|element| element.name == "testsuite").expect("a suite");
    assert!(suite.get("name").expect("a name").ends_with("; not judged: Gold EOS rank"));
}

#[test]
fn arms_have_their_roles_and_names_that_differ() {
    let mut verdict = failing();
    verdict.baseline = "suzume-llama-3-8b-multilingual-orpo-borda-half".into();
    verdict.candidate = "suzume-llama-3-8B-multilingual-orpo-borda-half".into();
    let shown = text::render(&verdict, PLAIN);
    assert!(shown.contains(&format!("baseline   {}\ncandidate  {}\n", verdict.baseline, verdict.candidate)), "{shown}");
    assert!(markdown::render(&verdict).lines().next().expect("a line").contains("multilingual-orpo-borda-half"));
    let huge = |last: char| format!("{}{last}", "model-".repeat(100));
    (verdict.baseline, verdict.candidate) = (huge('a'), huge('b'));
    let name = markdown::render(&verdict).lines().next().expect("a line").to_owned();
    assert!(name.contains("-a on ood-mixed: ") && name.contains("-b against"), "{name}");
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
