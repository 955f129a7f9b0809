//! The probe: what the model being trained does with prompts unlike its training data, while it is trained.
//!
//! A preference loss damages the end of answers out of distribution long before its own figures show it. So every N
//! steps the model as it is completes a small set of prompts, with a key–value cache and without being written or
//! loaded, and the log-prob of the terminator is read teacher-forced, which moves first.

mod prompts;

use std::path::Path;

use serde::{Deserialize, Serialize};
use smpo_data::ChatTokenizer;
use smpo_model::{Continuation, Decoder, GenerateOptions, PackedBatch};

use crate::config::{ProbeConfig, TrainConfig};
use crate::error::{TrainError, io};
use crate::record::Figure;
use prompts::Prompt;

/// Prompts that are continued side by side: bounds the memory of the cache.
const SIDE_BY_SIDE: usize = 16;

/// The prompts, ready to be completed.
pub(crate) struct Probe<'a> {
    config: &'a ProbeConfig,
    seed: u64,
    tokenizer: &'a ChatTokenizer,
    prompts: Vec<Prompt>,
}

/// After which completion of each prompt the terminator's log-prob is read: the gold answer, or where the file has none
/// the model's own at step 0, if it ended. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Targets(Vec<Option<Vec<u32>>>);

/// A completion, as `probe/step-N.jsonl` has it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    completion: String,
    tokens: usize,
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
        let prompts = prompts::read(probe, config.seed, tokenizer)?;
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + probe.max_new_tokens;
        if let Some(positions) = max_positions.filter(|positions| longest > *positions) {
            return Err(TrainError::Config {
                origin: probe.prompts.clone(),
                line: None,
                message: format!(
                    "the longest prompt with max_new_tokens = {} takes {longest} positions, but the model has \
                     {positions}; lower probe.max_new_tokens",
                    probe.max_new_tokens
                ),
            });
        }
        Ok(Some(Probe { config: probe, seed: config.seed, tokenizer, prompts }))
    }

    /// Steps between probes.
    pub(crate) fn steps(&self) -> u64 {
        self.config.steps
    }

    /// Probes the model after `step` steps and writes what it said to `dir`. Sets the targets at step 0.
    ///
    /// # Errors
    /// When the model refuses a prompt, or the file cannot be written.
    pub(crate) fn run(
        &self,
        decoder: &Decoder,
        step: u64,
        targets: &mut Targets,
        dir: &Path,
    ) -> Result<Vec<Figure>, TrainError> {
        let completions = self.complete(decoder)?;
        if targets.0.is_empty() {
            let own = |completion: &Continuation| completion.terminated.then(|| completion.ids.clone());
            let target =
                |(prompt, completion): (&Prompt, &Continuation)| prompt.gold.clone().or_else(|| own(completion));
            targets.0 = self.prompts.iter().zip(&completions).map(target).collect();
        }
        let mut lines = Vec::with_capacity(completions.len());
        for (prompt, completion) in self.prompts.iter().zip(&completions) {
            let content = &completion.ids[..completion.ids.len() - usize::from(completion.terminated)];
            lines.push(Line {
                id: &prompt.id,
                completion: self.tokenizer.decode(&completion.ids)?,
                tokens: completion.ids.len(),
                terminated: completion.terminated,
                looped: smpo_loops::loops(content),
            });
        }
        write(dir, step, &lines)?;
        let share =
            |holds: fn(&Line<'_>) -> bool| lines.iter().filter(|line| holds(line)).count() as f64 / lines.len() as f64;
        let length = lines.iter().map(|line| line.tokens as f64).sum::<f64>() / lines.len() as f64;
        let mut figures: Vec<Figure> = vec![
            ("probe/eos_rate".into(), share(|line| line.terminated)),
            ("probe/loop_rate".into(), share(|line| line.looped)),
            ("probe/length".into(), length),
        ];
        figures.extend(self.eos_logp(decoder, targets)?.map(|value| ("probe/eos_logp".into(), value)));
        Ok(figures)
    }

    fn complete(&self, decoder: &Decoder) -> Result<Vec<Continuation>, TrainError> {
        let mut completions = Vec::with_capacity(self.prompts.len());
        for (index, prompts) in self.prompts.chunks(SIDE_BY_SIDE).enumerate() {
            let options = GenerateOptions {
                max_new_tokens: self.config.max_new_tokens,
                temperature: self.config.temperature,
                seed: self.seed.wrapping_add(index as u64),
                terminators: self.tokenizer.terminators().ids(),
            };
            let ids: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.ids.as_slice()).collect();
            completions.extend(decoder.generate(&ids, &options)?);
        }
        Ok(completions)
    }

    /// Mean log-prob of the terminator after each target, in nats; `None` where there is no target.
    fn eos_logp(&self, decoder: &Decoder, targets: &Targets) -> Result<Option<f64>, TrainError> {
        let decoder = decoder.frozen();
        let forced: Vec<(&[u32], &[u32])> = self
            .prompts
            .iter()
            .zip(&targets.0)
            .filter_map(|(prompt, target)| Some((prompt.ids.as_slice(), target.as_deref()?)))
            .collect();
        let mut total = 0.0;
        for sequences in forced.chunks(SIDE_BY_SIDE) {
            let packed = PackedBatch::from_sequences(sequences.iter().copied())?;
            let logps = decoder.log_probs(&packed)?.to_vec1::<f32>()?;
            total += packed.completions().iter().map(|range| f64::from(logps[range.end - 1])).sum::<f64>();
        }
        Ok((!forced.is_empty()).then(|| total / forced.len() as f64))
    }
}

fn write(dir: &Path, step: u64, lines: &[Line<'_>]) -> Result<(), TrainError> {
    let path = dir.join(format!("step-{step}.jsonl"));
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(std::io::Error::from).map_err(io(&path, "describe"))?;
        text.push(b'\n');
    }
    Ok(smpo_files::write_whole(&path, &text)?)
}
