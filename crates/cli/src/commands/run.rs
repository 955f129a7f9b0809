//! `smpo run`: an experiment of several stages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_recipe::{Event, Facts, Kind, Outcome as Ran, Plan, Recipe, RecipeError, Runner, State};
use smpo_trainer::{EarlierRun, ReadConfig, TrainConfig, TrainError, dry_run};

use super::Command;
use super::engine::is_url;
use crate::arguments;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::{Progress, remaining};

/// Run an experiment: arms × seeds over fine-tuning, pairs, training, merge, evaluation, gate, leaderboard.
///
/// A stage is a command of this program; finished ones are skipped when the same recipe is run again, and a stage whose
/// command, inputs or earlier stages changed runs anew, its old results set aside. Exit code: that of the gates, 1 if one
/// failed, else 3 if one was inconclusive, else 0.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  smpo run recipes/own-pairs.toml --dry-run\n  smpo run recipes/own-pairs.toml")]
pub struct RunArgs {
    /// Recipe (TOML); paths in it are relative to the working directory
    recipe: PathBuf,
    /// Show every stage with its state, memory and time, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Model to start from [default: `model` of the recipe]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Output directory; an interrupted run resumes when the same command is run again [default: `out` of the recipe, or
    /// runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stages side by side [default: `jobs` of the recipe]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// CPU threads of all stages together [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One stage as JSON.
#[derive(Serialize)]
struct Shown {
    stage: String,
    state: &'static str,
    exit: Option<i32>,
    command: Vec<String>,
    output: PathBuf,
    /// Peak memory of a training stage on the model that the recipe starts from.
    memory_bytes: Option<u64>,
    /// Optimizer steps of a training stage.
    steps: Option<u64>,
    /// Seconds it took, or that stages of its kind took.
    seconds: Option<f64>,
}

/// Runs the command.
pub fn run(args: RunArgs) -> Outcome {
    for (option, number) in [("--jobs", args.jobs), ("--threads", args.threads)] {
        if number == Some(0) {
            return Err(Failure::user(format!("{option}: expected at least 1, got 0")));
        }
    }
    let mut recipe = Recipe::read(&args.recipe)?;
    recipe.model = args.model.clone().unwrap_or(recipe.model);
    recipe.out = args.out.clone().or(recipe.out);
    recipe.jobs = args.jobs.unwrap_or(recipe.jobs);
    let plan = plan(&recipe)?;
    let progress = Progress::new();
    if args.dry_run {
        return show(&recipe, &plan, args.format, &progress);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (args.threads.unwrap_or(cores) / plan.jobs).max(1);
    match execute(&plan, threads, &progress)? {
        Ran::Stopped => Ok(Exit::Interrupted),
        Ran::Done => result(&plan, args.format),
    }
}

/// The stages of a recipe, every option checked by the command that it belongs to.
pub fn plan(recipe: &Recipe) -> Result<Plan, Failure> {
    let plan = Plan::of(recipe, &facts)?;
    check(recipe, &plan)?;
    Ok(plan)
}

/// Runs what is missing of a plan, each stage on `threads` threads, with a line for every start and end.
pub fn execute(plan: &Plan, threads: usize, progress: &Progress) -> Result<Ran, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::execution(format!("this program's path: {error}")))?;
    let runner = Runner { program, threads, stop: interrupt::flag() };
    let total = plan.stages.len();
    let (mut done, mut over) = (0, BTreeSet::new());
    let ran = smpo_recipe::run(plan, &runner, &mut |event| {
        let line = match event {
            Event::Skipped(stage) => {
                done += 1;
                over.insert(stage.name.clone());
                format!("[{done}/{total}] {}: done before", stage.name)
            }
            Event::SetAside { stage, to } => {
                format!("{}: changed; earlier results are in {}", stage.name, to.display())
            }
            Event::Started { stage, again: true } => format!("{}: resumed", stage.name),
            Event::Started { stage, again: false } => format!("{}: started", stage.name),
            Event::Finished { stage, exit, seconds } => {
                done += 1;
                over.insert(stage.name.clone());
                let left = left(plan, &over).map(|left| format!(", {left}")).unwrap_or_default();
                format!("[{done}/{total}] {}: {} in {seconds:.0} s{left}", stage.name, outcome(stage.kind, exit))
            }
        };
        progress.say(&line);
    })?;
    if ran == Ran::Stopped {
        progress.say("stopped; the same command goes on");
    }
    Ok(ran)
}

