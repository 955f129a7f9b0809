//! The samples of a basket: taken from a model, or those of an evaluation directory.

use std::path::{Path, PathBuf};

use smpo_eval::{FidelityCheck, Options, Suite};
use smpo_pairs::{Basket, follow_up_suite};
use smpo_results::{EvaluationDir, ModelInfo, Sample, files};

use super::engine::{EngineArgs, Opened};
use super::eval::evaluate_shown;
use super::sampling_args::SamplingArgs;
use crate::exit::Failure;
use crate::progress::Progress;

/// Prompts and how they are sampled.
#[derive(Debug, clap::Args)]
pub struct BasketArgs {
    #[command(flatten)]
    pub model: EngineArgs,
    /// Prompts: a suite (TOML, or the name of a shipped one), or any JSONL file of prompts, whose rows may bring
    /// system_prompt, follow_up_prompt, correct_answer and response_format
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Output directory; an interrupted run resumes when the same command is run again
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Delete existing samples in --out and start over
    #[arg(long)]
    pub restart: bool,
    /// System message of prompts that have none
    #[arg(long, value_name = "TEXT")]
    pub system_prompt: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Skip the fidelity check, which compares the engine's log-probs with a reference forward pass before sampling
    #[arg(long)]
    pub no_fidelity_check: bool,
}

/// A basket with its samples.
pub struct Sampled {
    pub basket: Basket,
    /// Name of the model.
    pub model: String,
    pub samples: Vec<Sample>,
    /// Answers to second questions.
    pub follow_ups: Vec<Sample>,
}

impl BasketArgs {
    /// Reads the prompts and samples what is missing; `None` when stopped by Ctrl-C. `samples` turns the suite's number of
    /// samples of a prompt, 1 for a plain file, into that of this command, which `--samples` replaces.
    ///
    /// # Errors
    /// The prompts or the model cannot be read, or sampling failed.
    pub fn sample(&self, samples: impl Fn(u32) -> u32, progress: &Progress) -> Result<Option<Sampled>, Failure> {
        self.model.prepare()?;
        let mut basket = Basket::read(&self.prompts, self.system_prompt.as_deref())?;
        basket.suite.samples_per_prompt = samples(basket.suite.samples_per_prompt);
        self.sampling.apply(&mut basket.suite)?;
        // held-out pairs say nothing about completions
        basket.suite.pairs = None;
        if let Some(prompt) = basket.first_with_response_format().filter(|_| !self.model.is_server()) {
            return Err(Failure::user(format!(
                "{}: the prompt {prompt:?} has a `response_format`, which only a server takes; remove it or give a \
                 server's URL",
                self.prompts.display()
            )));
        }
        let Some((model, samples)) = self.run(&basket.suite, &self.out.join("samples"), progress)? else {
            return Ok(None);
        };
        let follow_ups = match follow_up_suite(&basket, &samples) {
            None => Vec::new(),
            Some(suite) => match self.run(&suite, &self.out.join("follow-ups"), progress)? {
                Some((_, follow_ups)) => follow_ups,
                None => return Ok(None),
            },
        };
        Ok(Some(Sampled { basket, model, samples, follow_ups }))
    }

    fn run(&self, suite: &Suite, out: &Path, progress: &Progress) -> Result<Option<(String, Vec<Sample>)>, Failure> {
        let Opened { source, name, loaded, settings } = self.model.open()?;
        let options = Options {
            out: out.to_owned(),
            restart: self.restart,
            model: ModelInfo {
                source,
                name: name.clone(),
                weights_sha256: loaded.weights_sha256.clone(),
                arm: None,
                training_seed: None,
            },
            settings,
            fidelity: match self.no_fidelity_check {
                true => FidelityCheck::Skip,
                false => FidelityCheck::Run { tolerance: None },
            },
        };
        if evaluate_shown(suite, loaded, &options, progress)?.is_none() {
            return Ok(None);
        }
        Ok(Some((name, files::read_jsonl(&EvaluationDir::new(out).samples(), "sample")?)))
    }
}
