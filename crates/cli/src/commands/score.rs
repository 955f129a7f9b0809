//! `smpo score`: metrics on existing completions.

use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_eval::Suite;
use smpo_eval::score::{CompletionFile, InputFormat, assemble, directories, write};
use smpo_report::estimates;
use smpo_results::{EvaluationDir, FinishReason, MetricsFile};

use crate::exit::{Exit, OrFail, Outcome};
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

/// Metrics of one model, as JSON.
#[derive(Serialize)]
pub struct Scored {
    /// Name of the model.
    pub model: String,
    /// Directory with all files.
    pub out: PathBuf,
    /// Metrics over all prompts and over slices.
    #[serde(flatten)]
    pub metrics: MetricsFile,
}

/// Runs the command.
pub fn run(args: ScoreArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let suite = args.prompts.as_deref().map(Suite::read).transpose()?;
    let files = args.files.iter().map(|path| CompletionFile::read(path, args.input_format));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let models = assemble(&files, suite.as_ref())?;
    let directories = directories(&args.out, &models).or_user_error()?;
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
        let (_, measured) = write(&EvaluationDir::new(&dir), model).or_execution_error()?;
        scored.push(Scored { model: model.name.clone(), out: dir, metrics: measured.metrics });
    }
    match args.format {
        Format::Text => output::print(&text(&scored))?,
        Format::Json => output::print_json(&scored)?,
    }
    Ok(Exit::Success)
}

fn text(scored: &[Scored]) -> String {
    let models: Vec<_> = scored.iter().map(|model| (model.model.as_str(), &model.metrics)).collect();
    let place = match scored {
        [one] => one.out.clone(),
        several => several.first().and_then(|one| one.out.parent()).unwrap_or(Path::new("")).join("MODEL"),
    };
    let (table, place) = (estimates::several(&models), place.display());
    format!("{table}\nvalue [95 % interval over prompts]; all metrics and slices: {place}/metrics.json")
}