/// Remaining time, once a training and an evaluation have ended where some are left; stages that run count whole.
fn left(plan: &Plan, over: &BTreeSet<String>) -> Option<String> {
    let open = plan.stages.iter().zip(plan.estimates()).filter(|(stage, _)| !over.contains(&stage.name));
    let seconds = open.map(|(stage, seconds)| match stage.kind {
        // Those take seconds and come last.
        Kind::Gate | Kind::Board => Some(seconds.unwrap_or_default()),
        _ => seconds,
    });
    let seconds = seconds.collect::<Option<Vec<f64>>>()?.iter().sum::<f64>() / plan.jobs as f64;
    (seconds >= 1.0).then(|| remaining(seconds))
}

/// The results of a finished plan.
fn result(plan: &Plan, format: Format) -> Outcome {
    let gates = plan.gates();
    let verdict = |exit: i32| outcome(Kind::Gate, exit);
    match format {
        Format::Text => {
            let mut lines: Vec<String> =
                gates.iter().map(|(stage, exit)| format!("{}: {}", stage.name, verdict(*exit))).collect();
            let last = plan.stages.last().map(|stage| stage.output.clone()).unwrap_or_default();
            lines.push(format!(
                "results: {}",
                if plan.stages.last().is_some_and(|stage| stage.kind == Kind::Board) {
                    last.join("index.html").display().to_string()
                } else {
                    plan.out.display().to_string()
                }
            ));
            output::print(&lines.join("\n"))?;
        }
        Format::Json => {
            let gates: serde_json::Map<String, serde_json::Value> =
                gates.iter().map(|(stage, exit)| (stage.name.clone(), verdict(*exit).into())).collect();
            output::print_json(
                &serde_json::json!({ "schema": 1, "out": plan.out, "stages": plan.stages.len(), "gates": gates }),
            )?;
        }
    }
    Ok(match () {
        () if gates.iter().any(|(_, exit)| *exit == 1) => Exit::Fail,
        () if gates.iter().any(|(_, exit)| *exit == 3) => Exit::Inconclusive,
        () => Exit::Success,
    })
}

fn outcome(kind: Kind, exit: i32) -> &'static str {
    match (kind, exit) {
        (Kind::Gate, 0) => "pass",
        (Kind::Gate, 1) => "fail",
        (Kind::Gate, 3) => "inconclusive",
        _ => "done",
    }
}

/// Reads a training configuration as `smpo train` does.
fn facts(config: &Path, settings: &[String]) -> Result<Facts, String> {
    let ReadConfig { config, .. } = TrainConfig::read(config, settings).map_err(|error| error.to_string())?;
    let models = [
        Some(&config.model_name_or_path),
        config.adapter_name_or_path.as_ref(),
        config.reference_model_name_or_path.as_ref(),
    ];
    let data: Vec<PathBuf> = config.dataset.iter().chain(&config.eval_dataset).cloned().collect();
    let missing = data.iter().filter(|path| is_missing(path)).cloned().collect();
    let inputs = data.into_iter().chain(models.into_iter().flatten().cloned()).collect();
    Ok(Facts { adapter: config.use_peft || config.adapter_name_or_path.is_some(), inputs, missing })
}

/// True for a data file that is not there; patterns and names on the hub are none.
fn is_missing(path: &Path) -> bool {
    let is_file = !path.to_string_lossy().contains(['*', '?', '[']) && !path.starts_with("hf:");
    is_file && !path.exists()
}

/// Refuses a model that is not there, and a stage whose options, suite or policy are wrong, before anything runs.
fn check(recipe: &Recipe, plan: &Plan) -> Result<(), Failure> {
    if !recipe.model.starts_with("hf://") && !is_url(&recipe.model) && !smpo_files::exists(Path::new(&recipe.model))? {
        let expected = "expected a model directory, a GGUF file or hf://ORG/NAME";
        return Err(Failure::user(format!("{}: `model`: {expected}, got {:?}", recipe.path.display(), recipe.model)));
    }
    for stage in &plan.stages {
        let words = std::iter::once("smpo").chain(stage.arguments.iter().map(String::as_str));
        if let Some(problem) = problem(words) {
            let (path, stage) = (recipe.path.clone(), stage.name.clone());
            return Err(RecipeError::Stage { path, stage, problem }.into());
        }
    }
    Ok(())
}

