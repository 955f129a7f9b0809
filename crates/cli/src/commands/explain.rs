//! `smpo explain`: what a loss does with stored log-probs.

mod text;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use smpo_losses::batch::ROUNDING_ABOVE_ZERO;
use smpo_losses::explain::{ExplainError, Report, Row, RowTokens, explain, summarize};
use smpo_losses::{Completion, LossConfig, Objective};
use smpo_report::inert::short_line;
use smpo_results::{LogpsRow, TokenLogps, parse_logps};
use smpo_trainer::TrainConfig;
use tokenizers::Tokenizer;

use crate::exit::{Blame, Exit, Failure, Outcome};
use crate::output::{self, Format};

/// Explain a loss on stored log-probs: its terms, clipping, rewards, and the gradient weight of every token.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo explain configs/demo/modified.toml logps.jsonl --tokenizer runs/smpo/model")]
pub struct ExplainArgs {
    /// TOML file with a `[loss]` table, such as a training configuration
    config: PathBuf,
    /// Log-probs from `smpo logps`; all lines form one batch
    logps: PathBuf,
    /// Target margin γ [default: the configured one, without its schedule]
    #[arg(long, allow_negative_numbers = true)]
    margin: Option<f64>,
    /// Tokenizer to decode token ids with: tokenizer.json, or a model directory that has one
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Show every token of this pair (text only; JSON has every token of every pair)
    #[arg(long, value_name = "ID")]
    pair: Option<String>,
    /// Number of pairs and tokens to list (text only)
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: ExplainArgs) -> Outcome {
    let mut objective = read_objective(&args.config)?;
    let stored = parse_logps(&args.logps, &read(&args.logps)?, ROUNDING_ABOVE_ZERO).usage()?;
    let rows: Vec<Row<'_>> = stored.iter().map(row).collect();
    if let Some(margin) = args.margin.filter(|margin| !(*margin >= 0.0 && margin.is_finite())) {
        return Err(Failure::Usage(anyhow!("--margin: expected a finite number of at least 0, got {margin}")));
    }
    if let Some(margin) = args.margin {
        objective = objective.with_target_margin(margin).usage()?;
    }
    let tokenizer = args.tokenizer.as_deref().map(read_tokenizer).transpose()?;
    let evaluation = explain(&objective, &rows).map_err(|error| placed(&args.logps, &stored, error)).usage()?;
    match args.format {
        Format::Json => output::print_json(&Report::new(&rows, &evaluation))?,
        Format::Text => {
            let view = text::View {
                objective: &objective,
                rows: &rows,
                evaluation: &evaluation,
                name: &|id| name(tokenizer.as_ref(), id),
                top: args.top,
            };
            let mut shown = view.overview(&summarize(&rows, &evaluation));
            if let Some(id) = &args.pair {
                shown.push_str(&view.pair(id).ok_or_else(|| no_such_pair(&args.logps, id, &rows)).usage()?);
            }
            output::print(&shown)?;
        }
    }
    Ok(Exit::Success)
}

fn row(stored: &LogpsRow) -> Row<'_> {
    fn completion(tokens: &TokenLogps) -> Completion<'_> {
        let TokenLogps { logps, is_terminator, ref_logps, .. } = tokens;
        Completion { logps, is_terminator, ref_logps: ref_logps.as_deref() }
    }
    fn tokens(tokens: &TokenLogps) -> RowTokens<'_> {
        RowTokens { ids: &tokens.ids, completion: completion(tokens) }
    }
    Row {
        id: &stored.id,
        chosen: stored.chosen.as_ref().map(tokens),
        rejected: stored.rejected.as_ref().map(tokens),
        kl: stored.kl.as_ref().map(completion),
    }
}

/// The error with its file, and its line if one row is at fault.
fn placed(path: &Path, stored: &[LogpsRow], error: ExplainError) -> anyhow::Error {
    match &error {
        ExplainError::Missing { row, .. } => anyhow!("{}:{}: {error}", path.display(), stored[*row].line),
        ExplainError::Batch(_) => anyhow!("{}: {error}", path.display()),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let file = || format!("{}: cannot be read", path.display());
    fs::read_to_string(path).with_context(file).usage()
}

/// A file that holds only `[loss]` is enough; one that holds more is checked as the training configuration it must be.
fn read_objective(path: &Path) -> Result<Objective, Failure> {
    let text = read(path)?;
    let at = |line: usize, message: &dyn Display| anyhow!("{}:{line}: {message}", path.display());
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| smpo_files::line_at(&text, span.start));
            at(line, &error.message())
        })
        .usage()?;
    let objective = match table.remove("loss") {
        Some(_) if !table.is_empty() => {
            return Objective::new(TrainConfig::parse(&text, path, &[]).usage()?.loss).usage();
        }
        Some(loss) => parse_loss(loss),
        None => Err(no_loss(&table)),
    };
    objective.map_err(|message| at(line_of_quoted(&text, &message), &message)).usage()
}

fn parse_loss(loss: toml::Value) -> Result<Objective, String> {
    if !loss.is_table() {
        return Err(format!("`loss`: expected a table, got {loss}"));
    }
    let config: LossConfig = loss.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    Objective::new(config).map_err(|error| error.to_string())
}

fn no_loss(table: &toml::Table) -> String {
    if table.contains_key("kind") {
        return "`kind` stands outside a table: expected a line [loss] above it".to_owned();
    }
    match table.keys().find(|key| smpo_suggest::nearest(key, ["loss"]).is_some()) {
        Some(key) => format!("`{key}`: expected a table [loss], did you mean that?"),
        None => "expected a table [loss], got none".to_owned(),
    }
}

/// The line of the first quoted word of `message` that starts a line of `text`, from 1.
fn line_of_quoted(text: &str, message: &str) -> usize {
    let starts = |line: &str, word: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    let words = message.split('`').skip(1).step_by(2);
    let line = |word: &str| text.lines().position(|line| starts(line, word));
    // `kind` is there whenever a table is; its value is what most messages quote first.
    words.chain(["kind"]).find_map(line).map_or(1, |index| index + 1)
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer, Failure> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    Tokenizer::from_file(&file).map_err(|error| anyhow!("{}: not a tokenizer: {error}", file.display())).usage()
}

/// A token as people read it: decoded where that gives text, as spelled in the vocabulary where it is part of a character.
fn name(tokenizer: Option<&Tokenizer>, id: u32) -> String {
    let known = tokenizer.and_then(|tokenizer| {
        let decoded = tokenizer.decode(&[id], false).ok().filter(|text| !text.is_empty() && !text.contains('\u{fffd}'));
        decoded.or_else(|| tokenizer.id_to_token(id))
    });
    known.map_or_else(|| id.to_string(), |text| format!("'{}' {id}", short_line(&text, 24)))
}

fn no_such_pair(path: &Path, id: &str, rows: &[Row<'_>]) -> anyhow::Error {
    let hint = smpo_suggest::did_you_mean(id, rows.iter().map(|row| row.id));
    anyhow!("--pair: {} has no pair `{id}`{hint}", path.display())
}
