//! Prompts on which the arms differ, both ways.

use smpo_results::{Flip, Flips};

use crate::pairing::Paired;
use crate::shared::Values;

/// A prompt that changed.
struct Changed {
    prompt: usize,
    baseline: f64,
    candidate: f64,
}

/// The prompts that changed, those that changed most first, at most `limit` each way. `sign` is −1 for a metric that is
/// better lower, else 1.
pub(crate) fn of(paired: &Paired, sign: f64, limit: usize) -> Flips {
    let mut worse: Vec<Changed> = Vec::new();
    let mut better: Vec<Changed> = Vec::new();
    for &prompt in &paired.prompts {
        let [baseline, candidate] = [&paired.baseline, &paired.candidate].map(|runs| mean(runs, prompt));
        let changed = Changed { prompt, baseline, candidate };
        match sign * (candidate - baseline) {
            gain if gain < 0.0 => worse.push(changed),
            gain if gain > 0.0 => better.push(changed),
            _ => {}
        }
    }
    let (worse_total, better_total) = (worse.len(), better.len());
    let most = |mut changed: Vec<Changed>| -> Vec<Flip> {
        // stable: prompts in order among equals
        changed.sort_by(|a, b| b.size().total_cmp(&a.size()));
        changed.iter().take(limit).map(|changed| changed.named(paired)).collect()
    };
    Flips { worse: most(worse), worse_total, better: most(better), better_total }
}

impl Changed {
    fn size(&self) -> f64 {
        (self.candidate - self.baseline).abs()
    }

    fn named(&self, paired: &Paired) -> Flip {
        let (slice, prompt_id) = paired.key(self.prompt);
        let (baseline, candidate) = (self.baseline, self.candidate);
        Flip { slice: slice.to_owned(), prompt_id: prompt_id.to_owned(), baseline, candidate }
    }
}

/// Mean of a prompt over runs and their samples.
fn mean(runs: &[Values], prompt: usize) -> f64 {
    let of_run = |run: &Values| run.of(prompt).iter().sum::<f64>() / run.of(prompt).len() as f64;
    runs.iter().map(of_run).sum::<f64>() / runs.len() as f64
}
