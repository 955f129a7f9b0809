//! `smpo eval`: sample a suite from a model, and measure what comes back.

mod forward;
pub mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use comfy_table::CellAlignment;
use serde::Serialize;
use smpo_eval::runner::write_results;
use smpo_eval::teacher_forced::{TeacherForcedError, measure_gold, measure_pairs, read_held_out};
use smpo_eval::{ALL, Measured, RunError, Sampled, Suite, metrics, sample_suite};
use smpo_inference::{
    EngineInfo, Generator, HttpConfig, HttpGenerator, InferenceError, MistralConfig, MistralEngine, Request,
    check_fidelity, default_tolerance,
};
use smpo_results::{
    EvaluationDir, FinishReason, Measurement, MetricsFile, ModelInfo, RunManifest, SCHEMA_VERSION, TerminatorSet,
    hash_bytes,
};

use self::forward::Forward;
use super::score::{blame as blame_input, cell};
use crate::exit::{Blame, Exit, Failure, Outcome, io_is_usage};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Sample a suite from a model and measure what comes back.
#[derive(clap::Args)]
pub struct EvalArgs {
    /// Hugging Face directory, PEFT adapter directory, .gguf file, or a server's URL (http://localhost:8000/v1)
    #[arg(value_name = "MODEL")]
    source: String,
    /// A suite (TOML), or any JSONL file of prompts
    #[arg(long, value_name = "FILE")]
    suite: PathBuf,
    /// Where the evaluation goes; the same command goes on with what is there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Throw away what an earlier run left in --out
    #[arg(long)]
    restart: bool,
    /// The model below a PEFT adapter, where the adapter names no directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The model's name on the server
    #[arg(long, value_name = "NAME", help_heading = "Servers")]
    model: Option<String>,
    /// The same model on this disk: checks the server's log-probs and gives the teacher-forced measures
    #[arg(long, value_name = "DIR", help_heading = "Servers")]
    weights: Option<PathBuf>,
    /// Requests in flight at once [default: 8]
    #[arg(long, value_name = "N", help_heading = "Servers")]
    concurrency: Option<usize>,
    /// Seconds to wait for one answer [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "Servers")]
    timeout_secs: Option<f64>,
    /// Environment variable that holds the key [default: OPENAI_API_KEY]
    #[arg(long, value_name = "VARIABLE", help_heading = "Servers")]
    api_key_env: Option<String>,
    /// What reports call the model; its file name or name on the server when absent
    #[arg(long)]
    name: Option<String>,
    /// Arm of an experiment that this checkpoint belongs to
    #[arg(long)]
    arm: Option<String>,
    /// Training seed of this checkpoint
    #[arg(long, value_name = "SEED")]
    training_seed: Option<u64>,
    /// Cap on generated tokens, instead of the suite's
    #[arg(long, value_name = "TOKENS")]
    cap: Option<u32>,
    /// Samples of each prompt, instead of the suite's
    #[arg(long, value_name = "K")]
    samples: Option<u32>,
    /// Sampling seed, instead of the suite's
    #[arg(long)]
    seed: Option<u64>,
    /// Temperature, instead of the suite's; 0 is greedy
    #[arg(long)]
    temperature: Option<f64>,
    /// Keep the likeliest tokens, instead of the suite's number
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Keep the likeliest tokens that hold this share, instead of the suite's
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Keep tokens at least this share as likely as the likeliest, instead of the suite's
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Engines side by side, each with its own copy of the weights; one per core for small models, else one
    #[arg(long, value_name = "N")]
    instances: Option<usize>,
    /// Do not compare the engine with this program's own forward pass first
    #[arg(long)]
    no_fidelity_check: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Threads that one engine computes with
    #[arg(long)]
    threads: Option<usize>,
}

