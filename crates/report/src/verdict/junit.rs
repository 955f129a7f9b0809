//! A verdict as JUnit XML: one test case per metric and slice, the bound in the failure text.
//!
//! A dashboard that reads only this file must not contradict the gate's exit code. When the gate exits with 0, a case
//! that did not pass is `skipped`, with the note that it does not decide. Otherwise a primary metric that fails is a `failure` and an
//! inconclusive one an `error`; should no primary metric explain the exit code, everything that did not pass counts, and
//! with no such case at all a case named `verdict` is an error. Rules that were not judged are `skipped`.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use smpo_results::{Decision, ExitCode, Verdict};

use super::row::Row;
use super::{asides, basis, headline};
use crate::inert::short_line;
use crate::{Error, wording};

/// JUnit XML in the dialect of Jenkins, without times: the same verdict gives the same bytes.
pub fn render(verdict: &Verdict) -> Result<String, Error> {
    let name = format!("{} against {}", short_line(&verdict.candidate, 80), short_line(&verdict.baseline, 80));
    let mut suite = TestSuite::new(name.as_str());
    suite.add_property(("policy", short_line(&verdict.policy, 80).as_str()));
    suite.add_property(("policy_sha256", short_line(&verdict.policy_sha256, 64).as_str()));
    suite.add_property(("verdict", wording::decision(verdict.verdict)));
    suite.add_property(("exit_code", verdict.exit_code.to_string().as_str()));
    suite.add_property(("claim", wording::claim(verdict.claim)));
    let red = Red::of(verdict);
    for metric in &verdict.metrics {
        let row = Row::new(metric);
        let decides = match red {
            Red::Nothing => false,
            Red::Primary => metric.primary,
            Red::Everything => true,
        };
        let mut case = TestCase::new(short_line(&metric.metric, 120), status(&row, decides));
        case.set_classname(short_line(&metric.slice, 120));
        if row.decision == Decision::Pass {
            case.set_system_out(facts(&row));
        }
        suite.add_test_case(case);
    }
    for rule in &verdict.skipped {
        let mut status = TestCaseStatus::skipped();
        status.set_message(format!("not judged: {}", short_line(&rule.reason, 300)));
        let mut case = TestCase::new(short_line(&rule.metric, 120), status);
        case.set_classname(short_line(&rule.slice, 120));
        suite.add_test_case(case);
    }
    if verdict.exit_code != ExitCode::Pass && verdict.metrics.iter().all(|metric| metric.verdict == Decision::Pass) {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(headline(verdict)).set_type(wording::decision(verdict.verdict));
        suite.add_test_case(TestCase::new("verdict", status));
    }
    suite.set_system_out([vec![headline(verdict), basis(verdict)], asides(verdict)].concat().join("\n"));
    let mut report = Report::new("smpo gate");
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}

/// The cases that may be failures or errors.
#[derive(Clone, Copy)]
enum Red {
    Nothing,
    Primary,
    Everything,
}

impl Red {
    fn of(verdict: &Verdict) -> Red {
        match verdict.metrics.iter().any(|metric| metric.primary && metric.verdict != Decision::Pass) {
            _ if verdict.exit_code == ExitCode::Pass => Red::Nothing,
            true => Red::Primary,
            false => Red::Everything,
        }
    }
}

fn status(row: &Row, decides: bool) -> TestCaseStatus {
    let bound = format!("{}: {}; interval {}", wording::decision(row.decision), row.requirement, row.interval);
    let kind = match (row.decision, decides) {
        (Decision::Pass, _) => return TestCaseStatus::success(),
        (_, false) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{bound}; reported, does not decide")).set_description(facts(row));
            return status;
        }
        (Decision::Fail, true) => NonSuccessKind::Failure,
        (Decision::Inconclusive, true) => NonSuccessKind::Error,
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(bound).set_type(wording::decision(row.decision)).set_description(facts(row));
    status
}

fn facts(row: &Row) -> String {
    let mut facts = format!(
        "{}\nbaseline {}, candidate {}, difference {}, interval {}\nrequirement: {}\np {} by {}, {} prompts",
        row.reason, row.baseline, row.candidate, row.difference, row.interval, row.requirement, row.p, row.test, row.n
    );
    for more in [&row.pairs, &row.power] {
        if !more.is_empty() {
            facts.push_str(&format!("\n{more}"));
        }
    }
    facts
}
