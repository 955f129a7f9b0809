//! A verdict as JUnit XML: one test case per metric and slice, what failed first, the bound in the failure text.
//!
//! A dashboard that reads only this file must not contradict the gate's exit code. When the gate exits with 0, a case
//! that did not pass is `skipped`, with the note that it does not decide. Otherwise a primary metric that fails is a `failure` and an
//! inconclusive one an `error`; should no primary metric explain the exit code, everything that did not pass counts, and
//! with no such case at all a case named `verdict` is an error. Rules that were not judged are `skipped`.
//!
//! Elements and attributes are those of `junit-10.xsd` of Jenkins' xUnit plugin, the strictest of the readers: it refuses
//! a file with any other attribute.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use smpo_results::{Decision, ExitCode, Verdict};

use super::row::Row;
use super::{asides, basis, headline, rows};
use crate::inert::short_line;
use crate::{Error, wording};

/// A test case.
struct Case {
    name: String,
    /// The slice; none for the case of the verdict as a whole.
    class: Option<String>,
    outcome: Outcome,
    /// Text of a case that passed, or of the element that says why it did not.
    text: String,
}

enum Outcome {
    Success,
    Skipped { message: String },
    Failure { message: String },
    Error { message: String, kind: &'static str },
}

/// JUnit XML in the dialect of Jenkins, without times: the same verdict gives the same bytes.
pub fn render(verdict: &Verdict) -> Result<String, Error> {
    let cases = cases(verdict);
    let count = |kind: fn(&Outcome) -> bool| cases.iter().filter(|case| kind(&case.outcome)).count().to_string();
    let tests = cases.len().to_string();
    let failures = count(|outcome| matches!(outcome, Outcome::Failure { .. }));
    let errors = count(|outcome| matches!(outcome, Outcome::Error { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let counts = [("tests", tests.as_str()), ("failures", &failures), ("errors", &errors)];
    let name = headline(verdict);
    let system_out = [vec![name.clone(), basis(verdict)], asides(verdict)].concat().join("\n");

    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 4);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites = writer.create_element("testsuites").with_attribute(("name", "smpo gate")).with_attributes(counts);
    suites.write_inner_content(|writer| {
        let suite = writer.create_element("testsuite").with_attribute(("name", name.as_str()));
        suite.with_attributes(counts).with_attribute(("skipped", skipped.as_str())).write_inner_content(|writer| {
            properties(writer, verdict)?;
            cases.iter().try_for_each(|case| case.write(writer))?;
            writer.create_element("system-out").write_text_content(BytesText::new(&system_out)).map(drop)
        })?;
        Ok(())
    })?;
    let mut text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    text.push('\n');
    Ok(text)
}

fn properties(writer: &mut Writer<Vec<u8>>, verdict: &Verdict) -> std::io::Result<()> {
    let not_judged: Vec<String> = verdict.not_judged.iter().map(|part| short_line(&part.subject, 80)).collect();
    let properties = [
        ("baseline", short_line(&verdict.baseline, 200)),
        ("candidate", short_line(&verdict.candidate, 200)),
        ("policy", short_line(&verdict.policy, 80)),
        ("policy_sha256", short_line(&verdict.policy_sha256, 64)),
        ("verdict", wording::decision(verdict.verdict).to_owned()),
        ("exit_code", verdict.exit_code.to_string()),
        ("claim", wording::claim(verdict.claim).to_owned()),
        ("not_judged", not_judged.join(", ")),
    ];
    writer.create_element("properties").write_inner_content(|writer| {
        properties.iter().filter(|(_, value)| !value.is_empty()).try_for_each(|(name, value)| {
            let property = writer.create_element("property").with_attribute(("name", *name));
            property.with_attribute(("value", value.as_str())).write_empty().map(drop)
        })
    })?;
    Ok(())
}

fn cases(verdict: &Verdict) -> Vec<Case> {
    let red = Red::of(verdict);
    let rows = rows(verdict);
    // readers keep one case of a name: a metric with several rules has its bound in it
    let twice =
        |row: &Row| rows.iter().filter(|other| (&other.id, &other.slice_id) == (&row.id, &row.slice_id)).count() > 1;
    let judged = rows.iter().map(|row| {
        let decides = match red {
            Red::Nothing => false,
            Red::Primary => row.primary,
            Red::Everything => true,
        };
        Case {
            name: if twice(row) { format!("{} ({})", row.id, row.requirement) } else { row.id.clone() },
            class: Some(row.slice_id.clone()),
            outcome: outcome(row, decides),
            text: facts(row),
        }
    });
    let skipped = verdict.skipped.iter().map(|rule| Case {
        name: short_line(&rule.metric, 120),
        class: Some(short_line(&rule.slice, 120)),
        outcome: Outcome::Skipped { message: format!("not judged: {}", short_line(&rule.reason, 300)) },
        text: String::new(),
    });
    let mut cases: Vec<Case> = judged.chain(skipped).collect();
    if verdict.exit_code != ExitCode::Pass && verdict.metrics.iter().all(|metric| metric.verdict == Decision::Pass) {
        let outcome = Outcome::Error { message: headline(verdict), kind: wording::decision(verdict.verdict) };
        cases.insert(0, Case { name: "verdict".to_owned(), class: None, outcome, text: String::new() });
    }
    cases
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

impl Case {
    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let case = writer.create_element("testcase").with_attribute(("name", self.name.as_str()));
        let case = case.with_attributes(self.class.as_deref().map(|class| ("classname", class)));
        let (element, message, kind) = match &self.outcome {
            Outcome::Success => {
                let text = BytesText::new(&self.text);
                return case
                    .write_inner_content(|w| w.create_element("system-out").write_text_content(text).map(drop))
                    .map(drop);
            }
            Outcome::Skipped { message } => ("skipped", message, None),
            Outcome::Failure { message } => ("failure", message, Some("fail")),
            Outcome::Error { message, kind } => ("error", message, Some(*kind)),
        };
        case.write_inner_content(|writer| {
            let element = writer.create_element(element).with_attribute(("message", message.as_str()));
            let element = element.with_attributes(kind.map(|kind| ("type", kind)));
            if self.text.is_empty() {
                return element.write_empty().map(drop);
            }
            element.write_text_content(BytesText::new(&self.text)).map(drop)
        })?;
        Ok(())
    }
}

fn outcome(row: &Row, decides: bool) -> Outcome {
    let message = format!("{}: {}", wording::decision(row.decision), row.reason);
    match (row.decision, decides) {
        (Decision::Pass, _) => Outcome::Success,
        (_, false) => Outcome::Skipped { message: format!("{message}; reported, does not decide") },
        (Decision::Fail, true) => Outcome::Failure { message },
        (Decision::Inconclusive, true) => Outcome::Error { message, kind: wording::decision(row.decision) },
    }
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
