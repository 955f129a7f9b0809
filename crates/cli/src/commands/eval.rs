//! `smpo eval`: generate completions for a suite and compute metrics on them.

mod check;
mod display;
mod engines;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use smpo_devices::Choice;
use smpo_eval::{EvaluateError, FidelityCheck, FidelityError, Options, RunError, Suite, evaluate};
use smpo_inference::http::LogprobBase;
use smpo_inference::{Generator, HttpConfig, HttpGenerator};
use smpo_report::estimates;
use smpo_results::{MetricsFile, ModelInfo};
use smpo_tokenizer::ChatTokenizer;

use self::check::Kind;
use self::display::Display;
pub use self::engines::{Loaded, Local, LocalEngine};
use super::score::Scored;
use super::template_variables::TemplateVariables;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
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
    #[arg(long, value_enum, help_heading = "Local models")]
    engine: Option<LocalEngine>,
    /// Base model of a PEFT adapter, if adapter_config.json does not name a directory; for a GGUF file, the directory
    /// with its tokenizer and chat template
    #[arg(long, value_name = "DIR", help_heading = "Local models")]
    base: Option<PathBuf>,
    /// The same model as a Hugging Face directory, for a server or a GGUF file: enables the fidelity check and the
    /// teacher-forced metrics
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    variables: TemplateVariables,
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
    /// Extra header for every request, such as 'api-key: …'; its value is neither shown nor recorded. May be repeated
    #[arg(long, value_name = "NAME: VALUE", help_heading = "Servers")]
    header: Vec<String>,
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
    #[arg(long, value_name = "TOKENS", help_heading = "Sampling")]
    cap: Option<u32>,
    /// Completions per prompt [default: the suite's]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    samples: Option<u32>,
    /// Sampling seed [default: the suite's]
    #[arg(long, help_heading = "Sampling")]
    seed: Option<u64>,
    /// Sampling temperature; 0 is greedy [default: the suite's]
    #[arg(long, help_heading = "Sampling")]
    temperature: Option<f64>,
    /// Top-k sampling: keep the K most likely tokens [default: the suite's]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    top_k: Option<u32>,
    /// Top-p (nucleus) sampling: keep the smallest set of tokens with cumulative probability ≥ P
    /// [default: the suite's]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    top_p: Option<f64>,
    /// Min-p sampling: keep tokens with probability ≥ P × that of the most likely token [default: the suite's]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    min_p: Option<f64>,
    /// Parallel mistral.rs engines, each with its own copy of the weights [default: one per core for small models,
    /// else one]
    #[arg(long, value_name = "N", help_heading = "Local models")]
    instances: Option<usize>,
    /// Maximum sequences per batch of the native engine [default: 16]
    #[arg(long, value_name = "N", help_heading = "Local models")]
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
    #[arg(long, value_name = "DEVICE", help_heading = "Local models")]
    device: Option<Choice>,
    /// CPU threads per engine
    #[arg(long, help_heading = "Local models")]
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
    check::check(&args, kind)?;
    let mut suite = Suite::read(&args.suite)?;
    override_suite(&mut suite, &args)?;
    super::set_threads(args.threads)?;
    let progress = Progress::new();
    let (source, default_name, loaded) = if kind == Kind::Server {
        let server = server(&args)?;
        let loaded = engines::served(&server, args.weights.as_deref(), args.concurrency.is_some())?;
        // The URL without user and password.
        (server.engine().device, args.model.clone().unwrap_or_default(), loaded)
    } else {
        let template_variables = args.variables.map();
        let local = Local {
            model: &args.source,
            base: args.base.as_deref(),
            weights: args.weights.as_deref(),
            instances: args.instances,
            batch: args.batch,
            device: args.device.unwrap_or_default(),
            threads: args.threads,
            template_variables: Some(&template_variables),
        };
        (args.source.clone(), file_name(Path::new(&args.source)), local.load(args.engine.unwrap_or_default())?)
    };
    let tolerance = args.fidelity_tolerance;
    let options = Options {
        out: args.out.clone(),
        restart: args.restart,
        model: ModelInfo {
            source,
            name: args.name.clone().unwrap_or(default_name),
            weights_sha256: loaded.weights_sha256.clone(),
            arm: args.arm.clone(),
            training_seed: args.training_seed,
        },
        settings: settings(&args, kind),
        fidelity: if args.no_fidelity_check { FidelityCheck::Skip } else { FidelityCheck::Run { tolerance } },
    };
    let Some(metrics) = evaluate_shown(&suite, loaded, &options, &progress)? else {
        progress.say("stopped; the same command resumes");
        return Ok(Exit::Interrupted);
    };
    let name = &options.model.name;
    match args.format {
        Format::Text => {
            let table = estimates::one(name, &metrics);
            output::print(&format!("{table}\nslices and all files: {}", args.out.display()))?;
        }
        Format::Json => output::print_json(&Scored { model: name.clone(), out: args.out, metrics })?,
    }
    Ok(Exit::Success)
}

