//! `smpo score`: metrics on existing completions.

use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_eval::Suite;
use smpo_eval::score::{Assembled, CompletionFile, InputFormat, ModelCompletions, Store, assemble, directories, write};
use smpo_files::{DirLock, resolved};
use smpo_report::estimates;
use smpo_report::inert::short_line;
use smpo_results::{EvaluationDir, MetricsFile, Observed, RunManifest, files, manifest};

use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::streams;

/// Compute metrics on existing completions, from any generator.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo score model_answer/*.jsonl --prompts question.jsonl --out scored")]
pub struct ScoreArgs {
    /// Files of completions, JSON lines or JSON, gzip and zstd too (formats: docs/scoring.md); - is standard input
    #[arg(required = true, value_name = "FILE", value_parser = streams::input())]
    files: Vec<PathBuf>,
    /// Output directory; with several models, one subdirectory per model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Format of all files
    #[arg(long, value_name = "FORMAT", help = formats())]
    input_format: Option<InputFormat>,
    /// Prompts of the completions, joined by id: a suite, question.jsonl of FastChat or Arena-Hard, or a batch's input
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Name of the model, for files that name none; several files are then its shards
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

fn formats() -> String {
    let known = InputFormat::ALL.iter().map(|format| format.id()).collect::<Vec<_>>().join(", ");
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
    let suite = args.prompts.as_deref().map(Suite::read_answered).transpose()?;
    if let Some(dir) = args.files.iter().find(|path| path.is_dir()) {
        let dir = dir.display();
        let files = "a folder of lm-eval has them as samples_*.jsonl";
        return Err(Failure::user(format!(
            "{dir}: expected a file of completions, got a directory; give its files: {dir}/*.jsonl ({files})"
        )));
    }
    let mut store = Store::beside(&args.out);
    let files = args.files.iter().map(|path| CompletionFile::read(path, args.input_format, &mut store));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let Assembled { models, notes } = assemble(files, suite.as_ref(), args.name.as_deref(), store)?;
    drop(suite);
    let directories = directories(&args.out, &models).or_user_error()?;
    let progress = Progress::new();
    notes.iter().for_each(|note| progress.say(&short_line(note, 1000)));
    let claim = |(model, dir): (&ModelCompletions, &PathBuf)| claim(&EvaluationDir::new(dir), model);
    let _locks = models.iter().zip(&directories).map(claim).collect::<Result<Vec<_>, _>>()?;
    let mut scored = Vec::new();
    for (model, dir) in models.iter().zip(directories) {
        let (failed, count) = (model.failed(), model.count());
        if failed > 0 {
            progress.say(&format!(
                "{}: {failed} of {count} completions are missing or failed; they count in error_rate alone",
                short_line(&model.name, 120)
            ));
        }
        let (manifest, measured) = write(&EvaluationDir::new(&dir), model).or_execution_error()?;
        for line in unjudged(&manifest.observed, count - failed) {
            progress.say(&format!("{}: {line}", short_line(&model.name, 120)));
        }
        scored.push(Scored { model: model.name.clone(), out: dir, metrics: measured.metrics });
    }
    match args.format {
        Format::Text => output::print(&text(&scored))?,
        Format::Json => output::print_json(&scored)?,
    }
    Ok(Exit::Success)
}

/// Locks the directory of a model's results. Samples that were taken there, and the model's own files, are not replaced.
fn claim(dir: &EvaluationDir, model: &ModelCompletions) -> Result<DirLock, Failure> {
    let refuse = |problem: &str| Failure::user(format!("{}: {problem}", dir.path().display()));
    let lock = DirLock::take(dir.path())?;
    let lock =
        lock.ok_or_else(|| refuse("another smpo writes into this directory; wait for it or choose another --out"))?;
    if smpo_files::exists(&dir.manifest())? {
        let before: RunManifest = files::read_json(&dir.manifest(), "run manifest")?;
        if !before.is_scored() {
            return Err(refuse("it holds an evaluation with samples of its own; choose another --out"));
        }
    }
    let own = resolved(&dir.samples());
    match model.sources.iter().any(|source| resolved(source) == own) {
        true => Err(refuse("its own samples are an input; choose another --out")),
        false => Ok(lock),
    }
}

/// Remarks on what could not be judged, because the files do not tell it.
fn unjudged(observed: &Observed, completions: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(count) = observed.untold.get(manifest::FINISH_REASON) {
        lines.push(format!("EOS unknown in the files, or kept back by a stop string, and not judged, for {count} of {completions} completions"));
    }
    if let Some(count) = observed.untold.get(manifest::PROMPT) {
        let by = match observed.untold.contains_key(manifest::ID) {
            true => {
                "their place in the file where the row has no id: both models' files need the same prompts in the same order"
            }
            false => "id alone",
        };
        lines.push(format!(
            "{} without a prompt: foreign scripts are not judged, and models pair by {by}",
            smpo_suggest::counted(count, "completion")
        ));
    }
    let remarks = observed.finish_remarks.iter().map(|(remark, count)| format!("{remark} ({count})"));
    let remarks: Vec<String> = remarks.collect();
    if !remarks.is_empty() {
        lines.push(format!("reported ends that do not count as the model's own: {}", remarks.join(", ")));
    }
    lines
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
