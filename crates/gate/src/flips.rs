//! Prompts on which the arms differ, both ways.

use smpo_results::{Flip, Flips};

use crate::pairing::Paired;

/// The prompts that changed, those that changed most first, at most `limit` each way. `sign` is −1 for a metric that is
/// better lower, else 1.
pub(crate) fn of(paired: &Paired, sign: f64, limit: usize) -> Flips {
    let mut worse: Vec<Flip> = Vec::new();
    let mut better: Vec<Flip> = Vec::new();
    for (index, (slice, prompt_id)) in paired.prompts.iter().enumerate() {
        let [baseline, candidate] = [&paired.baseline, &paired.candidate].map(|runs| mean(runs, index));
        let flip = Flip { slice: (*slice).to_owned(), prompt_id: (*prompt_id).to_owned(), baseline, candidate };
        match sign * (candidate - baseline) {
            gain if gain < 0.0 => worse.push(flip),
            gain if gain > 0.0 => better.push(flip),
            _ => {}
        }
    }
    let totals = (worse.len(), better.len());
    for flips in [&mut worse, &mut better] {
        // stable: prompts in order among equals
        flips.sort_by(|a, b| change(b).total_cmp(&change(a)));
        flips.truncate(limit);
    }
    Flips { worse, worse_total: totals.0, better, better_total: totals.1 }
}

fn change(flip: &Flip) -> f64 {
    (flip.candidate - flip.baseline).abs()
}

/// Mean of a prompt over runs and their samples.
fn mean(runs: &[Vec<&[f64]>], prompt: usize) -> f64 {
    let of_run = |run: &Vec<&[f64]>| run[prompt].iter().sum::<f64>() / run[prompt].len() as f64;
    runs.iter().map(of_run).sum::<f64>() / runs.len() as f64
}
