//! Inputs of the property tests: batches, losses, transforms.

#![allow(dead_code)] // every test file uses its own part

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::factors::Factors;
use smpo_losses::likelihood::Likelihood;
use smpo_losses::loss::gpo::GpoLossType;
use smpo_losses::reduction::Reduction;
use smpo_losses::{
    Batch, Completion, Direction, EosTerm, Evaluation, LOSSES, Loss, LossConfig, LossState, Objective, Pair, Pairing,
    Transforms, WinsorScope,
};

/// Entropies at tokens, the same in every completion: no loss has a gradient by them.
static ENTROPIES: LazyLock<Vec<f64>> = LazyLock::new(|| (0..8192).map(|t| f64::from(t * 5 % 7) * 0.4).collect());

/// A completion that owns its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    pub logps: Vec<f64>,
    pub is_terminator: Vec<bool>,
    pub ref_logps: Vec<f64>,
}

impl Tokens {
    pub fn borrow(&self) -> Completion<'_> {
        let entropy = &ENTROPIES[..self.logps.len()];
        Completion::new(&self.logps, &self.is_terminator).with_reference(&self.ref_logps).with_entropy(entropy)
    }

    /// Indices of the terminators.
    pub fn terminators(&self) -> Vec<usize> {
        (0..self.logps.len()).filter(|t| self.is_terminator[*t]).collect()
    }
}

/// A pair that owns its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Sides {
    pub chosen: Tokens,
    pub rejected: Tokens,
}

pub fn borrow(pairs: &[Sides]) -> Vec<Pair<'_>> {
    pairs.iter().map(|pair| Pair::new(pair.chosen.borrow(), pair.rejected.borrow())).collect()
}

/// The completion that KTO's baseline is estimated from in every test, more likely under the policy than the reference.
pub fn mismatched() -> Tokens {
    Tokens { logps: vec![-0.5, -0.75], is_terminator: vec![false, true], ref_logps: vec![-1.0, -0.5] }
}

/// One micro-batch that is the whole step, fresh state.
pub fn evaluate(config: &LossConfig, pairs: &[Sides]) -> Evaluation {
    evaluate_split(config, pairs, &[])
}

pub fn evaluate_split(config: &LossConfig, pairs: &[Sides], microbatches: &[usize]) -> Evaluation {
    let objective = Objective::new(config.clone()).expect("a valid configuration");
    let (pairs, mismatched) = (borrow(pairs), mismatched());
    let mismatched = [mismatched.borrow()];
    let batch = Batch { microbatches, mismatched: &mismatched, ..Batch::new(&pairs) };
    objective.evaluate(&batch, &mut LossState::default()).expect("a valid batch")
}

/// ℓ as a model gives them: most near 0, some far below.
pub fn logp() -> impl Strategy<Value = f64> {
    prop_oneof![3 => -1.0..0.0, 2 => -4.0..-0.5, 1 => -12.0..-2.0]
}

/// A completion of `length` tokens: no terminator, the usual one at the end, one inside too, or nothing else.
pub fn tokens(length: impl Strategy<Value = usize>) -> impl Strategy<Value = Tokens> {
    let flags = select(vec![0u8, 1, 1, 1, 1, 2, 3]);
    (length, flags).prop_flat_map(|(length, flags)| {
        let is_terminator: Vec<bool> = (0..length)
            .map(|t| match flags {
                0 => false,
                1 => t + 1 == length,
                2 => t + 1 == length || t == length / 2,
                _ => true,
            })
            .collect();
        (prop::collection::vec(logp(), length), prop::collection::vec(logp(), length))
            .prop_map(move |(logps, ref_logps)| Tokens { logps, is_terminator: is_terminator.clone(), ref_logps })
    })
}

pub fn sides() -> impl Strategy<Value = Sides> {
    (tokens(1..8usize), tokens(1..8usize)).prop_map(|(chosen, rejected)| Sides { chosen, rejected })
}

/// A pair whose two sides end as completions end: in exactly one terminator.
pub fn terminated() -> impl Strategy<Value = Sides> {
    sides().prop_map(|mut pair| {
        for side in [&mut pair.chosen, &mut pair.rejected] {
            let last = side.logps.len() - 1;
            side.is_terminator = (0..=last).map(|t| t == last).collect();
        }
        pair
    })
}

pub fn batch(pairs: impl Strategy<Value = Sides>) -> impl Strategy<Value = Vec<Sides>> {
    prop::collection::vec(pairs, 1..5)
}

/// Every variant of every loss of log-probs in the table.
pub fn all_losses() -> Vec<Loss> {
    LOSSES.iter().flat_map(|entry| (entry.variants)()).filter(|loss| loss.pooled().is_none()).collect()
}

/// Those with a pair loss, which sees transformed ℓ.
pub fn preference_losses() -> Vec<Loss> {
    all_losses().into_iter().filter(|loss| !matches!(loss.pairing(), Pairing::SftOnly)).collect()
}

/// Those of them that see log-probs through the transforms alone.
pub fn losses_without_factors() -> Vec<Loss> {
    preference_losses().into_iter().filter(|loss| !has_constant_factors(loss) && !has_divergence(loss)).collect()
}

