//! Completions for the sample browser: each entry's worst, and its answers to the prompts on which others were worst.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use smpo_metrics::metric::{loop_rate, runaway_rate};
use smpo_metrics::text::visible::whole;
use smpo_results::{FinishReason, LoopSpan, Sample, WorstSample};

use super::RankingOptions;
use super::entries::Entry;
use crate::prompts::{Digest, Digests};
use crate::shared::PromptKey;

/// The flaws of a completion.
pub(super) struct Flaw {
    flags: Vec<&'static str>,
    loop_span: Option<LoopSpan>,
    /// 0 for a sound one.
    pub badness: f64,
}

/// Badness of the flawed completions of a board.
#[derive(Default)]
pub(super) struct Flaws {
    /// Prompts of flawed completions, in the order of appearance.
    prompts: BTreeMap<(String, String), usize>,
    /// By entry: badness, prompt, sample.
    flawed: Vec<Vec<(f64, usize, u32)>>,
}

impl Flaws {
    /// The completions that follow are of the next entry.
    pub fn start_entry(&mut self) {
        self.flawed.push(Vec::new());
    }

    /// Adds a completion of the entry that was started last.
    pub fn add(&mut self, sample: &Sample, badness: f64) {
        let Some(flawed) = self.flawed.last_mut().filter(|_| badness > 0.0) else { return };
        let next = self.prompts.len();
        let prompt = *self.prompts.entry((sample.slice.clone(), sample.prompt_id.clone())).or_insert(next);
        flawed.push((badness, prompt, sample.sample));
    }

    /// The prompts whose completions are shown: each entry's worst, those with the most flaws over all entries, and those
    /// that are asked for.
    pub fn wanted<'a>(mut self, options: &'a RankingOptions<'a>) -> Wanted<'a> {
        let mut rank = vec![0; self.prompts.len()];
        self.prompts.values().enumerate().for_each(|(by_key, place)| rank[*place] = by_key);
        let keys: Vec<(String, String)> = self.prompts.into_keys().collect();
        for flawed in &mut self.flawed {
            flawed.iter_mut().for_each(|(_, prompt, _)| *prompt = rank[*prompt]);
            // worst first, then by prompt and sample
            flawed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        }
        let mut badness = vec![0.0f64; keys.len()];
        self.flawed.iter().flatten().for_each(|(bad, prompt, _)| badness[*prompt] += bad);
        let mut ranked: Vec<usize> = (0..keys.len()).collect();
        ranked.sort_by(|&a, &b| badness[b].total_cmp(&badness[a])); // stable: ties by key
        let shared: BTreeSet<_> =
            ranked.iter().take(options.worst_per_entry.div_ceil(2)).map(|&prompt| keys[prompt].clone()).collect();
        let own = |flawed: &Vec<(f64, usize, u32)>| -> BTreeSet<(String, String)> {
            flawed.iter().take(options.worst_per_entry).map(|(_, prompt, _)| keys[*prompt].clone()).collect()
        };
        let digests = Digests::default();
        let own: Vec<_> = self.flawed.iter().map(own).collect();
        let of_entry = |own: &BTreeSet<(String, String)>| {
            own.iter().chain(&shared).chain(&options.wanted).map(|(slice, id)| digests.of((slice, id))).collect()
        };
        let by_entry = own.iter().map(of_entry).collect();
        Wanted { options, shared, digests, by_entry }
    }
}

/// The prompts whose completions are shown.
pub(super) struct Wanted<'a> {
    options: &'a RankingOptions<'a>,
    /// Those with the most flaws over all entries.
    shared: BTreeSet<(String, String)>,
    digests: Digests,
    /// All that each entry's completions are chosen from.
    by_entry: Vec<HashSet<Digest>>,
}

impl Wanted<'_> {
    /// True for a completion that may be shown.
    pub fn has(&self, entry: usize, sample: &Sample) -> bool {
        self.by_entry[entry].contains(&self.digests.of((&sample.slice, &sample.prompt_id)))
    }
}

