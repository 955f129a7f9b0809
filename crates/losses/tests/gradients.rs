//! The weights are the derivatives of the value, token by token.

mod strategies;

use proptest::prelude::*;
use smpo_losses::{Batch, Bounds, LossConfig, LossState, Objective};
use strategies::*;

const STEP: f64 = 1e-5;

/// The objective as a function of ℓ, with its detached bounds held at `bounds`.
fn value(objective: &Objective, pairs: &[Sides], bounds: &[Bounds]) -> f64 {
    let (pairs, mismatched) = (borrow(pairs), mismatched());
    let mismatched = [mismatched.borrow()];
    objective.evaluate_within(&Batch { mismatched: &mismatched, ..Batch::new(&pairs) }, bounds).unwrap().value
}

fn token(pairs: &mut [Sides], pair: usize, rejected: bool, t: usize) -> &mut f64 {
    let side = if rejected { &mut pairs[pair].rejected } else { &mut pairs[pair].chosen };
    &mut side.logps[t]
}

fn check_weights(config: LossConfig, mut pairs: Vec<Sides>) -> Result<(), TestCaseError> {
    let floor = config.transforms.min_log_prob.unwrap_or(f64::NEG_INFINITY);
    let cap = config.transforms.eos_penalty_cap;
    let objective = Objective::new(config).unwrap();
    let (evaluation, bounds) = {
        let (borrowed, mismatched) = (borrow(&pairs), mismatched());
        let mismatched = [mismatched.borrow()];
        let batch = Batch { mismatched: &mismatched, ..Batch::new(&borrowed) };
        let evaluation = objective.evaluate(&batch, &mut LossState::default()).unwrap();
        (evaluation, objective.bounds(&batch, &mut LossState::default()).unwrap())
    };
    let at = value(&objective, &pairs, &bounds);
    prop_assert_eq!(at, evaluation.value, "evaluating in two halves is evaluating");
    let (mut tokens, mut kinks) = (0, 0);
    for pair in 0..pairs.len() {
        for rejected in [false, true] {
            let side = &evaluation.pairs[pair];
            let weights = if rejected { &side.rejected_weights } else { &side.chosen_weights };
            for (t, weight) in weights.iter().enumerate() {
                let logp = *token(&mut pairs, pair, rejected, t);
                *token(&mut pairs, pair, rejected, t) = logp + STEP;
                let above = value(&objective, &pairs, &bounds);
                *token(&mut pairs, pair, rejected, t) = logp - STEP;
                let below = value(&objective, &pairs, &bounds);
                *token(&mut pairs, pair, rejected, t) = logp;
                let (right, left) = ((above - at) / STEP, (at - below) / STEP);
                tokens += 1;
                // a value of 1e8 has no digits left for a step of 1e-5
                let rounding = 4.0 * f64::EPSILON * above.abs().max(below.abs()) / STEP;
                // The token that a quantile falls on sits on its bound, and one may fall within a step of the floor or
                // of the EOS term's cap: a corner, with a derivative on either side.
                let on = |bound: f64| (logp - bound).abs() < STEP || (-logp - bound).abs() < STEP;
                if [bounds[0].rejected, bounds[0].chosen, floor, cap].into_iter().any(on) {
                    // Where pairs are compared by rank, a step off a corner may change ranks as well.
                    if objective.config().loss.compares_pairs() {
                        continue;
                    }
                    let slack = rounding + 1e-3 * (1.0 + left.abs().max(right.abs()));
                    let (low, high) = (left.min(right) - slack, left.max(right) + slack);
                    prop_assert!(
                        (low..high).contains(weight),
                        "{weight} at a corner between derivatives {left}, {right}"
                    );
                    continue;
                }
                // Any other corner shows in the value alone: its one-sided derivatives differ.
                // Where pairs are compared by rank, one as small as the change of ranks makes it.
                let smooth = if objective.config().loss.compares_pairs() { 1e-4 } else { 1e-3 };
                if (right - left).abs() > rounding + smooth * (1.0 + right.abs()) {
                    kinks += 1;
                    continue;
                }
                let derivative = (above - below) / (2.0 * STEP);
                prop_assert!(
                    close(*weight, derivative, 1e-5) || (weight - derivative).abs() <= rounding,
                    "pair {pair} rejected {rejected} token {t}: {weight}, derivative {derivative}"
                );
            }
        }
    }
    prop_assert!(kinks <= tokens / 4 + 1, "{kinks} kinks in {tokens} tokens: the property checks too little");
    Ok(())
}

proptest! {
    #![proptest_config(cases(cases_over_losses()))]

    #[test]
    fn weights_are_central_differences(config in differentiable_configs(), pairs in batch(sides())) {
        // Log-probs that central differences can step away from without leaving their range.
        let pairs = pairs.into_iter().map(|mut pair| {
            for side in [&mut pair.chosen, &mut pair.rejected] {
                side.logps.iter_mut().for_each(|logp| *logp = logp.min(-0.02));
            }
            pair
        }).collect();
        check_weights(config, pairs)?;
    }

    #[test]
    fn a_clipped_token_has_no_weight_in_the_pair_loss(
        loss in proptest::sample::select(preference_losses()).prop_filter("a divergence", |loss| !has_divergence(loss)),
        transforms in transforms(),
        pairs in batch(sides()),
    ) {
        let config = LossConfig::from(loss).with_transforms(transforms);
        let evaluation = evaluate(&config, &pairs);
        let objective = Objective::new(config.clone()).unwrap();
        let borrowed = borrow(&pairs);
        let kl = mismatched();
        let kl = [kl.borrow()];
        let bounds = objective.bounds(&Batch { mismatched: &kl, ..Batch::new(&borrowed) }, &mut LossState::default()).unwrap();
        prop_assert_eq!(bounds.len(), 1);
        let floor = config.transforms.min_log_prob.unwrap_or(f64::NEG_INFINITY);
        let lower = bounds[0].rejected.max(floor);
        // The weight from cross-entropy alone: that of a token that the pair loss ignores.
        let tokens = |side: fn(&Sides) -> usize| pairs.iter().map(side).sum::<usize>() as f64;
        let cross_entropy = |share: f64, tokens: f64| if share == 0.0 { 0.0 } else { -share / tokens };
        let sft = config.loss.sft_weights();
        let on_chosen = cross_entropy(sft.chosen, tokens(|pair| pair.chosen.logps.len()));
        let on_rejected = cross_entropy(sft.rejected, tokens(|pair| pair.rejected.logps.len()));
        for (pair, evaluation) in pairs.iter().zip(&evaluation.pairs) {
            for (t, logp) in pair.rejected.logps.iter().enumerate() {
                if *logp < lower && !pair.rejected.is_terminator[t] {
                    prop_assert_eq!(evaluation.rejected_weights[t], on_rejected);
                }
            }
            for (t, logp) in pair.chosen.logps.iter().enumerate() {
                if *logp > bounds[0].chosen {
                    prop_assert_eq!(evaluation.chosen_weights[t], on_chosen);
                }
            }
        }
    }
}
