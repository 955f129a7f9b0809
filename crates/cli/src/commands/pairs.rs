//! `smpo pairs`: preference pairs or groups from a model's own completions.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_inference::fleet::Worker;
use smpo_native::LabelModel;
use smpo_pairs::judge::{JudgeEvent, Judged, Judges, Mode, Template};
use smpo_pairs::{
    Answered, Basket, Candidate, Dropped, Given, Judge, Policy, Report, Rows, Score, Selection, Spread, rewards, score,
    write_rows,
};
use smpo_results::{RewardModelInfo, files};
use smpo_suggest::counted;

use super::engine::{EngineArgs, Opened};
use super::eval::display;
use super::reward_model;
use super::sampled::{BasketArgs, Sampled};
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format as Output};
use crate::progress::Progress;

/// Make preference pairs or groups from a model's own completions: sample, score, select.
///
/// Takes 8 completions of each prompt unless --samples or the suite asks for several. Writes OUT/pairs.jsonl (groups.jsonl with --policy groups), OUT/report.json, and the samples with their metrics in
/// OUT/samples. `smpo train` reads the pairs as they are. A second call with other scores or another policy samples
/// nothing anew.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  smpo pairs runs/sft/model --prompts prompts.jsonl --out pairs\n  smpo pairs runs/sft/model --prompts \
                  prompts.jsonl --out pairs --score rule@2 --score judge --judge http://localhost:8000/v1 --judge-model m"
)]
pub struct PairsArgs {
    #[command(flatten)]
    basket: BasketArgs,
    /// Part of the score: rule, rule:METRIC=WEIGHT,… (metrics of one completion; length:MIN..MAX=WEIGHT), rm:DIR (a reward
    /// model) or judge, each with @WEIGHT; may be repeated, parts add up [default: rule]
    #[arg(long, value_name = "SCORE", help_heading = "Scores")]
    score: Vec<String>,
    /// Model that judges: directory, .gguf file, or URL of an OpenAI-compatible server; several URLs, with commas between, of
    /// servers of the same model, share the questions
    #[arg(long, value_name = "MODEL", help_heading = "Scores")]
    judge: Vec<String>,
    /// Name of the judge on its server
    #[arg(long, value_name = "NAME", help_heading = "Scores")]
    judge_model: Option<String>,
    /// Grade each completion, or compare each two of a prompt in both orders
    #[arg(long, value_enum, default_value_t, help_heading = "Scores")]
    judge_mode: JudgeMode,
    /// Prompt of the judge, a text with {prompt} and {answer}, or {answer_a} and {answer_b}; {reference} is the right
    /// answer [default: the shipped one]
    #[arg(long, value_name = "FILE", help_heading = "Scores")]
    judge_prompt: Option<PathBuf>,
    /// Times that the judge is asked until its reply holds a decision
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Scores")]
    judge_attempts: u32,
    /// Cap on the judge's reply, in tokens; a reply that it cuts has no decision
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, help_heading = "Scores")]
    judge_cap: u32,
    /// Temperature of the judge, for models that take 1 alone [default: 0, and 0.7 where it is asked again]
    #[arg(long, value_name = "T", help_heading = "Scores")]
    judge_temperature: Option<f64>,
    /// Environment variable with the API key of the judge's server [default: OPENAI_API_KEY]
    #[arg(long, value_name = "VARIABLE", help_heading = "Scores")]
    judge_api_key_env: Option<String>,
    /// Extra header for every request to the judge's server; its value is neither shown nor recorded. May be repeated
    #[arg(long, value_name = "NAME: VALUE", help_heading = "Scores")]
    judge_header: Vec<String>,
    /// Rows of one prompt: best against worst, all pairs, or all completions as a group
    #[arg(long, value_enum, default_value_t, help_heading = "Selection")]
    policy: Kind,
    /// Least difference of scores between chosen and rejected; ties are never taken
    #[arg(long, value_name = "SCORE", default_value_t = 0.0, help_heading = "Selection")]
    min_gap: f64,
    /// Maximum pairs of one prompt, for --policy all-pairs [default: all]
    #[arg(long, value_name = "N", help_heading = "Selection")]
    max_pairs: Option<usize>,
    /// Allow chosen completions that were cut before their end
    #[arg(long, help_heading = "Selection")]
    cut_chosen: bool,
    /// Layout of the rows
    #[arg(long, value_enum, default_value_t, help_heading = "Selection")]
    rows: Layout,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Output,
}

/// Grades or comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum JudgeMode {
    /// A grade from 1 to 10 for each completion
    #[default]
    Grade,
    /// Comparisons of each two; the score is the share won
    Compare,
}

/// Kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Kind {
    /// One pair: the best completion against the worst
    #[default]
    BestWorst,
    /// Every pair of completions, the widest gaps first
    AllPairs,
    /// All completions with their scores as one row
    Groups,
}

/// Layout of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Layout {
    /// smpo's own
    #[default]
    Canonical,
    /// _rs.jsonl of effective_llm_alignment
    Ela,
}

/// Result as JSON.
#[derive(Serialize)]
struct Made<'a> {
    schema: u32,
    model: &'a str,
    /// None where no row was made.
    rows_file: Option<&'a Path>,
    #[serde(flatten)]
    report: &'a Report,
}

/// Samples of a prompt where neither option nor suite asks for several.
const SAMPLES: u32 = 8;

/// Runs the command.
pub fn run(args: PairsArgs) -> Outcome {
    let scores = Score::of(&args.score).map_err(|problem| Failure::user(format!("--score {problem}")))?;
    let selection = selection(&args)?;
    let judge = judge(&args, &scores)?;
    let models = scores.reward_models().map(|dir| Ok((dir, reward_model::open("--score rm", dir)?)));
    let models = models.collect::<Result<Vec<_>, Failure>>()?;
    let progress = Progress::new();
    let several = |of_suite: u32| if of_suite == 1 { SAMPLES } else { of_suite };
    let Some(Sampled { basket, model, samples, follow_ups }) = args.basket.sample(several, &progress)? else {
        return stopped(&progress);
    };
    let answered = Answered::all(&basket, &samples, &follow_ups);
    let judged = match &judge {
        None => Judged::default(),
        Some(judge) => ask(&args, judge, &answered, &progress)?,
    };
    if judged.stopped {
        return stopped(&progress);
    }
    let mut given = Given { judged: judged.scores, ..Given::default() };
    for (dir, (info, mut model)) in models {
        match reward(&args, &info, &mut model, &basket, &answered, &progress)? {
            Some(rewards) => drop(given.rewards.insert(dir.to_owned(), rewards)),
            None => return stopped(&progress),
        }
    }
    let scored = score(&scores, &answered, &given);
    let candidates: Vec<Candidate<'_>> =
        answered.into_iter().zip(scored).map(|(answered, score)| Candidate { answered, score }).collect();
    let (rows, dropped) = rows(&basket, &candidates, &selection);
    let path = args.basket.out.join(file_name(&args));
    let scorer = args.score.join(" + ");
    let layout = match args.rows {
        Layout::Canonical => smpo_pairs::Format::Canonical,
        Layout::Ela => smpo_pairs::Format::Ela,
    };
    let report = Report::new(&candidates, &rows, &dropped, judged.unanswered);
    // Rows of an earlier call with other options stay where this one has none.
    let made = (report.rows > 0).then_some(path.as_path());
    if made.is_some() {
        write_rows(&path, &rows, layout, &model, if scorer.is_empty() { "rule" } else { &scorer })?;
    }
    files::write_json(&args.basket.out.join("report.json"), "report", &report)?;
    match args.format {
        Output::Text => output::print(&text(&report, made))?,
        Output::Json => output::print_json(&Made { schema: 1, model: &model, rows_file: made, report: &report })?,
    }
    if report.rows == 0 {
        let kept = match smpo_files::exists(&path)? {
            true => format!("; {} stays as it was", path.display()),
            false => String::new(),
        };
        return Err(Failure::user(format!(
            "no prompt gave a row{kept}; sample more per prompt (--samples), or change --score and --min-gap"
        )));
    }
    Ok(Exit::Success)
}

fn stopped(progress: &Progress) -> Outcome {
    progress.say("stopped; the same command resumes");
    Ok(Exit::Interrupted)
}

fn selection(args: &PairsArgs) -> Result<Selection, Failure> {
    let policy = match args.policy {
        Kind::BestWorst => Policy::BestWorst,
        Kind::AllPairs => Policy::AllPairs,
        Kind::Groups => Policy::Groups,
    };
    let problem = match () {
        () if !(args.min_gap >= 0.0 && args.min_gap.is_finite()) => {
            format!("--min-gap: expected a number of at least 0, got {}", args.min_gap)
        }
        () if args.max_pairs == Some(0) => "--max-pairs: expected at least 1, got 0".into(),
        () if args.max_pairs.is_some() && policy != Policy::AllPairs => "--max-pairs is for --policy all-pairs".into(),
        () if args.rows == Layout::Ela && policy == Policy::Groups => {
            "--rows ela is a layout of pairs; it has no place for --policy groups".into()
        }
        () if args.cut_chosen && policy == Policy::Groups => {
            "--cut-chosen is for pairs; groups keep every completion".into()
        }
        () if args.basket.sampling.samples == Some(1) => {
            "--samples: expected at least 2 completions of each prompt to choose from, got 1".into()
        }
        () => {
            let max_pairs = args.max_pairs.unwrap_or(usize::MAX);
            return Ok(Selection { policy, min_gap: args.min_gap, max_pairs, cut_chosen: args.cut_chosen });
        }
    };
    Err(Failure::user(problem))
}