/// The completions to show of an entry, worst first: its worst, then its worst answer to each wanted prompt. `samples` are
/// all of the prompts that it is chosen from.
pub(super) fn worst_of(entry: &Entry, samples: &[Sample], wanted: &Wanted) -> Vec<WorstSample> {
    let broken = Broken::of(entry);
    let mut flawed: Vec<(&Sample, Flaw)> = samples.iter().map(|sample| (sample, broken.flaw(sample))).collect();
    flawed.sort_by(|(a, flaw), (b, other)| {
        let by_badness = other.badness.total_cmp(&flaw.badness);
        by_badness.then_with(|| key(a).cmp(&key(b))).then(a.sample.cmp(&b.sample))
    });
    let options = wanted.options;
    let own = flawed.iter().filter(|(_, flaw)| flaw.badness > 0.0).take(options.worst_per_entry);
    let mut shown: Vec<&(&Sample, Flaw)> = own.collect();
    for (slice, id) in wanted.shared.iter().chain(&options.wanted) {
        let prompt = (slice.as_str(), id.as_str());
        let mut here = flawed.iter().filter(|(sample, _)| key(sample) == prompt);
        // `flawed` is sorted: the first is the worst answer to this prompt.
        if let Some(first) = here.next()
            && !shown.iter().any(|(sample, _)| key(sample) == prompt)
        {
            shown.push(first);
        }
    }
    shown.into_iter().map(|(sample, flaw)| excerpt(sample, flaw, options.completion_bytes)).collect()
}

fn key(sample: &Sample) -> PromptKey<'_> {
    (&sample.slice, &sample.prompt_id)
}

/// Samples that `broken_rate` marks. Values are in the order of samples; if some sample has none, only a prompt with all
/// values marked is unambiguous.
pub(super) struct Broken {
    digests: Digests,
    marked: HashSet<Digest>,
}

impl Broken {
    /// Of all runs of an entry.
    pub fn of(entry: &Entry) -> Broken {
        let digests = Digests::default();
        let mut marked = HashSet::new();
        for run in &entry.runs {
            for (row, values) in run.rows("broken_rate") {
                let (slice, prompt_id) = run.measurements.key(row);
                let complete = values.len() == run.manifest.samples_per_prompt as usize;
                let every = values.iter().all(|v| *v > 0.0);
                for index in 0..run.manifest.samples_per_prompt {
                    let own = complete && values.get(index as usize).is_some_and(|v| *v > 0.0);
                    if own || (!complete && every) {
                        marked.insert(digests.of((slice, prompt_id, index)));
                    }
                }
            }
        }
        Broken { digests, marked }
    }

    /// The flaws of a completion of the entry.
    pub fn flaw(&self, sample: &Sample) -> Flaw {
        let loop_span = loop_rate::find(sample);
        let no_eos = sample.finish_reason == FinishReason::Length;
        let failed = sample.finish_reason == FinishReason::Error;
        let place = || self.digests.of((sample.slice.as_str(), sample.prompt_id.as_str(), sample.sample));
        let broken = !self.marked.is_empty() && self.marked.contains(&place());
        let runaway = runaway_rate::find(sample).is_some();
        let flaws = [
            (loop_span.is_some(), "loop", 4.0),
            (runaway, "runaway", if loop_span.is_some() { 0.0 } else { 3.0 }),
            (no_eos, "no EOS", 2.0),
            (broken, "broken", 1.0),
            (failed, "failed", 0.5),
        ];
        let flags = flaws.iter().filter(|f| f.0).map(|f| f.1).collect();
        let mut badness: f64 = flaws.iter().filter(|f| f.0).map(|f| f.2).sum();
        // Among loops, the one that fills more of the answer.
        if let Some(span) = loop_span {
            badness += (span.end - span.start) as f64 / (whole(sample).len().max(1)) as f64;
        }
        Flaw { flags, loop_span, badness }
    }
}

fn excerpt(sample: &Sample, flaw: &Flaw, bytes: usize) -> WorstSample {
    let mut shown = sample.clone();
    (shown.token_ids, shown.logps, shown.terminator_logps) = (None, None, None);
    // A loop may be in the reasoning: both are shown as one text, the one that was measured.
    shown.completion = whole(sample).into_owned();
    shown.reasoning = None;
    let length = shown.completion.len();
    let mut cut = length.min(bytes);
    while !shown.completion.is_char_boundary(cut) {
        cut -= 1;
    }
    shown.completion.truncate(cut);
    let loop_span =
        flaw.loop_span.filter(|span| span.start < cut).map(|span| LoopSpan { end: span.end.min(cut), ..span });
    WorstSample {
        sample: shown,
        omitted_bytes: length - cut,
        flags: flaw.flags.iter().map(|flag| (*flag).to_owned()).collect(),
        loop_span,
    }
}
