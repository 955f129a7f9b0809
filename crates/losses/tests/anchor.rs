//! The anchor of terminators: cross-entropy beside any pair loss, whatever the transforms.

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::{LossConfig, Transforms};

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
