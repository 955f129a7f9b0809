//! The completions of a board's entries, read as a stream: what its curves and its sample browser need of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::PathBuf;

use rayon::prelude::*;
use smpo_files::is_file;
use smpo_metrics::metric::length::Lifetime;
use smpo_results::{EvaluationDir, Sample, WorstSample, files};

use super::entries::Entry;
use super::worst::{Broken, Flaws, Wanted, worst_of};
use crate::error::GateError;
use crate::prompts::{Digest, Digests, differ};
use crate::run::Run;

/// Lines that are parsed at a time, side by side.
const BATCH: usize = 4096;

/// Every entry's completions, as far as a board needs them.
pub(super) struct Completions {
    /// Lengths of each entry's completions.
    pub lifetimes: Vec<Vec<Lifetime>>,
    /// Flaws of each entry's completions.
    pub flaws: Flaws,
}

/// Reads all completions once.
///
/// # Errors
/// If samples cannot be read, or one id names two prompts: two tasks, whose answers would be paired.
pub(super) fn read(entries: &[Entry]) -> Result<Completions, GateError> {
    let mut prompts = KnownPrompts::default();
    let mut lifetimes = Vec::with_capacity(entries.len());
    let mut flaws = Flaws::default();
    for (number, entry) in entries.iter().enumerate() {
        let broken = Broken::of(entry);
        let mut of_entry = Vec::new();
        flaws.start_entry();
        for run in &entry.runs {
            for_each_sample(
                run,
                |sample: &Sample| broken.flaw(sample).badness,
                |sample, badness| {
                    of_entry.extend(Lifetime::of(&sample));
                    prompts.add(number, &sample);
                    flaws.add(&sample, badness);
                },
            )?;
        }
        lifetimes.push(of_entry);
    }
    match prompts.different {
        Some((left, right, prompt_id)) => {
            let dir = |entry: usize| -> PathBuf { entries[entry].runs[0].dir.clone() };
            Err(GateError::DifferentPrompt { left: dir(left), right: dir(right), prompt_id })
        }
        None => Ok(Completions { lifetimes, flaws }),
    }
}

/// Every sample of a run in its order, with what `measure` gives for it.
fn for_each_sample<T: Send>(
    run: &Run,
    measure: impl Fn(&Sample) -> T + Sync,
    mut take: impl FnMut(Sample, T),
) -> Result<(), GateError> {
    let path = EvaluationDir::new(&run.dir).samples();
    if !is_file(&path).map_err(smpo_results::Error::from)? {
        return Err(GateError::Unfinished { dir: run.dir.clone(), missing: "samples.jsonl" });
    }
    let mut lines = files::lines(&path)?;
    loop {
        let batch = lines.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            return Ok(());
        }
        let parsed: Vec<Result<(Sample, T), smpo_results::Error>> = batch
            .par_iter()
            .map(|(line, text)| {
                let sample: Sample = files::parse_line(&path, *line, "sample", text)?;
                let measured = measure(&sample);
                Ok((sample, measured))
            })
            .collect();
        for found in parsed {
            let (sample, measured) = found?;
            take(sample, measured);
        }
    }
}

/// The completions to show of each entry: those of the prompts that are wanted, read once more.
///
/// # Errors
/// If samples cannot be read.
pub(super) fn worst(entries: &[Entry], wanted: &Wanted<'_>) -> Result<Vec<Vec<WorstSample>>, GateError> {
    let of_entry = |(number, entry): (usize, &Entry)| -> Result<Vec<WorstSample>, GateError> {
        let mut samples = Vec::new();
        for run in &entry.runs {
            for_each_sample(
                run,
                |sample: &Sample| wanted.has(number, sample),
                |sample, keep| {
                    samples.extend(keep.then_some(sample));
                },
            )?;
        }
        Ok(worst_of(entry, &samples, wanted))
    };
    entries.iter().enumerate().map(of_entry).collect()
}

/// The prompt that each id names.
#[derive(Default)]
struct KnownPrompts {
    digests: Digests,
    /// The entry that a prompt was seen with first, and its text.
    known: HashMap<Digest, (usize, Digest)>,
    /// The first two entries that differ, and the id.
    different: Option<(usize, usize, String)>,
}

impl KnownPrompts {
    fn add(&mut self, entry: usize, sample: &Sample) {
        let Some(text) = self.digests.of_messages(&sample.messages) else { return };
        match self.known.entry(self.digests.of((&sample.slice, &sample.prompt_id))) {
            Slot::Vacant(slot) => {
                slot.insert((entry, text));
            }
            Slot::Occupied(slot) => {
                let (other, known) = *slot.get();
                if differ(Some(known), Some(text)) {
                    self.different.get_or_insert_with(|| (other, entry, sample.prompt_id.clone()));
                }
            }
        }
    }
}
