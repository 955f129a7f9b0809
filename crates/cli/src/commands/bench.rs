//! `smpo bench`: speed and memory on this machine.

mod decode;
mod step;

use clap::{Args, Subcommand};
use smpo_devices::{Kind, OpenDevice};
use smpo_model::WeightDtype;

use crate::exit::{Failure, Outcome};

/// Bounds of numbers that take memory.
const MOST_SEQUENCES: u64 = 1 << 16;
const MOST_TOKENS: u64 = 1 << 20;
const MOST_TOKENS_OF_A_BATCH: usize = 1 << 24;
const MOST_RANK: u64 = 1 << 13;
const MOST_STEPS: u64 = 1_000_000;

/// Measure speed and memory of training and sampling on this machine.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  smpo bench step --shape tiny --device cpu\n  smpo bench decode --shape tiny --device cpu"
)]
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
    /// Time steps of sampling of a known model shape: one token for each sequence of a batch, with random weights
    #[command(after_help = "Examples:
  smpo bench decode --shape 100m --batch-size 8 --context 128 --device cpu
  smpo bench decode --shape qwen2.5-1.5b --device cuda")]
    Decode(decode::DecodeArgs),
}

/// The dtype of weights where none is named.
fn usual_dtype(device: &OpenDevice) -> WeightDtype {
    match device.kind() {
        Kind::Cuda(_) => WeightDtype::Bf16,
        Kind::Cpu | Kind::Emulated => WeightDtype::F32,
    }
}

/// Refuses more tokens than a bench is for: `length` is the option of those of a sequence.
fn refuse_larger(sequences: usize, tokens: usize, length: &str) -> Result<(), Failure> {
    let all = sequences * tokens;
    if all <= MOST_TOKENS_OF_A_BATCH {
        return Ok(());
    }
    let expected = format!("expected at most {MOST_TOKENS_OF_A_BATCH} tokens in a batch");
    Err(Failure::user(format!("--batch-size {sequences}, {length} {tokens}: {expected}, got {all}")))
}

/// Runs the command.
pub fn run(args: BenchArgs) -> Outcome {
    match args.command {
        BenchCommand::Step(args) => step::run(args),
        BenchCommand::Decode(args) => decode::run(args),
    }
}
