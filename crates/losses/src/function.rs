//! The interface of a loss, and the terms that it gives back.
//!
//! A pairwise or unpaired loss is a function of one score per completion ([`Reduction`]): it gives a value and the
//! derivative by each score. The chain rule from scores to tokens is the same for all and lives in
//! [`objective`](crate::objective).

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::{Batch, Side, Totals};
use crate::catalog::{FlatKeys, PublishedRates, UsualRange};
use crate::entropy::TokenEntropy;
use crate::error::{BatchError, ConfigError};
use crate::factors::Factors;
use crate::likelihood::Likelihood;
use crate::logistic::{MAX_EXPONENT, NEAREST_TO_ONE};
use crate::pooled::PooledLoss;
use crate::reduction::Reduction;
use crate::state::LossState;
use crate::sum::sum;
use crate::transform::TokenTransform;
use crate::vector::{exp, exp_and_m1, ln};

/// One loss: the type of its keys in `[loss]`, with everything that is particular to the loss. Its file implements this
/// trait; its line in the table of [`loss`](crate::loss) makes the rest: the variant of [`Loss`](crate::Loss), reading,
/// writing, JSON schema, documentation, importer and alarms.
pub trait LossFunction:
    Debug + Clone + Default + PartialEq + Serialize + DeserializeOwned + JsonSchema + Into<crate::Loss> + 'static
{
    /// Value of `kind`; the name of the file in `src/loss/`.
    const KIND: &'static str;

    /// Keys and spellings in the flat configuration files of other trainers.
    const FLAT_KEYS: FlatKeys;

    /// Usual ranges of the loss's numbers, with sources. They become part of each key's documentation.
    const USUAL: &'static [UsualRange];

    /// Highest published learning rates.
    const LEARNING_RATES: PublishedRates;

    /// One configuration per branch of the formula, the default included: the property tests run over all of them.
    fn variants() -> Vec<Self>;

    /// Checks every range.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range, or has no effect beside the others.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Comparison that the loss makes, and the function that makes it.
    fn pairing(&self) -> Pairing<'_>;

    /// True if completions must come with the reference model's log-probs.
    fn needs_reference(&self) -> bool;

    /// Weights of the cross-entropy parts.
    fn sft_weights(&self) -> SftWeights;

    /// A function of single tokens beside the function of scores; `None` for a loss of scores alone.
    fn token_loss(&self) -> Option<TokenLoss> {
        None
    }

    /// The entropy that completions must come with; `None` for a function of log-probs alone.
    fn needs_entropy(&self) -> Option<TokenEntropy> {
        None
    }

    /// Factors of the pair loss that are constants of its gradient.
    fn factors(&self) -> Factors {
        Factors::default()
    }

    /// The loss of a token of chosen, for [`Pairing::SftOnly`].
    fn likelihood(&self) -> Likelihood {
        Likelihood::Nll
    }

    /// Sign of the pair loss's gradient on rejected tokens, transforms aside. The direction tests check it.
    fn direction(&self) -> Direction;

    /// The loss with each schedule fixed at its value at optimizer step `step` (from 0) of `steps`.
    fn at_step(&self, _step: u64, _steps: u64) -> Self {
        self.clone()
    }

    /// γ, at the end of its schedule; `None` for a loss without a margin.
    fn target_margin(&self) -> Option<f64> {
        None
    }

    /// The key of γ.
    const MARGIN_KEY: &'static str = "target_margin";

    /// The loss with the constant margin γ; `None` for a loss without a margin.
    fn with_target_margin(&self, _margin: f64) -> Option<Self> {
        None
    }
}

