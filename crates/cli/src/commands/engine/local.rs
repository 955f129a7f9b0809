//! Engines of a model on disk or on a server.

use std::path::Path;

use serde_json::{Map, Value};
use smpo_devices::Choice;
use smpo_eval::{Engines, Server, Worker, weights};
use smpo_files::{exists, sha256};
use smpo_inference::{Generator, HttpGenerator};
#[cfg(feature = "mistralrs")]
use smpo_inference::{MistralConfig, MistralEngine};
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
    /// smpo's own decoder: directories, GGUF files and adapters of the model families it trains; on the CPU several times
    /// faster, on GPUs in the weights' dtype
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
    /// Devices; `auto` where there are none.
    pub devices: &'a [Choice],
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
        let native_only = engine == LocalEngine::Native || !cfg!(feature = "mistralrs");
        if native_only && self.weights.is_none() && exists(model)? {
            let (devices, note) = self.native_devices(model)?;
            if !devices.is_empty() {
                return self.native_on(&devices, &variables);
            }
            let mut loaded = self.load_on_host(engine, &variables)?;
            loaded.warnings.extend(note);
            return Ok(loaded);
        }
        self.load_on_host(engine, &variables)
    }

    /// Loads the model for the CPU, or for mistral.rs wherever that runs it.
    fn load_on_host(&self, engine: LocalEngine, variables: &Map<String, Value>) -> Result<Loaded, Failure> {
        let model = Path::new(self.model);
        let scorer = match self.weights {
            Some(weights) => Ok(NativeModel::load(weights, None)?),
            None => NativeModel::load(model, self.base),
        };
        let scorer = scorer.and_then(|scorer| scorer.with_template_variables(variables));
        if !exists(model)? {
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
                let engines = self.mistral_engines().map_err(|failure| match &scorer {
                    Ok(_) if native => failure.suffixed("; --engine native reads this model"),
                    Err(error) if failure.to_string().contains(&error.to_string()) => failure,
                    Err(error) => failure.suffixed(format!("; smpo's own reader: {error}")),
                    _ => failure,
                })?;
                Ok(Loaded { native_reads_it: native, ..Loaded::new(engines, scorer, weights_sha256) })
            }
            _ => {
                let scorer = scorer?;
                // What is named is sampled; `weights` is only compared with.
                let named =
                    self.weights.map(|_| NativeModel::load(model, self.base)?.with_template_variables(variables));
                let named = named.transpose()?;
                let generators = named
                    .as_ref()
                    .unwrap_or(&scorer)
                    .generators(self.native_options(NativeOptions::default().batch))?;
                let tokenizer = generators.first().map(NativeGenerator::tokenizer);
                let engines = Engines {
                    terminators: tokenizer.map(|tokenizer| tokenizer.terminators().into()),
                    template_sha256: tokenizer.map(|tokenizer| template_sha256(tokenizer, variables)),
                    cross_check: if auto { self.second() } else { None },
                    ..Engines::new(generators)
                };
                Ok(Loaded::new(engines, Ok::<_, String>(scorer), weights_sha256))
            }
        }
    }

    pub(super) fn native_options(&self, batch: usize) -> NativeOptions {
        let threads = self.threads.unwrap_or(NativeOptions::default().threads);
        NativeOptions { threads, batch: self.batch.unwrap_or(batch) }
    }

    /// The first device.
    #[cfg(feature = "mistralrs")]
    fn device(&self) -> Choice {
        self.devices.first().copied().unwrap_or_default()
    }

    /// True if an option or a GPU speaks for mistral.rs.
    #[cfg(feature = "mistralrs")]
    fn prefers_mistral(&self) -> Result<bool, Failure> {
        let gpu = matches!(self.device().open()?.kind(), smpo_devices::Kind::Cuda(_));
        Ok(gpu || self.instances.is_some())
    }

    /// mistral.rs beside the native engine, for a comparison; `None` for large weights, which would be in memory twice, for
    /// GGUF files, whose activations it rounds to 8 bits, and where it does not load the model.
    fn second(&self) -> Option<Box<dyn Generator>> {
        #[cfg(feature = "mistralrs")]
        if is_small(Path::new(self.model)) && matches!(smpo_gguf::is_gguf(Path::new(self.model)), Ok(false)) {
            let engines = self.mistral(self.device(), Some(1)).ok()?;
            return engines.into_iter().next().map(|engine| Box::new(engine) as Box<dyn Generator>);
        }
        None
    }

    /// mistral.rs on every device.
    #[cfg(feature = "mistralrs")]
    fn mistral_engines(&self) -> Result<Engines, Failure> {
        let mut workers = Vec::new();
        let (mut terminators, mut hash) = (None, None);
        let devices = if self.devices.is_empty() { &[Choice::Auto][..] } else { self.devices };
        for device in devices {
            let engines = self.mistral(*device, self.instances)?;
            let tokenizer = engines.first().map(MistralEngine::tokenizer);
            terminators = tokenizer.map(|tokenizer| tokenizer.terminators().into());
            let variables = self.template_variables.cloned().unwrap_or_default();
            hash = tokenizer.map(|tokenizer| template_sha256(tokenizer, &variables));
            workers.push(Worker::new(device.to_string(), engines));
        }
        Ok(Engines { terminators, template_sha256: hash, ..Engines::of(workers) })
    }

    /// mistral.rs on one device: several engines with one request in flight each.
    #[cfg(feature = "mistralrs")]
    fn mistral(&self, device: Choice, instances: Option<usize>) -> Result<Vec<MistralEngine>, Failure> {
        use smpo_devices::Kind;

        let model = Path::new(self.model);
        let cuda = match device.open()?.kind() {
            Kind::Cuda(index) => Some(index),
            Kind::Cpu | Kind::Emulated => None,
        };
        let template_variables = self.template_variables.cloned().unwrap_or_default();
        let config =
            MistralConfig { base: self.base.map(Path::to_owned), threads: self.threads, cuda, template_variables };
        // Copies of the weights side by side are for cores, not for one GPU.
        let instances = instances.unwrap_or_else(|| if cuda.is_some() { 1 } else { cores(model) });
        let engines = MistralEngine::load_instances(model, &config, instances)?;
        engines.first().ok_or("mistral.rs: expected at least one engine").or_execution_error()?;
        Ok(engines)
    }
}