/// An option that only a judge has a use for.
fn given_to_judge(args: &PairsArgs) -> Option<&'static str> {
    let given = [
        ("--judge-model", args.judge_model.is_some()),
        ("--judge-prompt", args.judge_prompt.is_some()),
        ("--judge-mode", args.judge_mode != JudgeMode::default()),
        ("--judge-temperature", args.judge_temperature.is_some()),
        ("--judge-api-key-env", args.judge_api_key_env.is_some()),
        ("--judge-header", !args.judge_header.is_empty()),
    ];
    given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
}

/// The judge, if it takes part in the score.
fn judge(args: &PairsArgs, scores: &Score) -> Result<Option<Judge>, Failure> {
    if args.judge.is_empty() {
        return match scores.has_judge() {
            true => Err(Failure::user("--score judge needs --judge, the model that judges")),
            false => match given_to_judge(args) {
                Some(option) => Err(Failure::user(format!("{option} has no effect without --judge"))),
                None => Ok(None),
            },
        };
    }
    if !scores.has_judge() {
        return Err(Failure::user("--judge has no effect without --score judge"));
    }
    let engine = engine_of(args);
    engine.check_sources().map_err(|failure| failure.prefixed("--judge: "))?;
    let source = args.judge.join(", ");
    match (engine.is_server(), &args.judge_model) {
        (true, None) => {
            return Err(Failure::user("--judge: a server's URL needs --judge-model, the model's name there"));
        }
        (false, Some(_)) => {
            return Err(Failure::user(format!("--judge-model is for a server's URL; --judge is {source}")));
        }
        _ => {}
    }
    if args.judge_attempts == 0 {
        return Err(Failure::user("--judge-attempts: expected at least 1, got 0"));
    }
    let mode = match args.judge_mode {
        JudgeMode::Grade => Mode::Grade,
        JudgeMode::Compare => Mode::Compare,
    };
    let template = match &args.judge_prompt {
        Some(path) => Template::read(path, mode)?,
        None => Template::shipped(mode),
    };
    let model = args.judge_model.clone().unwrap_or(source);
    if let Some(bad) = args.judge_temperature.filter(|temperature| !(0.0..=100.0).contains(temperature)) {
        return Err(Failure::user(format!("--judge-temperature: expected 0 to 100, got {bad}")));
    }
    if args.judge_cap == 0 {
        return Err(Failure::user("--judge-cap: expected at least 1, got 0"));
    }
    let (attempts, max_tokens, temperature) = (args.judge_attempts, args.judge_cap, args.judge_temperature);
    Ok(Some(Judge { model, template, attempts, max_tokens, temperature }))
}

/// The engine of the judge.
fn engine_of(args: &PairsArgs) -> EngineArgs {
    EngineArgs::of(args.judge.clone(), args.judge_model.as_deref())
        .for_text(args.judge_api_key_env.clone(), args.judge_header.clone())
}

