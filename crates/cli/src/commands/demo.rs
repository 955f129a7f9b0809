//! `smpo demo`: from training to verdict in one command, on shipped data.

use std::path::PathBuf;

use smpo_demo::{Demo, DemoOptions};
use smpo_recipe::Outcome as Ran;

use super::run;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Run the whole pipeline on shipped data: train, evaluate, gate, leaderboard; a minute on two cores.
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
    /// Stages side by side, one CPU thread each [default: all cores]
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
    let plan = run::plan(&smpo_demo::unpack(&options)?)?;
    if run::execute(&plan, 1, &Progress::new())? == Ran::Stopped {
        return Ok(Exit::Interrupted);
    }
    let demo = Demo::read(options)?;
    match args.format {
        Format::Text => demo.text(output::verdict_style()).iter().try_for_each(|part| output::print(part))?,
        Format::Json => output::print_json(&demo.json())?,
    }
    Ok(demo.decision().into())
}
