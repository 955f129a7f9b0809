//! What samples, and what is known of it.

#[cfg(feature = "mistralrs")]
mod mistral;

use std::path::Path;

use anyhow::{Context, anyhow};
use smpo_files::sha256;
use smpo_inference::{EngineInfo, Generator, HttpGenerator, InferenceError};
use smpo_native::{NativeGenerator, NativeOptions};
use smpo_results::TerminatorSet;
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use super::evaluation::Evaluation;
use super::forward::Forward;
use super::weights;
use crate::exit::{Blame, Failure};

/// Inference engine for a local model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LocalEngine {
    /// mistral.rs: Hugging Face directories, PEFT adapters, GGUF files
    #[cfg(feature = "mistralrs")]
    #[default]
    Mistralrs,
    /// smpo's own decoder, CPU: directories and adapters of the model families it trains; several times faster there
    #[cfg_attr(not(feature = "mistralrs"), default)]
    Native,
}

/// Generators of one model.
pub struct Engines {
    pub generators: Vec<Box<dyn Generator>>,
    pub info: EngineInfo,
    pub terminators: Option<TerminatorSet>,
    pub template_sha256: Option<String>,
    pub weights_sha256: Option<String>,
    /// This program's own forward pass, or why there is none.
    pub forward: anyhow::Result<Forward>,
    /// Requests in flight at once were not asked for: where they cannot be checked there is one.
    pub one_unless_checked: bool,
}

impl Engines {
    /// A model on this disk.
    pub fn local(evaluation: &Evaluation) -> Result<Self, Failure> {
        let model = Path::new(&evaluation.model.source);
        let forward = match &evaluation.weights {
            Some(weights) => Ok(Forward::load(weights, None).usage()?),
            None => Forward::load(model, evaluation.base.as_deref()),
        };
        let weights_sha256 = Some(weights::sha256(model).map_err(|error| blame_weights(model, error))?);
        match evaluation.engine {
            #[cfg(feature = "mistralrs")]
            LocalEngine::Mistralrs => mistral::engines(model, evaluation, forward, weights_sha256),
            LocalEngine::Native => Self::native(evaluation, forward.usage()?, weights_sha256),
        }
    }

    fn native(evaluation: &Evaluation, forward: Forward, weights_sha256: Option<String>) -> Result<Self, Failure> {
        let tokenizer = forward.sampling_tokenizer().map_err(blame_tokenizer)?;
        let default = NativeOptions::default();
        let options = NativeOptions {
            threads: evaluation.threads.unwrap_or(default.threads),
            batch: evaluation.batch.unwrap_or(default.batch),
        };
        let terminators = Some(tokenizer.terminators().into());
        let template_sha256 = Some(sha256(tokenizer.template().source().as_bytes()));
        let generators =
            NativeGenerator::start(forward.pack().execution()?, tokenizer, options).map_err(blame_engine)?;
        let info = generators.first().context("expected at least one generator").execution()?.engine();
        Ok(Engines {
            info,
            terminators,
            template_sha256,
            weights_sha256,
            forward: Ok(forward),
            generators: boxed(generators),
            one_unless_checked: false,
        })
    }

    /// A server, with the same model's weights where they are given. `concurrency` says whether it was asked for.
    pub fn served(server: &HttpGenerator, weights: Option<&Path>, concurrency: bool) -> Result<Self, Failure> {
        let forward = match weights {
            Some(dir) => Ok(Forward::load(dir, None).usage()?),
            None => Err(anyhow!("no --weights given")),
        };
        Ok(Engines {
            info: server.engine(),
            terminators: forward.as_ref().ok().map(Forward::terminators),
            template_sha256: server.template_source().map(|source| sha256(source.as_bytes())),
            weights_sha256: weights.map(weights::sha256).transpose().execution()?,
            forward,
            generators: boxed(server.instances()),
            one_unless_checked: !concurrency,
        })
    }
}

fn boxed<G: Generator + 'static>(generators: Vec<G>) -> Vec<Box<dyn Generator>> {
    generators.into_iter().map(|one| Box::new(one) as Box<dyn Generator>).collect()
}

/// The template and tokenizer that prompts for `/completions` are made with.
pub fn tokenizer(directory: &Path) -> Result<ChatTokenizer, Failure> {
    ChatTokenizer::from_model_dir(directory).map_err(blame_tokenizer)
}

fn blame_tokenizer(error: TokenizerError) -> Failure {
    blame_engine(Box::new(error).into())
}

/// Files are their author's to mend, the rest is the machine's or the engine's.
pub fn blame_engine(error: InferenceError) -> Failure {
    match error {
        InferenceError::MissingFile { .. } | InferenceError::InvalidFile { .. } | InferenceError::Tokenizer(_) => {
            Failure::Usage(error.into())
        }
        error => Failure::Execution(error.into()),
    }
}

/// A model that is not there is a mistake in the command.
fn blame_weights(model: &Path, error: smpo_results::Error) -> Failure {
    match model.exists() {
        true => Failure::Execution(error.into()),
        false => Failure::Usage(anyhow!(
            "{}: no such file or directory; give a Hugging Face directory, a PEFT adapter directory, a .gguf file or a \
             server's URL",
            model.display()
        )),
    }
}
