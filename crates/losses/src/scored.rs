//! One completion in an objective: forward from tokens to a score, backward from a score to token weights.

use std::ops::Range;

use crate::batch::{Completion, Side};
use crate::function::TokenFunction;
use crate::reduction::{Coefficients, Counted};
use crate::sum::sum_of_pairs;
use crate::transform::{TokenTransform, Transformed};

/// A completion with its transform.
#[derive(Debug, Clone)]
pub(crate) struct ScoredCompletion<'a> {
    pub(crate) side: Side,
    pub(crate) completion: Completion<'a>,
    /// Indices of the terminators.
    pub(crate) terminators: Vec<usize>,
    transform: TokenTransform,
}

/// Consecutive tokens under one transform, or one terminator.
enum Run {
    Plain(Range<usize>),
    Terminator(usize),
}

impl<'a> ScoredCompletion<'a> {
    pub(crate) fn new(side: Side, completion: Completion<'a>, transform: TokenTransform) -> Self {
        let terminators = positions(completion.is_terminator);
        Self { side, completion, terminators, transform }
    }

    /// The tokens in the pair loss.
    pub(crate) fn counted(&self) -> Counted<'_> {
        let left_out: &[usize] = if self.transform.masks_terminators() { &self.terminators } else { &[] };
        Counted { logps: self.completion.logps, left_out }
    }

    /// The mean of `function` over the tokens that no EOS term is on, and adds `factor` times its gradient to `weights`,
    /// `[T]`.
    pub(crate) fn token_loss(&self, function: TokenFunction, factor: f64, weights: &mut [f64]) -> f64 {
        let apart = if self.transform.changes_terminators() { self.terminators.len() } else { 0 };
        let tokens = (self.completion.logps.len() - apart).max(1) as f64;
        let mut sum = 0.0;
        for run in self.runs() {
            if let Run::Plain(run) = run {
                let weights = &mut weights[run.clone()];
                sum += function.fold(&self.completion.logps[run], &self.transform, factor / tokens, weights);
            }
        }
        sum / tokens
    }

    /// Σ f(ℓ_t) over transformed tokens, those that the EOS term is on with the other sign, and how many of them a bound moved;
    /// adds `factor` times its gradient to `weights`, `[T]`.
    pub(crate) fn signed_sum(
        &self,
        function: impl Fn(f64) -> (f64, f64),
        factor: f64,
        weights: &mut [f64],
    ) -> (f64, u64) {
        let (mut sum, mut clipped) = (0.0, 0);
        for run in self.runs() {
            match run {
                Run::Plain(run) => {
                    let tokens = &self.completion.logps[run.clone()];
                    for (logp, weight) in tokens.iter().zip(&mut weights[run]) {
                        let (value, slope) = function(self.transform.within(*logp));
                        sum += value;
                        *weight += if self.transform.moves(*logp) { 0.0 } else { factor * slope };
                    }
                    clipped += self.transform.clipped(tokens);
                }
                Run::Terminator(t) => {
                    if let Some(token) = self.transform.terminator(self.completion.logps[t]) {
                        let (value, slope) = function(-token.value);
                        sum -= value;
                        weights[t] += factor * slope * token.grad;
                        clipped += u64::from(token.clipped);
                    }
                }
            }
        }
        (sum, clipped)
    }

    /// Σ c_t·ℓ_t over transformed `logps` (those of policy or reference), and how many of them a bound moved.
    pub(crate) fn score(&self, logps: &[f64], coefficients: &Coefficients) -> (f64, u64) {
        let (mut sum, mut clipped, mut k) = (0.0, 0, 0);
        let (own, transform) = (self.completion.logps, self.transform);
        for run in self.runs() {
            match run {
                Run::Plain(run) => {
                    let (own, tokens) = (&own[run.clone()], &logps[run]);
                    sum += match coefficients {
                        Coefficients::Uniform(c) => c * transform.plain_sum(tokens),
                        Coefficients::Below { bound, each } => {
                            let counted = |own, logp| if own < *bound { transform.within(logp) } else { 0.0 };
                            each * sum_of_pairs(own, tokens, counted)
                        }
                        other => {
                            let tokens = own.iter().zip(tokens).enumerate();
                            tokens.map(|(i, (own, logp))| other.at(k + i, *own) * transform.within(*logp)).sum()
                        }
                    };
                    clipped += transform.clipped(tokens);
                    k += tokens.len();
                }
                Run::Terminator(t) => {
                    if let Some(token) = transform.terminator(logps[t]) {
                        sum += coefficients.at(k, own[t]) * token.value;
                        clipped += u64::from(token.clipped);
                        k += 1;
                    }
                }
            }
        }
        (sum, clipped)
    }

    /// ∂L/∂ℓ_t, `[T]`, from `d_score`, the pair loss's derivative by the score, and `likelihood`, the weight of each token
    /// in cross-entropy.
    pub(crate) fn weights(&self, coefficients: &Coefficients, d_score: f64, likelihood: f64) -> Vec<f64> {
        let logps = self.completion.logps;
        let transform = self.transform;
        let mut weights = Vec::with_capacity(logps.len());
        let mut k = 0;
        for run in self.runs() {
            match run {
                Run::Plain(run) => {
                    let tokens = &logps[run];
                    // a token that a bound moves has no gradient in the pair loss
                    let weight =
                        |logp: f64, c: f64| if transform.moves(logp) { likelihood } else { d_score * c + likelihood };
                    match coefficients {
                        Coefficients::Uniform(c) => weights.extend(tokens.iter().map(|logp| weight(*logp, *c))),
                        Coefficients::Below { bound, each } => {
                            let c = |logp: f64| if logp < *bound { *each } else { 0.0 };
                            weights.extend(tokens.iter().map(|logp| weight(*logp, c(*logp))));
                        }
                        other => {
                            let tokens = tokens.iter().enumerate();
                            weights.extend(tokens.map(|(i, logp)| weight(*logp, other.at(k + i, *logp))));
                        }
                    }
                    k += tokens.len();
                }
                Run::Terminator(t) => match transform.terminator(logps[t]) {
                    Some(Transformed { grad, .. }) => {
                        weights.push(d_score * coefficients.at(k, logps[t]) * grad + likelihood);
                        k += 1;
                    }
                    None => weights.push(likelihood),
                },
            }
        }
        weights
    }

    /// The completion in order. Terminators are runs of their own only if they are transformed differently.
    fn runs(&self) -> impl Iterator<Item = Run> {
        let apart: &[usize] = if self.transform.changes_terminators() { &self.terminators } else { &[] };
        let mut start = 0;
        let mut runs = Vec::with_capacity(2 * apart.len() + 1);
        for &t in apart {
            runs.extend([Run::Plain(start..t), Run::Terminator(t)]);
            start = t + 1;
        }
        runs.push(Run::Plain(start..self.completion.logps.len()));
        runs.into_iter()
    }
}

/// Indices of set `flags`. They are few, so blocks without any are skipped whole.
fn positions(flags: &[bool]) -> Vec<usize> {
    const BLOCK: usize = 32;
    let mut positions = Vec::new();
    for (index, block) in flags.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |any, flag| any | flag) {
            let set = block.iter().enumerate().filter(|(_, flag)| **flag);
            positions.extend(set.map(|(offset, _)| index * BLOCK + offset));
        }
    }
    positions
}
