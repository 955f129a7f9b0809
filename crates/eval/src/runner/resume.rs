//! Continuing in a directory that already has samples.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use smpo_inference::Request;
use smpo_results::{EvaluationDir, FinishReason, RunManifest, Sample, files};

use super::RunError;
use crate::suite::Suite;

/// The successful samples that the directory already has. Leaves `run.json` and a `samples.jsonl` of exactly those.
pub(super) fn resume(suite: &Suite, dir: &EvaluationDir, manifest: &RunManifest) -> Result<Vec<Sample>, RunError> {
    let there = |path: &Path| smpo_files::exists(path).map_err(files::Error::from);
    if there(&dir.manifest())? {
        let found: RunManifest = files::read_json(&dir.manifest(), "run manifest")?;
        if let Some((field, expected, found)) = differs(manifest, &found) {
            return Err(RunError::OtherRun { dir: dir.path().to_owned(), field, expected, found });
        }
    } else if there(&dir.samples())? {
        let problem = "samples without a run.json; choose another directory".into();
        return Err(RunError::ForeignSample { path: dir.samples(), problem });
    }
    // An estimate of half the samples must not outlive the decision to take the other half.
    smpo_files::remove_file(&dir.metrics()).map_err(files::Error::from)?;
    files::write_json(&dir.manifest(), "run manifest", manifest)?;
    let path = dir.samples();
    if !there(&path)? {
        return Ok(Vec::new());
    }
    smpo_files::cut_torn_line(&path).map_err(files::Error::from)?;
    let samples = read_successful(suite, &path)?;
    files::write_jsonl(&path, "sample", &samples)?;
    Ok(samples)
}

/// Successful samples of a file, in the order of the suite.
fn read_successful(suite: &Suite, path: &Path) -> Result<Vec<Sample>, RunError> {
    let known: HashSet<&str> = suite.prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    let mut by_key: HashMap<(String, u32), Sample> = HashMap::new();
    for sample in files::read_jsonl::<Sample>(path, "sample")? {
        if !known.contains(sample.prompt_id.as_str()) || sample.sample >= suite.samples_per_prompt {
            let problem = format!("sample {} of prompt {:?} is not of this suite", sample.sample, sample.prompt_id);
            return Err(RunError::ForeignSample { path: path.to_owned(), problem });
        }
        if sample.finish_reason != FinishReason::Error {
            by_key.insert((sample.prompt_id.clone(), sample.sample), sample);
        }
    }
    let mut samples: Vec<Sample> = by_key.into_values().collect();
    sort(suite, &mut samples);
    Ok(samples)
}

/// The first difference between two runs that makes their samples incompatible.
fn differs(wanted: &RunManifest, found: &RunManifest) -> Option<(&'static str, String, String)> {
    if let Some(difference) = wanted.incomparable(found) {
        return Some(difference);
    }
    // Servers and devices of a fleet come and go; each that has a check passes its own.
    let fleet = [wanted, found].iter().any(|run| !run.observed.workers.is_empty());
    let source = |run: &RunManifest| if fleet { String::new() } else { run.model.source.clone() };
    let weights = |run: &RunManifest| run.model.weights_sha256.clone().unwrap_or_else(|| "unknown".to_owned());
    let versions = |run: &RunManifest| {
        let of_all = run.versions.iter().filter(|(name, _)| !(fleet && name.as_str() == "device"));
        of_all.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    };
    let fields = [
        ("model.source", source(wanted), source(found)),
        ("model.weights_sha256", weights(wanted), weights(found)),
        ("seed", wanted.seed.to_string(), found.seed.to_string()),
        ("versions", versions(wanted), versions(found)),
    ];
    fields.into_iter().find(|(_, wanted, found)| wanted != found)
}

/// Requests for the samples that do not exist yet, in the order of the suite.
pub(super) fn missing(suite: &Suite, samples: &[Sample]) -> Vec<Request> {
    let there: HashSet<(&str, u32)> = samples.iter().map(|sample| (sample.prompt_id.as_str(), sample.sample)).collect();
    let wanted = suite.prompts.iter().flat_map(|prompt| (0..suite.samples_per_prompt).map(move |k| (prompt, k)));
    wanted
        .filter(|(prompt, sample)| !there.contains(&(prompt.id.as_str(), *sample)))
        .map(|(prompt, sample)| Request {
            prompt_id: prompt.id.clone(),
            sample,
            messages: prompt.messages.clone(),
            sampler: suite.sampler,
            max_tokens: suite.cap,
            seed: suite.seed,
            extra_body: prompt.extra_body.clone(),
        })
        .collect()
}

/// Sorts samples into the order of the suite.
pub(super) fn sort(suite: &Suite, samples: &mut [Sample]) {
    let order: HashMap<&str, usize> =
        suite.prompts.iter().enumerate().map(|(index, prompt)| (prompt.id.as_str(), index)).collect();
    samples.sort_by_key(|sample| (order.get(sample.prompt_id.as_str()).copied(), sample.sample));
}
