//! Groups: their advantages, the bounded gradient, the sides that transforms act on, and refusals.

mod strategies;

use proptest::prelude::*;
use proptest::sample::select;
use smpo_losses::function::k3;
use smpo_losses::loss::gpo::{GpoConfig, GpoLossType, Normalization};
use smpo_losses::{
    Advantage, Batch, BatchError, Completion, Evaluation, Loss, LossConfig, LossState, Member, Objective, Pair, Side,
    Totals, Transforms,
};
use strategies::*;

const ADVANTAGES: [Advantage; 4] = [Advantage::ZNorm, Advantage::Minmax, Advantage::QuantileNorm, Advantage::Robust];

/// Completions with rewards, as a group owns them.
type Scored = Vec<(Tokens, f64)>;

fn group() -> impl Strategy<Value = Scored> {
    prop::collection::vec((tokens(1..6usize), -3i8..4), 2..6)
        .prop_map(|members| members.into_iter().map(|(tokens, reward)| (tokens, f64::from(reward) / 2.0)).collect())
}

fn batch_of<'a>(groups: &'a [Scored]) -> Vec<Vec<Member<'a>>> {
    let members = |group: &'a Scored| {
        group.iter().map(|(tokens, reward)| Member { completion: tokens.borrow(), reward: *reward }).collect()
    };
    groups.iter().map(members).collect()
}

fn evaluate_groups(config: &LossConfig, groups: &[Scored]) -> Evaluation {
    let members = batch_of(groups);
    let pairs: Vec<Pair<'_>> = members.iter().map(|group| Pair::of_group(group)).collect();
    Objective::new(config.clone()).unwrap().evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap()
}

fn weights(evaluation: &Evaluation) -> Vec<f64> {
    evaluation.pairs.iter().flat_map(|pair| pair.weights()).flatten().copied().collect()
}

fn gpo(config: GpoConfig) -> LossConfig {
    Loss::Gpo(config).into()
}

fn variants() -> impl Strategy<Value = GpoConfig> {
    let normalization =
        select(vec![Normalization::Group, Normalization::Grpo, Normalization::Bnpo, Normalization::DrGrpo]);
    let loss_type = select(vec![GpoLossType::ProbWeighted, GpoLossType::Reinforce]);
    (loss_type, select(ADVANTAGES.to_vec()), normalization, select(vec![0.0, 0.2])).prop_map(
        |(loss_type, advantage, normalization, kl_beta)| GpoConfig {
            loss_type,
            advantage,
            normalization,
            kl_beta,
            dr_grpo_length: (normalization == Normalization::DrGrpo).then_some(7.0),
            ..GpoConfig::default()
        },
    )
}

