//! `smpo watch`: the trainer's alarms on figures of any trainer.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use smpo_chat::json_kind;
use smpo_data::{non_finite, with_non_finite};
use smpo_files::{FileError, line_at};
use smpo_trainer::alarm::{Alarm, AlarmKind, Alarms};
use smpo_trainer::config::AlarmConfig;
use smpo_trainer::{Figure, RunDir, StepRecord};

use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::output::{self, Format};
use crate::streams;

/// Raise the alarms of `smpo train` on the figures of any trainer, a JSON object a step.
#[derive(clap::Args)]
#[command(after_help = "Figures that are looked at (nats per token, shares from 0 to 1): logps/chosen, logps/rejected,
eos_logp/rejected, clip/share_rejected, rewards/accuracies, logps/accuracies_without_eos, probe/eos_rate. Of others only
whether they are finite. Exit codes: 0 no alarm, 1 an alarm, 2 a line that is no step, or a file without any of these figures.

Examples:
  smpo watch runs/dpo/metrics.jsonl
  smpo watch - --set window=3 --format json")]
pub struct WatchArgs {
    /// Metrics, one JSON object with `step` a line, or a run directory; - is standard input, which is read as it comes
    #[arg(value_name = "FILE", value_parser = streams::input())]
    figures: PathBuf,
    /// Bound of an alarm, as in `[alarms]` of a configuration; repeatable: `--set window=3 --set logps_fall=1`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Output format; JSON is one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// An alarm as JSON.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    step: u64,
    kind: AlarmKind,
    what: &'a str,
    remedy: &'a str,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Maximum bytes of a line: a step has some dozens of figures.
const LONGEST: u64 = 1 << 20;

/// Runs the command.
pub fn run(args: WatchArgs) -> Outcome {
    let rules = rules(&args.set)?;
    let path = match args.figures.is_dir() {
        true => RunDir::new(&args.figures).metrics(),
        false => args.figures,
    };
    let mut reader = BufReader::new(std::fs::File::open(&path).map_err(FileError::at(&path, "read"))?);
    let (mut alarms, mut raised, mut watched) = (Alarms::default(), false, false);
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).or_execution_error()?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let step = Step::read(&line).map_err(|problem| format!("{}:{number}: {problem}", path.display()));
        let Step { record, not_finite } = step.or_user_error()?;
        watched |= Alarms::FIGURES.iter().any(|name| record.metric(name).is_some());
        let what = not_finite.map(|name| format!("`{name}` is not finite"));
        let broken = what.and_then(|what| alarms.not_finite(&rules, record.step, &what));
        // Another trainer may not skip such a step.
        let remedy = "lower learning_rate, or look at the data of this step";
        let broken = broken.map(|alarm| Alarm { remedy, ..alarm });
        for alarm in alarms.observe(&rules, &record).into_iter().chain(broken) {
            raised = true;
            show(&alarm, args.format)?;
        }
    }
    match raised {
        true => Ok(Exit::Fail),
        false if watched => Ok(Exit::Success),
        false => nothing_watched(&path),
    }
}

/// Of a file without any figure that is watched: an error; of standard input, which may have ended early, a note.
fn nothing_watched(path: &Path) -> Outcome {
    let problem = format!("{}: no line has a figure that is watched: {}", path.display(), Alarms::FIGURES.join(", "));
    match streams::is_input(path) {
        true => output::note(&problem),
        false => return Err(Failure::user(problem)),
    }
    Ok(Exit::Success)
}

fn show(alarm: &Alarm, format: Format) -> Result<(), Failure> {
    let Alarm { kind, step, what, remedy } = alarm;
    match format {
        Format::Text => output::print(&format!("alarm at step {step}: {what}; {remedy}")),
        Format::Json => {
            let line = Line { schema: SCHEMA, step: *step, kind: *kind, what, remedy };
            output::print(&serde_json::to_string(&line).or_execution_error()?)
        }
    }
}

/// The bounds, with what `--set` gives.
fn rules(set: &[String]) -> Result<AlarmConfig, Failure> {
    let text = set.join("\n");
    let rules: AlarmConfig = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(&text, span.start));
        let given = set.get(line.saturating_sub(1)).map_or("", String::as_str);
        Failure::user(format!("--set {given}: {}", smpo_suggest::in_words(error.message())))
    })?;
    let problems = rules.problems();
    match problems.is_empty() {
        true => Ok(rules),
        false => Err(Failure::user(format!("--set: {}", problems.join("; ")))),
    }
}

/// A line.
struct Step {
    record: StepRecord,
    /// The first figure that is `NaN` or `Infinity`, as Python's json writes them.
    not_finite: Option<String>,
}

impl Step {
    fn read(line: &[u8]) -> Result<Self, String> {
        let expected = "expected a JSON object with the number `step`";
        let text = String::from_utf8_lossy(line);
        let strict = serde_json::from_str(&text);
        let value =
            strict.or_else(|error| with_non_finite(&text).map_or(Err(error), |text| serde_json::from_str(&text)));
        let value = value.map_err(|error| format!("{expected}: {}", smpo_suggest::of_one_line(&error.to_string())))?;
        let Value::Object(fields) = value else { return Err(format!("{expected}, got {}", json_kind(&value))) };
        let step = fields.get("step").and_then(Value::as_f64).filter(|step| *step >= 0.0 && step.fract() == 0.0);
        let got = fields.get("step").unwrap_or(&Value::Null);
        let got = || non_finite(got).map_or_else(|| got.to_string(), str::to_owned);
        let step = step.ok_or_else(|| format!("{expected}, got {}", got()))?;
        let not_finite = fields.iter().find(|(_, value)| non_finite(value).is_some()).map(|(name, _)| name.clone());
        let figure = |(name, value): (String, Value)| Some((name.into(), value.as_f64()?)) as Option<Figure>;
        let metrics = fields.into_iter().filter_map(figure).collect();
        Ok(Self { record: StepRecord { step: step as u64, epoch: 0.0, metrics, update: None }, not_finite })
    }
}
