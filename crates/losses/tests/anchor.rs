//! The anchor of terminators: cross-entropy beside any pair loss, whatever the transforms.

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::{Batch, Completion, LossConfig, LossState, Member, Objective, Pair, Totals, Transforms};

use strategies::{Sides, batch, evaluate, preference_losses, sides, transforms};

/// Σ −ℓ over the terminators of both sides, per completion.
fn cross_entropy(pairs: &[Sides]) -> f64 {
    let sides = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
    let at_terminators = sides.flat_map(|side| side.terminators().into_iter().map(|t| -side.logps[t]));
    at_terminators.sum::<f64>() / (2 * pairs.len()) as f64
}

proptest! {
    #[test]
    fn it_adds_its_value_and_its_weights_to_any_loss(
        loss in select(preference_losses()), transforms in transforms(), pairs in batch(sides()), weight in 0.01..3.0,
    ) {
        let config = LossConfig::from(loss).with_transforms(Transforms { eos_anchor: 0.0, ..transforms.clone() });
        let anchored = config.clone().with_transforms(Transforms { eos_anchor: weight, ..transforms });
        let (without, with) = (evaluate(&config, &pairs), evaluate(&anchored, &pairs));
        let expected = weight * cross_entropy(&pairs);
        prop_assert!((with.eos_anchor_loss.unwrap() - expected).abs() < 1e-12);
        prop_assert!((with.value - without.value - expected).abs() < 1e-9 * (1.0 + with.value.abs()));
        prop_assert_eq!(with.po_loss, without.po_loss);
        let each = -weight / (2 * pairs.len()) as f64;
        for ((pair, with), without) in pairs.iter().zip(&with.pairs).zip(&without.pairs) {
            for (side, with, without) in [
                (&pair.chosen, &with.chosen_weights, &without.chosen_weights),
                (&pair.rejected, &with.rejected_weights, &without.rejected_weights),
            ] {
                for t in 0..side.logps.len() {
                    let added = if side.is_terminator[t] { each } else { 0.0 };
                    prop_assert!((with[t] - without[t] - added).abs() < 1e-12 * (1.0 + with[t].abs()));
                }
            }
        }
    }
}

#[test]
fn a_negative_weight_is_refused() {
    let config: LossConfig = toml::from_str("kind = \"smpo\"\neos_anchor = -0.1").unwrap();
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("`eos_anchor` must be finite and at least 0, got -0.1"), "{error}");
}

/// Groups of one token each, with equal rewards: no advantage, and so no loss but the anchor.
#[test]
fn every_completion_of_a_group_and_of_a_pair_beside_it_counts_once() {
    let config: LossConfig = toml::from_str("kind = \"gpo\"\neos_anchor = 0.6").unwrap();
    let objective = Objective::new(config).unwrap();
    let end = [true];
    let member = |logps| Member { completion: Completion::new(logps, &end), reward: 1.0 };
    let group = [member(&[-1.0]), member(&[-2.0]), member(&[-3.0])];
    let pair = Pair::new(Completion::new(&[-4.0], &end), Completion::new(&[-5.0], &end));
    let evaluate = |pairs: &[Pair<'_>]| objective.evaluate(&Batch::new(pairs), &mut LossState::default()).unwrap();
    let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");

    let alone = evaluate(&[Pair::of_group(&group)]);
    near(alone.value, 0.6 * (1.0 + 2.0 + 3.0) / 3.0);
    alone.pairs[0].group.iter().for_each(|member| near(member.weights[0], -0.2));

    let both = evaluate(&[Pair::of_group(&group), pair]);
    near(both.eos_anchor_loss.unwrap(), 0.6 * (1.0 + 2.0 + 3.0 + 4.0 + 5.0) / 5.0);
    near(both.value - both.po_loss, 1.8);
    both.pairs[0].group.iter().for_each(|member| near(member.weights[0], -0.12));
}

#[test]
fn parts_of_a_step_add_up_in_every_term() {
    let config: LossConfig = toml::from_str("kind = \"smpo\"\neos_anchor = 0.5\nchosen_sft_ratio = 0.25").unwrap();
    let objective = Objective::new(config).unwrap();
    let end = [true];
    let of = |chosen, rejected| Pair::new(Completion::new(chosen, &end), Completion::new(rejected, &end));
    let pairs = [of(&[-1.0], &[-3.0]), of(&[-2.0], &[-6.0])];
    let totals = Some(Totals::of(&pairs));
    let part = |pair| objective.evaluate(&Batch { totals, ..Batch::new(pair) }, &mut LossState::default()).unwrap();
    let mut sum = part(&pairs[..1]);
    sum.merge(part(&pairs[1..]));
    // both margins are met: 0.25·1.5 + 0.75·4.5 of cross-entropy, and 0.5·12/4 of the anchor
    let terms = (sum.po_loss, sum.sft_chosen_loss, sum.sft_rejected_loss, sum.eos_anchor_loss);
    assert_eq!(terms, (0.0, 0.375, 3.375, Some(1.5)));
    assert_eq!(sum.value, 5.25);
}
