//! `smpo data`: check, measure, convert and clean a file before anything is trained on it.

mod ches;
mod dedup;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use smpo_data::{
    CheckReport, Converted, DropBad, LeftOut, Preparation, Purpose, TrainOn, Truncation, TruncationMode, Unfinished,
    check, convert, count_rows, lengths, list_unread, source_files,
};
use smpo_files::{FileError, exists, is_file};
use smpo_model::ModelDir;
use smpo_report::data::{findings, histograms};
use smpo_tokenizer::ChatTokenizer;

use super::named::named;
use super::template_variables::TemplateVariables;
use crate::exit::{Exit, Failure, Outcome};
use crate::hub::HUB_NAMES;
use crate::output::{self, Format};
use crate::progress::{Progress, Stage};
use crate::{interrupt, output::print, outputs, streams};

/// Check, measure, convert and clean training data.
#[derive(Args)]
#[command(after_help = "Example:\n  smpo data check pairs.jsonl --model Qwen2.5-1.5B-Instruct --max-length 2048")]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Find problems in training data before training on it: exit 1 if there are errors
    #[command(
        after_help = "Example:\n  smpo data check pairs.jsonl --model Qwen2.5-1.5B-Instruct --max-length 2048 --max-prompt-length 1024"
    )]
    Check(CheckArgs),
    /// Print length statistics and histograms of prompts and completions
    #[command(after_help = "Example:\n  smpo data stats pairs.jsonl.gz --model Qwen2.5-1.5B-Instruct")]
    Stats(StatsArgs),
    /// Convert any supported format to canonical JSON lines
    #[command(after_help = "Example:\n  smpo data convert hh-rlhf.jsonl.gz --out pairs.jsonl --drop-bad")]
    Convert(ConvertArgs),
    /// Leave out rows that repeat others, or rows of a suite
    #[command(
        after_help = "Examples:\n  smpo data dedup pairs.jsonl --out unique.jsonl\n  smpo data dedup train/*.jsonl --against evals/ood-chat.toml --dry-run"
    )]
    Dedup(dedup::DedupArgs),
    /// Rank preference pairs by CHES, and leave out those that push down what they prefer
    #[command(
        after_help = "Example:\n  smpo data ches pairs.jsonl --model Qwen2.5-1.5B-Instruct --out ranked.jsonl --drop 0.05"
    )]
    Ches(ches::ChesArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// Data file, directory or pattern: JSONL or JSON (gzip and zstd too), or Parquet; - is standard input
    #[arg(required = true, value_name = "FILE", value_parser = streams::input())]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    lengths: LengthArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
struct StatsArgs {
    /// Data file, directory or pattern: JSONL or JSON (gzip and zstd too), or Parquet; - is standard input
    #[arg(required = true, value_name = "FILE", value_parser = streams::input())]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
struct ConvertArgs {
    /// Data file, directory or pattern: JSONL or JSON (gzip and zstd too), or Parquet; - is standard input
    #[arg(value_name = "FILE", value_parser = streams::input())]
    file: PathBuf,
    /// JSONL file to write; gzipped if the name ends in .gz; - is standard output
    #[arg(long, value_name = "FILE", value_parser = streams::output())]
    out: PathBuf,
    /// Drop rows that `smpo data check` calls an error, listing each, instead of stopping at the first unreadable one;
    /// without --model only their text is checked
    #[arg(long)]
    drop_bad: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    lengths: LengthArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
struct ModelArgs {
    /// Model directory whose tokenizer, chat template and EOS tokens the rows are checked with
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Jinja chat template to use instead of the model's
    #[arg(long, value_name = "FILE", requires = "model")]
    chat_template: Option<PathBuf>,
    #[command(flatten)]
    variables: TemplateVariables,
}

#[derive(Args)]
struct LengthArgs {
    /// Maximum tokens of prompt and completion together, as in training
    #[arg(long, value_name = "TOKENS", requires = "model")]
    max_length: Option<usize>,
    /// Maximum tokens of the prompt, as in training [default: half of --max-length]
    #[arg(long, value_name = "TOKENS", requires = "model")]
    max_prompt_length: Option<usize>,
    /// Side of a long prompt that truncation keeps
    #[arg(long, value_parser = named(TruncationMode::ALL, TruncationMode::name), default_value = "keep_end")]
    truncation_mode: TruncationMode,
    /// Treatment of completions that did not end, or that --max-length cuts
    #[arg(long, value_parser = named(Unfinished::ALL, Unfinished::name), default_value = "no_terminator")]
    unfinished: Unfinished,
    /// Answers that conversations teach, as in training
    #[arg(long, value_parser = named(TrainOn::ALL, TrainOn::name), default_value = "all")]
    train_on: TrainOn,
}

impl LengthArgs {
    fn preparation(&self) -> Preparation {
        Preparation { train_on: self.train_on, ..Preparation::default() }
    }

    fn truncation(&self, tokenizer: Option<&ChatTokenizer>) -> Truncation {
        Truncation {
            max_length: self.max_length,
            max_prompt_length: self.max_prompt_length.or(self.max_length.map(|length| length / 2)),
            keep: self.truncation_mode,
            bos: tokenizer.and_then(ChatTokenizer::bos),
            unfinished: self.unfinished,
        }
    }
}

#[derive(Args)]
struct CommonArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the command.
pub fn run(args: DataArgs) -> Outcome {
    match args.command {
        DataCommand::Check(args) => run_check(&args),
        DataCommand::Stats(args) => run_stats(&args),
        DataCommand::Convert(args) => run_convert(&args),
        DataCommand::Dedup(args) => dedup::run(&args),
        DataCommand::Ches(args) => ches::run(&args),
    }
}

fn run_check(args: &CheckArgs) -> Outcome {
    super::set_threads(args.common.threads)?;
    let tokenizer = args.model.tokenizer()?;
    let truncation = args.lengths.truncation(tokenizer.as_ref());
    let preparation = args.lengths.preparation();
    let mut reports = Vec::new();
    for file in &files(&args.files)? {
        let watch = Watch::new(file, "check")?;
        match check(file, tokenizer.as_ref(), &truncation, &preparation, &|rows| watch.rows(rows))? {
            Some(report) => reports.push(report),
            None => return Ok(Exit::Interrupted),
        }
        watch.finish();
    }
    match args.common.format {
        Format::Text => {
            print(&reports.iter().map(|report| findings(report, output::width())).collect::<Vec<_>>().join("\n\n"))?
        }
        Format::Json => output::print_json(&json!({"schema": 1, "files": reports}))?,
    }
    Ok(if reports.iter().any(CheckReport::has_errors) { Exit::Fail } else { Exit::Success })
}

/// The files of all sources.
fn files(sources: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for source in sources {
        files.extend(source_files(source, Purpose::Train)?);
    }
    Ok(files)
}

fn run_stats(args: &StatsArgs) -> Outcome {
    super::set_threads(args.common.threads)?;
    let tokenizer = args.model.tokenizer()?;
    let mut reports = Vec::new();
    for file in &files(&args.files)? {
        let watch = Watch::new(file, "measure")?;
        match lengths(file, tokenizer.as_ref(), &|rows| watch.rows(rows))? {
            Some(report) => reports.push(report),
            None => return Ok(Exit::Interrupted),
        }
        watch.finish();
    }
    match args.common.format {
        Format::Text => print(&reports.iter().map(histograms).collect::<Vec<_>>().join("\n\n"))?,
        Format::Json => output::print_json(&json!({"schema": 1, "files": reports}))?,
    }
    Ok(Exit::Success)
}

fn run_convert(args: &ConvertArgs) -> Outcome {
    outputs::check([&args.file], &[("--out", Some(&args.out))])?;
    let tokenizer = args.model.tokenizer()?;
    let truncation = args.lengths.truncation(tokenizer.as_ref());
    let preparation = args.lengths.preparation();
    let drop_bad = args.drop_bad.then_some(DropBad {
        tokenizer: tokenizer.as_ref(),
        truncation: &truncation,
        preparation: &preparation,
    });
    let watch = Watch::new(&args.file, "convert")?;
    let mut left_out = |row: &LeftOut| watch.progress.say(&format!("left out: {}: {}", row.location, row.problem));
    let converted = convert(&args.file, &args.out, drop_bad, &mut left_out, &|rows| watch.rows(rows));
    let Some(converted) = converted? else { return Ok(Exit::Interrupted) };
    watch.finish();
    let written = Written { schema: 1, converted: &converted };
    output::summary(Some(&args.out), args.format, || summary(&args.out, &converted), &written)?;
    Ok(Exit::Success)
}

/// The result as JSON.
#[derive(serde::Serialize)]
struct Written<'a> {
    schema: u32,
    #[serde(flatten)]
    converted: &'a Converted,
}

fn summary(out: &Path, converted: &Converted) -> String {
    let mut summary = format!("{}: {}", out.display(), smpo_suggest::counted(converted.written, "row"));
    if converted.dropped > 0 {
        let rules: Vec<_> = converted.by_rule.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        summary.push_str(&format!(", {} left out ({})", converted.dropped, rules.join(", ")));
    }
    if !converted.unread.is_empty() {
        summary.push_str(&format!("\nnothing reads, so not in the output: {}", list_unread(&converted.unread)));
    }
    summary
}

impl ModelArgs {
    fn tokenizer(&self) -> Result<Option<ChatTokenizer>, Failure> {
        let Some(dir) = &self.model else { return Ok(None) };
        if !exists(dir)? {
            return Err(Failure::user(format!("--model {}: no such file or directory; {HUB_NAMES}", dir.display())));
        }
        let tokenizer = match &self.chat_template {
            None if is_file(&dir.join("adapter_config.json"))? => {
                let model = ModelDir::open(dir, None)?;
                ChatTokenizer::of_model(model.tokenizer(), model.adapter())
            }
            None => ChatTokenizer::from_model_dir(dir),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(FileError::at(path, "read"))?;
                ChatTokenizer::with_template_text(dir, &text, &path.display().to_string())
            }
        };
        let tokenizer = tokenizer.and_then(|tokenizer| self.variables.apply(tokenizer))?;
        for end in tokenizer.terminators().ordinary() {
            Progress::new().say(&format!("warning: {end}"));
        }
        Ok(Some(tokenizer))
    }
}

/// The files of data arguments, which may be directories or patterns, and the arguments themselves.
fn expanded<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for file in files {
        all.extend(source_files(file, Purpose::Train)?);
        all.push(file.clone());
    }
    Ok(all)
}

/// Progress over the rows of one file, and Ctrl-C.
struct Watch {
    progress: Progress,
    stage: Stage,
}

impl Watch {
    fn new(file: &Path, verb: &str) -> Result<Self, Failure> {
        let total = count_rows(file)?;
        let progress = Progress::new();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let stage = progress.stage(&format!("{verb} {name}"), total);
        Ok(Self { progress, stage })
    }

    fn rows(&self, rows: u64) -> ControlFlow<()> {
        self.stage.update(rows, "rows");
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn finish(&self) {
        self.stage.finish("done");
    }
}
