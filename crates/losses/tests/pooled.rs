//! Losses of whole sequences against PyTorch (`golden/generate_pooled.py`), and the batches that they refuse.

use serde::Deserialize;
use smpo_losses::{Batch, LabelCounts, LossConfig, LossState, Objective, PooledRow, Totals};

#[derive(Deserialize)]
struct Golden {
    rewards: Vec<RewardCase>,
}

#[derive(Deserialize)]
struct RewardCase {
    name: String,
    config: serde_json::Value,
    batch: Rewards,
    expected: Expected,
}

#[derive(Deserialize)]
struct Rewards {
    chosen: Vec<f64>,
    rejected: Vec<f64>,
    margin: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    rows: Vec<f64>,
    chosen_weights: Vec<f64>,
    rejected_weights: Vec<f64>,
    accuracy: f64,
    mean: f64,
}

fn objective(config: serde_json::Value) -> Objective {
    Objective::new(serde_json::from_value::<LossConfig>(config).unwrap()).unwrap()
}

fn close(name: &str, got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{name}: got {got}, expected {expected}");
}

impl Rewards {
    fn rows(&self) -> Vec<PooledRow<'_>> {
        let row = |index: usize| PooledRow {
            chosen: &self.chosen[index..=index],
            rejected: Some(&self.rejected[index..=index]),
            margin: self.margin.as_ref().map_or(0.0, |margin| margin[index]),
            labels: &[],
        };
        (0..self.chosen.len()).map(row).collect()
    }
}

#[test]
fn rewards_agree_with_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/golden_pooled.json")).unwrap();
    assert!(golden.rewards.len() >= 6, "the golden file lost cases");
    for RewardCase { name, config, batch, expected } in &golden.rewards {
        let name = format!("{config} on {name}");
        let rows = batch.rows();
        let batch = Batch { pooled: &rows, ..Batch::default() };
        let got = objective(config.clone()).evaluate(&batch, &mut LossState::default()).unwrap();
        close(&name, got.value, expected.loss);
        for (index, pair) in got.pairs.iter().enumerate() {
            close(&name, pair.po_loss, expected.rows[index]);
            let rewards = (Some(rows[index].chosen[0]), rows[index].rejected.map(|rejected| rejected[0]));
            assert_eq!((pair.chosen_reward, pair.rejected_reward), rewards, "{name}");
            close(&name, pair.chosen_weights[0], expected.chosen_weights[index]);
            close(&name, pair.rejected_weights[0], expected.rejected_weights[index]);
        }
        close(&name, got.statistics.accuracy.value().unwrap(), expected.accuracy);
        close(&name, got.statistics.mean_reward.value().unwrap(), expected.mean);
    }
}

#[test]
fn parts_of_a_step_add_up_to_the_whole() {
    let rewards =
        Rewards { chosen: vec![1.0, 2.0, -1.0], rejected: vec![0.5, 2.5, -3.0], margin: Some(vec![0.0, 0.1, 0.2]) };
    let (rows, objective) =
        (rewards.rows(), objective(serde_json::json!({"kind": "reward", "center_rewards_coefficient": 0.01})));
    let whole = Batch { pooled: &rows, ..Batch::default() };
    let whole = objective.evaluate(&whole, &mut LossState::default()).unwrap();
    let totals = Some(Totals { pairs: 3, ..Totals::default() });
    let part = |rows: &[PooledRow<'_>]| {
        let batch = Batch { pooled: rows, totals, ..Batch::default() };
        objective.evaluate(&batch, &mut LossState::default()).unwrap()
    };
    let mut parts = part(&rows[..1]);
    parts.merge(part(&rows[1..]));
    close("value", parts.value, whole.value);
    assert_eq!(parts.pairs, whole.pairs);
    assert_eq!(parts.statistics.named(), whole.statistics.named());
}

#[test]
fn values_of_another_head_and_transforms_are_refused() {
    let refused = |row: PooledRow<'_>| {
        let rows = [row];
        let batch = Batch { pooled: &rows, ..Batch::default() };
        let objective = objective(serde_json::json!({"kind": "reward"}));
        objective.evaluate(&batch, &mut LossState::default()).unwrap_err().to_string()
    };
    let row = PooledRow { chosen: &[0.5], rejected: Some(&[0.1]), margin: 0.0, labels: &[] };
    assert!(
        refused(PooledRow { chosen: &[0.5, 0.5], ..row })
            .contains("chosen: expected 1 values, one for each label, got 2")
    );
    assert!(refused(PooledRow { rejected: Some(&[f64::NAN]), ..row }).contains("rejected: expected finite values"));
    assert!(refused(PooledRow { rejected: None, ..row }).contains("rejected is empty"));
    // a reward model reads no labels
    let (rows, objective) = ([PooledRow { labels: &[7, 8], ..row }], objective(serde_json::json!({"kind": "reward"})));
    let batch = Batch { pooled: &rows, ..Batch::default() };
    assert_eq!(
        objective.evaluate(&batch, &mut LossState::default()).unwrap().statistics.labels,
        LabelCounts::default()
    );
    let config: LossConfig = serde_json::from_str(r#"{"kind": "reward", "min_log_prob": -2.3}"#).unwrap();
    let error = Objective::new(config).unwrap_err().to_string();
    assert!(error.contains("`min_log_prob` has no effect on a head of labels"), "{error}");
}