fn rewards() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![2 => -9.0..9.0f64, 1 => (-2i8..3).prop_map(f64::from)], 2..12)
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn advantages_of_a_group_sum_up_to_zero(
        rewards in rewards(), advantage in select(vec![Advantage::ZNorm, Advantage::QuantileNorm]),
    ) {
        let sum: f64 = advantage.of(&rewards).iter().sum();
        prop_assert!(sum.abs() < 1e-9, "{sum}");
    }

    /// Only the ranks matter to quantiles; to the others, rewards in other units from another zero are the same.
    #[test]
    fn advantages_are_invariant_under_affine_changes_of_rewards(
        rewards in rewards(), scale in 0.01..100.0f64, shift in -50.0..50.0f64, advantage in select(ADVANTAGES.to_vec()),
    ) {
        let moved: Vec<f64> = rewards.iter().map(|reward| scale * reward + shift).collect();
        for (a, b) in advantage.of(&rewards).iter().zip(advantage.of(&moved)) {
            prop_assert!(close(*a, b, 1e-6), "{advantage:?}: {a} and {b}");
        }
    }

    #[test]
    fn advantages_are_in_the_order_of_rewards(rewards in rewards(), advantage in select(ADVANTAGES.to_vec())) {
        let found = advantage.of(&rewards);
        for (a, x) in found.iter().zip(&rewards) {
            for (b, y) in found.iter().zip(&rewards) {
                prop_assert!(x != y || a == b);
                prop_assert!(x >= y || a <= b);
            }
        }
    }

    #[test]
    fn z_is_standard_minmax_has_its_ends(rewards in rewards()) {
        prop_assume!(!smpo_losses::is_degenerate(&rewards));
        let z = Advantage::ZNorm.of(&rewards);
        let variance = z.iter().map(|a| a * a).sum::<f64>() / z.len() as f64;
        prop_assert!(close(variance, 1.0, 1e-9));
        let ends = Advantage::Minmax.of(&rewards);
        let (low, high) = ends.iter().fold((0.0f64, 0.0f64), |(low, high), a| (low.min(*a), high.max(*a)));
        prop_assert!(close(low, -1.0, 1e-9) && close(high, 1.0, 1e-9));
    }

    /// The statement that the loss is for: with g = p the gradient by ℓ is −A·p, times the share of a token in the mean. No
    /// token of any completion has more than |A| of it, and one that is unlikely already has next to none.
    #[test]
    fn the_gradient_of_the_probability_is_bounded(groups in prop::collection::vec(group(), 1..4)) {
        let evaluation = evaluate_groups(&gpo(GpoConfig::default()), &groups);
        for (group, pair) in groups.iter().zip(&evaluation.pairs) {
            for ((tokens, _), member) in group.iter().zip(&pair.group) {
                let share = 1.0 / (groups.len() * group.len() * tokens.logps.len()) as f64;
                for (logp, weight) in tokens.logps.iter().zip(&member.weights) {
                    prop_assert!(close(*weight, -member.advantage * logp.exp() * share, 1e-12));
                    prop_assert!(weight.abs() <= member.advantage.abs() * share);
                }
            }
        }
    }

    #[test]
    fn weights_of_groups_are_central_differences(
        config in variants(), groups in prop::collection::vec(group(), 1..3), transforms in transforms(),
    ) {
        const STEP: f64 = 1e-6;
        // bounds that do not move with ℓ
        let transforms = without_idle(Transforms { lower_clip_percentile: None, upper_clip_percentile: None, ..transforms });
        let config = gpo(config).with_transforms(transforms.clone());
        let mut groups = groups;
        groups.iter_mut().flatten().for_each(|(tokens, _)| tokens.logps.iter_mut().for_each(|l| *l = l.min(-0.02)));
        let found = weights(&evaluate_groups(&config, &groups));
        let mut next = found.into_iter();
        for group in 0..groups.len() {
            for member in 0..groups[group].len() {
                for t in 0..groups[group][member].0.logps.len() {
                    let weight = next.next().unwrap();
                    let logp = groups[group][member].0.logps[t];
                    let floor = transforms.min_log_prob.unwrap_or(f64::NEG_INFINITY);
                    let corner = |bound: f64| (logp - bound).abs() < 2.0 * STEP || (logp + bound).abs() < 2.0 * STEP;
                    if corner(floor) || corner(transforms.eos_penalty_cap) {
                        continue;
                    }
                    groups[group][member].0.logps[t] = logp + STEP;
                    let above = evaluate_groups(&config, &groups).value;
                    groups[group][member].0.logps[t] = logp - STEP;
                    let below = evaluate_groups(&config, &groups).value;
                    groups[group][member].0.logps[t] = logp;
                    let derivative = (above - below) / (2.0 * STEP);
                    let rounding = 1e-9 * (1.0 + above.abs() / STEP * 1e-6);
                    prop_assert!(close(weight, derivative, 1e-6) || (weight - derivative).abs() < rounding,
                        "{weight}, derivative {derivative}");
                }
            }
        }
    }

    /// Groups of one step in parts add up to the step, as micro-batches of pairs do.
    #[test]
    fn groups_one_by_one_add_up_to_the_step(config in variants(), groups in prop::collection::vec(group(), 2..5)) {
        let config = gpo(config).with_transforms(Transforms { min_log_prob: Some(-2.3), ..Transforms::default() });
        let whole = evaluate_groups(&config, &groups);
        let members = batch_of(&groups);
        let pairs: Vec<Pair<'_>> = members.iter().map(|group| Pair::of_group(group)).collect();
        let (objective, totals) = (Objective::new(config).unwrap(), Some(Totals::of(&pairs)));
        let part = |pair: &[Pair<'_>]| {
            objective.evaluate(&Batch { totals, ..Batch::new(pair) }, &mut LossState::default()).unwrap()
        };
        let mut sum = part(&pairs[..1]);
        pairs[1..].iter().for_each(|pair| sum.merge(part(&[*pair])));
        for (a, b) in sum.metrics().into_iter().zip(whole.metrics()) {
            prop_assert!(a.0 == b.0 && close(a.1, b.1, 1e-9), "{a:?} and {b:?}");
        }
        for (a, b) in weights(&sum).iter().zip(weights(&whole)) {
            prop_assert!(close(*a, b, 1e-12));
        }
    }

    /// A floor and an EOS term leave completions above their group's mean alone.
    #[test]
    fn transforms_act_on_negative_advantages_alone(
        config in variants(), groups in prop::collection::vec(group(), 1..4), transforms in transforms(),
    ) {
        let transforms = without_idle(Transforms { upper_clip_percentile: None, ..transforms });
        let plain = evaluate_groups(&gpo(config.clone()), &groups);
        let changed = evaluate_groups(&gpo(config).with_transforms(transforms), &groups);
        for (plain, changed) in plain.pairs.iter().zip(&changed.pairs) {
            for (plain, changed) in plain.group.iter().zip(&changed.group) {
                prop_assert!(plain.side() == Side::Rejected || plain == changed);
            }
        }
    }
}

