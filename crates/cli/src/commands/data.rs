//! `smpo data`: check, measure and convert a file before anything is trained on it.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement};
use serde::Serialize;
use smpo_chat::ChatTemplate;
use smpo_data::{
    CheckReport, ConvertError, Finding, LengthReport, Lengths, Problem, PromptKeep, ReadError, Severity, Truncation,
    check, convert, count_rows, lengths,
};
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::exit::{Blame, Exit, Failure, Outcome, io_is_usage};
use crate::output::{self, Format};
use crate::progress::{Progress, Stage};
use crate::{interrupt, output::print};

/// Check, measure and convert training data.
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
}

#[derive(Args)]
struct CheckArgs {
    /// Data file: JSONL or JSON (optionally gzipped), or Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Maximum tokens of prompt and completion together, as in training
    #[arg(long, value_name = "TOKENS", requires = "model")]
    max_length: Option<usize>,
    /// Maximum tokens of the prompt, as in training
    #[arg(long, value_name = "TOKENS", requires = "model")]
    max_prompt_length: Option<usize>,
    /// Side of a long prompt that truncation keeps
    #[arg(long, value_enum, default_value = "keep_end")]
    truncation_mode: TruncationMode,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
struct StatsArgs {
    /// Data file: JSONL or JSON (optionally gzipped), or Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
struct ConvertArgs {
    /// Data file: JSONL or JSON (optionally gzipped), or Parquet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// JSONL file to write; gzipped if the name ends in .gz
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Drop unreadable rows, listing each, instead of stopping at the first
    #[arg(long)]
    drop_bad: bool,
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

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TruncationMode {
    KeepEnd,
    KeepStart,
}

/// Columns of a table that no terminal bounds.
const PLAIN_WIDTH: u16 = 120;

/// Runs the command.
pub fn run(args: DataArgs) -> Outcome {
    match args.command {
        DataCommand::Check(args) => run_check(&args),
        DataCommand::Stats(args) => run_stats(&args),
        DataCommand::Convert(args) => run_convert(&args),
    }
}

fn run_check(args: &CheckArgs) -> Outcome {
    super::set_threads(args.common.threads)?;
    let tokenizer = args.model.tokenizer()?;
    let truncation = Truncation {
        max_length: args.max_length,
        max_prompt_length: args.max_prompt_length,
        keep: match args.truncation_mode {
            TruncationMode::KeepEnd => PromptKeep::KeepEnd,
            TruncationMode::KeepStart => PromptKeep::KeepStart,
        },
        bos: tokenizer.as_ref().and_then(ChatTokenizer::bos),
    };
    let mut reports = Vec::new();
    for file in &args.files {
        let watch = Watch::new(file, "check")?;
        match check(file, tokenizer.as_ref(), &truncation, &|rows| watch.rows(rows)).map_err(blame_read)? {
            Some(report) => reports.push(report),
            None => return Ok(Exit::Interrupted),
        }
        watch.finish();
    }
    match args.common.format {
        Format::Text => print(&reports.iter().map(findings).collect::<Vec<_>>().join("\n\n"))?,
        Format::Json => output::print_json(&Checked { schema: 1, files: &reports })?,
    }
    Ok(if reports.iter().any(CheckReport::has_errors) { Exit::Fail } else { Exit::Success })
}

fn run_stats(args: &StatsArgs) -> Outcome {
    super::set_threads(args.common.threads)?;
    let tokenizer = args.model.tokenizer()?;
    let mut reports = Vec::new();
    for file in &args.files {
        let watch = Watch::new(file, "measure")?;
        match lengths(file, tokenizer.as_ref(), &|rows| watch.rows(rows)).map_err(blame_read)? {
            Some(report) => reports.push(report),
            None => return Ok(Exit::Interrupted),
        }
        watch.finish();
    }
    match args.common.format {
        Format::Text => print(&reports.iter().map(histograms).collect::<Vec<_>>().join("\n\n"))?,
        Format::Json => output::print_json(&Measured { schema: 1, files: &reports })?,
    }
    Ok(Exit::Success)
}

fn run_convert(args: &ConvertArgs) -> Outcome {
    let watch = Watch::new(&args.file, "convert")?;
    let mut bad = |error: &ReadError| watch.progress.say(&format!("left out: {error}"));
    let converted = convert(&args.file, &args.out, args.drop_bad, &mut bad, &|rows| watch.rows(rows));
    let Some(converted) = converted.map_err(blame_convert)? else { return Ok(Exit::Interrupted) };
    watch.finish();
    match args.format {
        Format::Text => {
            let dropped = match converted.dropped {
                0 => String::new(),
                dropped => format!(", {dropped} left out"),
            };
            print(&format!("{}: {} rows{dropped}", args.out.display(), converted.written))?;
        }
        Format::Json => output::print_json(&converted)?,
    }
    Ok(Exit::Success)
}

impl ModelArgs {
    fn tokenizer(&self) -> Result<Option<ChatTokenizer>, Failure> {
        let Some(dir) = &self.model else { return Ok(None) };
        let tokenizer = match &self.chat_template {
            None => ChatTokenizer::from_model_dir(dir),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| anyhow::anyhow!("{}: cannot read: {error}", path.display()))
                    .usage()?;
                ChatTemplate::replacing(dir, text, &path.display().to_string())
                    .map_err(TokenizerError::from)
                    .and_then(|template| ChatTokenizer::with_template(dir, template))
            }
        };
        tokenizer.map(Some).usage()
    }
}

/// Progress over the rows of one file, and Ctrl-C.
struct Watch {
    progress: Progress,
    stage: Stage,
}

impl Watch {
    fn new(file: &Path, verb: &str) -> Result<Self, Failure> {
        let total = count_rows(file).map_err(blame_read)?;
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

#[derive(Serialize)]
struct Checked<'a> {
    schema: u32,
    files: &'a [CheckReport],
}

#[derive(Serialize)]
struct Measured<'a> {
    schema: u32,
    files: &'a [LengthReport],
}

/// One file's findings as a table and a line.
pub(super) fn findings(report: &CheckReport) -> String {
    let kinds = [(report.pairs, "pairs"), (report.labelled, "labelled completions"), (report.examples, "examples")];
    let kinds: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    let held = if kinds.is_empty() { "nothing readable".to_string() } else { kinds.join(", ") };
    let summary = format!(
        "{}: {} rows ({held}); {} errors, {} warnings, {} notes",
        report.file,
        report.rows,
        report.count(Severity::Error),
        report.count(Severity::Warning),
        report.count(Severity::Note)
    );
    if report.findings.is_empty() {
        return summary;
    }
    let mut table = output::table();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        // logs and files have no width of their own; without one the table would never wrap
        table.set_width(PLAIN_WIDTH);
    }
    table.set_header(["severity", "rule", "rows", "first lines", "what is wrong, and what to do"]);
    for finding in &report.findings {
        table.add_row([
            finding.severity.name().to_string(),
            finding.rule.id().to_string(),
            affected(finding),
            offenders(finding),
            format!("{}. {}.", finding.what, capitalised(finding.remedy)),
        ]);
    }
    if let Some(rows) = table.column_mut(2) {
        rows.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{summary}")
}

fn affected(finding: &Finding) -> String {
    match finding.share {
        Some(share) => format!("{} ({:.1} %)", finding.count, share * 100.0),
        None => "–".to_string(),
    }
}

/// Lines of the first offenders, and what is there in the very first.
fn offenders(finding: &Finding) -> String {
    let lines: Vec<String> =
        finding.first.iter().filter_map(|sample| sample.line).map(|line| line.to_string()).collect();
    let more = if finding.count as usize > finding.first.len() { ", …" } else { "" };
    let detail = finding.first.first().map_or("", |sample| sample.detail.as_str());
    match (lines.is_empty(), detail.is_empty()) {
        (true, _) => detail.to_string(),
        (false, true) => format!("{}{more}", lines.join(", ")),
        (false, false) => format!("{}{more}: {detail}", lines.join(", ")),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn histograms(report: &LengthReport) -> String {
    let skipped = match report.skipped {
        0 => String::new(),
        skipped => format!("; {skipped} rows skipped (see `smpo data check`)"),
    };
    let mut table = output::table();
    table.set_header(["part", "total", "mean", "min", "p50", "p90", "p95", "p99", "max"]);
    for part in &report.parts {
        let Lengths { total, mean, min, p50, p90, p95, p99, max, .. } = part;
        let mut row = vec![part.part.to_string(), total.to_string(), format!("{mean:.1}")];
        row.extend([min, p50, p90, p95, p99, max].map(ToString::to_string));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let bars: Vec<String> = report.parts.iter().map(|part| histogram(part, report.unit)).collect();
    format!("{}: {} rows, lengths in {}{skipped}\n{table}\n{}", report.file, report.rows, report.unit, bars.join("\n"))
}

fn histogram(part: &Lengths, unit: &str) -> String {
    const WIDTH: usize = 40;
    let highest = part.bins.iter().map(|bin| bin.count).max().unwrap_or(1);
    let mut lines = vec![format!("{} ({unit})", part.part)];
    for bin in &part.bins {
        let bar = "█".repeat((bin.count * WIDTH).div_ceil(highest));
        lines.push(format!("  {:>8} – {:<8} {:>8} {bar}", bin.from, bin.to - 1, bin.count));
    }
    lines.join("\n")
}

/// A file that is wrong or not there is its author's to mend; a disk that fails is not.
fn blame_read(error: ReadError) -> Failure {
    let machine = matches!(&error.problem, Problem::Io(_)) && !io_is_usage(&error);
    if machine { Failure::Execution(error.into()) } else { Failure::Usage(error.into()) }
}

fn blame_convert(error: ConvertError) -> Failure {
    match error {
        ConvertError::Read(error) => blame_read(error),
        ConvertError::Write { .. } if io_is_usage(&error) => Failure::Usage(error.into()),
        ConvertError::Write { .. } => Failure::Execution(error.into()),
    }
}
