//! `smpo model`: a model directory, without loading its weights.

mod info;
mod text;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::Outcome;
use crate::output::Format;

/// Inspect a model directory without loading its weights.
#[derive(Args)]
#[command(after_help = "Example:\n  smpo model info Qwen2.5-1.5B-Instruct")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Show family, number of parameters, EOS tokens, chat template, and the memory needed to train it
    #[command(after_help = "Examples:
  smpo model info Qwen2.5-1.5B-Instruct
  smpo model info Qwen2.5-7B-Instruct --ranks 8
  smpo model info Qwen2.5-1.5B-Instruct --config smpo.toml --format json")]
    Info(InfoArgs),
}

/// Show family, number of parameters, EOS tokens, chat template, and the memory needed to train it.
#[derive(Args)]
pub struct InfoArgs {
    /// Model directory in Hugging Face format, or a PEFT adapter directory
    model: PathBuf,
    /// Base model of the adapter, if adapter_config.json does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Estimate memory for this training configuration [default: full fine-tuning and LoRA]
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    config: Option<PathBuf>,
    /// Tokens per pack (one forward pass) to estimate memory for
    #[arg(long, value_name = "N", default_value_t = 2048)]
    tokens: usize,
    /// Estimate the memory of each process of a run over so many, at each zero_stage
    #[arg(long, value_name = "N", default_value_t = 1)]
    ranks: usize,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: ModelArgs) -> Outcome {
    match args.command {
        ModelCommand::Info(args) => info::run(args),
    }
}
