//! `smpo bench`: speed and memory on this machine.

mod step;

use clap::{Args, Subcommand};

use crate::exit::Outcome;

/// Measure training speed and memory on this machine.
#[derive(Args)]
#[command(after_help = "Example:\n  smpo bench step --shape tiny --device cpu")]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Time whole optimizer steps of a known model shape, with random weights and synthetic pairs
    #[command(after_help = "Examples:
  smpo bench step --shape tiny --device cpu
  smpo bench step --shape qwen2.5-1.5b --lora-r 128 --dtype bfloat16 --length 2048 --batch-size 8 --device cuda")]
    Step(step::StepArgs),
}

/// Runs the command.
pub fn run(args: BenchArgs) -> Outcome {
    match args.command {
        BenchCommand::Step(args) => step::run(args),
    }
}
