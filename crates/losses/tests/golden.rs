//! Agreement with an independent PyTorch implementation, which works on padded rows with `torch.where` and takes its
//! weights from autograd. `golden/generate.py` says how the numbers were made.

use serde::Deserialize;
use smpo_losses::{Batch, Completion, LOSSES, LossConfig, LossState, Objective, Pair};
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Golden {
    batches: BTreeMap<String, Vec<GoldenPair>>,
    mismatched: Vec<GoldenCompletion>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct GoldenPair {
    chosen: GoldenCompletion,
    rejected: GoldenCompletion,
}

#[derive(Deserialize)]
struct GoldenCompletion {
    logps: Vec<f64>,
    is_terminator: Vec<bool>,
    ref_logps: Vec<f64>,
    entropy: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    config: serde_json::Value,
    batch: String,
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    microbatches: Vec<usize>,
    margin: Option<f64>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    po_loss: f64,
    sft_chosen_loss: f64,
    sft_rejected_loss: f64,
    pairs: Vec<f64>,
    chosen_rewards: Option<Vec<f64>>,
    rejected_rewards: Option<Vec<f64>>,
    chosen_weights: Vec<Vec<f64>>,
    rejected_weights: Vec<Vec<f64>>,
    bound: Option<f64>,
    share_rejected: Option<f64>,
    share_chosen: Option<f64>,
}

impl GoldenCompletion {
    fn borrow(&self) -> Completion<'_> {
        Completion::new(&self.logps, &self.is_terminator).with_reference(&self.ref_logps).with_entropy(&self.entropy)
    }
}

fn assert_close(what: &str, got: impl IntoIterator<Item = f64>, expected: impl IntoIterator<Item = f64>) {
    let (got, expected): (Vec<f64>, Vec<f64>) = (got.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(got.len(), expected.len(), "{what}: {got:?}, expected {expected:?}");
    for (got, expected) in got.iter().zip(&expected) {
        let off = (got - expected).abs();
        assert!(off <= TOLERANCE * expected.abs().max(1.0), "{what}: got {got}, expected {expected}");
        // A weight is a share of a batch, so its own size decides, not 1.
        assert!(off <= TOLERANCE * expected.abs() + 1e-11, "{what}: got {got}, expected {expected}");
    }
}

#[test]
fn agrees_with_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/golden.json")).unwrap();
    assert!(golden.cases.len() >= 80, "the golden file lost cases");
    // reward is a function of values of whole sequences: tests/pooled.rs
    for entry in LOSSES.iter().filter(|entry| (entry.default)().pooled().is_none()) {
        let kind = entry.kind;
        assert!(golden.cases.iter().any(|case| case.config["kind"] == kind), "no golden case of `{kind}`: generate.py");
    }
    let mismatched: Vec<_> = golden.mismatched.iter().map(GoldenCompletion::borrow).collect();
    let pairs_of = |name: &str| -> Vec<Pair<'_>> {
        golden.batches[name].iter().map(|pair| Pair::new(pair.chosen.borrow(), pair.rejected.borrow())).collect()
    };
    for case in &golden.cases {
        let config: LossConfig = serde_json::from_value(case.config.clone()).unwrap();
        let mut objective = Objective::new(config).unwrap();
        if let Some(margin) = case.margin {
            objective = objective.with_target_margin(margin).unwrap();
        }
        let mut state = LossState::default();
        for earlier in &case.before {
            let pairs = pairs_of(earlier);
            objective.evaluate(&Batch { mismatched: &mismatched, ..Batch::new(&pairs) }, &mut state).unwrap();
        }
        let pairs = pairs_of(&case.batch);
        let batch = Batch { microbatches: &case.microbatches, mismatched: &mismatched, ..Batch::new(&pairs) };
        let got = objective.evaluate(&batch, &mut state).unwrap();

        let expected = &case.expected;
        let name = |field: &str| format!("{field} of {} on {}", case.config, case.batch);
        assert_close(&name("loss"), [got.value], [expected.loss]);
        assert_close(&name("po_loss"), [got.po_loss], [expected.po_loss]);
        assert_close(&name("sft_chosen_loss"), [got.sft_chosen_loss], [expected.sft_chosen_loss]);
        assert_close(&name("sft_rejected_loss"), [got.sft_rejected_loss], [expected.sft_rejected_loss]);
        assert_close(&name("pairs"), got.pairs.iter().map(|pair| pair.po_loss), expected.pairs.clone());
        let rewards = |rewards: &Option<Vec<f64>>| rewards.clone().unwrap_or_default();
        let chosen_rewards = got.pairs.iter().filter_map(|pair| pair.chosen_reward);
        assert_close(&name("chosen_rewards"), chosen_rewards, rewards(&expected.chosen_rewards));
        let rejected_rewards = got.pairs.iter().filter_map(|pair| pair.rejected_reward);
        assert_close(&name("rejected_rewards"), rejected_rewards, rewards(&expected.rejected_rewards));
        for (pair, weights) in got.pairs.iter().zip(&expected.chosen_weights) {
            assert_close(&name("chosen_weights"), pair.chosen_weights.clone(), weights.clone());
        }
        for (pair, weights) in got.pairs.iter().zip(&expected.rejected_weights) {
            assert_close(&name("rejected_weights"), pair.rejected_weights.clone(), weights.clone());
        }
        // SFT and a loss without a pair loss clip nothing, so they report nothing.
        let statistics = &got.statistics;
        assert_close(&name("bound"), statistics.clip_bound.value(), expected.bound);
        assert_close(&name("share_rejected"), statistics.clip_share_rejected.value(), expected.share_rejected);
        assert_close(&name("share_chosen"), statistics.clip_share_chosen.value(), expected.share_chosen);
    }
}