/// p = e^−12 under a floor of −3: the token of the bad completion is left where it is, that of the good one is raised.
#[test]
fn the_floor_stops_reinforce_on_the_bad_side() {
    let (deep, ends) = ([-12.0, -1.0], [false, true]);
    let member = |reward| Member { completion: Completion::new(&deep, &ends), reward };
    let group = [member(0.0), member(1.0)];
    let config: LossConfig =
        toml::from_str("kind = \"gpo\"\nloss_type = \"reinforce\"\nmin_log_prob = -3.0\neos_term = \"invert\"")
            .unwrap();
    let pairs = [Pair::of_group(&group)];
    let got = Objective::new(config).unwrap().evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap();
    let [bad, good] = &got.pairs[0].group[..] else { panic!("{got:?}") };
    assert_eq!((bad.advantage, good.advantage), (-1.0, 1.0));
    // A·ℓ' is (−3 + 1)/4 with the terminator's sign turned: 1/4 pulls the terminator up
    assert_eq!(bad.weights, [0.0, -0.25]);
    assert_eq!(good.weights, [-0.25, -0.25]);
    assert_eq!((bad.loss, got.statistics.clip_share_rejected.value()), ((-3.0 + 1.0) / 4.0, Some(0.5)));
    let metrics: std::collections::BTreeMap<_, _> = got.metrics().into_iter().collect();
    assert_eq!((metrics["group/reward"], metrics["group/reward_std"]), (0.5, 0.5));
    assert_eq!(metrics["eos_logp/rejected"], -1.0);
}

/// An inverted terminator is raised with the force of its probability, and with none at all past the cap of a bounded one.
#[test]
fn the_eos_term_turns_the_sign_of_the_probability() {
    let ends = [true];
    let weight = |logp: f64, term: &str| {
        let logps = [logp];
        let member = |reward| Member { completion: Completion::new(&logps, &ends), reward };
        let group = [member(0.0), member(1.0)];
        let config: LossConfig = toml::from_str(&format!("kind = \"gpo\"\neos_term = \"{term}\"")).unwrap();
        let pairs = [Pair::of_group(&group)];
        let got = Objective::new(config).unwrap().evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap();
        got.pairs[0].group[0].weights[0]
    };
    assert!(close(weight(-1.0, "off"), (-1.0f64).exp() / 2.0, 1e-12));
    assert!(close(weight(-1.0, "invert"), -(-1.0f64).exp() / 2.0, 1e-12));
    assert!(close(weight(-1.0, "bounded"), weight(-1.0, "invert"), 1e-12));
    assert_eq!(weight(-2.5, "bounded"), 0.0);
}

