//! `smpo reward`: reward models and classifiers over existing answers.

mod classes;
mod row;
mod score;
mod summary;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::Outcome;
use crate::output::Format;
use crate::streams;

/// Score conversations with a reward model or a classifier; `smpo train` with kind = "reward" or "classification" makes one.
#[derive(Args)]
#[command(after_help = "Example:\n  smpo reward score runs/reward/model pairs.jsonl")]
pub struct RewardArgs {
    #[command(subcommand)]
    command: RewardCommand,
}

#[derive(Subcommand)]
enum RewardCommand {
    /// Rewards of conversations, pairs or answers, or probabilities of labels
    #[command(after_help = "Examples:
  smpo reward score runs/reward/model pairs.jsonl
  smpo reward score runs/reward/model answers/samples/samples.jsonl --out rewards.jsonl --format json")]
    Score(ScoreArgs),
}

/// Rewards of conversations, pairs or answers, or probabilities of labels.
#[derive(Args)]
pub struct ScoreArgs {
    /// Directory of a reward model or classifier (…ForSequenceClassification of transformers), or of a PEFT adapter of one
    model: PathBuf,
    /// Rows of training data (docs/data.md): preference pairs, conversations, texts with labels, samples of `smpo eval`; - is
    /// standard input
    #[arg(value_parser = streams::input())]
    input: PathBuf,
    /// Write the rewards, one row a line; - is standard output
    #[arg(long, value_name = "FILE", value_parser = streams::output())]
    out: Option<PathBuf>,
    /// Base model of the adapter, if adapter_config.json does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the command.
pub fn run(args: RewardArgs) -> Outcome {
    match args.command {
        RewardCommand::Score(args) => score::run(&args),
    }
}
