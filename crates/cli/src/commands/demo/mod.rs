//! `smpo demo`: from training to verdict in one command, on shipped data.

mod arms;
mod board;
mod evaluations;
mod findings;
mod inputs;
mod next_steps;
mod table;
mod verdicts;

use std::path::PathBuf;

use anyhow::anyhow;
use smpo_results::write_json;

use crate::exit::{Blame, Exit, Failure, Outcome};
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
        return Err(Failure::Usage(anyhow!("--seeds: expected at least 1, got 0")));
    }
    super::set_threads(args.threads)?;
    let threads = rayon::current_num_threads();
    let progress = Progress::new();
    let inputs = inputs::Inputs::unpack(&args.out)?;

    let seeds: Vec<u64> = (args.seed..).take(args.seeds as usize).collect();
    let Some(base) = arms::base(&inputs, args.from_scratch, &progress)? else { return Ok(Exit::Interrupted) };
    let Some(models) = arms::train(&inputs, &base, &seeds, threads, &progress)? else { return Ok(Exit::Interrupted) };
    let Some(evaluations) = evaluations::evaluate(&inputs, models, threads, &progress)? else {
        return Ok(Exit::Interrupted);
    };
    let verdicts = verdicts::decide(&inputs, &evaluations)?;
    write_json(&args.out.join("verdict.json"), "verdict", &verdicts.over_regular).execution()?;
    for (name, verdict) in verdicts.all() {
        write_json(&args.out.join("verdicts").join(format!("{name}.json")), "verdict", verdict).execution()?;
    }
    let page = board::write(&inputs, &evaluations, &verdicts)?;
    let findings = findings::of(&evaluations);

    match args.format {
        Format::Text => {
            output::print(&table::render(&evaluations))?;
            output::print(&verdicts::render(&verdicts))?;
            output::print(&findings::render(&findings))?;
            output::print(&next_steps::render(&args.out, &inputs, &page))?;
        }
        Format::Json => output::print_json(&serde_json::json!({
            "table": table::rows(&evaluations),
            "verdicts": verdicts.all().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "findings": findings,
            "leaderboard": page,
        }))?,
    }
    Ok(verdicts.exit())
}
