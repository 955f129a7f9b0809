//! `smpo leaderboard`: any number of evaluations, ranked on one page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smpo_files::resolved;
use smpo_gate::ranking::{RankingOptions, boards};
use smpo_gate::{Policy, Run};
use smpo_report::leaderboard::{publish, text};
use smpo_results::{Board, BoardEntry, EvaluationDir, Flip, Leaderboard, SCHEMA_VERSION, Verdict, read_json};

use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::output::{self, Format};

/// Rank models by their evaluations, on one self-contained HTML page.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo leaderboard runs/*/eval --baseline sft --out leaderboard")]
pub struct LeaderboardArgs {
    /// Evaluation directories; training seeds of one arm are pooled into one entry
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Output directory: index.html, leaderboard.json, leaderboard.md and samples/
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Entry to compare the others with [default: the first of each board]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Title of the page
    #[arg(long, default_value = "Leaderboard")]
    title: String,
    /// Gate policy whose margins the forest plot shows: a TOML file, or a shipped policy
    #[arg(long, value_name = "FILE|NAME", default_value = "default")]
    policy: String,
    /// Verdicts (`smpo gate --out`) to show at the top of the page
    #[arg(long, value_name = "FILE", num_args = 1..)]
    verdict: Vec<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Seed of the bootstrap; the same seed gives byte-identical output
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Bootstrap resamples of each difference.
const RESAMPLES: usize = 2_000;
/// A completion in `leaderboard.json` is cut here; the sample files have it whole.
const COMPLETION_BYTES: usize = 12_000;

/// Runs the command.
pub fn run(args: LeaderboardArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let policy = Policy::load(&args.policy)?;
    let verdicts = args.verdict.iter().map(|path| read_json(path, "verdict")).collect::<Result<_, _>>()?;
    let board = write(&args, &policy, verdicts)?;
    match args.format {
        Format::Text => {
            output::print(&text::render(&board, output::verdict_style()))?;
            output::print(&format!("\n{}", args.out.join("index.html").display()))?;
        }
        Format::Json => output::print_json(&outline(&board, &args.out))?,
    }
    Ok(Exit::Success)
}

/// Ranks the runs and writes the page and the files beside it; gives what `leaderboard.json` holds.
fn write(args: &LeaderboardArgs, policy: &Policy, verdicts: Vec<Verdict>) -> Result<Leaderboard, Failure> {
    let runs: Vec<Run> = args.dirs.iter().map(Run::load).collect::<Result<_, _>>()?;
    let samples = |run: &Run| (run.manifest.clone(), EvaluationDir::new(&run.dir).samples());
    let samples: Vec<_> = runs.iter().map(samples).collect();
    let options = RankingOptions {
        baseline: args.baseline.as_deref(),
        policy: Some(policy),
        resamples: RESAMPLES,
        seed: args.seed,
        wanted: changed_prompts(&verdicts, runs.len()),
        worst_per_entry: (240 / runs.len().max(1)).clamp(4, 12),
        completion_bytes: COMPLETION_BYTES,
    };
    let boards = boards(runs, &options)?;
    let title = args.title.clone();
    let mut board = Leaderboard { schema: SCHEMA_VERSION, title, boards, verdicts };
    note_absent_baselines(&mut board, &args.dirs);
    publish(&mut board, &samples, &args.out).or_execution_error()?;
    Ok(board)
}

/// Notes a verdict whose baseline is not among the board's models, in the verdict and on standard error.
fn note_absent_baselines(board: &mut Leaderboard, dirs: &[PathBuf]) {
    let names: BTreeSet<&str> =
        board.boards.iter().flat_map(|board| &board.entries).map(|entry| entry.name.as_str()).collect();
    for verdict in &mut board.verdicts {
        let given = |run: &String| dirs.iter().any(|dir| resolved(dir) == resolved(run.as_ref()));
        if names.contains(verdict.baseline.as_str()) || verdict.baseline_runs.iter().any(given) {
            continue;
        }
        let note = format!("the baseline of this verdict, {}, is not on the board", verdict.baseline);
        output::note(&format!("{} against {}: {note}", verdict.candidate, verdict.baseline));
        verdict.notes.push(note);
    }
}

/// Prompts that the verdicts' primary metrics found changed, fewer where many models answer each: the page shows their
/// completions side by side.
fn changed_prompts(verdicts: &[Verdict], models: usize) -> BTreeSet<(String, String)> {
    let most = (600 / models.max(1)).clamp(4, 40);
    let primary = verdicts.iter().flat_map(|verdict| &verdict.metrics).filter(|metric| metric.primary);
    let flips = primary.filter_map(|metric| metric.flips.as_ref());
    let mut rounds: Vec<(usize, &Flip)> =
        flips.flat_map(|flips| flips.worse.iter().enumerate().chain(flips.better.iter().enumerate())).collect();
    rounds.sort_by_key(|(place, _)| *place); // stable: the worst of every metric first
    let mut prompts = BTreeSet::new();
    for (_, flip) in rounds {
        if prompts.len() == most {
            break;
        }
        prompts.insert((flip.slice.clone(), flip.prompt_id.clone()));
    }
    prompts
}

/// The leaderboard as JSON on standard output: the page, and the ranking of each board.
fn outline(board: &Leaderboard, out: &Path) -> Value {
    let entry = |entry: &BoardEntry| json!({"name": entry.name, "rank_band": entry.rank_band, "prompts": entry.prompts, "card": entry.card});
    let board_of = |board: &Board| {
        let entries: Vec<Value> = board.entries.iter().map(entry).collect();
        json!({"title": board.title, "apart": board.apart, "common_prompts": board.common_prompts, "baseline": board.baseline, "entries": entries})
    };
    let boards: Vec<Value> = board.boards.iter().map(board_of).collect();
    json!({"schema": 1, "page": out.join("index.html"), "boards": boards})
}
