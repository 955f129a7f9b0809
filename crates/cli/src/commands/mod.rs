//! The commands, one file each. To add one: write its file with an `Args` and a `run`, then name it here twice.

mod gate;
mod train;

use anyhow::anyhow;
use clap::Subcommand;

use crate::exit::{Failure, Outcome};

#[derive(Subcommand)]
pub enum Command {
    /// Decide whether a candidate model is safe to take: exit 0 pass, 1 fail, 3 inconclusive
    #[command(
        after_help = "Example:\n  smpo gate --baseline runs/sft/eval --candidate runs/smpo/eval --policy strict --junit gate.xml"
    )]
    Gate(gate::GateArgs),
    /// One training run: SFT or any preference loss
    #[command(
        after_help = "Example:\n  smpo train configs/demo/modified.toml --set seed=7 --set output_dir=runs/seed-7"
    )]
    Train(train::TrainArgs),
}

impl Command {
    pub fn run(self) -> Outcome {
        match self {
            Command::Gate(args) => gate::run(args),
            Command::Train(args) => train::run(args),
        }
    }
}

/// Sets the size of the global thread pool; called once, before anything computes.
fn set_threads(threads: Option<usize>) -> Result<(), Failure> {
    match threads {
        Some(0) => Err(Failure::Usage(anyhow!("--threads: expected at least 1, got 0"))),
        Some(threads) => rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| Failure::Execution(error.into())),
        None => Ok(()),
    }
}