/// Evaluates with progress under the model's name; `None` when stopped by Ctrl-C.
pub fn evaluate_shown(
    suite: &Suite,
    loaded: Loaded,
    options: &Options,
    progress: &Progress,
) -> Result<Option<MetricsFile>, Failure> {
    let name = &options.model.name;
    let mut display = Display::new(progress, name);
    for warning in &loaded.warnings {
        display.say(&format!("warning: {warning}"));
    }
    if let Some(reason) = &loaded.no_scorer {
        let skipped = "skipping fidelity check and teacher-forced metrics: reference forward pass unavailable";
        display.say(&format!("{skipped}: {reason}"));
    }
    let native_reads_it = loaded.native_reads_it;
    let evaluated = evaluate(suite, loaded.engines, options, &mut |event| {
        display.show(event);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = evaluated.map_err(|error| with_flags(error, native_reads_it).prefixed(format_args!("{name}: ")))?;
    Ok(report.map(|report| report.metrics))
}

/// The error, with the flags that help.
fn with_flags(error: EvaluateError, native_reads_it: bool) -> Failure {
    let hint = match &error {
        EvaluateError::Run(RunError::OtherRun { .. } | RunError::ForeignSample { .. }) => {
            "; --restart deletes what is in --out".to_owned()
        }
        EvaluateError::Fidelity(FidelityError::Disagreement { .. }) if native_reads_it => {
            "; --engine native reads this model as the reference does".to_owned()
        }
        EvaluateError::Fidelity(FidelityError::Disagreement { sequential: Some(nats), .. }) => format!(
            "; one request at a time it agrees to {nats:.1e} nats: use --concurrency 1, or pass --no-fidelity-check to \
             evaluate anyway"
        ),
        EvaluateError::Fidelity(error @ FidelityError::Disagreement { .. }) => {
            let decimal =
                if error.is_decimal() { "its log-probs look decimal: try --logprob-base ten, or " } else { "" };
            format!("; {decimal}pass --no-fidelity-check to evaluate anyway")
        }
        _ => String::new(),
    };
    Failure::from(error).suffixed(hint)
}

fn server(args: &EvalArgs) -> Result<HttpGenerator, Failure> {
    let default = HttpConfig::default();
    let config = HttpConfig {
        base_url: args.source.clone(),
        model: args.model.clone().unwrap_or_default(),
        api_key_env: args.api_key_env.clone().unwrap_or(default.api_key_env),
        headers: args.header.clone(),
        concurrency: args.concurrency.unwrap_or(default.concurrency),
        timeout_secs: args.timeout_secs.unwrap_or(default.timeout_secs),
        logprob_base: match args.logprob_base {
            Base::E => LogprobBase::E,
            Base::Ten => LogprobBase::Ten,
        },
        extra_body: extra_fields(args)?,
        ..HttpConfig::default()
    };
    match args.template.as_deref().or(args.weights.as_deref()).filter(|_| args.api == Api::Completions) {
        Some(directory) => {
            let tokenizer = args.variables.apply(ChatTokenizer::from_model_dir(directory)?)?;
            Ok(HttpGenerator::completing(config, tokenizer)?)
        }
        None => Ok(HttpGenerator::new(config)?),
    }
}

/// Fields of a request beside the usual ones: `--extra-body`, and template variables for the server's own template.
fn extra_fields(args: &EvalArgs) -> Result<Map<String, Value>, Failure> {
    let mut fields = args.extra_body.as_deref().map(extra_body).transpose()?.unwrap_or_default();
    let variables = args.variables.map();
    if args.api == Api::Chat && !variables.is_empty() {
        fields.insert("chat_template_kwargs".to_owned(), Value::Object(variables));
    }
    Ok(fields)
}

fn extra_body(text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::user(format!("--extra-body: expected a JSON object, got {text:?}: {error}")))
}

/// Settings that shape completions, for `run.json`: those of a server's requests, and variables of the chat template.
fn settings(args: &EvalArgs, kind: Kind) -> BTreeMap<String, String> {
    let mut settings = if kind == Kind::Server { request_settings(args) } else { BTreeMap::new() };
    let variables = args.variables.map();
    if !variables.is_empty() {
        settings.insert("template_variables".to_owned(), Value::Object(variables).to_string());
    }
    settings
}

fn request_settings(args: &EvalArgs) -> BTreeMap<String, String> {
    let api = match args.api {
        Api::Chat => "chat/completions",
        Api::Completions => "completions",
    };
    let mut settings = BTreeMap::from([("api".to_owned(), api.to_owned())]);
    settings.extend(args.model.clone().map(|model| ("served_model".to_owned(), model)));
    settings.extend(args.extra_body.clone().map(|body| ("extra_body".to_owned(), body)));
    settings
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

fn override_suite(suite: &mut Suite, args: &EvalArgs) -> Result<(), Failure> {
    suite.cap = args.cap.unwrap_or(suite.cap);
    suite.samples_per_prompt = args.samples.unwrap_or(suite.samples_per_prompt);
    suite.seed = args.seed.unwrap_or(suite.seed);
    suite.sampler.temperature = args.temperature.unwrap_or(suite.sampler.temperature);
    suite.sampler.top_k = args.top_k.or(suite.sampler.top_k);
    suite.sampler.top_p = args.top_p.or(suite.sampler.top_p);
    suite.sampler.min_p = args.min_p.or(suite.sampler.min_p);
    suite.check().map_err(|problem| Failure::user(format!("{}: {problem}", args.suite.display())))
}
