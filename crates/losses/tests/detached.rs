//! Factors that depend on log-probs and are constants of the gradient: each loss that has one is the loss without it, with
//! value and weights scaled by the factor. Central differences cannot tell them (`gradients.rs`).

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::factors::{Factors, GateEstimate};
use smpo_losses::loss::dpo::DpoLossType;
use smpo_losses::loss::sft::SftLossType;
use smpo_losses::loss::{DpoConfig, LmpoConfig, SftConfig};
use smpo_losses::{Loss, LossConfig, Transforms};
use strategies::*;

/// DPO losses without a factor.
fn plain() -> Vec<DpoConfig> {
    let losses = all_losses().into_iter().filter_map(|loss| match loss {
        Loss::Dpo(config) => Some(config),
        _ => None,
    });
    losses.filter(|config| Loss::from(config.clone()).factors() == Factors::default()).collect()
}

fn config(loss: impl Into<Loss>, transforms: &Transforms) -> LossConfig {
    LossConfig::from(loss.into()).with_transforms(transforms.clone())
}

/// The geometric mean of probabilities, as its definition has it.
fn geometric_mean(logps: &[f64]) -> f64 {
    logps.iter().map(|logp| logp.exp()).product::<f64>().powf(1.0 / logps.len() as f64)
}

fn takes_weighting(config: &DpoConfig) -> bool {
    let unfit = [DpoLossType::Aot, DpoLossType::AotUnpaired, DpoLossType::Sft];
    !config.loss_type.as_slice().iter().any(|loss_type| unfit.contains(loss_type)) && config.rpo_alpha.is_none()
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn the_gate_scales_the_weights_of_rejected_alone(
        dpo in select(plain()), transforms in transforms(), pairs in batch(sides()), alpha in 1.0..100.0, tau in 0.0..0.5,
    ) {
        let gated = DpoConfig {
            gate_alpha: Some(alpha), gate_tau: Some(tau), gate_estimate: GateEstimate::Seq, ..dpo.clone()
        };
        let (plain, gated) = (evaluate(&config(dpo, &transforms), &pairs), evaluate(&config(gated, &transforms), &pairs));
        prop_assert_eq!(plain.value, gated.value);
        for ((pair, plain), gated) in pairs.iter().zip(&plain.pairs).zip(&gated.pairs) {
            let gate = 1.0 / (1.0 + (-alpha * (geometric_mean(&pair.rejected.logps) - tau)).exp());
            prop_assert_eq!(&plain.chosen_weights, &gated.chosen_weights);
            for (plain, gated) in plain.rejected_weights.iter().zip(&gated.rejected_weights) {
                prop_assert!(close(plain * gate, *gated, 1e-9), "{plain} × {gate}, got {gated}");
            }
        }
    }

    #[test]
    fn weighting_scales_value_and_weights_of_a_pair(
        dpo in select(plain()), transforms in transforms(), pairs in batch(sides()),
    ) {
        prop_assume!(takes_weighting(&dpo));
        let weighted = DpoConfig { use_weighting: true, ..dpo.clone() };
        let (plain, got) = (evaluate(&config(dpo, &transforms), &pairs), evaluate(&config(weighted, &transforms), &pairs));
        for ((pair, plain), got) in pairs.iter().zip(&plain.pairs).zip(&got.pairs) {
            let weight = |tokens: &Tokens| {
                let completion = tokens.borrow();
                let entropy = completion.entropy.unwrap();
                let ratios = completion.logps.iter().zip(entropy).map(|(logp, entropy)| logp + entropy);
                (ratios.sum::<f64>() / completion.logps.len() as f64).exp()
            };
            let weight = weight(&pair.chosen) * weight(&pair.rejected);
            prop_assert!(close(plain.po_loss * weight, got.po_loss, 1e-9));
            let weights = |pair: &smpo_losses::PairEvaluation| [pair.chosen_weights.clone(), pair.rejected_weights.clone()].concat();
            for (plain, got) in weights(plain).iter().zip(weights(got)) {
                prop_assert!(close(plain * weight, got, 1e-9), "{plain} × {weight}, got {got}");
            }
            prop_assert_eq!((plain.chosen_reward, plain.rejected_reward), (got.chosen_reward, got.rejected_reward));
        }
    }

    #[test]
    fn dft_weighs_a_token_by_its_probability(pairs in batch(sides())) {
        let sft = |loss_type| config(SftConfig { loss_type, ..SftConfig::default() }, &Transforms::default());
        let (nll, dft) = (evaluate(&sft(SftLossType::Nll), &pairs), evaluate(&sft(SftLossType::Dft), &pairs));
        let mut value = 0.0;
        for ((pair, nll), dft) in pairs.iter().zip(&nll.pairs).zip(&dft.pairs) {
            for ((logp, nll), dft) in pair.chosen.logps.iter().zip(&nll.chosen_weights).zip(&dft.chosen_weights) {
                prop_assert!(close(nll * logp.exp(), *dft, 1e-12));
                value += logp * dft;
            }
        }
        prop_assert!(close(value, dft.value, 1e-9), "{value}, got {}", dft.value);
    }

    /// −log σ(z): its derivative by s(y+) is −β(1 − e^(−value)), whatever margin z holds.
    #[test]
    fn lmpo_has_the_gradient_of_its_value_at_its_margins(
        margin_weight in 0.0..2.0, transforms in transforms(), pairs in batch(sides()),
    ) {
        let lmpo = LmpoConfig { margin_weight, ..LmpoConfig::default() };
        let transforms = without_idle(Transforms { upper_clip_percentile: None, ..transforms });
        let got = evaluate(&config(lmpo.clone(), &transforms), &pairs);
        for (pair, got) in pairs.iter().zip(&got.pairs) {
            let share = 1.0 / (pairs.len() * pair.chosen.logps.len()) as f64;
            for weight in &got.chosen_weights {
                prop_assert!(close(*weight, lmpo.beta * (-got.po_loss).exp_m1() * share, 1e-9));
            }
        }
    }
}
