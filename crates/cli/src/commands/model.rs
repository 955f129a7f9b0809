//! `smpo model`: what a model directory holds, without loading a weight.

mod info;
mod memory;
mod text;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::Outcome;
use crate::output::Format;

/// Look at model directories.
#[derive(Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Family, parameters, terminators, template, and the memory that training it takes
    #[command(after_help = "Examples:
  smpo model info Qwen2.5-1.5B-Instruct
  smpo model info Qwen2.5-1.5B-Instruct --config smpo.toml --format json")]
    Info(InfoArgs),
}

/// What to look at.
#[derive(Args)]
pub struct InfoArgs {
    /// Model directory in Hugging Face format, or a PEFT adapter directory
    model: PathBuf,
    /// The adapter's base, where the adapter does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Estimate the memory of this training configuration; without it, of the usual ways to train
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    config: Option<PathBuf>,
    /// Tokens of a pack to estimate the memory for
    #[arg(long, value_name = "N", default_value_t = 2048)]
    tokens: usize,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: ModelArgs) -> Outcome {
    match args.command {
        ModelCommand::Info(args) => info::run(args),
    }
}
