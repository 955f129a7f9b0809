//! Completions for the sample browser: each entry's worst, and its answers to the prompts on which others were worst.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use smpo_metrics::metric::{loop_rate, runaway_rate};
use smpo_metrics::text::visible::whole;
use smpo_results::{FinishReason, LoopSpan, Sample, WorstSample};

use super::RankingOptions;
use super::entries::Entry;

/// A completion with its flaws.
struct Flawed<'a> {
    sample: &'a Sample,
    flags: Vec<&'static str>,
    loop_span: Option<LoopSpan>,
    badness: f64,
}

type PromptKey<'a> = (&'a str, &'a str);

/// `result[entry]`, worst first. `completions[entry]` are all samples of its runs.
pub(super) fn choose(
    entries: &[Entry],
    completions: &[Vec<Sample>],
    options: &RankingOptions,
) -> Vec<Vec<WorstSample>> {
    let flawed: Vec<Vec<Flawed>> =
        entries.iter().zip(completions).map(|(entry, samples)| find_flaws(entry, samples)).collect();
    let shared = shared_prompts(&flawed, options.worst_per_entry.div_ceil(2));
    let wanted: BTreeSet<PromptKey> = options.wanted.iter().map(|(slice, id)| (slice.as_str(), id.as_str())).collect();
    flawed
        .iter()
        .map(|samples| {
            let own = samples.iter().filter(|s| s.badness > 0.0).take(options.worst_per_entry);
            let mut shown: Vec<&Flawed> = own.collect();
            for prompt in shared.iter().chain(&wanted) {
                let mut here = samples.iter().filter(|s| key(s.sample) == *prompt);
                // `samples` is sorted: the first is the worst answer to this prompt.
                if let Some(first) = here.next()
                    && !shown.iter().any(|s| key(s.sample) == *prompt)
                {
                    shown.push(first);
                }
            }
            shown.into_iter().map(|flawed| excerpt(flawed, options.completion_bytes)).collect()
        })
        .collect()
}

/// The prompts with the most flaws over all entries, for the arms side by side.
fn shared_prompts<'a>(flawed: &[Vec<Flawed<'a>>], count: usize) -> BTreeSet<PromptKey<'a>> {
    let mut badness: BTreeMap<PromptKey, f64> = BTreeMap::new();
    for samples in flawed {
        for flawed in samples {
            *badness.entry(key(flawed.sample)).or_default() += flawed.badness;
        }
    }
    let mut ranked: Vec<(PromptKey, f64)> = badness.into_iter().filter(|(_, b)| *b > 0.0).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: ties by key
    ranked.into_iter().take(count).map(|(key, _)| key).collect()
}

fn key(sample: &Sample) -> PromptKey<'_> {
    (&sample.slice, &sample.prompt_id)
}

/// All samples of an entry, worst first.
fn find_flaws<'a>(entry: &Entry, samples: &'a [Sample]) -> Vec<Flawed<'a>> {
    let broken = broken_prompts(entry);
    let mut flawed: Vec<Flawed> = samples
        .par_iter()
        .map(|sample| {
            let loop_span = loop_rate::find(sample);
            let no_eos = sample.finish_reason == FinishReason::Length;
            let failed = sample.finish_reason == FinishReason::Error;
            let broken = broken.contains(&(sample.slice.as_str(), sample.prompt_id.as_str(), sample.sample));
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
            Flawed { sample, flags, loop_span, badness }
        })
        .collect();
    flawed.sort_by(|a, b| {
        let by_badness = b.badness.total_cmp(&a.badness);
        by_badness.then_with(|| key(a.sample).cmp(&key(b.sample))).then(a.sample.sample.cmp(&b.sample.sample))
    });
    flawed
}

/// Samples that `broken_rate` marks. Values are in the order of samples; if some sample has none, only a prompt with all
/// values marked is unambiguous.
fn broken_prompts(entry: &Entry) -> BTreeSet<(&str, &str, u32)> {
    let mut marked = BTreeSet::new();
    for run in &entry.runs {
        for (row, values) in run.rows("broken_rate", "all") {
            let complete = values.len() == run.manifest.samples_per_prompt as usize;
            let every = values.iter().all(|v| *v > 0.0);
            for index in 0..run.manifest.samples_per_prompt {
                let own = complete && values.get(index as usize).is_some_and(|v| *v > 0.0);
                if own || (!complete && every) {
                    marked.insert((row.slice.as_str(), row.prompt_id.as_str(), index));
                }
            }
        }
    }
    marked
}

fn excerpt(flawed: &Flawed, bytes: usize) -> WorstSample {
    let mut sample = flawed.sample.clone();
    (sample.token_ids, sample.logps, sample.terminator_logps) = (None, None, None);
    // A loop may be in the reasoning: both are shown as one text, the one that was measured.
    sample.completion = whole(flawed.sample).into_owned();
    sample.reasoning = None;
    let length = sample.completion.len();
    let mut cut = length.min(bytes);
    while !sample.completion.is_char_boundary(cut) {
        cut -= 1;
    }
    sample.completion.truncate(cut);
    let loop_span =
        flawed.loop_span.filter(|span| span.start < cut).map(|span| LoopSpan { end: span.end.min(cut), ..span });
    WorstSample {
        sample,
        omitted_bytes: length - cut,
        flags: flawed.flags.iter().map(|flag| (*flag).to_owned()).collect(),
        loop_span,
    }
}