#[derive(Deserialize)]
struct LabelCase {
    name: String,
    config: serde_json::Value,
    values: Vec<Vec<f64>>,
    labels: Vec<Vec<usize>>,
    expected: LabelsExpected,
}

#[derive(Deserialize)]
struct LabelsExpected {
    loss: f64,
    rows: Vec<f64>,
    weights: Vec<Vec<f64>>,
}

fn labelled<'a>(values: &'a [Vec<f64>], labels: &'a [Vec<usize>]) -> Vec<PooledRow<'a>> {
    let row = |(values, labels): (&'a Vec<f64>, &'a Vec<usize>)| PooledRow {
        chosen: values,
        rejected: None,
        margin: 0.0,
        labels,
    };
    values.iter().zip(labels).map(row).collect()
}

#[test]
fn classifiers_agree_with_pytorch() {
    #[derive(Deserialize)]
    struct Golden {
        labels: Vec<LabelCase>,
    }
    let golden: Golden = serde_json::from_str(include_str!("golden/golden_pooled.json")).unwrap();
    assert!(golden.labels.len() >= 4, "the golden file lost cases");
    for LabelCase { name, config, values, labels, expected } in &golden.labels {
        let rows = labelled(values, labels);
        let batch = Batch { pooled: &rows, ..Batch::default() };
        let got = objective(config.clone()).evaluate(&batch, &mut LossState::default()).unwrap();
        close(name, got.value, expected.loss);
        for (index, row) in got.pairs.iter().enumerate() {
            close(name, row.po_loss, expected.rows[index]);
            assert_eq!(row.chosen_weights.len(), expected.weights[index].len(), "{name}");
            for (weight, expected) in row.chosen_weights.iter().zip(&expected.weights[index]) {
                close(name, *weight, *expected);
            }
        }
        assert!(got.statistics.named().iter().any(|(name, _)| *name == "f1/macro"));
    }
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let single = serde_json::json!({"kind": "classification", "labels": ["no", "yes"]});
    let several = serde_json::json!({"kind": "classification", "labels": ["no", "yes"],
                                     "problem_type": "multi_label_classification"});
    let evaluated = |config: &serde_json::Value, labels: &[usize]| {
        let rows = [PooledRow { chosen: &[0.5, 0.25], rejected: None, margin: 0.0, labels }];
        let batch = Batch { pooled: &rows, ..Batch::default() };
        objective(config.clone()).evaluate(&batch, &mut LossState::default()).map_err(|error| error.to_string())
    };
    assert!(evaluated(&single, &[]).unwrap_err().contains("expected one label, got 0"));
    assert!(evaluated(&single, &[0, 1]).unwrap_err().contains("expected one label, got 2"));
    assert!(evaluated(&several, &[2]).unwrap_err().contains("expected labels below 2, got 2"));
    assert!(evaluated(&several, &[]).unwrap().value > 0.0);
    let refused = |config| {
        let config: LossConfig = serde_json::from_value(config).unwrap();
        Objective::new(config).unwrap_err().to_string()
    };
    let kind = "classification";
    assert!(refused(serde_json::json!({"kind": kind, "labels": ["a", "a"]})).contains("got \"a\" twice"));
    assert!(refused(serde_json::json!({"kind": kind, "labels": ["a"]})).contains("got one, which every text has"));
    let three = serde_json::json!({"kind": kind, "labels": ["a", "b"], "num_labels": 3});
    assert!(refused(three).contains("2 of them, and `num_labels` is 3"));
}

/// The value of an unstable head is told apart from a row that does not fit.
#[test]
fn a_value_that_is_not_finite_is_told() {
    let reward = objective(serde_json::json!({"kind": "reward"}));
    let error = |chosen: &[f64]| {
        let rows = [PooledRow { chosen, rejected: Some(&[0.0]), margin: 0.0, labels: &[] }];
        let batch = Batch { pooled: &rows, ..Batch::default() };
        reward.evaluate(&batch, &mut LossState::default()).unwrap_err()
    };
    assert_eq!(error(&[f64::INFINITY]).not_finite(), Some(f64::INFINITY));
    assert_eq!(error(&[]).not_finite(), None);
}

/// One label: the likeliest, of equally likely ones the first. Several: those above one half.
#[test]
fn labels_are_found() {
    let kind = serde_json::json!({"kind": "classification", "labels": ["a", "b", "c"]});
    let mut several = kind.clone();
    several["problem_type"] = "multi_label_classification".into();
    let right = |config: &serde_json::Value, values: [f64; 3], labels: &[usize]| {
        let rows = [PooledRow { chosen: &values, rejected: None, margin: 0.0, labels }];
        let batch = Batch { pooled: &rows, ..Batch::default() };
        let got = objective(config.clone()).evaluate(&batch, &mut LossState::default()).unwrap();
        got.statistics.labels.accuracy.value() == Some(1.0)
    };
    assert!(right(&kind, [0.5, 2.0, -1.0], &[1]) && !right(&kind, [0.5, 2.0, -1.0], &[0]));
    assert!(right(&kind, [-1.0, 2.0, 2.0], &[1]) && !right(&kind, [-1.0, 2.0, 2.0], &[2]));
    for (values, found) in [
        ([0.5, 2.0, -1.0], &[0, 1][..]),
        ([-0.5, -2.0, 1.0], &[2]),
        ([0.0, -2.0, 1.0], &[2]),
        ([-0.5, -2.0, -1.0], &[]),
    ] {
        assert!(right(&several, values, found), "{values:?}");
    }
}
