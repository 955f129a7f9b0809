//! Batches that are refused, unpaired ones, and the statistics of a step.

mod strategies;

use smpo_losses::loss::kto::{KlBaseline, KtoConfig};
use smpo_losses::loss::{DpoConfig, SftConfig, SmpoConfig};
use smpo_losses::{
    Batch, BatchError, Completion, ConfigError, Loss, LossConfig, LossState, Member, Objective, Pair, Side,
};
use strategies::close;

const END: [bool; 2] = [false, true];

fn objective(loss: impl Into<LossConfig>) -> Objective {
    Objective::new(loss.into()).unwrap()
}

fn chosen_only(chosen: Completion<'_>) -> Pair<'_> {
    Pair { chosen: Some(chosen), ..Pair::default() }
}

fn rejected_only(rejected: Completion<'_>) -> Pair<'_> {
    Pair { rejected: Some(rejected), ..Pair::default() }
}

fn refusal(objective: &Objective, batch: &Batch<'_>) -> BatchError {
    let mut state = LossState::default();
    let error = objective.evaluate(batch, &mut state).unwrap_err();
    assert_eq!(state, LossState::default(), "an error leaves the window alone");
    error
}

#[test]
fn bad_batches_are_refused_by_name() {
    let smpo = objective(Loss::Smpo(SmpoConfig::default()));
    let good = Completion::new(&[-1.0, -2.0], &END);
    let pair = |rejected| [Pair::new(good, rejected)];
    let rejected = Side::Rejected;

    assert_eq!(refusal(&smpo, &Batch::new(&[])), BatchError::Empty);
    let empty = pair(Completion::new(&[], &[]));
    assert_eq!(refusal(&smpo, &Batch::new(&empty)), BatchError::EmptySide { pair: 0, side: rejected });
    let alone = [chosen_only(good)];
    assert_eq!(refusal(&smpo, &Batch::new(&alone)), BatchError::EmptySide { pair: 0, side: rejected });
    let short = pair(Completion::new(&[-1.0], &END));
    let length = BatchError::Length { pair: 0, side: rejected, field: "is_terminator", expected: 1, got: 2 };
    assert_eq!(refusal(&smpo, &Batch::new(&short)), length);
    for given in [0.01, f64::INFINITY, f64::NEG_INFINITY] {
        let logps = [-1.0, given];
        let error = BatchError::LogProb { pair: 0, side: rejected, field: "logps", token: 1, given };
        let pairs = [Pair::new(good, Completion::new(&logps, &END))];
        assert_eq!(refusal(&smpo, &Batch::new(&pairs)), error);
    }
    let nan = pair(Completion::new(&[f64::NAN, -1.0], &END));
    let message = refusal(&smpo, &Batch::new(&nan)).to_string();
    assert!(message.starts_with("pair 0: rejected: `logps`[0]: expected a finite log-prob"), "{message}");
    let pairs = pair(good);
    let split = Batch { microbatches: &[2], ..Batch::new(&pairs) };
    assert_eq!(refusal(&smpo, &split), BatchError::Microbatches { sum: 2, pairs: 1 });
    assert!(smpo.evaluate(&Batch::new(&pair(Completion::new(&[5e-5, -1.0], &END))), &mut Default::default()).is_ok());

    let dpo = objective(Loss::Dpo(DpoConfig::default()));
    let chosen = BatchError::NoReference { pair: 0, side: Side::Chosen };
    assert_eq!(refusal(&dpo, &Batch::new(&pairs)), chosen);
    let free = objective(Loss::Dpo(DpoConfig { reference_free: true, ..DpoConfig::default() }));
    assert_eq!(free.with_target_margin(0.1).unwrap_err(), ConfigError::NoMargin { kind: "dpo", given: 0.1 });
    let kto = objective(Loss::Kto(KtoConfig::default()));
    let referenced = [chosen_only(good.with_reference(&[-1.0, -1.0]))];
    assert_eq!(refusal(&kto, &Batch::new(&referenced)), BatchError::NoMismatched);
}

#[test]
fn sft_is_the_token_mean_and_leaves_rejected_alone() {
    let sft = objective(Loss::Sft(SftConfig::default()));
    let pairs = [
        chosen_only(Completion::new(&[-1.0, -2.0], &END)),
        Pair::new(Completion::new(&[-6.0], &[true]), Completion::new(&[-1.0], &[true])),
    ];
    let got = sft.evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap();
    assert_eq!((got.value, got.po_loss, got.sft_chosen_loss), (3.0, 0.0, 3.0));
    assert_eq!(got.pairs[0].chosen_weights, [-1.0 / 3.0; 2]);
    assert_eq!(got.pairs[1].rejected_weights, [0.0]);
    assert_eq!(got.statistics.chosen_reward.value(), None, "sft has no rewards to report");
}

#[test]
fn kto_takes_unpaired_examples_and_means_over_completions() {
    let kto = objective(Loss::Kto(KtoConfig { kl_baseline: KlBaseline::Zero, ..KtoConfig::default() }));
    let good = Completion::new(&[-1.0, -2.0], &END).with_reference(&[-1.5, -2.5]);
    let bad = Completion::new(&[-3.0], &[true]).with_reference(&[-1.0]);
    let evaluate = |pairs: &[Pair<'_>]| kto.evaluate(&Batch::new(pairs), &mut LossState::default()).unwrap();
    let paired = evaluate(&[Pair::new(good, bad)]);
    let unpaired = evaluate(&[rejected_only(bad), chosen_only(good)]);
    assert!(close(paired.value, unpaired.value, 1e-15));
    assert_eq!(paired.pairs[0].chosen_weights, unpaired.pairs[1].chosen_weights);
    assert_eq!(paired.pairs[0].rejected_weights, unpaired.pairs[0].rejected_weights);
    assert_eq!((unpaired.pairs[0].chosen_reward, unpaired.statistics.margin.value()), (None, None));
    // r = 1 and −2, β = 0.1: 1 − σ(0.1) and 1 − σ(0.2), and their mean.
    assert!(close(unpaired.value, (0.475_020_812_521_06 + 0.450_166_002_687_522) / 2.0, 1e-12));
    let metrics: std::collections::BTreeMap<_, _> = unpaired.metrics().into_iter().collect();
    assert!(close(metrics["rewards/margins"], 0.1 + 0.2, 1e-12), "means of either side, as there are no pairs");
    assert_eq!(metrics["kl"], 0.0);
    let off = ["sft_chosen_loss", "sft_rejected_loss"].map(|part| metrics[part].is_sign_positive());
    assert_eq!(off, [true, true], "a part that is off is 0 and not −0");
}

#[test]
fn sampo_draws_as_many_tokens_as_the_shorter_side_has_afresh_each_step() {
    let sampo = objective(Loss::Dpo(DpoConfig { sampo_seed: Some(3), ..DpoConfig::default() }));
    let (long, short, flags) = ([-1.0; 40], [-1.0; 10], [false; 40]);
    let rejected = Completion::new(&long, &flags).with_reference(&long);
    let pairs = [Pair::new(Completion::new(&short, &flags[..10]).with_reference(&short), rejected)];
    let drawn = |step| {
        let batch = Batch { step, ..Batch::new(&pairs) };
        let got = sampo.evaluate(&batch, &mut LossState::default()).unwrap();
        assert!(got.pairs[0].chosen_weights.iter().all(|weight| *weight != 0.0));
        let weights = got.pairs[0].rejected_weights.clone();
        (0..40).filter(|t| weights[*t] != 0.0).collect::<Vec<_>>()
    };
    assert_eq!(drawn(0).len(), 10);
    assert_eq!(drawn(0), drawn(0));
    assert_ne!(drawn(0), drawn(1));
    let reached: std::collections::BTreeSet<_> = (0..60).flat_map(drawn).collect();
    assert_eq!(reached.len(), 40, "every token has its chance");
}

#[test]
fn a_step_reports_what_metrics_jsonl_wants() {
    let config: LossConfig = toml::from_str(
        "kind = \"smpo\"\neos_term = \"invert\"\nlower_clip_percentile = 0.25\nmin_log_prob = -2.3\nupper_clip_percentile = 0.75",
    )
    .unwrap();
    let chosen = Completion::new(&[-0.5, -1.0, -3.0], &[false, false, true]);
    let rejected = Completion::new(&[-4.0, -1.0, -0.5], &[false, false, true]);
    let other = Completion::new(&[-2.5, -1.5], &END);
    let pairs = [Pair::new(chosen, rejected), Pair::new(chosen, other)];
    let objective = objective(config).with_target_margin(0.2).unwrap();
    let got = objective.evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap();
    let metrics: std::collections::BTreeMap<_, _> = got.metrics().into_iter().collect();
    // Rejected after the EOS term: −4, −1, 0.5, −2.5, 1.5. Q at position 1 is −2.5, below the floor.
    let expected = [
        ("clip/bound", -2.3),
        ("clip/share_rejected", 2.0 / 5.0),
        ("clip/share_chosen", 2.0 / 6.0), // six chosen tokens, upper bound at position 3.75: −0.625
        ("clip/bound_chosen", -0.625),
        ("eos_logp/chosen", -3.0),
        ("eos_logp/chosen_min", -3.0),
        ("eos_logp/rejected", -1.0),
        ("eos_logp/rejected_min", -1.5),
        ("logps/chosen", -1.5),
        ("logps/rejected", (-5.5 / 3.0 - 2.0) / 2.0),
        ("logps/accuracies", 1.0),
        ("logps/accuracies_without_eos", 1.0),
        ("logps/margins", (-1.5 + 5.5 / 3.0 - 1.5 + 2.0) / 2.0),
        ("rewards/chosen", 1.2 * (-0.625 - 1.0 - 3.0) / 3.0),
        ("rewards/rejected", 1.2 * ((-2.3 - 1.0 + 0.5) / 3.0 + (-2.3 + 1.5) / 2.0) / 2.0),
        ("rewards/accuracies", 0.0),
        ("target_margin", 0.2),
        ("loss", got.po_loss + got.sft_chosen_loss + got.sft_rejected_loss),
        ("sft_chosen_loss", 0.8 * 1.5),
        ("sft_rejected_loss", 0.2 * 9.5 / 5.0),
    ];
    for (name, value) in expected {
        assert!(close(metrics[name], value, 1e-12), "{name}: {}, expected {value}", metrics[name]);
    }
    assert!(close(metrics["rewards/margins"], metrics["rewards/chosen"] - metrics["rewards/rejected"], 1e-12));
    assert!(metrics.contains_key("po_loss"));
}

#[test]
fn an_accuracy_bought_with_the_terminator_shows() {
    let chosen = Completion::new(&[-2.0, -0.5], &END);
    let rejected = Completion::new(&[-1.0, -4.0], &END);
    let config: LossConfig = toml::from_str("kind = \"simpo\"").unwrap();
    let got =
        objective(config).evaluate(&Batch::new(&[Pair::new(chosen, rejected)]), &mut LossState::default()).unwrap();
    let metrics: std::collections::BTreeMap<_, _> = got.metrics().into_iter().collect();
    assert_eq!(metrics["logps/accuracies"], 1.0);
    assert_eq!(metrics["logps/accuracies_without_eos"], 0.0);
    assert_eq!(metrics["logps/margins"], 1.25);
}

#[test]
fn numbers_beside_the_log_probs_that_do_not_fit_are_refused() {
    let read = |table: &str| objective(toml::from_str::<LossConfig>(table).unwrap());
    let (dpo, eaft) = (read("kind = \"dpo\""), read("kind = \"sft\"\nloss_type = \"eaft\""));
    let plain = Completion::new(&[-1.0, -2.0], &END);
    let length = |field| BatchError::Length { pair: 0, side: Side::Chosen, field, expected: 2, got: 1 };
    fn refused(objective: &Objective, completion: Completion<'_>) -> BatchError {
        refusal(objective, &Batch::new(&[chosen_only(completion)]))
    }
    let both = [Pair::new(plain.with_reference(&[-1.0]), plain.with_reference(&[-1.0, -1.0]))];
    assert_eq!(refusal(&dpo, &Batch::new(&both)), length("ref_logps"));
    assert_eq!(refused(&eaft, plain.with_entropy(&[0.5])), length("top_entropy"));
    for given in [-0.1, f64::INFINITY] {
        let entropy = [0.5, given];
        let error = BatchError::Entropy { pair: 0, side: Side::Chosen, field: "top_entropy", token: 1, given };
        assert_eq!(refused(&eaft, plain.with_entropy(&entropy)), error);
    }
    let rounded = [chosen_only(plain.with_entropy(&[0.5, -5e-5]))];
    assert!(eaft.evaluate(&Batch::new(&rounded), &mut LossState::default()).is_ok());
}

#[test]
fn a_row_of_nothing_and_a_group_for_another_loss_are_refused() {
    let empty = BatchError::EmptySide { pair: 0, side: Side::Chosen };
    let read = |table: &str| objective(toml::from_str::<LossConfig>(table).unwrap());
    assert_eq!(refusal(&read("kind = \"gpo\""), &Batch::new(&[Pair::default()])), empty);
    let completion = Completion::new(&[-1.0, -2.0], &END).with_reference(&[-1.0, -2.0]);
    let group = [Member { completion, reward: 1.0 }];
    assert_eq!(refusal(&read("kind = \"kto\""), &Batch::new(&[Pair::of_group(&group)])), empty);
}

#[test]
fn a_tie_is_no_preference() {
    let side = Completion::new(&[-2.0, -0.5], &END);
    let got = objective(Loss::Smpo(SmpoConfig::default()))
        .evaluate(&Batch::new(&[Pair::new(side, side)]), &mut LossState::default())
        .unwrap();
    let metrics: std::collections::BTreeMap<_, _> = got.metrics().into_iter().collect();
    for name in ["logps/accuracies", "logps/accuracies_without_eos", "rewards/accuracies"] {
        assert_eq!(metrics[name], 0.0, "{name}");
    }
}

/// −log(1 − p) has a pole at p = 1, and goes on as a straight line from p = 1 − 2⁻²⁴ on.
#[test]
fn the_unlikelihood_of_a_token() {
    let unlikelihood = objective(toml::from_str::<LossConfig>("kind = \"unlikelihood\"\nsft_weight = 0.0").unwrap());
    let of = |logp: f64| {
        let logps = [logp];
        let pairs = [Pair::new(Completion::new(&[-1.0], &[true]), Completion::new(&logps, &[true]))];
        let got = unlikelihood.evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap();
        (got.value, got.pairs[0].rejected_weights[0])
    };
    let steepest = f64::from(1 << 24);
    let log_steepest = 24.0 * std::f64::consts::LN_2;
    for (logp, value, weight) in [
        (0.5f64.ln(), std::f64::consts::LN_2, 1.0),
        (-2.0, 0.145_413_457_868_859_06, 0.156_517_642_749_665_65),
        (-1.0 / steepest, log_steepest, steepest),
        (0.0, log_steepest + 1.0, steepest),
        (5e-5, log_steepest + 1.0 + 5e-5 * steepest, steepest),
    ] {
        let got = of(logp);
        assert!(close(got.0, value, 1e-6) && close(got.1, weight, 1e-6), "at {logp}: {got:?}");
    }
}
