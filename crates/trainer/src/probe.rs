//! The probe: completions of prompts unlike the training data, by the model while it is trained.
//!
//! A preference loss damages the end of answers out of distribution long before its own figures show it. So every N
//! steps the current weights complete a small set of prompts, in the batches and with the random stream of the native
//! engine ((seed, prompt id, sample), as in `smpo eval`), and the terminator's log-prob is measured teacher-forced,
//! which moves first.

mod figures;
mod prompts;

use std::path::Path;

use serde::{Deserialize, Serialize};
use smpo_model::{Decoder, DeviceDecoder, PackedBatch};
use smpo_native::{NativeOptions, TokenPrompt, complete, complete_on_device};
use smpo_results::{FinishReason, Sample};
use smpo_sampling::{Noise, Recorder, Recording, Sampler};
use smpo_tokenizer::ChatTokenizer;

use crate::config::{ProbeConfig, TrainConfig};
use crate::error::{TrainError, io};
use crate::memory_budget::MemoryBudget;
use crate::ranks::Ranks;
use crate::record::Figure;
use prompts::Prompt;

/// Prompts in one batch, of completions and of teacher-forced log-probs: bounds memory.
const BATCH: usize = 16;

/// The tokenised prompts.
pub(crate) struct Probe<'a> {
    config: &'a ProbeConfig,
    seed: u64,
    tokenizer: &'a ChatTokenizer,
    prompts: Vec<Prompt>,
}

/// The completion of each prompt after which the terminator's log-prob is measured: the gold answer, or where the file
/// has none the model's own at step 0, if it ended. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Targets(Vec<Option<Vec<u32>>>);

/// One line of `probe/step-N.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    completion: &'a str,
    tokens: u32,
    terminated: bool,
    looped: bool,
}

impl<'a> Probe<'a> {
    /// Reads, draws and tokenises the prompts.
    ///
    /// # Errors
    /// When the file cannot be read, a row is no prompt, or a prompt and its completion do not fit the model.
    pub(crate) fn load(
        config: &'a TrainConfig,
        tokenizer: &'a ChatTokenizer,
        max_positions: Option<usize>,
    ) -> Result<Option<Self>, TrainError> {
        let Some(probe) = &config.probe else { return Ok(None) };
        let prompts = prompts::read(probe, config, tokenizer)?;
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + probe.max_new_tokens;
        if let Some(positions) = max_positions.filter(|positions| longest > *positions) {
            let message = format!(
                "the longest prompt with max_new_tokens = {} takes {longest} positions, but the model has {positions}; \
                 lower probe.max_new_tokens",
                probe.max_new_tokens
            );
            return Err(TrainError::config(&probe.prompts, None, message));
        }
        Ok(Some(Probe { config: probe, seed: config.seed, tokenizer, prompts }))
    }

    /// Steps between probes.
    pub(crate) fn steps(&self) -> u64 {
        self.config.steps
    }

    /// Probes the model after `step` steps, in the memory that its device has, and writes the completions to `dir`. Sets the
    /// targets at step 0.
    ///
    /// # Errors
    /// When the model refuses a prompt, or the file cannot be written.
    pub(crate) fn run(
        &self,
        (decoder, budget): (&Decoder, MemoryBudget),
        step: u64,
        targets: &mut Targets,
        dir: &Path,
        ranks: &Ranks,
    ) -> Result<Vec<Figure>, TrainError> {
        let completions = self.complete(decoder, budget, ranks)?;
        if targets.0.is_empty() {
            let own = |ids: &Vec<u32>| self.terminated(ids).then(|| ids.clone());
            let target = |(prompt, ids): (&Prompt, &Vec<u32>)| prompt.gold.clone().or_else(|| own(ids));
            targets.0 = self.prompts.iter().zip(&completions).map(target).collect();
        }
        let mut samples = Vec::with_capacity(completions.len());
        for (prompt, ids) in self.prompts.iter().zip(completions) {
            let (text, terminated) = (self.tokenizer.decode(&ids)?, self.terminated(&ids));
            samples.push(figures::sample(prompt, ids, text, terminated, self.config.max_new_tokens));
        }
        let values = figures::measure(&samples);
        ranks.lead(|| write(dir, step, &samples, &figures::holds(&values, "loop_rate")))?;
        let mut figures = figures::figures(&values);
        figures.extend(self.eos_logp(decoder, targets, ranks)?.map(|value| ("probe/eos_logp".into(), value)));
        Ok(figures)
    }

