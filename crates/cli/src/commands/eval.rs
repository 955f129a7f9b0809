//! `smpo eval`: sample a suite from a model, and measure what comes back.

mod engines;
mod evaluation;
mod fidelity;
mod forward;
pub mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use comfy_table::CellAlignment;
use serde::Serialize;
use serde_json::{Map, Value};
use smpo_devices::Choice;
use smpo_eval::{ALL, Suite};
use smpo_inference::http::LogprobBase;
use smpo_inference::{Generator, HttpConfig, HttpGenerator};
use smpo_results::{MetricsFile, ModelInfo};

use self::engines::Engines;
pub use self::engines::LocalEngine;
use self::evaluation::evaluate_with;
pub use self::evaluation::{Evaluated, Evaluation, evaluate};
use super::score::{blame as blame_input, cell};
use crate::exit::{Blame, Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Generate completions for an evaluation suite and compute metrics on them.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo eval runs/smpo/model --suite evals/ood-chat.toml --out runs/smpo/eval")]
pub struct EvalArgs {
    /// Model: Hugging Face directory, PEFT adapter directory, .gguf file, or base URL of an OpenAI-compatible server
    /// such as vLLM (http://localhost:8000/v1)
    #[arg(value_name = "MODEL")]
    source: String,
    /// Evaluation suite (TOML), or any JSONL file of prompts
    #[arg(long, value_name = "FILE")]
    suite: PathBuf,
    /// Output directory; an interrupted evaluation resumes when the same command is run again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Delete existing results in --out and start over
    #[arg(long)]
    restart: bool,
    /// Inference engine for a local model [default: the first listed]
    #[arg(long, value_enum)]
    engine: Option<LocalEngine>,
    /// Base model of a PEFT adapter, if adapter_config.json does not name a directory; for a GGUF file, the directory
    /// with its tokenizer and chat template
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The same model as a Hugging Face directory, for a server or a GGUF file: enables the fidelity check and the
    /// teacher-forced metrics
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Model name to request from the server
    #[arg(long, value_name = "NAME", help_heading = "Servers")]
    model: Option<String>,
    /// Endpoint: `chat` lets the server apply the chat template; `completions` sends prompts rendered here
    #[arg(long, value_enum, default_value_t, help_heading = "Servers")]
    api: Api,
    /// Directory with the tokenizer and chat template for --api completions [default: --weights]
    #[arg(long, value_name = "DIR", help_heading = "Servers")]
    template: Option<PathBuf>,
    /// Maximum concurrent requests [default: 8 if --weights allows a fidelity check, else 1]
    #[arg(long, value_name = "N", help_heading = "Servers")]
    concurrency: Option<usize>,
    /// Base of the server's log-probs; mistralrs-server 0.8.1 reports base 10
    #[arg(long, value_enum, default_value_t, help_heading = "Servers")]
    logprob_base: Base,
    /// Extra fields for every request body, as a JSON object, recorded in run.json:
    /// {"chat_template_kwargs": {"enable_thinking": false}}
    #[arg(long, value_name = "JSON", help_heading = "Servers")]
    extra_body: Option<String>,
    /// Timeout of one request, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "Servers")]
    timeout_secs: Option<f64>,
    /// Environment variable with the API key [default: OPENAI_API_KEY]
    #[arg(long, value_name = "VARIABLE", help_heading = "Servers")]
    api_key_env: Option<String>,
    /// Model name in reports [default: its file name, or --model]
    #[arg(long)]
    name: Option<String>,
    /// Experiment arm of this checkpoint, recorded in run.json; runs of one arm are pooled by gate and leaderboard
    #[arg(long)]
    arm: Option<String>,
    /// Training seed of this checkpoint, recorded in run.json
    #[arg(long, value_name = "SEED")]
    training_seed: Option<u64>,
    /// Maximum new tokens per completion [default: the suite's]
    #[arg(long, value_name = "TOKENS")]
    cap: Option<u32>,
    /// Completions per prompt [default: the suite's]
    #[arg(long, value_name = "K")]
    samples: Option<u32>,
    /// Sampling seed [default: the suite's]
    #[arg(long)]
    seed: Option<u64>,
    /// Sampling temperature; 0 is greedy [default: the suite's]
    #[arg(long)]
    temperature: Option<f64>,
    /// Top-k sampling: keep the K most likely tokens [default: the suite's]
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Top-p (nucleus) sampling: keep the smallest set of tokens with cumulative probability ≥ P
    /// [default: the suite's]
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Min-p sampling: keep tokens with probability ≥ P × that of the most likely token [default: the suite's]
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Parallel mistral.rs engines, each with its own copy of the weights [default: one per core for small models,
    /// else one]
    #[arg(long, value_name = "N")]
    instances: Option<usize>,
    /// Maximum sequences per batch of the native engine [default: 16]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Skip the fidelity check, which compares the engine's log-probs with a reference forward pass before sampling
    #[arg(long)]
    no_fidelity_check: bool,
    /// Maximum |Δ log-prob| between engine and reference forward pass, in nats [default: 0.001 in float32, else 0.05]
    #[arg(long, value_name = "NATS", conflicts_with = "no_fidelity_check")]
    fidelity_tolerance: Option<f64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Device for a local model: auto (a GPU if this build and machine have one), cpu, cuda or cuda:N; the native
    /// engine samples on the CPU [default: auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Choice>,
    /// CPU threads per engine
    #[arg(long)]
    threads: Option<usize>,
}

/// Endpoint of an OpenAI-compatible server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Api {
    /// /chat/completions
    #[default]
    Chat,
    /// /completions
    Completions,
}

/// Logarithm base of a server's log-probs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Base {
    /// Natural logarithm
    #[default]
    E,
    /// Base 10
    Ten,
}

/// Runs the command.
pub fn run(args: EvalArgs) -> Outcome {
    let kind = Kind::of(&args.source);
    refuse_misplaced(&args, kind).usage()?;
    let mut suite = Suite::read(&args.suite).map_err(blame_input)?;
    override_suite(&mut suite, &args).usage()?;
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    let server = if kind == Kind::Server { Some(server(&args)?) } else { None };
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
        engine: args.engine.unwrap_or_default(),
        base: args.base.clone(),
        weights: args.weights.clone(),
        out: args.out.clone(),
        restart: args.restart,
        instances: args.instances,
        batch: args.batch,
        device: args.device.unwrap_or_default(),
        threads: args.threads,
        fidelity_check: !args.no_fidelity_check,
        fidelity_tolerance: args.fidelity_tolerance,
        asked: if kind == Kind::Server { asked(&args) } else { BTreeMap::new() },
    };
    let evaluated = match server {
        Some(server) => {
            let engines = Engines::served(&server, args.weights.as_deref(), args.concurrency.is_some())?;
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

/// Where a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Gguf,
    Server,
}

impl Kind {
    fn of(source: &str) -> Self {
        let gguf = Path::new(source).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        match source.starts_with("http://") || source.starts_with("https://") {
            true => Kind::Server,
            false if gguf => Kind::Gguf,
            false => Kind::Directory,
        }
    }
}

/// An option that would change nothing is a mistake.
fn refuse_misplaced(args: &EvalArgs, kind: Kind) -> anyhow::Result<()> {
    let native = args.engine.unwrap_or_default() == LocalEngine::Native;
    let server = kind == Kind::Server;
    let local = !server;
    let options = [
        ("--model", args.model.is_some(), server, "a server's URL"),
        ("--api", args.api != Api::Chat, server, "a server's URL"),
        ("--template", args.template.is_some(), server, "a server's URL"),
        ("--concurrency", args.concurrency.is_some(), server, "a server's URL"),
        ("--logprob-base", args.logprob_base != Base::E, server, "a server's URL"),
        ("--extra-body", args.extra_body.is_some(), server, "a server's URL"),
        ("--timeout-secs", args.timeout_secs.is_some(), server, "a server's URL"),
        ("--api-key-env", args.api_key_env.is_some(), server, "a server's URL"),
        ("--weights", args.weights.is_some(), kind != Kind::Directory, "a server's URL or a GGUF file"),
        ("--base", args.base.is_some(), local, "a model on this disk"),
        ("--engine", args.engine.is_some(), local, "a model on this disk"),
        ("--device", args.device.is_some(), local, "a model on this disk"),
        ("--threads", args.threads.is_some(), local, "a model on this disk"),
        ("--instances", args.instances.is_some(), local && !native, "a model on this disk, through mistral.rs"),
        ("--batch", args.batch.is_some(), local && native, "a model on this disk, with --engine native"),
    ];
    if let Some((option, _, _, place)) = options.iter().find(|(_, given, fits, _)| *given && !fits) {
        return Err(anyhow!("{option} is for {place}; it would change nothing here ({})", args.source));
    }
    for (option, number) in [
        ("--instances", args.instances),
        ("--batch", args.batch),
        ("--threads", args.threads),
        ("--concurrency", args.concurrency),
    ] {
        if number == Some(0) {
            return Err(anyhow!("{option}: expected at least 1, got 0"));
        }
    }
    if let Some(nats) = args.fidelity_tolerance.filter(|nats| nats.is_nan() || *nats < 0.0) {
        return Err(anyhow!("--fidelity-tolerance: expected nats of at least 0, got {nats}"));
    }
    if server && args.model.is_none() {
        return Err(anyhow!("a server's URL needs --model, the model's name there"));
    }
    if args.template.is_some() && args.api == Api::Chat {
        return Err(anyhow!("--template is for --api completions; with --api chat the server renders conversations"));
    }
    if args.api == Api::Completions && args.template.is_none() && args.weights.is_none() {
        return Err(anyhow!("--api completions needs --template or --weights, to render conversations"));
    }
    match args.device {
        Some(Choice::Cuda(_)) if native => {
            return Err(anyhow!("--engine native samples on the processor; --device cuda is for mistral.rs"));
        }
        Some(Choice::Emulated) => return Err(anyhow!("--device emulated is for `bench`, `selftest` and `train`")),
        _ => {}
    }
    if kind == Kind::Gguf && native {
        return Err(anyhow!(
            "{}: --engine native reads directories of safetensors; GGUF files go through mistral.rs",
            args.source
        ));
    }
    Ok(())
}

fn server(args: &EvalArgs) -> Result<HttpGenerator, Failure> {
    let default = HttpConfig::default();
    let config = HttpConfig {
        base_url: args.source.clone(),
        model: args.model.clone().unwrap_or_default(),
        api_key_env: args.api_key_env.clone().unwrap_or(default.api_key_env),
        concurrency: args.concurrency.unwrap_or(default.concurrency),
        timeout_secs: args.timeout_secs.unwrap_or(default.timeout_secs),
        logprob_base: match args.logprob_base {
            Base::E => LogprobBase::E,
            Base::Ten => LogprobBase::Ten,
        },
        extra_body: args.extra_body.as_deref().map(extra_body).transpose().usage()?.unwrap_or_default(),
        ..HttpConfig::default()
    };
    match args.template.as_deref().or(args.weights.as_deref()).filter(|_| args.api == Api::Completions) {
        Some(directory) => HttpGenerator::completing(config, engines::tokenizer(directory)?).usage(),
        None => HttpGenerator::new(config).usage(),
    }
}

fn extra_body(text: &str) -> anyhow::Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| anyhow!("--extra-body: expected a JSON object, got {text:?}: {error}"))
}

/// What shapes a server's answers and is not the suite's.
fn asked(args: &EvalArgs) -> BTreeMap<String, String> {
    let api = match args.api {
        Api::Chat => "chat/completions",
        Api::Completions => "completions",
    };
    let mut asked = BTreeMap::from([("api".to_owned(), api.to_owned())]);
    asked.extend(args.model.clone().map(|model| ("served_model".to_owned(), model)));
    asked.extend(args.extra_body.clone().map(|body| ("extra_body".to_owned(), body)));
    asked
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

fn text(name: &str, metrics: &MetricsFile, out: &Path) -> String {
    let mut table = output::table();
    table.set_header([name, "value [95 % interval]", "prompts"]);
    for info in smpo_metrics::all().iter().map(|metric| metric.info) {
        if let Some(estimate) = metrics.get(info.id, ALL) {
            table.add_row([info.id.to_owned(), cell(estimate), estimate.n.to_string()]);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\nslices and all files: {}", out.display())
}