/// Those whose scores are of the same tokens whatever their log-probs.
pub fn losses_of_fixed_tokens() -> Vec<Loss> {
    let is_fixed = |loss: &Loss| loss.pairing().reduction() != Reduction::LessConfident;
    losses_without_factors().into_iter().filter(is_fixed).collect()
}

/// Those of them that never raise a rejected token.
pub fn monotone_losses() -> Vec<Loss> {
    losses_of_fixed_tokens().into_iter().filter(|loss| loss.direction() != Direction::Both).collect()
}

/// Those with a gradient at every score and every token: all tokens of a completion count alike.
pub fn strictly_monotone_losses() -> Vec<Loss> {
    let is_strict = |loss: &Loss| {
        loss.direction() == Direction::AlwaysDown
            && has_no_length_control(loss)
            && loss.token_loss().is_none()
            && !weighs_by_probability(loss)
    };
    monotone_losses().into_iter().filter(is_strict).collect()
}

/// Those of them without cross-entropy on rejected: its tokens' weights are those of the pair loss.
pub fn strictly_monotone_losses_of_rejected() -> Vec<Loss> {
    strictly_monotone_losses().into_iter().filter(|loss| loss.sft_weights().rejected == 0.0).collect()
}

/// True for a loss with a divergence from the reference, which no transform acts on.
pub fn has_divergence(loss: &Loss) -> bool {
    matches!(loss, Loss::Gpo(config) if config.kl_beta > 0.0)
}

/// True for a loss whose weight of a token is the greater the likelier it is.
pub fn weighs_by_probability(loss: &Loss) -> bool {
    matches!(loss, Loss::Gpo(config) if config.loss_type == GpoLossType::ProbWeighted)
}

/// True if a completion's score does not depend on the length of the other side.
pub fn has_no_length_control(loss: &Loss) -> bool {
    matches!(loss.pairing().reduction(), Reduction::Mean | Reduction::Sum)
}

/// True for a loss that leaves chosen to cross-entropy.
pub fn has_no_pair_loss_on_chosen(loss: &Loss) -> bool {
    matches!(loss, Loss::Npo(_) | Loss::Unlikelihood(_))
}

pub fn scope() -> impl Strategy<Value = WinsorScope> {
    prop_oneof![Just(WinsorScope::Microbatch), Just(WinsorScope::Step), (1..40usize).prop_map(WinsorScope::Window),]
}

/// Every combination of the four, in every scope.
pub fn transforms() -> impl Strategy<Value = Transforms> {
    let eos_term = select(vec![EosTerm::Off, EosTerm::Mask, EosTerm::Invert, EosTerm::Bounded]);
    let quantile = || prop::option::of(prop_oneof![Just(0.02), 0.01..0.99]);
    (eos_term, 0.1..3.0, quantile(), prop::option::of(-4.0..-0.1), quantile(), scope()).prop_map(
        |(eos_term, eos_penalty_cap, lower_clip_percentile, min_log_prob, upper_clip_percentile, winsor_scope)| {
            without_idle(Transforms {
                eos_term,
                eos_penalty_cap,
                lower_clip_percentile,
                min_log_prob,
                upper_clip_percentile,
                winsor_scope,
                ..Transforms::default()
            })
        },
    )
}

/// The same transforms, with the settings of those that are off at their defaults: others are refused.
pub fn without_idle(transforms: Transforms) -> Transforms {
    let Transforms { eos_penalty_cap, winsor_scope, .. } = Transforms::default();
    let winsorizes = transforms.lower_clip_percentile.or(transforms.upper_clip_percentile).is_some();
    Transforms {
        eos_penalty_cap: if transforms.eos_term == EosTerm::Bounded {
            transforms.eos_penalty_cap
        } else {
            eos_penalty_cap
        },
        winsor_scope: if winsorizes { transforms.winsor_scope } else { winsor_scope },
        ..transforms
    }
}

/// Any loss under any transforms that it takes.
pub fn configs() -> impl Strategy<Value = LossConfig> {
    (select(all_losses()), transforms()).prop_map(|(loss, transforms)| {
        let transforms = if matches!(loss.pairing(), Pairing::SftOnly) { Transforms::default() } else { transforms };
        LossConfig::from(loss).with_transforms(transforms)
    })
}

/// True for a loss with a factor that depends on log-probs and is a constant of its gradient: `detached.rs` checks those.
pub fn has_constant_factors(loss: &Loss) -> bool {
    loss.factors() != Factors::default() || loss.likelihood() == Likelihood::Scaled || matches!(loss, Loss::Lmpo(_))
}

/// Any loss of which the weights are the derivatives of the value, under any transforms that it takes.
pub fn differentiable_configs() -> impl Strategy<Value = LossConfig> {
    configs().prop_filter("a factor without a gradient", |config| !has_constant_factors(&config.loss))
}

/// Number of cases of a property over `configs()`: hundreds per variant of a loss.
pub fn cases_over_losses() -> u32 {
    300 * all_losses().len() as u32
}

/// A configuration with this number of cases; a failure prints its shrunk input and writes no file.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// `|a − b|` within `tolerance` of their size, or of 1.
pub fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
}