/// What to evaluate, and where to put it.
pub struct Evaluation {
    /// The model and what it is called.
    pub model: ModelInfo,
    /// The model below a PEFT adapter.
    pub base: Option<PathBuf>,
    /// Evaluation directory.
    pub out: PathBuf,
    /// Forget what is there.
    pub restart: bool,
    /// Engines side by side.
    pub instances: Option<usize>,
    /// Threads of each.
    pub threads: Option<usize>,
    /// Compare the engine with this program's own forward pass first.
    pub fidelity_check: bool,
}

/// How an evaluation ended.
pub enum Evaluated {
    /// Everything is on disk.
    Done(Measured),
    /// Ctrl-C; the same call goes on.
    Stopped,
}

/// Runs the command.
pub fn run(args: EvalArgs) -> Outcome {
    let served = args.source.starts_with("http://") || args.source.starts_with("https://");
    refuse_misplaced(&args, served).usage()?;
    let mut suite = Suite::read(&args.suite).map_err(blame_input)?;
    override_suite(&mut suite, &args).usage()?;
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    let server = if served { Some(server(&args)?) } else { None };
    let (source, default_name) = match &server {
        // As the client shows it: without a user or a password.
        Some(server) => (server.engine().device, args.model.clone().unwrap_or_default()),
        None => (args.source.clone(), file_name(Path::new(&args.source))),
    };
    let evaluation = Evaluation {
        model: ModelInfo {
            source,
            name: args.name.clone().unwrap_or(default_name),
            weights_sha256: None,
            arm: args.arm.clone(),
            training_seed: args.training_seed,
        },
        base: args.base.clone(),
        out: args.out.clone(),
        restart: args.restart,
        instances: args.instances,
        threads: args.threads,
        fidelity_check: !args.no_fidelity_check,
    };
    let evaluated = match server {
        Some(server) => {
            let engines = Engines::served(&server, args.weights.as_deref())?;
            evaluate_with(&suite, &evaluation, engines, &progress)?
        }
        None => evaluate(&suite, &evaluation, &progress)?,
    };
    match evaluated {
        Evaluated::Done(measured) => {
            let (name, metrics) = (&evaluation.model.name, &measured.metrics);
            match args.format {
                Format::Text => output::print(&text(name, metrics, &args.out))?,
                Format::Json => output::print_json(&Printed { model: name, out: &args.out, metrics })?,
            }
            Ok(Exit::Success)
        }
        Evaluated::Stopped => {
            progress.say("stopped; the same command goes on from there");
            Ok(Exit::Interrupted)
        }
    }
}

/// An option that would change nothing is a mistake.
fn refuse_misplaced(args: &EvalArgs, served: bool) -> anyhow::Result<()> {
    let server_options = [
        ("--model", args.model.is_some()),
        ("--weights", args.weights.is_some()),
        ("--concurrency", args.concurrency.is_some()),
        ("--timeout-secs", args.timeout_secs.is_some()),
        ("--api-key-env", args.api_key_env.is_some()),
    ];
    let local_options = [
        ("--base", args.base.is_some()),
        ("--instances", args.instances.is_some()),
        ("--threads", args.threads.is_some()),
    ];
    let (misplaced, kind): (&[(&str, bool)], _) =
        if served { (&local_options, "a model on this disk") } else { (&server_options, "a server's URL") };
    match misplaced.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(anyhow!("{option} is for {kind}, got {}", args.source)),
        None if served && args.model.is_none() => Err(anyhow!("a server's URL needs --model, the model's name there")),
        None => Ok(()),
    }
}

fn server(args: &EvalArgs) -> Result<HttpGenerator, Failure> {
    let default = HttpConfig::default();
    HttpGenerator::new(HttpConfig {
        base_url: args.source.clone(),
        model: args.model.clone().unwrap_or_default(),
        api_key_env: args.api_key_env.clone().unwrap_or(default.api_key_env),
        concurrency: args.concurrency.unwrap_or(default.concurrency),
        timeout_secs: args.timeout_secs.unwrap_or(default.timeout_secs),
        ..HttpConfig::default()
    })
    .usage()
}