/// Hash of a chat template, and of its variables where there are any.
pub(super) fn template_sha256(tokenizer: &ChatTokenizer, variables: &Map<String, Value>) -> String {
    let source = tokenizer.template().source();
    match variables.is_empty() {
        true => sha256(source.as_bytes()),
        false => sha256(format!("{source}\n{}", Value::Object(variables.clone())).as_bytes()),
    }
}

/// Servers of one model, with its weights as scorer if they are given. Without a fidelity check, requests to a server are
/// concurrent only if `concurrency` is set.
pub fn served(servers: &[HttpGenerator], weights: Option<&Path>, concurrency: bool) -> Result<Loaded, Failure> {
    let scorer = match weights {
        Some(dir) => Ok(NativeModel::load(dir, None)?),
        None => Err("no --weights given"),
    };
    let terminators: Option<TerminatorSet> = scorer.as_ref().ok().map(|scorer| scorer.tokenizer().terminators().into());
    if let Some(TerminatorSet { ids, tokens }) = terminators.clone() {
        let known: Vec<(u32, String)> = ids.into_iter().zip(tokens).collect();
        servers.iter().for_each(|server| server.know_terminators(known.clone()));
    }
    let template = servers.first().and_then(HttpGenerator::template_source);
    let engines = Engines {
        terminators,
        template_sha256: template.map(|source| sha256(source.as_bytes())),
        sampled_log_probs: true,
        sequential_unless_checked: !concurrency,
        ..Engines::of(workers(servers))
    };
    Ok(Loaded::new(engines, scorer, weights.map(weights::sha256).transpose().or_execution_error()?))
}

/// A worker for each server. Addresses that differ in user or query alone have one name, which is numbered.
fn workers(servers: &[HttpGenerator]) -> Vec<Worker> {
    let mut workers: Vec<Worker> = Vec::new();
    for server in servers {
        let name = server.engine().device;
        let same = |worker: &&Worker| worker.name == name || worker.name.starts_with(&format!("{name} ("));
        let number = workers.iter().filter(same).count();
        let name = if number == 0 { name } else { format!("{name} ({})", number + 1) };
        let watched = server.clone();
        let served = Server { model: server.model().to_owned(), served: Box::new(move || watched.served()) };
        workers.push(Worker { server: Some(served), ..Worker::new(name, server.instances()) });
    }
    workers
}

impl Loaded {
    pub(super) fn new<E: std::fmt::Display>(
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
