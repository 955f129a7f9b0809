//! Engines of a model on disk or on a server.

use std::path::Path;

use serde_json::{Map, Value};
use smpo_devices::Choice;
use smpo_eval::{Engines, Server, weights};
use smpo_files::sha256;
use smpo_inference::{Generator, HttpGenerator};
use smpo_native::{NativeError, NativeGenerator, NativeModel, NativeOptions};
use smpo_results::TerminatorSet;
use smpo_tokenizer::ChatTokenizer;

use crate::exit::{Failure, OrFail};
use crate::hub::HUB_NAMES;

/// Inference engine for a local model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LocalEngine {
    /// native where it runs the model and no GPU is used, compared with mistral.rs on a few prompts of a small model;
    /// else mistral.rs
    #[default]
    Auto,
    /// smpo's own decoder, CPU: directories, GGUF files and adapters of the model families it trains; several times faster
    /// there
    Native,
    /// mistral.rs: Hugging Face directories, PEFT adapters, GGUF files
    #[cfg(feature = "mistralrs")]
    Mistralrs,
}

/// A local model and how to run it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local<'a> {
    /// Directory, adapter or GGUF file.
    pub model: &'a str,
    /// Base model of an adapter, or directory of a GGUF file's tokenizer.
    pub base: Option<&'a Path>,
    /// The same model as a Hugging Face directory, for the scorer.
    pub weights: Option<&'a Path>,
    /// Parallel mistral.rs engines.
    #[cfg_attr(not(feature = "mistralrs"), expect(dead_code, reason = "no other engine has instances"))]
    pub instances: Option<usize>,
    /// Sequences per batch of the native engine.
    pub batch: Option<usize>,
    /// Device of mistral.rs.
    #[cfg_attr(not(feature = "mistralrs"), expect(dead_code, reason = "no other engine leaves the CPU"))]
    pub device: Choice,
    /// CPU threads per engine.
    pub threads: Option<usize>,
    /// Variables of the chat template.
    pub template_variables: Option<&'a Map<String, Value>>,
}

/// Engines of one model, and what else `run.json` and the user should know of them.
pub struct Loaded {
    pub engines: Engines,
    pub weights_sha256: Option<String>,
    /// The reason why there is no scorer.
    pub no_scorer: Option<String>,
    /// Warnings about the model directory.
    pub warnings: Vec<String>,
    /// The native engine would run it too.
    pub native_reads_it: bool,
}

impl Local<'_> {
    /// Loads the model.
    pub fn load(&self, engine: LocalEngine) -> Result<Loaded, Failure> {
        let model = Path::new(self.model);
        let variables = self.template_variables.cloned().unwrap_or_default();
        let scorer = match self.weights {
            Some(weights) => Ok(NativeModel::load(weights, None)?),
            None => NativeModel::load(model, self.base),
        };
        let scorer = scorer.and_then(|scorer| scorer.with_template_variables(&variables));
        if !model.exists() {
            return Err(Failure::user(format!(
                "{}: no such file or directory; give a Hugging Face directory, a PEFT adapter directory, a .gguf file or \
                 a server's URL; {HUB_NAMES}",
                self.model
            )));
        }
        // What the weights mean is known here: no engine is to sample something else.
        if let Err(NativeError::Model(error)) = &scorer
            && error.is_about_values()
        {
            return Err(scorer.err().map_or_else(|| Failure::user("no model"), Failure::from));
        }
        let weights_sha256 = Some(weights::sha256(model).or_execution_error()?);
        #[cfg(feature = "mistralrs")]
        let native = self.weights.is_none() && scorer.is_ok();
        let auto = engine == LocalEngine::Auto;
        match engine {
            #[cfg(feature = "mistralrs")]
            LocalEngine::Auto | LocalEngine::Mistralrs if !auto || !native || self.prefers_mistral()? => {
                let engines = self.mistral(self.instances).map_err(|failure| match &scorer {
                    Ok(_) if native => failure.suffixed("; --engine native reads this model"),
                    Err(error) => failure.suffixed(format!("; smpo's own reader: {error}")),
                    _ => failure,
                })?;
                Ok(Loaded { native_reads_it: native, ..Loaded::new(engines, scorer, weights_sha256) })
            }
            _ => {
                let default = NativeOptions::default();
                let options = NativeOptions {
                    threads: self.threads.unwrap_or(default.threads),
                    batch: self.batch.unwrap_or(default.batch),
                };
                let scorer = scorer?;
                let generators = scorer.generators(options)?;
                let tokenizer = generators.first().map(NativeGenerator::tokenizer);
                let engines = Engines {
                    terminators: tokenizer.map(|tokenizer| tokenizer.terminators().into()),
                    template_sha256: tokenizer.map(|tokenizer| template_sha256(tokenizer, &variables)),
                    cross_check: if auto { self.second() } else { None },
                    ..Engines::new(generators)
                };
                Ok(Loaded::new(engines, Ok::<_, String>(scorer), weights_sha256))
            }
        }
    }

    /// True if an option or a GPU speaks for mistral.rs.
    #[cfg(feature = "mistralrs")]
    fn prefers_mistral(&self) -> Result<bool, Failure> {
        let gpu = matches!(self.device.open()?.kind(), smpo_devices::Kind::Cuda(_));
        Ok(gpu || self.instances.is_some())
    }

    /// mistral.rs beside the native engine, for a comparison; `None` for large weights, which would be in memory twice, for
    /// GGUF files, whose activations it rounds to 8 bits, and where it does not load the model.
    fn second(&self) -> Option<Box<dyn Generator>> {
        #[cfg(feature = "mistralrs")]
        if is_small(Path::new(self.model)) && !smpo_gguf::is_gguf(Path::new(self.model)) {
            return self.mistral(Some(1)).ok().and_then(|engines| engines.generators.into_iter().next());
        }
        None
    }

    /// mistral.rs: several engines with one request in flight each.
    #[cfg(feature = "mistralrs")]
    fn mistral(&self, instances: Option<usize>) -> Result<Engines, Failure> {
        use smpo_devices::Kind;
        use smpo_inference::{MistralConfig, MistralEngine};

        let model = Path::new(self.model);
        let cuda = match self.device.open()?.kind() {
            Kind::Cuda(index) => Some(index),
            Kind::Cpu | Kind::Emulated => None,
        };
        let template_variables = self.template_variables.cloned().unwrap_or_default();
        let config =
            MistralConfig { base: self.base.map(Path::to_owned), threads: self.threads, cuda, template_variables };
        // Copies of the weights side by side are for cores, not for one GPU.
        let instances = instances.unwrap_or_else(|| if cuda.is_some() { 1 } else { cores(model) });
        let engines = MistralEngine::load_instances(model, &config, instances)?;
        let first = engines.first().ok_or("mistral.rs: expected at least one engine").or_execution_error()?;
        let tokenizer = first.tokenizer();
        let terminators = Some(tokenizer.terminators().into());
        let template_sha256 = Some(template_sha256(tokenizer, &config.template_variables));
        Ok(Engines { terminators, template_sha256, ..Engines::new(engines) })
    }
}