#[derive(Serialize)]
struct Printed<'a> {
    model: &'a str,
    out: &'a Path,
    #[serde(flatten)]
    metrics: &'a MetricsFile,
}

fn file_name(model: &Path) -> String {
    let full = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    full.file_stem()
        .filter(|_| full.is_file())
        .or(full.file_name())
        .unwrap_or(full.as_os_str())
        .to_string_lossy()
        .into()
}

fn override_suite(suite: &mut Suite, args: &EvalArgs) -> anyhow::Result<()> {
    suite.cap = args.cap.unwrap_or(suite.cap);
    suite.samples_per_prompt = args.samples.unwrap_or(suite.samples_per_prompt);
    suite.seed = args.seed.unwrap_or(suite.seed);
    suite.sampler.temperature = args.temperature.unwrap_or(suite.sampler.temperature);
    suite.sampler.top_k = args.top_k.or(suite.sampler.top_k);
    suite.sampler.top_p = args.top_p.or(suite.sampler.top_p);
    suite.sampler.min_p = args.min_p.or(suite.sampler.min_p);
    suite.check().map_err(|problem| anyhow!("{}: {problem}", args.suite.display()))
}

/// What samples, and what is known of it.
struct Engines {
    generators: Vec<Box<dyn Generator>>,
    info: EngineInfo,
    terminators: Option<TerminatorSet>,
    template_sha256: Option<String>,
    weights_sha256: Option<String>,
    forward: anyhow::Result<Forward>,
}

impl Engines {
    /// mistral.rs on a local model.
    fn local(evaluation: &Evaluation) -> Result<Self, Failure> {
        let model = Path::new(&evaluation.model.source);
        let config = MistralConfig { base: evaluation.base.clone(), threads: evaluation.threads };
        let instances = evaluation.instances.unwrap_or_else(|| weights::instances(model));
        let engines = MistralEngine::load_instances(model, &config, instances).map_err(blame_engine)?;
        let first = engines.first().context("expected at least one engine").execution()?;
        let mut terminators: Vec<(u32, String)> = first.terminators().iter().map(|t| (t.id, t.token.clone())).collect();
        terminators.sort();
        let (ids, tokens) = terminators.into_iter().unzip();
        Ok(Engines {
            info: first.engine(),
            terminators: Some(TerminatorSet { ids, tokens }),
            template_sha256: Some(hash_bytes(first.template_source().as_bytes())),
            weights_sha256: Some(weights::sha256(model).execution()?),
            forward: Forward::load(model, evaluation.base.as_deref()),
            generators: engines.into_iter().map(|engine| Box::new(engine) as Box<dyn Generator>).collect(),
        })
    }

    /// A server, with the same model's weights where they are given.
    fn served(server: &HttpGenerator, weights: Option<&Path>) -> Result<Self, Failure> {
        let forward = match weights {
            Some(dir) => Ok(Forward::load(dir, None).usage()?),
            None => Err(anyhow!("no --weights given")),
        };
        Ok(Engines {
            info: server.engine(),
            terminators: forward.as_ref().ok().map(Forward::terminators),
            template_sha256: None,
            weights_sha256: weights.map(weights::sha256).transpose().execution()?,
            forward,
            generators: server.instances().into_iter().map(|one| Box::new(one) as Box<dyn Generator>).collect(),
        })
    }
}

/// Samples a local model through mistral.rs, measures and writes an evaluation directory, with progress under the
/// model's name.
pub fn evaluate(suite: &Suite, evaluation: &Evaluation, progress: &Progress) -> Result<Evaluated, Failure> {
    evaluate_with(suite, evaluation, Engines::local(evaluation)?, progress)
}

