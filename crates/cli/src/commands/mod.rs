//! The commands, one file each. To add one, write its file with an `Args` struct and a `run` function, then declare the
//! module and add a line to the table below.

mod bench;
mod completions;
mod convert;
mod data;
#[cfg(feature = "mistralrs")]
mod demo;
mod device;
mod doctor;
mod engine;
mod eval;
mod explain;
mod export;
mod gate;
mod generate;
mod import;
mod leaderboard;
mod logps;
mod man;
mod merge;
mod model;
mod named;
mod pairs;
mod plot;
mod prompt;
mod reward;
mod reward_model;
mod run;
mod sampled;
mod sampling_args;
mod score;
mod scorer;
mod selftest;
mod template_variables;
mod track;
mod train;
mod watch;

use std::path::Path;

use crate::exit::{Failure, OrFail, Outcome};
use crate::progress::Progress;

/// The table of commands: each line gives the enum variant (the command's name), its module and its arguments.
///
/// Help text and examples are attributes of the arguments.
macro_rules! commands {
    ($($(#[$attribute:meta])* $variant:ident => $module:ident::$args:ident,)*) => {
        /// A command with its arguments.
        #[derive(clap::Subcommand)]
        pub enum Command {
            $($(#[$attribute])* $variant(Box<$module::$args>),)*
        }

        impl Command {
            /// Runs the command.
            pub fn run(self) -> Outcome {
                match self {
                    $($(#[$attribute])* Command::$variant(args) => $module::run(*args),)*
                }
            }
        }
    };
}

commands! {
    Bench => bench::BenchArgs,
    Completions => completions::CompletionsArgs,
    Convert => convert::ConvertArgs,
    Data => data::DataArgs,
    #[cfg(feature = "mistralrs")]
    Demo => demo::DemoArgs,
    Doctor => doctor::DoctorArgs,
    Eval => eval::EvalArgs,
    Explain => explain::ExplainArgs,
    Export => export::ExportArgs,
    Gate => gate::GateArgs,
    Generate => generate::GenerateArgs,
    Import => import::ImportArgs,
    Leaderboard => leaderboard::LeaderboardArgs,
    Logps => logps::LogpsArgs,
    Man => man::ManArgs,
    Merge => merge::MergeArgs,
    Model => model::ModelArgs,
    Pairs => pairs::PairsArgs,
    Plot => plot::PlotArgs,
    Prompt => prompt::PromptArgs,
    Reward => reward::RewardArgs,
    Run => run::RunArgs,
    Score => score::ScoreArgs,
    Selftest => selftest::SelfTestArgs,
    Track => track::TrackArgs,
    Train => train::TrainArgs,
    Watch => watch::WatchArgs,
}

/// Threads of the global pool.
#[cfg(feature = "mistralrs")]
fn threads() -> usize {
    rayon::current_num_threads()
}

/// Largest value of `--threads`.
const MOST_THREADS: usize = 1024;

/// Sets the size of the global thread pool; called once, before anything computes.
fn set_threads(threads: Option<usize>) -> Result<(), Failure> {
    match threads {
        Some(0) => Err(Failure::user("--threads: expected at least 1, got 0")),
        Some(threads) if threads > MOST_THREADS => {
            Err(Failure::user(format!("--threads: expected at most {MOST_THREADS}, got {threads}")))
        }
        Some(threads) => rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().or_execution_error(),
        None => Ok(()),
    }
}

/// Says which files of a model directory a copy of the model does not have.
fn say_left_behind(source: &Path, progress: &Progress) {
    let names = smpo_model::files_left_behind(source);
    if !names.is_empty() {
        progress.say(&format!("left behind in {}: {}", source.display(), names.join(", ")));
    }
}
