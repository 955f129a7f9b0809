//! `smpo watch`: the trainer's alarms on figures of any trainer.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};
use smpo_files::FileError;
use smpo_trainer::alarm::{Alarm, AlarmKind, Alarms};
use smpo_trainer::config::AlarmConfig;
use smpo_trainer::{Figure, StepRecord};

use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::output::{self, Format};

/// Raise the alarms of `smpo train` on the figures of any trainer, a JSON object a step.
#[derive(clap::Args)]
#[command(after_help = "Figures that are looked at (nats per token, shares from 0 to 1): logps/chosen, logps/rejected,
eos_logp/rejected, clip/share_rejected, rewards/accuracies, logps/accuracies_without_eos, probe/eos_rate. Others are
ignored. Exit codes: 0 no alarm, 1 an alarm, 2 a line that is no step.

Examples:
  smpo watch runs/dpo/metrics.jsonl
  smpo watch - --set window=3 --format json")]
pub struct WatchArgs {
    /// Metrics, one JSON object with `step` a line; - is standard input, which is read as it comes
    #[arg(value_name = "FILE")]
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
    let stdin = args.figures == Path::new("-");
    let path = if stdin { Path::new("/dev/stdin") } else { &args.figures };
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(FileError::at(path, "read"))?);
    let (mut alarms, mut raised) = (Alarms::default(), false);
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).or_execution_error()?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record = record(&line).map_err(|problem| format!("{}:{number}: {problem}", path.display()));
        for alarm in alarms.observe(&rules, &record.or_user_error()?) {
            raised = true;
            show(&alarm, args.format)?;
        }
    }
    Ok(if raised { Exit::Fail } else { Exit::Success })
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
    let rules: AlarmConfig = toml::from_str(&set.join("\n"))
        .map_err(|error| Failure::user(format!("--set: {}", error.to_string().trim_end())))?;
    let problems = rules.problems();
    match problems.is_empty() {
        true => Ok(rules),
        false => Err(Failure::user(format!("--set: {}", problems.join("; ")))),
    }
}

/// The figures of a line.
fn record(line: &[u8]) -> Result<StepRecord, String> {
    let expected = "expected a JSON object with the number `step`";
    let fields: Map<String, Value> = serde_json::from_slice(line).map_err(|error| format!("{expected}: {error}"))?;
    let step = fields.get("step").and_then(Value::as_f64).filter(|step| *step >= 0.0 && step.fract() == 0.0);
    let step = step.ok_or_else(|| format!("{expected}, got {}", fields.get("step").unwrap_or(&Value::Null)))?;
    let figures = fields.into_iter().filter_map(|(name, value)| Some((name.into(), value.as_f64()?)) as Option<Figure>);
    Ok(StepRecord { step: step as u64, epoch: 0.0, metrics: figures.collect(), update: None })
}