fn evaluate_with(
    suite: &Suite,
    evaluation: &Evaluation,
    mut engines: Engines,
    progress: &Progress,
) -> Result<Evaluated, Failure> {
    let dir = EvaluationDir::new(&evaluation.out);
    if evaluation.restart {
        forget(&dir).execution()?;
    }
    let name = &evaluation.model.name;
    let pairs = read_held_out(suite.pairs.as_deref()).map_err(|error| blame_measures(error, suite))?;
    let mut manifest = manifest(suite, evaluation, &engines)?;
    match (&engines.forward, engines.generators.first_mut()) {
        (Ok(forward), Some(engine)) if evaluation.fidelity_check => {
            manifest.fidelity_max_abs_nats = check_engine(engine, forward, suite, name, progress)?;
        }
        (Err(error), _) => progress.say(&format!(
            "{name}: no teacher-forced measures and no fidelity check, for want of this program's own forward pass: \
             {error:#}"
        )),
        _ => {}
    }

    let stage = progress.stage(name, (suite.prompts.len() as u64) * u64::from(suite.samples_per_prompt));
    let mut last = String::new();
    let sampled = sample_suite(suite, &dir, &manifest, engines.generators, interrupt::flag(), |state| {
        last = format!("{:.0} tokens/s", state.tokens_per_second);
        if state.failed > 0 {
            last.push_str(&format!(", {} failed", state.failed));
        }
        stage.update(state.done as u64, &last);
    })
    .map_err(blame_run)?;
    let samples = match sampled {
        Sampled::All(samples) => samples,
        Sampled::Stopped(_) => return Ok(Evaluated::Stopped),
    };
    stage.finish(&last);
    let failed = samples.iter().filter(|sample| sample.finish_reason == FinishReason::Error).count();
    if failed > 0 {
        progress.say(&format!(
            "{name}: the engine failed on {failed} of {} samples; the same command tries them again",
            samples.len()
        ));
    }

    let mut rows: Vec<Measurement> = Vec::new();
    if let Ok(mut forward) = engines.forward {
        let stage = progress.stage(&format!("{name}: gold answers"), suite.prompts.len() as u64);
        rows = measure_gold(suite, &mut forward, |done, _| stage.update(done as u64, ""))
            .map_err(|error| blame_measures(error, suite))?;
        stage.finish("");
        if !pairs.is_empty() {
            let stage = progress.stage(&format!("{name}: held-out pairs"), pairs.len() as u64);
            rows.extend(
                measure_pairs(&pairs, &mut forward, |done, _| stage.update(done as u64, ""))
                    .map_err(|error| blame_measures(error, suite))?,
            );
            stage.finish("");
        }
    }
    Ok(Evaluated::Done(write_results(&dir, &manifest, &samples, rows).execution()?))
}

