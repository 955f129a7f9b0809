//! No log-probs that a model can produce give NaN or infinity.

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::Evaluation;
use strategies::*;

/// ℓ from certain to hopeless, with the values in between that cancel, round or tie.
fn any_logp() -> impl Strategy<Value = f64> {
    prop_oneof![
        select(vec![0.0, -0.0, -1e4, -1e-12, -6e-8, -1.0, -2.3, 1e-4]),
        -1e4..0.0,
        -1.0..0.0,
        (-16.0..0.0f64).prop_map(|exponent| -exponent.exp()),
    ]
}

/// A number in [0, 1) from a seed and an index.
fn scrambled(seed: u64, index: u64) -> f64 {
    let mixed = (seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

fn any_tokens(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Tokens> {
    (lengths, 0..3u8, 0..3u8).prop_flat_map(|(length, shape, flags)| {
        let logps = || match shape {
            0 => any_logp().prop_map(move |logp| vec![logp; length]).boxed(),
            // Two values only: ties at every quantile.
            1 => (any_logp(), any_logp())
                .prop_map(move |(a, b)| (0..length).map(|t| if t % 3 == 0 { a } else { b }).collect())
                .boxed(),
            _ if length < 12 => prop::collection::vec(any_logp(), length).boxed(),
            // Drawn one by one, thousands of numbers would take longer than all that is done with them.
            _ => any::<u64>()
                .prop_map(move |seed| (0..length as u64).map(|t| -scrambled(seed, t).powi(8) * 1e4).collect())
                .boxed(),
        };
        let is_terminator: Vec<bool> = (0..length).map(|t| flags == 2 || flags == 1 && t + 1 == length).collect();
        (logps(), logps()).prop_map(move |(logps, ref_logps)| Tokens {
            logps,
            is_terminator: is_terminator.clone(),
            ref_logps,
        })
    })
}

fn any_sides(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Sides> {
    (any_tokens(lengths.clone()), any_tokens(lengths)).prop_map(|(chosen, rejected)| Sides { chosen, rejected })
}

fn check_finite(evaluation: &Evaluation) -> Result<(), TestCaseError> {
    for (name, value) in evaluation.metrics() {
        prop_assert!(value.is_finite(), "{name} is {value}");
    }
    for pair in &evaluation.pairs {
        prop_assert!(pair.po_loss.is_finite());
        let rewards = pair.chosen_reward.iter().chain(&pair.rejected_reward);
        let weights = pair.chosen_weights.iter().chain(&pair.rejected_weights);
        for value in rewards.chain(weights) {
            prop_assert!(value.is_finite(), "{value}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(cases_over_losses()))]

    #[test]
    fn everything_is_finite(config in configs(), pairs in batch(any_sides(1..12))) {
        check_finite(&evaluate(&config, &pairs))?;
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn thousands_of_tokens_are_finite_too(config in configs(), pairs in prop::collection::vec(any_sides(1..5000), 1..3)) {
        check_finite(&evaluate(&config, &pairs))?;
    }
}