fn ask(args: &PairsArgs, judge: &Judge, answered: &[Answered<'_>], progress: &Progress) -> Result<Judged, Failure> {
    let Opened { loaded, .. } = engine_of(args).open()?;
    loaded.warnings.iter().for_each(|warning| progress.say(&format!("--judge: {warning}")));
    let (mut workers, mut servers) = (Vec::new(), Vec::new());
    for smpo_eval::Worker { name, generators, server } in loaded.engines.workers {
        servers.extend(server.map(|server| (name.clone(), server)));
        workers.push(Worker { name, generators });
    }
    let mut judges = Judges::new(workers, loaded.engines.patience);
    let stage = progress.stage("judge", 0);
    let journal = args.basket.out.join("judgements.jsonl");
    let judged = judge.judge(answered, &mut judges, &journal, &mut |event| {
        match event {
            JudgeEvent::Progress(state) => {
                stage.resize(state.total as u64);
                stage.update(state.done as u64, "");
            }
            JudgeEvent::SetAside { judge, reason, pause } => {
                progress.say(&format!("{judge}: {}", display::set_aside(reason, pause)));
            }
            JudgeEvent::Back { judge } => progress.say(&format!("{judge}: {}", display::BACK)),
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let unusable = match judged.unanswered {
        0 => String::new(),
        some => {
            let failed = match &judged.failure {
                Some(reason) => format!(", on {} of them the judge failed: {reason}", judged.failures),
                None => String::new(),
            };
            format!("{some} questions without a usable reply{failed}; the same command asks again")
        }
    };
    stage.finish(&unusable);
    other_names(&servers).iter().for_each(|warning| progress.say(warning));
    Ok(judged)
}

/// Warnings of judges that answer as other models, or differ from each other.
fn other_names(servers: &[(String, smpo_eval::Server)]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut all = Vec::new();
    for (server, smpo_eval::Server { model, served }) in servers {
        let served = served();
        let others = served.other_models(model).into_iter();
        warnings.extend(others.map(|other| format!("{server}: {}", display::other_model(model, other))));
        all.push((server.clone(), served));
    }
    warnings.extend(smpo_eval::disagreements(&all).iter().map(|found| display::disagree("judgements", found)));
    warnings
}

/// Rewards of all completions by one model; `None` when stopped.
fn reward(
    args: &PairsArgs,
    info: &RewardModelInfo,
    model: &mut LabelModel,
    basket: &Basket,
    answered: &[Answered<'_>],
    progress: &Progress,
) -> Result<Option<Vec<Option<f64>>>, Failure> {
    let stage = progress.stage(&format!("reward model {}", info.source), answered.len() as u64);
    let journal = args.basket.out.join("rewards.jsonl");
    let given = rewards(model, &info.weights_sha256, basket, answered, &journal, &mut |done, _| {
        stage.update(done as u64, "");
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let Some(given) = given else { return Ok(None) };
    let without = answered.iter().zip(&given).filter(|(answer, reward)| !answer.failed() && reward.is_none()).count();
    stage.finish(&match without {
        0 => String::new(),
        some => format!("{some} completions without a reward: longer than the model's context"),
    });
    Ok(Some(given))
}

/// The rows of all prompts, and the reasons of those that have none.
fn rows<'a>(
    basket: &'a Basket,
    candidates: &'a [Candidate<'a>],
    selection: &Selection,
) -> (Vec<Rows<'a>>, Vec<Dropped>) {
    let mut by_prompt: HashMap<&str, &[Candidate<'_>]> = HashMap::new();
    for of_prompt in candidates.chunk_by(|a, b| a.answered.first.prompt_id == b.answered.first.prompt_id) {
        by_prompt.insert(&of_prompt[0].answered.first.prompt_id, of_prompt);
    }
    let (mut rows, mut dropped) = (Vec::new(), Vec::new());
    for prompt in &basket.suite.prompts {
        let candidates = by_prompt.get(prompt.id.as_str()).copied().unwrap_or_default();
        match selection.select(candidates) {
            Ok(selected) => rows.push(Rows {
                id: &prompt.id,
                prompt: &prompt.messages,
                correct_answer: prompt.reference.as_deref().filter(|_| prompt.closed),
                candidates,
                selected,
            }),
            Err(reason) => dropped.push(reason),
        }
    }
    (rows, dropped)
}

fn file_name(args: &PairsArgs) -> String {
    match (args.rows, args.policy) {
        (Layout::Ela, _) => {
            let stem = args.basket.prompts.file_stem().unwrap_or_default().to_string_lossy();
            format!("{stem}_rs.jsonl")
        }
        (Layout::Canonical, Kind::Groups) => "groups.jsonl".into(),
        (Layout::Canonical, _) => "pairs.jsonl".into(),
    }
}

fn text(report: &Report, made: Option<&Path>) -> String {
    let Report { prompts, samples, failed, unscored, kept, rows, .. } = report;
    let (written, asked) = (counted(rows, "row"), counted(prompts, "prompt"));
    let place = made.map(|path| format!(": {}", path.display())).unwrap_or_default();
    let mut lines = vec![format!("{written} from {kept} of {asked}{place}")];
    lines.push(format!("{}, {failed} failed, {unscored} without a score", counted(samples, "sample")));
    for (reason, count) in &report.dropped {
        lines.push(format!("{} left out: {}", counted(count, "prompt"), reason.describe()));
    }
    let show = |spread: &Option<Spread>, digits: usize| match spread {
        Some(Spread { mean, percentiles: [_, low, _, median, _, high, _], .. }) => {
            format!(
                "mean {mean:.digits$}, median {median:.digits$}, 10th to 90th percentile {low:.digits$} to {high:.digits$}"
            )
        }
        None => "unknown".into(),
    };
    lines.push(format!("scores: {}", show(&report.scores, 2)));
    for (name, side) in [("chosen", &report.chosen), ("rejected", &report.rejected)] {
        if let Some(side) = side {
            lines.push(format!("{name}: score {}", show(&side.scores, 2)));
            lines.push(format!(
                "{name}: tokens {}; {:.1} % cut before their end",
                show(&side.tokens, 0),
                100.0 * side.cut
            ));
        }
    }
    lines.join("\n")
}