/// The completions that a loss compares.
#[derive(Clone, Copy)]
pub enum Pairing<'a> {
    /// The two sides of a pair with each other. Rows are preference pairs.
    Pairwise(&'a dyn PairwiseLoss),
    /// Each completion with a baseline of the step. Rows are single completions with a label.
    Unpaired(&'a dyn UnpairedLoss),
    /// The completions of a group, each by its reward against the others. Rows are groups of scored completions.
    Groupwise(&'a dyn GroupLoss),
    /// None: cross-entropy is the whole objective. Rows are single completions.
    SftOnly,
    /// None of log-probs: a function of what a head gives whole sequences.
    Pooled(&'a dyn PooledLoss),
}

impl Pairing<'_> {
    /// Reduction from token log-probs to the score of a completion.
    pub fn reduction(&self) -> Reduction {
        match self {
            Self::Pairwise(loss) => loss.reduction(),
            Self::Unpaired(loss) => loss.reduction(),
            Self::Groupwise(_) | Self::SftOnly | Self::Pooled(_) => Reduction::Mean,
        }
    }

    /// True for a comparison of log-probs, which the transforms change.
    pub fn takes_transforms(&self) -> bool {
        matches!(self, Self::Pairwise(_) | Self::Unpaired(_) | Self::Groupwise(_))
    }

    /// Sides that every row must have.
    pub fn required_sides(&self) -> &'static [Side] {
        match self {
            Self::Pairwise(_) => &[Side::Chosen, Side::Rejected],
            Self::Unpaired(_) | Self::Groupwise(_) => &[],
            Self::SftOnly | Self::Pooled(_) => &[Side::Chosen],
        }
    }
}

/// A loss of the scores of a pair.
pub trait PairwiseLoss {
    /// Reduction from token log-probs to the score of a completion.
    fn reduction(&self) -> Reduction;

    /// The loss of one pair, with its derivatives.
    fn pair(&self, chosen: Score, rejected: Score) -> PairTerms;

    /// True if the loss of a pair depends on the other pairs of the step: [`step`](Self::step) is its definition then.
    fn compares_pairs(&self) -> bool {
        false
    }

    /// The losses of all pairs of a step, in order. `state` is that of the steps before.
    fn step(&self, pairs: &[(Score, Score)], _state: &mut LossState) -> Vec<PairTerms> {
        pairs.iter().map(|(chosen, rejected)| self.pair(*chosen, *rejected)).collect()
    }
}

/// A loss of the score of one completion.
pub trait UnpairedLoss {
    /// Reduction from token log-probs to the score of a completion.
    fn reduction(&self) -> Reduction;

    /// True if [`Batch::mismatched`] must be given.
    fn needs_mismatched(&self) -> bool;

    /// The baseline z of the step, a constant of its gradient, in nats.
    ///
    /// # Errors
    ///
    /// [`BatchError::NoMismatched`] when it is estimated from completions that the batch does not have.
    fn baseline(&self, batch: &Batch<'_>) -> Result<f64, BatchError>;

    /// The loss of one completion, with its derivative.
    fn completion(&self, side: Side, score: Score, baseline: f64) -> CompletionTerms;
}

/// One completion's score under the policy and under the reference (0 for a loss without one), in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Score under the policy.
    pub policy: f64,
    /// Score under the reference.
    pub reference: f64,
    /// Number of tokens in the score.
    pub tokens: usize,
}

impl Score {
    /// The log-ratio log π − log ref.
    pub fn ratio(&self) -> f64 {
        self.policy - self.reference
    }
}

/// A pairwise loss at one pair of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairTerms {
    /// The loss.
    pub value: f64,
    /// ∂value/∂(policy score of chosen).
    pub d_chosen: f64,
    /// ∂value/∂(policy score of rejected).
    pub d_rejected: f64,
    /// Implicit reward of chosen.
    pub chosen_reward: f64,
    /// Implicit reward of rejected.
    pub rejected_reward: f64,
}

/// A function of each token of one side: its mean over the tokens of a completion, then over pairs, is part of the pair
/// loss. It sees ℓ with bounds applied, and no terminator that an EOS term is on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// Side whose tokens it is a function of.
    pub side: Side,
    /// Factor of the function.
    pub weight: f64,
    /// The function of ℓ_t.
    pub function: TokenFunction,
}

/// A function of one token's log-prob.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TokenFunction {
    /// −log(1 − e^ℓ) (Welleck et al. 2019, arXiv 1908.04319).
    Unlikelihood,
    /// softplus(−ℓ − threshold)^power: close to 0 above −threshold nats, and a rising cost below.
    SoftFloor {
        /// In nats.
        threshold: f64,
        /// At least 1.
        power: f64,
    },
}

/// Tokens of a block. Their probabilities 1 − p can be multiplied before one logarithm: the least product is (2⁻²⁴)³².
const BLOCK: usize = 32;

impl TokenFunction {
    /// Σ f(ℓ) over transformed `logps`, and adds `factor` times its derivative by each ℓ to `weights`.
    pub(crate) fn fold(self, logps: &[f64], transform: &TokenTransform, factor: f64, weights: &mut [f64]) -> f64 {
        let blocks = logps.chunks(BLOCK).zip(weights.chunks_mut(BLOCK));
        match self {
            Self::Unlikelihood => blocks.map(|(logps, weights)| unlikelihood(logps, transform, factor, weights)).sum(),
            Self::SoftFloor { threshold, power } => {
                let floor = |logp| soft_floor(logp, threshold, power);
                blocks.map(|(logps, weights)| fold_block(logps, transform, factor, weights, floor)).sum()
            }
        }
    }
}

