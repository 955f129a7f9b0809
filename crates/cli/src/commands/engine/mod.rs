//! Options that name a model and the engine that runs it, for every command that samples.

mod check;
mod gpu;
mod local;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use smpo_devices::Choice;
use smpo_inference::Generator;
use smpo_trainer::RunDir;

pub use self::check::is_url;
pub use self::local::{Loaded, Local, LocalEngine};
use super::template_variables::TemplateVariables;
use crate::exit::Failure;

/// The model and how to run it.
#[derive(Debug, Default, clap::Args)]
pub struct EngineArgs {
    /// Model: Hugging Face directory or hf://ORG/NAME, PEFT adapter directory, .gguf file, or base URL of an
    /// OpenAI-compatible server such as vLLM (http://localhost:8000/v1); several URLs, of servers of the same model,
    /// share the run
    #[arg(value_name = "MODEL", required = true)]
    pub sources: Vec<String>,
    /// Inference engine for a local model [default: the first listed]
    #[arg(long, value_enum, help_heading = "Local models")]
    engine: Option<LocalEngine>,
    /// Base model of a PEFT adapter, if adapter_config.json does not name one; for a GGUF file, a directory with the
    /// tokenizer and chat template to take in place of its own
    #[arg(long, value_name = "DIR", help_heading = "Local models")]
    base: Option<PathBuf>,
    /// The same model as a Hugging Face directory or GGUF file, for a server: enables the fidelity check and the
    /// teacher-forced metrics. For a GGUF file, which is sampled as it is: the model for both in place of itself
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
    /// Maximum concurrent requests, to each server [default: 8 if --weights allows a fidelity check, else 1]
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
    /// Parallel mistral.rs engines, each with its own copy of the weights [default: one per core for small models,
    /// else one]
    #[arg(long, value_name = "N", help_heading = "Local models")]
    instances: Option<usize>,
    /// Maximum sequences per batch of the native engine [default: 16; 64 on a GPU, or as many as its memory has room for]
    #[arg(long, value_name = "N", help_heading = "Local models")]
    batch: Option<usize>,
    /// Device for a local model: auto (a GPU if this build and machine have one), cpu, cuda or cuda:N; several GPUs,
    /// cuda:0,cuda:1, share the run [default: auto]
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', help_heading = "Local models")]
    device: Vec<Choice>,
    /// CPU threads per engine
    #[arg(long, help_heading = "Local models")]
    threads: Option<usize>,
    /// The text of completions is all that is read of them.
    #[arg(skip)]
    text_alone: bool,
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

/// A model that is ready to sample, and what `run.json` says of it.
pub struct Opened {
    /// Path or URL, without user and password.
    pub source: String,
    /// Name in reports: file name, or `--model`.
    pub name: String,
    /// Its engines.
    pub loaded: Loaded,
    /// Settings that shape completions.
    pub settings: BTreeMap<String, String>,
}

impl EngineArgs {
    /// A model with default options; `model` is its name on a server.
    pub fn of(sources: Vec<String>, model: Option<&str>) -> EngineArgs {
        EngineArgs { sources, model: model.map(str::to_owned), ..EngineArgs::default() }
    }

    /// The same for completions of which only the text is read, with the key and headers of a server.
    pub fn for_text(self, api_key_env: Option<String>, header: Vec<String>) -> EngineArgs {
        EngineArgs { api_key_env, header, text_alone: true, ..self }
    }

    /// The models as given, lists of URLs split.
    pub fn split(&self) -> Vec<&str> {
        self.sources.iter().flat_map(|source| split(source)).collect()
    }

    /// Refuses several models that do not share a run.
    ///
    /// # Errors
    /// The models.
    pub fn check_sources(&self) -> Result<(), Failure> {
        check::kind(&self.split()).map(drop)
    }

    /// Refuses options that would have no effect or are out of range, then sets the number of threads; once in a process.
    ///
    /// # Errors
    /// The option and where it belongs.
    pub fn prepare(&self) -> Result<(), Failure> {
        check::check(self, check::kind(&self.split())?)?;
        super::set_threads(self.threads)
    }

    /// True for a server's URL.
    pub fn is_server(&self) -> bool {
        self.split().first().is_some_and(|source| is_url(source))
    }

    /// Loads a local model or connects to a server.
    ///
    /// # Errors
    /// The model cannot be read, or the engine does not run it.
    pub fn open(&self) -> Result<Opened, Failure> {
        if self.is_server() {
            let (servers, twice) = server::connect(self)?;
            let mut loaded = local::served(&servers, self.weights.as_deref(), self.concurrency.is_some())?;
            loaded.warnings.extend(twice);
            let names: Vec<String> = servers.iter().map(|server| server.engine().device).collect();
            return Ok(Opened {
                source: names.join(", "),
                name: self.model.clone().unwrap_or_default(),
                loaded,
                settings: self.settings(server::settings(self)),
            });
        }
        let template_variables = self.variables.map();
        let source = self.sources.first().map(String::as_str).unwrap_or_default();
        let local = Local {
            model: source,
            base: self.base.as_deref(),
            weights: self.weights.as_deref(),
            instances: self.instances,
            batch: self.batch,
            devices: &self.device,
            threads: self.threads,
            template_variables: Some(&template_variables),
        };
        Ok(Opened {
            source: source.to_owned(),
            name: name_of(Path::new(source)),
            loaded: local.load(self.engine.unwrap_or_default())?,
            settings: self.settings(BTreeMap::new()),
        })
    }

    /// Settings that shape completions: `of_requests` to a server, and variables of the chat template.
    fn settings(&self, of_requests: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let variables = self.variables.map();
        let mut settings = of_requests;
        if !variables.is_empty() {
            settings.insert("template_variables".to_owned(), Value::Object(variables).to_string());
        }
        settings
    }
}

/// The URLs of a list with commas between, each with its scheme; any other text is one model.
fn split(source: &str) -> Vec<&str> {
    let schemes = ["http://", "https://"];
    let mut parts = vec![];
    let mut rest = source;
    while schemes.iter().any(|scheme| rest.starts_with(scheme)) {
        let comma =
            |(at, _): &(usize, &str)| schemes.iter().any(|scheme| rest[at + 1..].trim_start().starts_with(scheme));
        let Some((at, _)) = rest.match_indices(',').find(comma) else { break };
        parts.push(rest[..at].trim_end());
        rest = rest[at + 1..].trim_start();
    }
    parts.push(rest);
    parts
}

/// The name of a model in reports: its file's or directory's, and for `model` of a training run the run's.
fn name_of(model: &Path) -> String {
    let full = smpo_files::resolved(model);
    let run = full.parent().map(RunDir::new).filter(|run| run.model() == full && run.config().is_file());
    let full = run.map_or(full, |run| run.path().to_owned());
    full.file_stem()
        .filter(|_| full.is_file())
        .or(full.file_name())
        .unwrap_or(full.as_os_str())
        .to_string_lossy()
        .into()
}
