//! The direction of the gradients: the exploit that modified SMPO exists for, and its cure.

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::loss::{DpoConfig, SmpoConfig};
use smpo_losses::{Batch, EosTerm, Loss, LossConfig, Objective, Transforms};
use strategies::*;

/// Rounding of sums of a few dozen numbers.
const ROUNDING: f64 = 1e-9;

/// po_loss before and after the terminators of one rejected completion fall by `nats`.
fn around_a_fall(config: &LossConfig, mut pairs: Vec<Sides>, which: usize, nats: f64) -> (f64, f64) {
    let before = evaluate(config, &pairs).po_loss;
    let which = which % pairs.len();
    let rejected = &mut pairs[which].rejected;
    for t in rejected.terminators() {
        rejected.logps[t] -= nats;
    }
    (before, evaluate(config, &pairs).po_loss)
}

fn with_eos_term(loss: Loss, eos_term: EosTerm) -> LossConfig {
    LossConfig::from(loss).with_transforms(Transforms { eos_term, ..Transforms::default() })
}

proptest! {
    #![proptest_config(cases(cases_over_losses() / 2))]

    /// The exploit: nothing stops a loss from paying for a terminator at p ≈ 0.
    #[test]
    fn without_the_eos_term_a_falling_terminator_never_costs(
        loss in select(monotone_losses()), pairs in batch(terminated()), which in 0..5usize, nats in 0.0..50.0,
    ) {
        let (before, after) = around_a_fall(&loss.into(), pairs, which, nats);
        prop_assert!(after <= before + ROUNDING, "{before} rose to {after}");
    }

    /// The cure.
    #[test]
    fn inverted_a_falling_terminator_never_pays(
        loss in select(monotone_losses()), pairs in batch(terminated()), which in 0..5usize, nats in 0.0..50.0,
        eos_term in select(vec![EosTerm::Invert, EosTerm::Bounded]), min_log_prob in prop::option::of(-4.0..-0.1),
    ) {
        let mut config = with_eos_term(loss, eos_term);
        config.transforms.min_log_prob = min_log_prob;
        let (before, after) = around_a_fall(&config, pairs, which, nats);
        prop_assert!(after >= before - ROUNDING, "{before} fell to {after}");
    }

    #[test]
    fn masked_a_terminator_is_not_seen(
        loss in select(losses_without_factors()), pairs in batch(terminated()), which in 0..5usize, nats in 0.0..50.0,
    ) {
        let pairs: Vec<_> = pairs.into_iter().filter(|pair| pair.rejected.logps.len() > 1).collect();
        prop_assume!(!pairs.is_empty());
        let (before, after) = around_a_fall(&with_eos_term(loss, EosTerm::Mask), pairs, which, nats);
        prop_assert_eq!(before, after);
    }

    /// The derivative says the same as the difference: on a rejected terminator w ≥ 0 lets a step lower it, and the
    /// inverted term turns its sign.
    #[test]
    fn the_eos_term_turns_the_sign_of_the_weight(loss in select(strictly_monotone_losses_of_rejected()), pairs in batch(terminated())) {
        let regular = evaluate(&loss.clone().into(), &pairs);
        let inverted = evaluate(&with_eos_term(loss, EosTerm::Invert), &pairs);
        for ((pair, regular), inverted) in pairs.iter().zip(&regular.pairs).zip(&inverted.pairs) {
            for t in pair.rejected.terminators() {
                prop_assert!(regular.rejected_weights[t] > 0.0);
                prop_assert!(inverted.rejected_weights[t] < 0.0);
            }
        }
    }

    /// Past its cap the bounded term is flat; before it, it is the inverted one.
    #[test]
    fn the_bounded_term_is_bounded(loss in select(losses_of_fixed_tokens()), pairs in batch(terminated()), nats in 0.0..50.0) {
        let mut config = with_eos_term(loss, EosTerm::Bounded);
        config.transforms.eos_penalty_cap = 12.5;
        let inverted = config.clone().with_transforms(Transforms { eos_term: EosTerm::Invert, ..Transforms::default() });
        prop_assert_eq!(evaluate(&config, &pairs), evaluate(&inverted, &pairs));
        config.transforms.eos_penalty_cap = 1e-3;
        let deep: Vec<_> = pairs.into_iter().map(|mut pair| {
            let last = pair.rejected.logps.len() - 1;
            pair.rejected.logps[last] -= 1.0;
            pair
        }).collect();
        let (before, after) = around_a_fall(&config, deep, 0, nats);
        prop_assert_eq!(before, after);
    }

    #[test]
    fn smooth_lower_bound_is_silent_once_the_margin_is_met(pairs in batch(sides()), gamma in 0.0..1.0, transforms in transforms()) {
        let smpo = SmpoConfig { target_margin: gamma, ..SmpoConfig::default() };
        let config = LossConfig::from(Loss::Smpo(smpo.clone())).with_transforms(transforms);
        for pair in evaluate(&config, &pairs).pairs {
            let margin = (pair.chosen_reward.unwrap() - pair.rejected_reward.unwrap()) / smpo.beta;
            prop_assert_eq!(pair.po_loss == 0.0, margin >= gamma, "margin {}, target {}", margin, gamma);
        }
    }

    /// With any transforms: what bounds the policy bounds the reference.
    #[test]
    fn dpo_is_ln_2_at_the_reference(pairs in batch(sides()), transforms in transforms(), label_smoothing in 0.0..0.49) {
        let pairs: Vec<_> = pairs.into_iter().map(|mut pair| {
            for side in [&mut pair.chosen, &mut pair.rejected] {
                side.ref_logps.clone_from(&side.logps);
            }
            pair
        }).collect();
        let dpo = Loss::Dpo(DpoConfig { label_smoothing, dpop_lambda: Some(5.0), ..DpoConfig::default() });
        for pair in evaluate(&LossConfig::from(dpo).with_transforms(transforms), &pairs).pairs {
            prop_assert!(close(pair.po_loss, std::f64::consts::LN_2, 1e-12));
        }
    }

    /// A completion whose tokens all count alike: an unclipped rejected token next to the quantile weighs as much as any
    /// other. A bound with a gradient would load it with the weight of all that it clips.
    #[test]
    fn a_bound_carries_no_gradient(loss in select(strictly_monotone_losses_of_rejected()), pair in terminated(), q in 0.05..0.95) {
        let mut config = LossConfig::from(loss);
        config.transforms.lower_clip_percentile = Some(q);
        let evaluation = evaluate(&config, std::slice::from_ref(&pair));
        let weights = &evaluation.pairs[0].rejected_weights;
        let kept: Vec<_> = weights.iter().filter(|weight| **weight != 0.0).collect();
        prop_assert!(!kept.is_empty());
        prop_assert!(kept.iter().all(|weight| close(**weight, *kept[0], 1e-12)), "{weights:?}");
        let bound = evaluation.statistics.clip_bound.value().unwrap();
        let clipped = pair.rejected.logps.iter().filter(|logp| **logp < bound).count();
        prop_assert_eq!(clipped, weights.len() - kept.len());
    }

    #[test]
    fn winsorizing_twice_is_winsorizing_once(loss in select(losses_of_fixed_tokens()), pairs in batch(sides()), q in 0.05..0.95) {
        let mut config = LossConfig::from(loss);
        config.transforms.lower_clip_percentile = Some(q);
        config.transforms.upper_clip_percentile = Some(1.0 - q);
        let objective = Objective::new(config).unwrap();
        let kl = mismatched();
        let kl = [kl.borrow()];
        let borrowed = borrow(&pairs);
        let batch = Batch { mismatched: &kl, ..Batch::new(&borrowed) };
        let bounds = objective.bounds(&batch, &mut Default::default()).unwrap();
        let once = objective.evaluate_within(&batch, &bounds).unwrap();
        let clipped: Vec<_> = pairs.iter().cloned().map(|mut pair| {
            for logps in [&mut pair.rejected.logps, &mut pair.rejected.ref_logps] {
                logps.iter_mut().for_each(|logp| *logp = logp.max(bounds[0].rejected));
            }
            for logps in [&mut pair.chosen.logps, &mut pair.chosen.ref_logps] {
                logps.iter_mut().for_each(|logp| *logp = logp.min(bounds[0].chosen));
            }
            pair
        }).collect();
        let borrowed = borrow(&clipped);
        let twice = objective.evaluate_within(&Batch { mismatched: &kl, ..Batch::new(&borrowed) }, &bounds).unwrap();
        prop_assert_eq!(twice.po_loss, once.po_loss);
        prop_assert_eq!(twice.statistics.clip_share_rejected.total, 0.0);
        prop_assert_eq!(twice.statistics.clip_share_chosen.total, 0.0);
    }

    #[test]
    fn each_transform_touches_its_own_side_only(loss in select(preference_losses()), pairs in batch(sides()), transforms in transforms()) {
        // A length control looks at both sides by design.
        prop_assume!(has_no_length_control(&loss));
        let regular = evaluate(&loss.clone().into(), &pairs);
        let on_rejected = without_idle(Transforms { upper_clip_percentile: None, ..transforms.clone() });
        let Transforms { upper_clip_percentile, winsor_scope, .. } = transforms;
        let on_chosen = without_idle(Transforms { upper_clip_percentile, winsor_scope, ..Transforms::default() });
        let rejected = evaluate(&LossConfig::from(loss.clone()).with_transforms(on_rejected), &pairs);
        let chosen = evaluate(&LossConfig::from(loss).with_transforms(on_chosen), &pairs);
        for ((regular, rejected), chosen) in regular.pairs.iter().zip(&rejected.pairs).zip(&chosen.pairs) {
            prop_assert_eq!(rejected.chosen_reward, regular.chosen_reward);
            prop_assert_eq!(chosen.rejected_reward, regular.rejected_reward);
        }
    }
}
