//! `smpo leaderboard`: any number of evaluations on one page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_files::write_whole;
use smpo_gate::ranking::{RankingOptions, boards};
use smpo_gate::{GateError, Policy, Run};
use smpo_report::leaderboard::{html, json, markdown, text};
use smpo_results::{Board, EvaluationDir, Leaderboard, RunManifest, SCHEMA_VERSION, Verdict, read_json};

use crate::exit::{Blame, Exit, Failure, Outcome, io_is_usage};
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

/// What a leaderboard is made from.
pub(super) struct Site<'a> {
    /// Evaluation directories.
    pub dirs: &'a [PathBuf],
    /// Where it goes.
    pub out: &'a Path,
    /// Title of the page.
    pub title: &'a str,
    /// Name of the entry that others are compared with.
    pub baseline: Option<&'a str>,
    /// Its margins are drawn.
    pub policy: &'a Policy,
    /// Shown on top.
    pub verdicts: Vec<Verdict>,
    /// Seed of all resampling.
    pub seed: u64,
}

/// Bootstrap resamples of each difference.
const RESAMPLES: usize = 2_000;
/// A completion in `leaderboard.json` is cut here; the sample files have it whole.
const COMPLETION_BYTES: usize = 12_000;

/// Runs the command.
pub fn run(args: LeaderboardArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let policy = Policy::load(&args.policy).map_err(blame)?;
    let verdicts = args.verdict.iter().map(|path| read_json(path, "verdict")).collect::<Result<_, _>>().usage()?;
    let site = Site {
        dirs: &args.dirs,
        out: &args.out,
        title: &args.title,
        baseline: args.baseline.as_deref(),
        policy: &policy,
        verdicts,
        seed: args.seed,
    };
    let board = write(site)?;
    match args.format {
        Format::Text => {
            output::print(&text::render(&board, output::verdict_style()))?;
            output::print(&format!("\n{}", args.out.join("index.html").display()))?;
        }
        Format::Json => output::print_json(&outline(&board, &args.out))?,
    }
    Ok(Exit::Success)
}

/// Ranks, renders and writes everything; gives what `leaderboard.json` holds.
pub(super) fn write(site: Site) -> Result<Leaderboard, Failure> {
    let runs: Vec<Run> = site.dirs.iter().map(Run::load).collect::<Result<_, _>>().map_err(blame)?;
    let mut sources: Vec<Source> = runs.iter().map(Source::new).collect();
    let options = RankingOptions {
        baseline: site.baseline,
        policy: Some(site.policy),
        resamples: RESAMPLES,
        seed: site.seed,
        worst_per_entry: (240 / runs.len().max(1)).clamp(4, 12),
        completion_bytes: COMPLETION_BYTES,
        describe: &|id| smpo_metrics::find(id).map(|info| info.description.to_owned()),
        find_loop: &smpo_metrics::metric::loop_rate::find,
    };
    let mut boards = boards(runs, &options).map_err(blame)?;
    let mut names = BTreeSet::new();
    for board in &mut boards {
        copy_samples(board, &mut sources, &mut names, site.out)?;
    }
    let board = Leaderboard { schema: SCHEMA_VERSION, title: site.title.to_owned(), boards, verdicts: site.verdicts };
    for (file, text) in [
        ("leaderboard.json", json::render(&board).execution()?),
        ("leaderboard.md", markdown::render(&board)),
        ("index.html", html::render(&board).execution()?),
    ] {
        write_whole(&site.out.join(file), text.as_bytes()).execution()?;
    }
    Ok(board)
}

/// Where a run's samples lie.
struct Source {
    manifest: RunManifest,
    samples: PathBuf,
    taken: bool,
}

impl Source {
    fn new(run: &Run) -> Source {
        let samples = EvaluationDir::new(&run.dir).samples();
        Source { manifest: run.manifest.clone(), samples, taken: false }
    }
}

/// Puts every run's samples beside the page, so that the directory can be moved or published as a whole.
fn copy_samples(
    board: &mut Board,
    sources: &mut [Source],
    names: &mut BTreeSet<String>,
    out: &Path,
) -> Result<(), Failure> {
    for entry in &mut board.entries {
        for manifest in &entry.provenance {
            let Some(source) = sources.iter_mut().find(|source| !source.taken && source.manifest == *manifest) else {
                continue;
            };
            source.taken = true;
            let link = format!("samples/{}.jsonl", file_name(manifest, names));
            let bytes = std::fs::read(&source.samples).execution()?;
            write_whole(&out.join(&link), &bytes).execution()?;
            entry.sample_files.push(link);
        }
    }
    Ok(())
}

/// The model's name, tamed for a file system and a link; a number tells equal ones apart.
fn file_name(manifest: &RunManifest, taken: &mut BTreeSet<String>) -> String {
    let tame = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = manifest.model.name.chars().take(60).map(tame).collect();
    let plain = match name.trim_matches('-') {
        "" => "model",
        name => name,
    };
    let mut unique = plain.to_owned();
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{plain}-{number}");
        number += 1;
    }
    unique
}

/// What a program wants to know.
#[derive(Serialize)]
struct Outline<'a> {
    page: PathBuf,
    boards: Vec<BoardOutline<'a>>,
}

#[derive(Serialize)]
struct BoardOutline<'a> {
    title: &'a str,
    baseline: Option<&'a str>,
    entries: Vec<EntryOutline<'a>>,
}

#[derive(Serialize)]
struct EntryOutline<'a> {
    name: &'a str,
    rank_band: (usize, usize),
}

fn outline<'a>(board: &'a Leaderboard, out: &Path) -> Outline<'a> {
    let entries = |board: &'a Board| {
        board.entries.iter().map(|entry| EntryOutline { name: &entry.name, rank_band: entry.rank_band }).collect()
    };
    let boards = board.boards.iter();
    Outline {
        page: out.join("index.html"),
        boards: boards
            .map(|board| BoardOutline {
                title: &board.title,
                baseline: board.baseline.as_deref(),
                entries: entries(board),
            })
            .collect(),
    }
}

/// What is wrong with a policy or a run is its author's to mend; a disk that fails is not.
fn blame(error: GateError) -> Failure {
    let machine = matches!(&error, GateError::Results(smpo_results::Error::Io { .. })) && !io_is_usage(&error);
    if machine { Failure::Execution(error.into()) } else { Failure::Usage(error.into()) }
}