#[test]
fn bad_groups_are_refused_by_name() {
    let objective = |table: &str| Objective::new(toml::from_str::<LossConfig>(table).unwrap()).unwrap();
    let refusal = |table: &str, group: &[Member<'_>]| {
        let pairs = [Pair::of_group(group)];
        objective(table).evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap_err()
    };
    let good = Member { completion: Completion::new(&[-1.0], &[true]), reward: 1.0 };
    let nan = Member { reward: f64::NAN, ..good };
    let unlikely = Member { completion: Completion::new(&[f64::NEG_INFINITY], &[true]), ..good };
    let error = refusal("kind = \"gpo\"", &[good, nan]).to_string();
    assert_eq!(error, "pair 0: completion 1 of the group: expected a finite reward, got NaN");
    let error = refusal("kind = \"gpo\"", &[good, good, unlikely]);
    assert!(error.to_string().starts_with("completion 2 of a group: pair 0: chosen: `logps`[0]"), "{error}");
    assert_eq!(error.not_finite(), Some(f64::NEG_INFINITY));
    let error = refusal("kind = \"gpo\"\nkl_beta = 0.1", &[good, good]).to_string();
    assert!(error.contains("`ref_logps`"), "{error}");
    assert_eq!(refusal("kind = \"smpo\"", &[good, good]), BatchError::EmptySide { pair: 0, side: Side::Chosen });
}

#[test]
fn the_divisor_belongs_to_its_normalization() {
    let refused = |table: &str| Objective::new(toml::from_str::<LossConfig>(table).unwrap()).unwrap_err().to_string();
    let missing = refused("kind = \"gpo\"\nnormalization = \"dr_grpo\"");
    assert!(missing.contains("`dr_grpo_length`: expected a number of tokens"), "{missing}");
    let idle = refused("kind = \"gpo\"\ndr_grpo_length = 12");
    assert!(idle.contains("`dr_grpo_length` has no effect unless `normalization` is \"dr_grpo\""), "{idle}");
}

/// Of completions with different rewards the share that the policy ranks as the rewards do.
#[test]
fn the_accuracy_of_a_group_is_of_its_ranks() {
    let config: LossConfig = toml::from_str("kind = \"gpo\"\nloss_type = \"reinforce\"").unwrap();
    let objective = Objective::new(config).unwrap();
    let end = [true];
    let accuracy = |members: &[(f64, f64)]| {
        let logps = members.iter().map(|(_, logp)| std::slice::from_ref(logp));
        let completions = logps.map(|logps| Completion::new(logps, &end)).zip(members);
        let group: Vec<Member<'_>> =
            completions.map(|(completion, (reward, _))| Member { completion, reward: *reward }).collect();
        let got = objective.evaluate(&Batch::new(&[Pair::of_group(&group)]), &mut LossState::default()).unwrap();
        got.statistics.accuracy.value()
    };
    for (name, members, expected) in [
        ("the better is the likelier", [(1.0, -1.0), (0.0, -2.0)], Some(1.0)),
        ("the better is the less likely", [(1.0, -2.0), (0.0, -1.0)], Some(0.0)),
        ("both are equally likely", [(1.0, -1.0), (0.0, -1.0)], Some(0.0)),
        ("both are equally good", [(1.0, -1.0), (1.0, -2.0)], None),
    ] {
        assert_eq!(accuracy(&members), expected, "{name}");
        assert_eq!(accuracy(&[members[1], members[0]]), expected, "{name}, the other way round");
    }
    // of the five pairs with different rewards (0 and 3), (1 and 3), (2 and 3) are right, (0 and 1) and (0 and 2) wrong
    assert_eq!(accuracy(&[(2.0, -3.0), (1.0, -2.0), (1.0, -2.5), (0.0, -4.0)]), Some(0.6));
}

#[test]
fn a_step_reports_no_divergence_without_a_weight_and_no_rewards_of_pairs() {
    let end = [true];
    let completion = |logps| Completion::new(logps, &end).with_reference(&[-1.0]);
    let (likely, unlikely) = (completion(&[-0.5]), completion(&[-2.0]));
    let group = [Member { completion: likely, reward: 1.0 }, Member { completion: unlikely, reward: 0.0 }];
    let reported = |kl_beta: f64, pairs: &[Pair<'_>]| {
        let config = gpo(GpoConfig { kl_beta, ..GpoConfig::default() });
        let got = Objective::new(config).unwrap().evaluate(&Batch::new(pairs), &mut LossState::default()).unwrap();
        let names: Vec<&str> = got.metrics().into_iter().map(|(name, _)| name).collect();
        ["kl", "group/reward", "group/reward_std"].map(|name| names.contains(&name))
    };
    assert_eq!(reported(0.1, &[Pair::of_group(&group)]), [true; 3]);
    assert_eq!(reported(0.0, &[Pair::of_group(&group)]), [false, true, true]);
    assert_eq!(reported(0.1, &[Pair::new(likely, unlikely)]), [true, false, false]);
}

