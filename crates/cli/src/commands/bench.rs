//! `smpo bench`: what this program reaches on this machine.

mod step;

use clap::{Args, Subcommand};

pub use step::blame;

use crate::exit::Outcome;

/// Measure this program on this machine.
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Time whole optimizer steps of a known shape, with random weights on made pairs
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
