//! Completions generated elsewhere, in the formats in use.
//!
//! The formats are one table, [`InputFormat`]; `docs/scoring.md` lists it. Fields that a format lacks are unknown,
//! never guessed: without a finish reason there is no `eos_rate`, and `run.json` says so.

mod answer;
mod assemble;
mod completions;
mod directories;
mod file;
mod formats;
mod names;
mod record;
mod store;

use std::collections::BTreeMap;

use smpo_results::{
    EvaluationDir, FinishReason, ModelInfo, Observed, RunManifest, SCHEMA_VERSION, Sample, files, manifest,
};

pub use assemble::{Assembled, assemble};
pub use completions::ModelCompletions;
pub use directories::directories;
pub use file::CompletionFile;
pub use formats::InputFormat;
pub use store::Store;

use crate::measure::{Measured, measure_each};
use crate::runner::write_measured;

/// Computes metrics on one model's completions and writes an evaluation directory.
///
/// # Errors
/// [`files::Error`]: a file cannot be written, or a completion not be read back.
pub fn write(dir: &EvaluationDir, model: &ModelCompletions) -> Result<(RunManifest, Measured), files::Error> {
    let mut facts = Facts::default();
    let samples = model.samples().inspect(|sample| sample.iter().for_each(|sample| facts.add(sample)));
    // Figures must not outlive the samples that they are of.
    smpo_files::remove_file(&dir.metrics())?;
    files::write_each_jsonl(&dir.samples(), "sample", samples)?;
    let measured = measure_each(model, Vec::new())?;
    let manifest = RunManifest {
        schema: SCHEMA_VERSION,
        kind: RunManifest::SCORED.into(),
        model: ModelInfo {
            source: model.sources.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
            name: model.name.clone(),
            weights_sha256: None,
            arm: None,
            training_seed: None,
        },
        suite: model.suite.clone(),
        sampler: None,
        cap: facts.cap.flatten(),
        samples_per_prompt: usual(model.counts()).and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
        terminators: None,
        template_sha256: None,
        seed: 0,
        versions: [("smpo".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        fidelity_max_abs_nats: None,
        observed: Observed {
            finish_remarks: facts.remarks,
            benchmark: names::benchmark(&model.sources).filter(|_| facts.untold.contains_key(manifest::PROMPT)),
            untold: facts.untold,
            ..Observed::default()
        },
    };
    write_measured(dir, &manifest, &measured)?;
    Ok((manifest, measured))
}

/// The commonest number of answers to a prompt; of several, the least. One prompt more or less often does not make another kind
/// of run.
fn usual(counts: impl Iterator<Item = usize>) -> Option<usize> {
    let mut prompts_with: BTreeMap<usize, usize> = BTreeMap::new();
    for count in counts {
        *prompts_with.entry(count).or_default() += 1;
    }
    let usual = prompts_with.into_iter().max_by_key(|(count, prompts)| (*prompts, std::cmp::Reverse(*count)));
    usual.map(|(count, _)| count)
}

/// Facts about all completions of a model.
#[derive(Default)]
struct Facts {
    /// The cap of all that did not fail, if they have one; the outer `None` is of no completion.
    cap: Option<Option<u32>>,
    /// Completions by the remark on their end.
    remarks: BTreeMap<String, usize>,
    /// Completions that lack a fact because their file does not tell it, by fact.
    untold: BTreeMap<String, usize>,
}

impl Facts {
    fn add(&mut self, sample: &Sample) {
        if let Some(remark) = &sample.finish_remark {
            *self.remarks.entry(remark.clone()).or_default() += 1;
        }
        if sample.error.is_none() {
            self.cap = Some(self.cap.unwrap_or(sample.cap).filter(|cap| sample.cap == Some(*cap)));
        }
        if sample.finish_reason == FinishReason::Error {
            return;
        }
        for (fact, lacks) in [
            (manifest::FINISH_REASON, sample.finish_reason.ended().is_none()),
            (manifest::TOKENS, sample.tokens.is_none()),
            (manifest::PROMPT, sample.messages.is_empty()),
            (manifest::ID, answer::is_known_by_line(sample)),
        ] {
            if lacks {
                *self.untold.entry(fact.to_owned()).or_default() += 1;
            }
        }
    }
}
