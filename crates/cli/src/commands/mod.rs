//! The commands, one file each. To add one: write its file with an `Args` and a `run`, then name it here twice.

mod bench;
mod data;
#[cfg(feature = "mistralrs")]
mod demo;
mod device;
mod dtype;
mod eval;
mod explain;
mod export;
mod gate;
mod leaderboard;
mod logps;
mod merge;
mod model;
mod plot;
mod score;
mod selftest;
mod train;

use anyhow::anyhow;
use clap::Subcommand;

use crate::exit::{Failure, Outcome};

#[derive(Subcommand)]
pub enum Command {
    /// Time whole training steps of known shapes on this machine
    #[command(after_help = "Example:\n  smpo bench step --shape tiny --device cpu")]
    Bench(bench::BenchArgs),
    /// Check, measure and convert training data before anything is trained on it
    #[command(after_help = "Example:\n  smpo data check pairs.jsonl --model Qwen2.5-1.5B-Instruct --max-length 2048")]
    Data(data::DataArgs),
    /// From training to verdict on shipped data, in a few minutes on a CPU
    #[cfg(feature = "mistralrs")]
    #[command(after_help = "Example:\n  smpo demo --out smpo-demo --seeds 3")]
    Demo(demo::DemoArgs),
    /// Sample a suite from a model and measure what comes back
    #[command(after_help = "Example:\n  smpo eval runs/smpo/model --suite evals/ood-chat.toml --out runs/smpo/eval")]
    Eval(Box<eval::EvalArgs>),
    /// What a loss does with stored log-probs: parts, clipping, and the tokens that carry the gradient
    #[command(
        after_help = "Example:\n  smpo explain configs/demo/modified.toml logps.jsonl --tokenizer runs/smpo/model"
    )]
    Explain(explain::ExplainArgs),
    /// Fold an adapter into its base, or write it as PEFT has it
    #[command(after_help = "Examples:
  smpo export runs/smpo/model --out exported
  smpo export runs/smpo/model --as adapter --base Qwen2.5-1.5B-Instruct --dtype bfloat16 --out adapter")]
    Export(export::ExportArgs),
    /// Decide whether a candidate model is safe to take: exit 0 pass, 1 fail, 3 inconclusive
    #[command(
        after_help = "Example:\n  smpo gate --baseline runs/sft/eval --candidate runs/smpo/eval --policy strict --junit gate.xml"
    )]
    Gate(gate::GateArgs),
    /// Rank models by their evaluations, on one self-contained page
    #[command(after_help = "Example:\n  smpo leaderboard runs/*/eval --baseline sft --out leaderboard")]
    Leaderboard(leaderboard::LeaderboardArgs),
    /// Teacher-forced log-probs of preference pairs, for `smpo explain`
    #[command(
        after_help = "Example:\n  smpo logps runs/smpo/model pairs.jsonl --reference runs/sft/model --out logps.jsonl"
    )]
    Logps(logps::LogpsArgs),
    /// Merge checkpoints: linear, slerp or TIES, shard by shard
    #[command(after_help = "Examples:
  smpo merge runs/sft/model runs/smpo/model --weights 0.3,0.7 --out merged
  smpo merge runs/sft/model runs/smpo/model --method slerp --t 0.6 --out merged
  smpo merge runs/sft/model runs/smpo/model --method ties --base Qwen2.5-1.5B --density 0.2 --out merged")]
    Merge(merge::MergeArgs),
    /// Look at a model directory: family, parameters, terminators, memory to train it
    Model(model::ModelArgs),
    /// The figures of training runs over their steps, several runs over each other, on one page
    #[command(after_help = "Example:\n  smpo plot runs/regular runs/modified --out curves.html")]
    Plot(plot::PlotArgs),
    /// Measure completions that already exist, whoever generated them
    #[command(after_help = "Example:\n  smpo score model_answer/*.jsonl --prompts question.jsonl --out scored")]
    Score(score::ScoreArgs),
    /// Compare a device with the processor: every kernel, then whole training steps
    #[command(after_help = "Exit codes: 0 all within their bounds, 1 one is not, 4 the device cannot be used.

Example:\n  smpo selftest --device cuda")]
    Selftest(selftest::SelfTestArgs),
    /// One training run: SFT or any preference loss
    #[command(
        after_help = "Example:\n  smpo train configs/demo/modified.toml --set seed=7 --set output_dir=runs/seed-7"
    )]
    Train(train::TrainArgs),
}

impl Command {
    pub fn run(self) -> Outcome {
        match self {
            Command::Bench(args) => bench::run(args),
            Command::Data(args) => data::run(args),
            #[cfg(feature = "mistralrs")]
            Command::Demo(args) => demo::run(args),
            Command::Eval(args) => eval::run(*args),
            Command::Explain(args) => explain::run(args),
            Command::Export(args) => export::run(args),
            Command::Gate(args) => gate::run(args),
            Command::Leaderboard(args) => leaderboard::run(args),
            Command::Logps(args) => logps::run(args),
            Command::Merge(args) => merge::run(args),
            Command::Model(args) => model::run(args),
            Command::Plot(args) => plot::run(args),
            Command::Score(args) => score::run(args),
            Command::Selftest(args) => selftest::run(args),
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