/// Hash of a chat template, and of its variables where there are any.
fn template_sha256(tokenizer: &ChatTokenizer, variables: &Map<String, Value>) -> String {
    let source = tokenizer.template().source();
    match variables.is_empty() {
        true => sha256(source.as_bytes()),
        false => sha256(format!("{source}\n{}", Value::Object(variables.clone())).as_bytes()),
    }
}

/// A server, with the same model's weights as scorer if they are given. Without a fidelity check, requests are
/// concurrent only if `concurrency` is set.
pub fn served(server: &HttpGenerator, weights: Option<&Path>, concurrency: bool) -> Result<Loaded, Failure> {
    let scorer = match weights {
        Some(dir) => Ok(NativeModel::load(dir, None)?),
        None => Err("no --weights given"),
    };
    let terminators: Option<TerminatorSet> = scorer.as_ref().ok().map(|scorer| scorer.tokenizer().terminators().into());
    if let Some(TerminatorSet { ids, tokens }) = terminators.clone() {
        server.know_terminators(ids.into_iter().zip(tokens).collect());
    }
    let watched = server.clone();
    let engines = Engines {
        terminators,
        server: Some(Server { model: server.model().to_owned(), served: Box::new(move || watched.served()) }),
        template_sha256: server.template_source().map(|source| sha256(source.as_bytes())),
        sampled_log_probs: true,
        sequential_unless_checked: !concurrency,
        ..Engines::new(server.instances())
    };
    Ok(Loaded::new(engines, scorer, weights.map(weights::sha256).transpose().or_execution_error()?))
}

impl Loaded {
    fn new<E: std::fmt::Display>(
        engines: Engines,
        scorer: Result<NativeModel, E>,
        weights_sha256: Option<String>,
    ) -> Self {
        let (engines, no_scorer, warnings) = match scorer {
            Ok(scorer) => {
                let warnings = scorer.tokenizer().terminators().ordinary().iter().map(ToString::to_string).collect();
                (engines.with_scorer(scorer), None, warnings)
            }
            Err(error) => (engines, Some(error.to_string()), Vec::new()),
        };
        Loaded { engines, weights_sha256, no_scorer, warnings, native_reads_it: false }
    }
}

/// One engine per core for small weights, else one.
#[cfg(feature = "mistralrs")]
fn cores(model: &Path) -> usize {
    if is_small(model) { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}

/// True for weights that are small enough to be loaded several times.
#[cfg(feature = "mistralrs")]
fn is_small(model: &Path) -> bool {
    const SMALL_BYTES: u64 = 256 << 20;
    let sizes = weights::files(model).into_iter().filter_map(|file| std::fs::metadata(file).ok());
    let bytes: u64 = sizes.map(|metadata| metadata.len()).sum();
    bytes <= SMALL_BYTES
}