/// The fault of a stage's command, as far as it can be told before earlier ones have run.
fn problem<'a>(words: impl Iterator<Item = &'a str>) -> Option<String> {
    match arguments::try_parse::<crate::Cli>(words) {
        Ok(cli) => match &cli.command {
            Command::Eval(eval) => eval.read_suite().err().map(|failure| failure.to_string()),
            Command::Gate(gate) => gate.load_policy().err().map(|error| error.to_string()),
            _ => None,
        },
        Err(error) => {
            let text = error.render().to_string();
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Usage:"));
            let problem = lines.take_while(|line| !line.starts_with("For more")).collect::<Vec<_>>().join("; ");
            Some(problem.trim_start_matches("error: ").to_owned())
        }
    }
}

/// Prints the plan.
fn show(recipe: &Recipe, plan: &Plan, format: Format, progress: &Progress) -> Outcome {
    let states = smpo_recipe::states(plan)?;
    let seconds = plan.estimates();
    // The tokens of all arms' data, once; a plan leaves nothing behind.
    let tokens = tempfile::tempdir().map_err(|error| Failure::execution(format!("a temporary directory: {error}")))?;
    let mut shown = Vec::new();
    for ((stage, state), seconds) in plan.stages.iter().zip(states).zip(seconds) {
        let training = matches!(stage.kind, Kind::Sft | Kind::Train);
        let Estimate { steps, memory_bytes, refusal } =
            if training { estimate(recipe, &stage.arguments, tokens.path()) } else { Estimate::default() };
        if let Some(reason) = refusal {
            progress.say(&format!("{} would not start: {reason}", stage.name));
        }
        let (state, exit) = match state {
            State::Done { exit } => ("done", Some(exit)),
            State::Begun => ("interrupted", None),
            State::New => ("to do", None),
            State::Changed => ("changed", None),
        };
        shown.push(Shown {
            stage: stage.name.clone(),
            state,
            exit,
            command: stage.arguments.clone(),
            output: stage.output.clone(),
            memory_bytes,
            steps,
            seconds,
        });
    }
    progress.say(&format!("{} stages, {} side by side, in {}", shown.len(), plan.jobs, plan.out.display()));
    match format {
        Format::Json => output::print_json(&shown)?,
        Format::Text => {
            let mut table = output::table();
            table.set_header(["stage", "state", "steps", "memory", "time"]);
            for row in &shown {
                let or = |text: Option<String>| text.unwrap_or_else(|| "–".into());
                table.add_row([
                    row.stage.clone(),
                    row.state.to_owned(),
                    or(row.steps.map(|steps| steps.to_string())),
                    or(row.memory_bytes.map(smpo_devices::format_bytes)),
                    or(row.seconds.map(|seconds| format!("{seconds:.0} s"))),
                ]);
            }
            output::print(&table.to_string())?;
        }
    }
    Ok(Exit::Success)
}

/// Needs of a training stage, as far as they can be told before earlier stages have run.
#[derive(Debug, Default)]
struct Estimate {
    steps: Option<u64>,
    memory_bytes: Option<u64>,
    /// The reason why it would not start.
    refusal: Option<String>,
}

/// The estimate of a training stage, on the model that the recipe starts from. Data that is not there is made by earlier stages.
fn estimate(recipe: &Recipe, arguments: &[String], tokens: &Path) -> Estimate {
    let refused = |error: &TrainError| Estimate { refusal: Some(error.to_string()), ..Estimate::default() };
    let [_, config, settings @ ..] = arguments else { return Estimate::default() };
    let settings: Vec<String> = settings
        .iter()
        .filter_map(|setting| setting.strip_prefix("--set="))
        .map(|setting| match setting.starts_with("model_name_or_path=") {
            true => format!("model_name_or_path={:?}", recipe.model),
            false => setting.to_owned(),
        })
        .collect();
    let mut config = match TrainConfig::read(Path::new(config), &settings) {
        Ok(read) => read.config,
        Err(error) => return refused(&error),
    };
    config.token_cache.get_or_insert_with(|| tokens.to_owned());
    let to_come = config.dataset.iter().any(|path| is_missing(path));
    match dry_run(&config, EarlierRun::Resume, interrupt::flag(), &mut |_| ()) {
        Err(error) if !to_come => refused(&error),
        Ok(Some(found)) => {
            let json = found.json(&config);
            let refusal = found.errors.first().filter(|_| !to_come).map(TrainError::to_string);
            Estimate { steps: json["steps"].as_u64(), memory_bytes: json["memory"]["total_bytes"].as_u64(), refusal }
        }
        Err(_) | Ok(None) => Estimate::default(),
    }
}