/// [`TokenFunction::fold`] of at most [`BLOCK`] tokens.
fn fold_block(
    logps: &[f64],
    transform: &TokenTransform,
    factor: f64,
    weights: &mut [f64],
    function: impl Fn(f64) -> (f64, f64),
) -> f64 {
    let mut values = [0.0; BLOCK];
    for ((logp, weight), result) in logps.iter().zip(weights).zip(&mut values) {
        let (value, derivative) = function(transform.within(*logp));
        *result = value;
        *weight += if transform.moves(*logp) { 0.0 } else { factor * derivative };
    }
    sum(&values)
}

/// Value and derivative of [`TokenFunction::SoftFloor`], without a branch.
fn soft_floor(logp: f64, threshold: f64, power: f64) -> (f64, f64) {
    let depth = -logp - threshold;
    let e = exp(-depth.abs());
    let (positive, numerator) = if depth > 0.0 { (depth, 1.0) } else { (0.0, e) };
    let softplus = positive + ln(1.0 + e);
    let powered = exp((power - 1.0) * ln(softplus));
    (powered * softplus, -power * powered * numerator / (1.0 + e))
}

/// [`TokenFunction::fold`] of at most [`BLOCK`] tokens, with one logarithm for all.
fn unlikelihood(logps: &[f64], transform: &TokenTransform, factor: f64, weights: &mut [f64]) -> f64 {
    let (mut rests, mut beyond) = ([1.0; BLOCK], [0.0; BLOCK]);
    let results = rests.iter_mut().zip(&mut beyond);
    for ((logp, weight), (rest, beyond)) in logps.iter().zip(weights).zip(results) {
        let value = transform.within(*logp);
        let inside = if value < -NEAREST_TO_ONE { value } else { -NEAREST_TO_ONE };
        let (p, minus_rest) = exp_and_m1(inside);
        let derivative = p / -minus_rest;
        *rest = -minus_rest;
        *beyond = derivative * (value - inside);
        *weight += if transform.moves(*logp) { 0.0 } else { factor * derivative };
    }
    sum(&beyond) - rests.iter().product::<f64>().ln()
}

/// A loss of the completions of a group: −A·Σ g(ℓ_t), with A the completion's advantage. An advantage below 0 makes a
/// completion rejected, any other chosen, which decides the transforms that act on ℓ. At a terminator that the EOS term is on,
/// g has the other sign.
pub trait GroupLoss {
    /// Advantages of completions by their rewards.
    fn advantages(&self, rewards: &[f64]) -> Vec<f64>;

    /// g and its derivative at ℓ.
    fn token(&self, logp: f64) -> (f64, f64);

    /// Weight of a token of a completion with `tokens` tokens in a group of `size` completions.
    fn share(&self, totals: &Totals, size: usize, tokens: usize) -> f64;

    /// Weight of the divergence from the reference.
    fn kl_weight(&self) -> f64;
}

/// k3 = e^u − u − 1 with u = log ref − ℓ, and its derivative by ℓ: an estimate of the divergence from the reference that is
/// never negative (Schulman 2020).
pub fn k3(logp: f64, reference: f64) -> (f64, f64) {
    let u = (reference - logp).min(MAX_EXPONENT);
    (u.exp_m1() - u, if u < MAX_EXPONENT { -u.exp_m1() } else { 0.0 })
}

/// An unpaired loss at one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompletionTerms {
    /// The loss.
    pub value: f64,
    /// ∂value/∂(policy score).
    pub d_score: f64,
    /// Implicit reward.
    pub reward: f64,
}

/// Weights of the cross-entropy parts in the whole objective, each the token mean over the optimizer step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SftWeights {
    /// Weight of NLL(y+).
    pub chosen: f64,
    /// Weight of NLL(y−).
    pub rejected: f64,
}

/// Sign of ∂L/∂ℓ on rejected tokens in the pair loss, without transforms. Positive: a training step lowers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Positive at every score: no margin is ever enough, and a terminator on rejected falls without bound.
    AlwaysDown,
    /// Positive until the margin is met, then 0.
    DownOrZero,
    /// Negative past some margin: rejected is pulled back up.
    Both,
}

/// Refuses a field that is out of its range.
pub(crate) fn require(
    kind: &'static str,
    field: &'static str,
    range: &'static str,
    given: f64,
    holds: bool,
) -> Result<(), ConfigError> {
    if holds && given.is_finite() { Ok(()) } else { Err(ConfigError::OutOfRange { kind, field, range, given }) }
}
