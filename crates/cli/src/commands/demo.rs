//! `smpo demo`: from training to verdict in one command, on shipped data.

use std::path::PathBuf;

use smpo_demo::{DemoOptions, Ranking, Stages};
use smpo_devices::Choice;
use smpo_eval::{Options, Suite};
use smpo_results::MetricsFile;
use smpo_trainer::{EarlierRun, Finish, TrainConfig};

use super::engine::{Local, LocalEngine};
use super::eval::evaluate_shown;
use super::leaderboard::{self, Site};
use super::train;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Run the whole pipeline on shipped data: train, evaluate, gate, leaderboard; a few minutes on a CPU.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo demo --out smpo-demo --seeds 3")]
pub struct DemoArgs {
    /// Output directory; an interrupted demo resumes when the same command is run again
    #[arg(long, value_name = "DIR", default_value = "smpo-demo")]
    out: PathBuf,
    /// Training seeds per arm
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// First training seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Train the base model too, instead of using the shipped one
    #[arg(long)]
    from_scratch: bool,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: DemoArgs) -> Outcome {
    if args.seeds == 0 {
        return Err(Failure::user("--seeds: expected at least 1, got 0"));
    }
    super::set_threads(args.threads)?;
    let options = DemoOptions {
        out: args.out,
        seeds: (args.seed..).take(args.seeds as usize).collect(),
        from_scratch: args.from_scratch,
        threads: super::threads(),
    };
    let Some(demo) = smpo_demo::run(&options, &Commands(Progress::new()))? else { return Ok(Exit::Interrupted) };
    match args.format {
        Format::Text => demo.text(output::verdict_style()).iter().try_for_each(|part| output::print(part))?,
        Format::Json => output::print_json(&demo.json())?,
    }
    Ok(demo.decision().into())
}

/// The stages as this program's commands run them, under one set of progress bars.
struct Commands(Progress);

impl Stages for Commands {
    type Error = Failure;

    fn train(&self, config: &TrainConfig, name: &str) -> Result<Finish, Failure> {
        train::train(config, EarlierRun::Resume, name, &self.0)
    }

    fn evaluate(&self, suite: &Suite, mut options: Options, engines: usize) -> Result<Option<MetricsFile>, Failure> {
        let local = Local {
            model: &options.model.source,
            instances: Some(engines),
            threads: Some(1),
            device: Choice::Cpu,
            ..Local::default()
        };
        let loaded = local.load(LocalEngine::Mistralrs)?;
        options.model.weights_sha256.clone_from(&loaded.weights_sha256);
        evaluate_shown(suite, loaded, &options, &self.0)
    }

    fn leaderboard(&self, ranking: Ranking<'_>) -> Result<(), Failure> {
        let Ranking { dirs, out, title, baseline, policy, verdicts, seed } = ranking;
        leaderboard::write(Site { dirs, out, title, baseline: Some(baseline), policy, verdicts, seed })?;
        Ok(())
    }
}
