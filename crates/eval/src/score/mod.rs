//! Completions generated elsewhere, in the formats in use.
//!
//! The formats are one table, [`InputFormat`]; `docs/scoring.md` lists it. Fields that a format lacks are unknown,
//! never guessed: without a finish reason there is no `eos_rate`, and `run.json` says so.

mod assemble;
mod directories;
mod file;
mod formats;
mod names;
mod record;

use std::collections::BTreeMap;

use smpo_results::{
    EvaluationDir, FinishReason, ModelInfo, Observed, RunManifest, SCHEMA_VERSION, Sample, files, manifest,
};

pub use assemble::{Assembled, ModelCompletions, assemble};
pub use directories::directories;
pub use file::CompletionFile;
pub use formats::InputFormat;

use crate::evaluate::remarks;
use crate::measure::Measured;
use crate::runner::write_results;

/// `kind` of the manifests of scored completions.
pub const KIND: &str = "score";

/// Computes metrics on one model's completions and writes an evaluation directory.
///
/// # Errors
/// [`files::Error`]: a file cannot be written.
pub fn write(dir: &EvaluationDir, model: &ModelCompletions) -> Result<(RunManifest, Measured), files::Error> {
    let caps: Vec<Option<u32>> = model.samples.iter().filter(|sample| sample.error.is_none()).map(|s| s.cap).collect();
    let cap = caps.first().copied().flatten().filter(|&cap| caps.iter().all(|&other| other == Some(cap)));
    let untold = untold(&model.samples);
    let manifest = RunManifest {
        schema: SCHEMA_VERSION,
        kind: KIND.into(),
        model: ModelInfo {
            source: model.sources.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
            name: model.name.clone(),
            weights_sha256: None,
            arm: None,
            training_seed: None,
        },
        suite: model.suite.clone(),
        sampler: None,
        cap,
        samples_per_prompt: usual_samples(&model.samples),
        terminators: None,
        template_sha256: None,
        seed: 0,
        versions: [("smpo".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        fidelity_max_abs_nats: None,
        observed: Observed {
            finish_remarks: remarks(&model.samples),
            benchmark: names::benchmark(&model.sources).filter(|_| untold.contains_key(manifest::PROMPT)),
            untold,
            ..Observed::default()
        },
    };
    files::write_jsonl::<Sample>(&dir.samples(), "sample", &model.samples)?;
    let measured = write_results(dir, &manifest, &model.samples, Vec::new())?;
    Ok((manifest, measured))
}

/// The commonest number of samples of a prompt: one prompt more or less often does not make another kind of run.
fn usual_samples(samples: &[Sample]) -> u32 {
    let mut prompts_with: BTreeMap<usize, usize> = BTreeMap::new();
    for prompt in samples.chunk_by(|a, b| a.prompt_id == b.prompt_id) {
        *prompts_with.entry(prompt.len()).or_default() += 1;
    }
    let usual = prompts_with.into_iter().max_by_key(|(count, prompts)| (*prompts, std::cmp::Reverse(*count)));
    usual.and_then(|(count, _)| u32::try_from(count).ok()).unwrap_or(1)
}

/// Completions that lack a fact because their file does not tell it, by fact.
fn untold(samples: &[Sample]) -> BTreeMap<String, usize> {
    type Lacks = fn(&Sample) -> bool;
    let facts: [(&str, Lacks); 3] = [
        (manifest::FINISH_REASON, |sample| sample.finish_reason.ended().is_none()),
        (manifest::TOKENS, |sample| sample.tokens.is_none()),
        (manifest::PROMPT, |sample| sample.messages.is_empty()),
    ];
    let completed = || samples.iter().filter(|sample| sample.finish_reason != FinishReason::Error);
    let counts = facts.map(|(fact, lacks)| (fact.to_owned(), completed().filter(|sample| lacks(sample)).count()));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}
