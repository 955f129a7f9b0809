//! Agreement of groups with an independent PyTorch implementation; `golden/generate_groups.py` says how the numbers were
//! made.

mod strategies;

use serde::Deserialize;
use smpo_losses::{Batch, Completion, LossConfig, LossState, Member, Objective, Pair};
use strategies::close;

#[derive(Deserialize)]
struct Golden {
    groups: Vec<Vec<GoldenMember>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct GoldenMember {
    logps: Vec<f64>,
    is_terminator: Vec<bool>,
    ref_logps: Vec<f64>,
    reward: f64,
}

#[derive(Deserialize)]
struct Case {
    config: serde_json::Value,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    advantages: Vec<f64>,
    losses: Vec<f64>,
    weights: Vec<Vec<f64>>,
}

impl GoldenMember {
    fn borrow(&self) -> Member<'_> {
        let completion = Completion::new(&self.logps, &self.is_terminator).with_reference(&self.ref_logps);
        Member { completion, reward: self.reward }
    }
}

#[test]
fn groups_agree_with_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/golden_groups.json")).unwrap();
    let groups: Vec<Vec<Member<'_>>> =
        golden.groups.iter().map(|group| group.iter().map(GoldenMember::borrow).collect()).collect();
    let pairs: Vec<Pair<'_>> = groups.iter().map(|group| Pair::of_group(group)).collect();
    assert!(golden.cases.len() >= 25);
    for Case { config, expected } in &golden.cases {
        let parsed: LossConfig = serde_json::from_value(config.clone()).unwrap();
        let got = Objective::new(parsed).unwrap().evaluate(&Batch::new(&pairs), &mut LossState::default()).unwrap();
        assert!(close(got.value, expected.loss, 1e-9), "{config}: {} and {}", got.value, expected.loss);
        let members: Vec<_> = got.pairs.iter().flat_map(|pair| &pair.group).collect();
        assert_eq!(members.len(), expected.weights.len());
        for (index, member) in members.into_iter().enumerate() {
            let place = format!("{config}, completion {index}");
            let (advantage, loss) = (expected.advantages[index], expected.losses[index]);
            assert!(close(member.advantage, advantage, 1e-9), "{place}: {} and {advantage}", member.advantage);
            assert!(close(member.loss, loss, 1e-9), "{place}: {} and {loss}", member.loss);
            assert_eq!(member.weights.len(), expected.weights[index].len());
            for (weight, expected) in member.weights.iter().zip(&expected.weights[index]) {
                let off = (weight - expected).abs();
                assert!(off <= 1e-8 * expected.abs() + 1e-12, "{place}: {weight} and {expected}");
            }
        }
    }
}
