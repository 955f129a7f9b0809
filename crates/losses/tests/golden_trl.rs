//! Agreement with TRL's own loss functions in value and token weights. `golden/generate_trl.py` calls those of the installed
//! package.

use std::collections::BTreeMap;

use serde::Deserialize;
use smpo_losses::{Batch, Completion, LossConfig, LossState, Objective, Pair};

/// TRL computes some of its losses in float32.
const TOLERANCE: f64 = 2e-6;

#[derive(Deserialize)]
struct Golden {
    versions: BTreeMap<String, String>,
    batches: BTreeMap<String, Vec<GoldenPair>>,
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
    ref_logps: Vec<f64>,
    entropy: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    config: serde_json::Value,
    batch: String,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    chosen_weights: Vec<Vec<f64>>,
    rejected_weights: Vec<Vec<f64>>,
}

impl GoldenCompletion {
    fn borrow<'a>(&'a self, no_terminators: &'a [bool]) -> Completion<'a> {
        Completion::new(&self.logps, &no_terminators[..self.logps.len()])
            .with_reference(&self.ref_logps)
            .with_entropy(&self.entropy)
    }
}

#[test]
fn agrees_with_trl() {
    let golden: Golden = serde_json::from_str(include_str!("golden/golden_trl.json")).unwrap();
    assert_eq!(golden.versions["trl"], "1.16.0");
    assert!(golden.cases.len() >= 66, "the golden file lost cases");
    let no_terminators = [false; 16];
    // A completion of another prompt, more likely under the policy by 0.4 nats.
    let mismatched = [Completion::new(&[-1.5], &[false]).with_reference(&[-1.9])];
    for case in &golden.cases {
        let config: LossConfig = serde_json::from_value(case.config.clone()).unwrap();
        let of = |completion| GoldenCompletion::borrow(completion, &no_terminators);
        let pairs: Vec<Pair<'_>> =
            golden.batches[&case.batch].iter().map(|pair| Pair::new(of(&pair.chosen), of(&pair.rejected))).collect();
        let batch = Batch { mismatched: &mismatched, ..Batch::new(&pairs) };
        let got = Objective::new(config).unwrap().evaluate(&batch, &mut LossState::default()).unwrap();
        let close = |what: &str, got: f64, expected: f64| {
            let near = (got - expected).abs() <= TOLERANCE * expected.abs() + 1e-9;
            assert!(near, "{what} of {} on {}: got {got}, TRL has {expected}", case.config, case.batch);
        };
        close("loss", got.value, case.expected.loss);
        let expected = case.expected.chosen_weights.iter().zip(&case.expected.rejected_weights);
        for (pair, (chosen, rejected)) in got.pairs.iter().zip(expected) {
            for (got, expected) in [(&pair.chosen_weights, chosen), (&pair.rejected_weights, rejected)] {
                assert_eq!(got.len(), expected.len());
                got.iter().zip(expected).for_each(|(got, expected)| close("a weight", *got, *expected));
            }
        }
    }
}