    /// Token ids of one completion per prompt, terminator included. A prompt whose logits are no distribution has an empty
    /// completion, which does not end: the loop's own checks report such a model.
    fn complete(&self, decoder: &Decoder, budget: MemoryBudget, ranks: &Ranks) -> Result<Vec<Vec<u32>>, TrainError> {
        let sampler = Sampler::temperature(self.config.temperature);
        let terminators = self.tokenizer.terminator_ids();
        let own = self.prompts.iter().skip(ranks.rank()).step_by(ranks.world()).map(|prompt| {
            let noise = Noise::new(self.seed, &prompt.id, 0);
            let recorder = Recorder::new(sampler, noise, terminators, self.config.max_new_tokens);
            TokenPrompt { ids: prompt.ids.clone(), recorder }
        });
        let options = NativeOptions { threads: rayon::current_num_threads(), batch: BATCH };
        let complete = || -> Result<Vec<Vec<u32>>, TrainError> {
            let records = match decoder.placement().runs_kernels_of_a_device() {
                true => complete_on_device(&DeviceDecoder::new(decoder)?, budget.for_sampling(), own, options)?,
                false => complete(&decoder.pack()?, own, options)?,
            };
            Ok(records
                .into_iter()
                .map(|record| record.map_or_else(|_| Vec::new(), |Recording { token_ids, .. }| token_ids))
                .collect())
        };
        ranks.merge_lists(complete())
    }

    fn terminated(&self, ids: &[u32]) -> bool {
        ids.last().is_some_and(|&id| self.tokenizer.is_terminator(id))
    }

    /// Mean log-prob of the terminator after each target, in nats; `None` where there is no target.
    fn eos_logp(&self, decoder: &Decoder, targets: &Targets, ranks: &Ranks) -> Result<Option<f64>, TrainError> {
        let decoder = decoder.frozen();
        let forced: Vec<(&[u32], &[u32])> = self
            .prompts
            .iter()
            .zip(&targets.0)
            .filter_map(|(prompt, target)| Some((prompt.ids.as_slice(), target.as_deref()?)))
            .collect();
        let own: Vec<(&[u32], &[u32])> = forced.iter().skip(ranks.rank()).step_by(ranks.world()).copied().collect();
        let score = || -> Result<Vec<f64>, TrainError> {
            let mut total = 0.0;
            for sequences in own.chunks(BATCH) {
                let packed = PackedBatch::from_sequences(sequences.iter().copied())?;
                let logps = decoder.log_probs(&packed)?.to_vec1::<f32>()?;
                total += packed.completions().iter().map(|range| f64::from(logps[range.end - 1])).sum::<f64>();
            }
            Ok(vec![total])
        };
        let total: f64 = ranks.exchange(score())?.concat().iter().sum();
        Ok((!forced.is_empty()).then(|| total / forced.len() as f64))
    }
}

fn write(dir: &Path, step: u64, samples: &[Sample], looped: &[bool]) -> Result<(), TrainError> {
    let path = dir.join(format!("step-{step}.jsonl"));
    let mut text = Vec::new();
    for (sample, &looped) in samples.iter().zip(looped) {
        let line = Line {
            id: &sample.prompt_id,
            completion: &sample.completion,
            tokens: sample.tokens.unwrap_or_default(),
            terminated: sample.finish_reason == FinishReason::Eos,
            looped,
        };
        serde_json::to_writer(&mut text, &line).map_err(std::io::Error::from).map_err(io(&path, "describe"))?;
        text.push(b'\n');
    }
    Ok(smpo_files::write_whole(&path, &text)?)
}
