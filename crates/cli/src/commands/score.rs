//! `smpo score`: the measures on completions that others generated.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use comfy_table::CellAlignment;
use serde::Serialize;
use smpo_eval::score::{CompletionFile, InputFormat, ModelCompletions, assemble, write};
use smpo_eval::{ALL, InputError, Suite};
use smpo_results::{EvaluationDir, FinishReason, MetricEstimate, MetricsFile, Unit};

use crate::exit::{Blame, Exit, Failure, Outcome, io_is_usage};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Compute metrics on existing completions, from any generator.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo score model_answer/*.jsonl --prompts question.jsonl --out scored")]
pub struct ScoreArgs {
    /// Files of completions: smpo, FastChat, AlpacaEval, lm-evaluation-harness, OpenAI batch, plain JSONL
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Output directory; with several models, one subdirectory per model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Format of all files
    #[arg(long, value_name = "FORMAT", help = formats())]
    input_format: Option<InputFormat>,
    /// Prompts of the completions, joined by id: a suite, FastChat's question.jsonl, or an OpenAI batch input
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

fn formats() -> String {
    let known = InputFormat::ALL.map(InputFormat::id).join(", ");
    format!("Format of all files: {known} [default: detected from the content]")
}

/// One model's result.
#[derive(Serialize)]
struct Scored {
    model: String,
    out: PathBuf,
    #[serde(flatten)]
    metrics: MetricsFile,
}

/// Runs the command.
pub fn run(args: ScoreArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let suite = args.prompts.as_deref().map(Suite::read).transpose().map_err(blame)?;
    let files = args.files.iter().map(|path| CompletionFile::read(path, args.input_format));
    let files = files.collect::<Result<Vec<_>, _>>().map_err(blame)?;
    let models = assemble(&files, suite.as_ref()).map_err(blame)?;
    let directories = directories(&args.out, &models)?;
    let progress = Progress::new();
    let mut scored = Vec::new();
    for (model, dir) in models.iter().zip(directories) {
        let failed = model.samples.iter().filter(|sample| sample.finish_reason == FinishReason::Error).count();
        if failed > 0 {
            progress.say(&format!(
                "{}: {failed} of {} completions are missing or failed; they count in error_rate alone",
                model.name,
                model.samples.len()
            ));
        }
        let (_, measured) = write(&EvaluationDir::new(&dir), model).execution()?;
        scored.push(Scored { model: model.name.clone(), out: dir, metrics: measured.metrics });
    }
    match args.format {
        Format::Text => output::print(&text(&scored))?,
        Format::Json => output::print_json(&scored)?,
    }
    Ok(Exit::Success)
}

/// One model goes into the directory itself, several into one below it each.
fn directories(out: &Path, models: &[ModelCompletions]) -> Result<Vec<PathBuf>, Failure> {
    if let [_] = models {
        return Ok(vec![out.to_owned()]);
    }
    let mut taken = HashSet::new();
    let place = |model: &ModelCompletions| {
        let safe = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
        let name: String = model.name.chars().map(safe).collect();
        // A name of dots alone would leave the directory.
        let name = if name.trim_matches('.').is_empty() { format!("model{name}") } else { name };
        if taken.insert(name.clone()) {
            Ok(out.join(name))
        } else {
            Err(Failure::Usage(anyhow!(
                "two models would both go to {}; score them one by one",
                out.join(name).display()
            )))
        }
    };
    models.iter().map(place).collect()
}

fn text(scored: &[Scored]) -> String {
    let has = |id: &str| scored.iter().any(|model| model.metrics.get(id, ALL).is_some());
    let summary = smpo_metrics::all().iter().map(|metric| metric.info).filter(|info| info.summary);
    let columns: Vec<&str> = summary.map(|info| info.id).filter(|id| has(id)).collect();
    let mut table = output::table();
    table.set_header(["model", "prompts"].into_iter().chain(columns.iter().copied()));
    for model in scored {
        let prompts = model.metrics.get("error_rate", ALL).map_or(0, |estimate| estimate.n);
        let values = columns.iter().map(|id| model.metrics.get(id, ALL).map_or_else(|| "–".into(), cell));
        table.add_row([model.model.clone(), prompts.to_string()].into_iter().chain(values));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let place = match scored {
        [one] => one.out.display().to_string(),
        several => {
            format!("{}/MODEL", several.first().and_then(|one| one.out.parent()).unwrap_or(Path::new("")).display())
        }
    };
    format!("{table}\nvalue [95 % interval over prompts]; all metrics and slices: {place}/metrics.json")
}

/// `4.2 % [2.7, 6.4]` or `1.873 [1.851, 1.895]`.
pub fn cell(estimate: &MetricEstimate) -> String {
    let MetricEstimate { value, ci_low, ci_high, .. } = estimate;
    match estimate.unit {
        Unit::Share => format!("{:.1} % [{:.1}, {:.1}]", value * 100.0, ci_low * 100.0, ci_high * 100.0),
        Unit::Tokens | Unit::Rank => format!("{value:.1} [{ci_low:.1}, {ci_high:.1}]"),
        Unit::Nats | Unit::Ratio => format!("{value:.3} [{ci_low:.3}, {ci_high:.3}]"),
    }
}

/// A file that is wrong or not there is its author's to mend.
pub fn blame(error: InputError) -> Failure {
    let machine = matches!(&error, InputError::Io { .. } | InputError::File(smpo_results::Error::Io { .. }))
        && !io_is_usage(&error);
    if machine { Failure::Execution(error.into()) } else { Failure::Usage(error.into()) }
}