#[test]
fn k3_has_the_values_of_its_formula_and_is_flat_past_its_bound() {
    let e = std::f64::consts::E;
    let (value, derivative) = k3(-1.0, -2.0);
    assert!(close(value, 1.0 / e, 1e-15) && close(derivative, 1.0 - 1.0 / e, 1e-15));
    let (value, derivative) = k3(-2.0, -1.0);
    assert!(close(value, e - 2.0, 1e-15) && close(derivative, 1.0 - e, 1e-15));
    assert_eq!(k3(-1.5, -1.5), (0.0, 0.0));
    assert_eq!([-79.0, -80.0, -81.0].map(|logp| k3(logp, 0.0).1 < 0.0), [true, false, false]);
    assert_eq!(k3(-81.0, 0.0), k3(-80.0, 0.0));
}

/// The medians of the bad completions' tokens, −2 and −8, or −5 of all of them.
#[test]
fn a_microbatch_of_groups_has_its_own_quantile() {
    let (end, ends) = ([true], [false, false, true]);
    let good = Member { completion: Completion::new(&[-0.1], &end), reward: 1.0 };
    let bad = |logps| Member { completion: Completion::new(logps, &ends), reward: 0.0 };
    let (shallow, deep) = ([good, bad(&[-1.0, -2.0, -3.0])], [bad(&[-7.0, -8.0, -9.0]), good]);
    let pairs = [Pair::of_group(&shallow), Pair::of_group(&deep)];
    let objective = Objective::new(toml::from_str("kind = \"gpo\"\nlower_clip_percentile = 0.5").unwrap()).unwrap();
    for (microbatches, expected) in [(&[1, 1][..], &[(1, -2.0), (1, -8.0)][..]), (&[], &[(2, -5.0)])] {
        let batch = Batch { microbatches, ..Batch::new(&pairs) };
        let bounds = objective.bounds(&batch, &mut LossState::default()).unwrap();
        assert_eq!(bounds.iter().map(|bounds| (bounds.pairs, bounds.rejected)).collect::<Vec<_>>(), expected);
        let got = objective.evaluate(&batch, &mut LossState::default()).unwrap();
        assert_eq!(got.statistics.clip_bound.value(), Some(-5.0));
        // of the tokens below: one in each micro-batch, or all of the deep ones
        let below = if microbatches.is_empty() { 3.0 } else { 2.0 };
        assert_eq!(got.statistics.clip_share_rejected.total, below);
        assert_eq!(objective.evaluate_within(&batch, &bounds).unwrap(), got);
    }
}

/// Rejected after the EOS term: −4, 1 and 2, of which the quantile at position 1.5 is 1.5.
#[test]
fn a_terminator_below_the_quantile_is_clipped_as_any_token() {
    let (ends, end) = ([false, true, true], [true]);
    let good = Member { completion: Completion::new(&[-0.1], &end), reward: 1.0 };
    let bad = Member { completion: Completion::new(&[-4.0, -1.0, -2.0], &ends), reward: 0.0 };
    let table = "kind = \"gpo\"\nloss_type = \"reinforce\"\neos_term = \"invert\"\nlower_clip_percentile = 0.75";
    let objective = Objective::new(toml::from_str(table).unwrap()).unwrap();
    let group = [good, bad];
    let got = objective.evaluate(&Batch::new(&[Pair::of_group(&group)]), &mut LossState::default()).unwrap();
    let statistics = &got.statistics;
    assert_eq!((statistics.clip_bound.value(), statistics.clip_share_rejected.total), (Some(1.5), 2.0));
    assert_eq!(
        got.pairs[0].group[1].weights.iter().map(|weight| *weight == 0.0).collect::<Vec<_>>(),
        [true, true, false]
    );
}
