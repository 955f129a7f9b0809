//! The published modified SMPO assigned through a boolean mask into a copy, so it never changed a number. These tests
//! fail if a transform ever becomes a no-op again, in value or in gradient, or if one that is off becomes something.

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::loss::SmpoConfig;
use smpo_losses::{EosTerm, Evaluation, Loss, LossConfig, Transforms};
use strategies::*;

fn rejected_weights(evaluation: &Evaluation) -> Vec<f64> {
    evaluation.pairs.iter().flat_map(|pair| pair.rejected_weights.clone()).collect()
}

fn chosen_weights(evaluation: &Evaluation) -> Vec<f64> {
    evaluation.pairs.iter().flat_map(|pair| pair.chosen_weights.clone()).collect()
}

fn only(eos_term: EosTerm) -> Transforms {
    Transforms { eos_term, ..Transforms::default() }
}

/// A pair on which each transform has something to do: distinct ℓ, a rejected token far below every floor drawn here.
fn eventful() -> impl Strategy<Value = Sides> {
    let numbers = |length| prop::collection::vec(-2.0..-0.05, length);
    (2..8usize, 3..8usize).prop_flat_map(move |(chosen, rejected)| {
        (numbers(chosen), numbers(chosen), numbers(rejected), numbers(rejected), 3.0..9.0f64, 0..100usize).prop_map(
            |(chosen, chosen_ref, mut rejected, rejected_ref, depth, at)| {
                let deep = at % (rejected.len() - 1);
                rejected[deep] = -depth;
                let tokens = |logps: Vec<f64>, ref_logps| Tokens {
                    is_terminator: (1..=logps.len()).map(|t| t == logps.len()).collect(),
                    logps,
                    ref_logps,
                };
                Sides { chosen: tokens(chosen, chosen_ref), rejected: tokens(rejected, rejected_ref) }
            },
        )
    })
}

proptest! {
    #![proptest_config(cases(cases_over_losses() / 2))]

    #[test]
    fn each_transform_changes_value_and_gradient(loss in select(strictly_monotone_losses()), pairs in batch(eventful())) {
        let regular = evaluate(&loss.clone().into(), &pairs);
        let on_rejected = [
            only(EosTerm::Invert),
            only(EosTerm::Mask),
            Transforms { eos_penalty_cap: 0.02, ..only(EosTerm::Bounded) },
            Transforms { lower_clip_percentile: Some(0.02), ..Transforms::default() },
            Transforms { min_log_prob: Some(-2.3), ..Transforms::default() },
            Transforms::modified(),
        ];
        for transforms in on_rejected {
            let modified = evaluate(&LossConfig::from(loss.clone()).with_transforms(transforms.clone()), &pairs);
            prop_assert_ne!(modified.po_loss, regular.po_loss, "{:?} leaves the value alone", transforms);
            let (weights, before) = (rejected_weights(&modified), rejected_weights(&regular));
            prop_assert!(weights != before, "{transforms:?} leaves the gradient alone");
        }
        if has_no_pair_loss_on_chosen(&loss) {
            return Ok(());
        }
        let transforms = Transforms { upper_clip_percentile: Some(0.9), ..Transforms::default() };
        let modified = evaluate(&LossConfig::from(loss).with_transforms(transforms), &pairs);
        prop_assert_ne!(modified.value, regular.value);
        prop_assert!(chosen_weights(&modified) != chosen_weights(&regular));
    }

    /// A rejected completion that did not end has no terminator: there is nothing for the EOS term to act on.
    #[test]
    fn the_eos_term_is_zero_on_unfinished_rejected_completions(loss in select(preference_losses()), pairs in batch(sides())) {
        let pairs: Vec<Sides> = pairs.into_iter().map(|mut pair| {
            pair.rejected.is_terminator.fill(false);
            pair
        }).collect();
        let regular = evaluate(&loss.clone().into(), &pairs);
        prop_assert_eq!(regular.statistics.rejected_eos_logp.value(), None);
        prop_assert_eq!(regular.statistics.rejected_eos_min, None);
        for term in [EosTerm::Invert, EosTerm::Bounded, EosTerm::Mask] {
            prop_assert_eq!(&evaluate(&LossConfig::from(loss.clone()).with_transforms(only(term)), &pairs), &regular);
        }
    }

    /// The default loss has no gradient where its margin is met, so there it is looked at where it is not.
    #[test]
    fn modified_smpo_is_not_smpo(pairs in batch(eventful())) {
        let smpo = |transforms| {
            let unmet = SmpoConfig { target_margin: 20.0, ..SmpoConfig::default() };
            evaluate(&LossConfig::from(Loss::Smpo(unmet)).with_transforms(transforms), &pairs)
        };
        let (regular, modified) = (smpo(Transforms::default()), smpo(Transforms::modified()));
        prop_assert_ne!(regular.po_loss, modified.po_loss);
        prop_assert_ne!(rejected_weights(&regular), rejected_weights(&modified));
        // Cross-entropy never sees transformed ℓ.
        prop_assert_eq!(regular.sft_chosen_loss, modified.sft_chosen_loss);
        prop_assert_eq!(regular.sft_rejected_loss, modified.sft_rejected_loss);
    }

    /// A bound that nothing reaches is off, to the last bit.
    #[test]
    fn off_is_bit_equal_to_regular(loss in select(preference_losses()), pairs in batch(sides())) {
        let regular = evaluate(&loss.clone().into(), &pairs);
        let out_of_reach = Transforms { min_log_prob: Some(-1e9), ..Transforms::default() };
        let unreached = evaluate(&LossConfig::from(loss).with_transforms(out_of_reach), &pairs);
        prop_assert_eq!(unreached.value, regular.value);
        prop_assert_eq!(&unreached.pairs, &regular.pairs);
    }

    /// Regular SMPO written out as in its source, from scratch.
    #[test]
    fn regular_smpo_is_its_formula(pairs in batch(sides()), beta in 0.5..2.0, gamma in 0.0..0.6, rho in 0.0..1.0) {
        let config = SmpoConfig { beta, target_margin: gamma, chosen_sft_ratio: rho, ..SmpoConfig::default() };
        let got = evaluate(&Loss::Smpo(config).into(), &pairs);
        let mean = |logps: &[f64]| logps.iter().sum::<f64>() / logps.len() as f64;
        let per_pair = pairs.iter().map(|pair| {
            let delta = mean(&pair.chosen.logps) - mean(&pair.rejected.logps) - gamma;
            (-beta * delta).max(0.0).powi(2)
        });
        let po_loss = per_pair.sum::<f64>() / pairs.len() as f64;
        let all = |side: fn(&Sides) -> &Tokens| pairs.iter().flat_map(|pair| side(pair).logps.clone()).collect::<Vec<_>>();
        let sft = -rho * mean(&all(|pair| &pair.chosen)) - (1.0 - rho) * mean(&all(|pair| &pair.rejected));
        prop_assert!(close(got.value, po_loss + sft, 1e-12));
    }
}
