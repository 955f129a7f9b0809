//! `smpo explain`: a loss evaluated on stored log-probs.

use std::fs;
use std::path::{Path, PathBuf};

use smpo_files::FileError;
use smpo_gguf::{companion, is_gguf};
use smpo_losses::batch::ROUNDING_ABOVE_ZERO;
use smpo_losses::explain::{Report, Row, explain, summarize};
use smpo_report::explanation::{self, Explanation};
use smpo_report::inert::short_line;
use smpo_results::parse_logps;
use smpo_trainer::config::{TrainConfig, read_objective};
use tokenizers::Tokenizer;

use crate::exit::{Exit, Failure, OrFail, Outcome};
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
    /// Tokenizer to decode token ids with: tokenizer.json, or a model directory or GGUF file that has one [default: that of
    /// the configuration's model]
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

/// The result as JSON.
#[derive(serde::Serialize)]
struct Written {
    schema: u32,
    #[serde(flatten)]
    report: Report,
}

/// Runs the command.
pub fn run(args: ExplainArgs) -> Outcome {
    let mut objective = read_objective(&args.config)?;
    if objective.config().loss.distance().is_some() {
        let kind = objective.config().loss.kind();
        return Err(Failure::user(format!(
            "{}: loss `{kind}` compares whole distributions with a teacher's, and stored log-probs are of the data's tokens \
             alone: there is nothing to explain; `smpo train` writes `distill/divergence` and `distill/agreement` at each step",
            args.config.display()
        )));
    }
    if let Some(margin) = args.margin {
        if !(margin >= 0.0 && margin.is_finite()) {
            return Err(Failure::user(format!("--margin: expected a finite number of at least 0, got {margin}")));
        }
        objective = objective.with_target_margin(margin)?;
    }
    let loss = &objective.config().loss;
    if loss.pooled().is_some() {
        let kind = loss.kind();
        return Err(Failure::user(format!(
            "{}: loss `{kind}` is of what a head gives whole texts, and log-probs say nothing of it; score texts with \
             `smpo reward score`",
            args.config.display()
        )));
    }
    let stored = parse_logps(&args.logps, &read(&args.logps)?, ROUNDING_ABOVE_ZERO).or_user_error()?;
    let groups = explanation::groups(&stored);
    let rows = explanation::rows(&stored, &groups, objective.needs_entropy());
    let tokenizer = match &args.tokenizer {
        Some(path) => Some(read_tokenizer(path)?),
        None => of_configuration(&args.config),
    };
    let evaluation = explain(&objective, &rows)
        .map_err(|error| explanation::located(&args.logps, &stored, &error))
        .or_user_error()?;
    match args.format {
        Format::Json => output::print_json(&Written { schema: 1, report: Report::new(&rows, &evaluation) })?,
        Format::Text => {
            let explanation = Explanation {
                objective: &objective,
                rows: &rows,
                evaluation: &evaluation,
                name: &|id| name(tokenizer.as_ref(), id),
                top: args.top,
            };
            let mut shown = explanation.overview(&summarize(&rows, &evaluation));
            if let Some(id) = &args.pair {
                shown.push_str(
                    &explanation.pair(id).ok_or_else(|| no_such_pair(&args.logps, id, &rows)).or_user_error()?,
                );
            }
            output::print(&shown)?;
        }
    }
    Ok(Exit::Success)
}

fn read(path: &Path) -> Result<String, Failure> {
    Ok(fs::read_to_string(path).map_err(FileError::at(path, "read"))?)
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer, Failure> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    let read = match is_gguf(path)? {
        true => Tokenizer::from_bytes(companion(path, "tokenizer.json")?.unwrap_or_default()),
        false => Tokenizer::from_file(&file),
    };
    read.map_err(|error| format!("{}: not a tokenizer: {error}", file.display())).or_user_error()
}

/// The tokenizer of a configuration's model, where it names one that is here.
fn of_configuration(config: &Path) -> Option<Tokenizer> {
    let read = TrainConfig::read(config, &[]).ok()?;
    let model = read.config.model_name_or_path;
    if model.exists() { read_tokenizer(&model).ok() } else { None }
}

/// A token as people read it: decoded where that gives text, as spelled in the vocabulary where it is part of a character.
fn name(tokenizer: Option<&Tokenizer>, id: u32) -> String {
    let known = tokenizer.and_then(|tokenizer| {
        let decoded = tokenizer.decode(&[id], false).ok().filter(|text| !text.is_empty() && !text.contains('\u{fffd}'));
        decoded.or_else(|| tokenizer.id_to_token(id))
    });
    known.map_or_else(|| id.to_string(), |text| format!("'{}' {id}", short_line(&text, 24)))
}

fn no_such_pair(path: &Path, id: &str, rows: &[Row<'_>]) -> String {
    let hint = smpo_suggest::did_you_mean(id, rows.iter().map(|row| row.id));
    format!("--pair: {} has no pair `{id}`{hint}", path.display())
}