fn forget(dir: &EvaluationDir) -> anyhow::Result<()> {
    for path in [dir.metrics(), dir.measurements(), dir.samples(), dir.manifest()] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{}: cannot remove", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn manifest(suite: &Suite, evaluation: &Evaluation, engines: &Engines) -> Result<RunManifest, Failure> {
    let info = engines.info.clone();
    let mut versions = BTreeMap::from([
        ("smpo".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("engine".to_owned(), format!("{} {}", info.name, info.version).trim_end().to_owned()),
        ("device".to_owned(), info.device),
    ]);
    versions.extend(info.dtype.map(|dtype| ("dtype".to_owned(), dtype)));
    Ok(RunManifest {
        schema: SCHEMA_VERSION,
        kind: "eval".into(),
        model: ModelInfo { weights_sha256: engines.weights_sha256.clone(), ..evaluation.model.clone() },
        suite: suite.info().map_err(blame_input)?,
        sampler: Some(suite.sampler_info()),
        cap: Some(suite.cap),
        samples_per_prompt: suite.samples_per_prompt,
        terminators: engines.terminators.clone(),
        template_sha256: engines.template_sha256.clone(),
        seed: suite.seed,
        versions,
        fidelity_max_abs_nats: None,
    })
}

/// Prompts whose completions are re-scored before anything is measured.
const CHECKED_PROMPTS: usize = 3;
/// Tokens of each: a contaminated cache shows from the first.
const CHECKED_TOKENS: u32 = 48;

/// The largest disagreement between the engine and this program's own forward pass, in nats. An engine that is wrong
/// produces exactly what is measured here, loops and no terminator, so beyond the tolerance nothing is measured.
/// `None` where the engine shows no token ids or log-probs to check.
fn check_engine(
    engine: &mut Box<dyn Generator>,
    forward: &Forward,
    suite: &Suite,
    name: &str,
    progress: &Progress,
) -> Result<Option<f64>, Failure> {
    let step = suite.prompts.len().div_ceil(CHECKED_PROMPTS).max(1);
    let mut completions = Vec::new();
    for prompt in suite.prompts.iter().step_by(step) {
        let request = Request {
            prompt_id: prompt.id.clone(),
            sample: 0,
            messages: prompt.messages.clone(),
            sampler: suite.sampler,
            max_tokens: suite.cap.min(CHECKED_TOKENS),
            seed: suite.seed,
        };
        match engine.generate(&request) {
            Ok(completion) => completions.push((request, completion)),
            // Too long for the model, for one: the run records it as a failed sample.
            Err(_) => continue,
        }
    }
    let pairs = completions.iter().map(|(request, completion)| (request, completion));
    let fidelity = match check_fidelity(pairs, |messages, ids| forward.rescore(messages, ids)) {
        Ok(fidelity) => fidelity,
        Err(error @ InferenceError::NothingToRescore { .. }) => {
            progress.say(&format!("{name}: the engine is not checked: {error}"));
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("{name}: fidelity check of the engine")).execution(),
    };
    let tolerance = default_tolerance(engine.engine().dtype.as_deref());
    if !fidelity.within(tolerance) {
        let worst = fidelity.worst.map_or_else(String::new, |worst| {
            format!(
                "; worst at token {} of prompt {:?}: engine {}, own forward pass {}",
                worst.step, worst.prompt_id, worst.engine, worst.reference
            )
        });
        return Err(Failure::Execution(anyhow!(
            "{name}: the engine's log-probs differ from this program's own forward pass by up to {:.3} nats over {} \
             tokens, expected at most {tolerance}{worst}; what it samples is another model's. --no-fidelity-check \
             measures it all the same",
            fidelity.max_abs_nats,
            fidelity.tokens
        )));
    }
    Ok(Some(fidelity.max_abs_nats))
}

fn text(name: &str, metrics: &MetricsFile, out: &Path) -> String {
    let mut table = output::table();
    table.set_header([name, "value [95 % interval]", "prompts"]);
    for info in metrics::all() {
        if let Some(estimate) = metrics.get(info.id, ALL) {
            table.add_row([info.id.to_owned(), cell(estimate), estimate.n.to_string()]);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\nslices and all files: {}", out.display())
}

fn blame_engine(error: InferenceError) -> Failure {
    match error {
        InferenceError::MissingFile { .. } | InferenceError::InvalidFile { .. } | InferenceError::Chat(_) => {
            Failure::Usage(error.into())
        }
        error => Failure::Execution(error.into()),
    }
}

fn blame_run(error: RunError) -> Failure {
    match error {
        RunError::OtherRun { .. } | RunError::ForeignSample { .. } | RunError::Locked { .. } => {
            Failure::Usage(anyhow::Error::from(error).context("--out (--restart clears it)"))
        }
        error => Failure::Execution(error.into()),
    }
}

fn blame_measures(error: TeacherForcedError, suite: &Suite) -> Failure {
    let usage = matches!(&error, TeacherForcedError::Pairs(_)) || io_is_usage(&error);
    let error = anyhow::Error::from(error).context(format!("suite {}", suite.name));
    if usage { Failure::Usage(error) } else { Failure::Execution(error) }
}
