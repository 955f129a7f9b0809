//! Log-probs in, explanation out; and the errors about rows that do not fit the loss.

use smpo_losses::explain::{ExplainError, Report, Row, RowMember, RowTokens, TokenSummary, explain, summarize};
use smpo_losses::{BatchError, Completion, LossConfig, Objective, Side};

const CHOSEN: RowTokens<'_> = RowTokens {
    ids: &[5, 2],
    completion: Completion { logps: &[-0.5, -1.0], is_terminator: &[false, true], ref_logps: None, entropy: None },
};
const REJECTED: RowTokens<'_> = RowTokens {
    ids: &[6, 7, 2],
    completion: Completion {
        logps: &[-4.0, -1.0, -0.5],
        is_terminator: &[false, false, true],
        ref_logps: None,
        entropy: None,
    },
};
const ROW: Row<'_> = Row { id: "a", chosen: Some(CHOSEN), rejected: Some(REJECTED), group: &[], kl: None };

fn objective(table: &str) -> Objective {
    Objective::new(toml::from_str::<LossConfig>(table).unwrap()).unwrap()
}

fn with_logps<'a>(tokens: RowTokens<'a>, logps: &'a [f64]) -> RowTokens<'a> {
    RowTokens { completion: Completion { logps, ..tokens.completion }, ..tokens }
}

#[test]
fn the_report_has_the_documented_keys_and_the_numbers_of_the_loss() {
    let rows = [ROW, ROW];
    let objective =
        objective("kind = \"smpo\"\nmin_log_prob = -2.3\nchosen_sft_ratio = 1.0").with_target_margin(0.1).unwrap();
    let evaluation = explain(&objective, &rows).unwrap();
    let report = serde_json::to_value(Report::new(&rows, &evaluation)).unwrap();

    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["loss", "po_loss", "sft_chosen_loss", "sft_rejected_loss", "clip", "pairs"]);
    assert_eq!(keys(&report["clip"]), ["bound", "share_rejected", "share_chosen"]);
    let pair_keys = ["id", "po_loss", "chosen_reward", "rejected_reward", "chosen_weights", "rejected_weights"];
    assert_eq!(keys(&report["pairs"][0]), pair_keys);

    // s+ = −0.75, s− = (−2.3 − 1 − 0.5)/3, γ = 0.1: Δ = 0.41667, no pair loss; cross-entropy 0.75.
    assert_eq!((report["po_loss"].as_f64(), report["loss"].as_f64()), (Some(0.0), Some(0.75)));
    assert_eq!(report["clip"]["bound"].as_f64(), Some(-2.3));
    assert_eq!(report["clip"]["share_rejected"].as_f64(), Some(1.0 / 3.0));
    assert_eq!(report["pairs"][1]["chosen_weights"], serde_json::json!([-0.25, -0.25]));
    assert_eq!(report["pairs"][1]["rejected_weights"], serde_json::json!([0.0, 0.0, 0.0]));
}

#[test]
fn the_tokens_that_pull_are_found() {
    // A certain token has the weight of the others and pulls at nothing.
    let rows = [Row { chosen: Some(with_logps(CHOSEN, &[0.0, -3.0])), ..ROW }];
    let evaluation = explain(&objective("kind = \"smpo\"\nloss_type = \"sigmoid\""), &rows).unwrap();
    let summaries = summarize(&rows, &evaluation);
    assert_eq!(summaries.len(), 5);
    let total = |part: fn(&TokenSummary) -> f64| summaries.iter().map(part).sum::<f64>();
    assert!((total(|token| token.weight_share) - 1.0).abs() < 1e-12);
    assert!((total(|token| token.pull_share) - 1.0).abs() < 1e-12);
    let heaviest = &summaries[0];
    assert_eq!((heaviest.side, heaviest.id, heaviest.is_terminator, heaviest.count), (Side::Chosen, 2, true, 1));
    assert!(heaviest.weight < 0.0, "a training step raises it");
    let certain = summaries.iter().find(|token| token.id == 5).unwrap();
    assert_eq!((certain.pull_share, certain.weight_share), (0.0, heaviest.weight_share));
    assert_eq!(certain.mean_change, None);
}

#[test]
fn a_kto_row_brings_its_own_baseline() {
    let completion = CHOSEN.completion.with_reference(&[-1.0, -1.0]);
    let rejected = RowTokens { completion, ..CHOSEN };
    let rows = [Row { chosen: None, rejected: Some(rejected), kl: Some(completion), ..ROW }];
    let evaluation = explain(&objective("kind = \"kto\""), &rows).unwrap();
    assert_eq!(evaluation.po_loss, 0.5, "rejected is exactly as likely as the baseline");
}

#[test]
fn a_row_that_does_not_fit_the_loss_is_named() {
    let alone = Row { rejected: None, ..ROW };
    let empty = Row { chosen: None, rejected: None, ..ROW };
    for (kind, row, expected) in [
        ("smpo", empty, "`chosen`: expected a completion, as loss `smpo` needs one, got nothing"),
        ("smpo", alone, "`rejected`: expected a completion, as loss `smpo` needs one, got nothing"),
        ("sft", empty, "`chosen`: expected a completion, as loss `sft` needs one, got nothing"),
        ("kto", empty, "`chosen`: expected a completion on one side at least for loss `kto`, got nothing"),
        ("dpo", ROW, "`chosen.ref_logps`: expected the reference model's log-probs, as loss `dpo` compares with them"),
    ] {
        let good = Row { chosen: Some(CHOSEN), rejected: Some(REJECTED), ..ROW };
        let error = explain(&objective(&format!("kind = \"{kind}\"")), &[row]).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{kind}: {error}");
        if kind == "smpo" {
            let error = explain(&objective("kind = \"smpo\""), &[good, row]).unwrap_err();
            assert!(matches!(error, ExplainError::Missing { row: 1, .. }), "{error:?}");
        }
    }
    let referenced = RowTokens { completion: CHOSEN.completion.with_reference(&[-1.0, -1.0]), ..CHOSEN };
    let without_kl = Row { chosen: Some(referenced), rejected: None, ..ROW };
    let error = explain(&objective("kind = \"kto\""), &[without_kl]).unwrap_err();
    assert_eq!(error, ExplainError::Batch(BatchError::NoMismatched));
}

#[test]
fn a_loss_without_a_margin_takes_none() {
    let margin = objective("kind = \"cpo\"").with_target_margin(0.1);
    assert_eq!(margin.unwrap_err().to_string(), "loss `cpo` has no target margin, got 0.1");
    let negative = objective("kind = \"smpo\"").with_target_margin(-0.1).unwrap_err();
    assert!(negative.to_string().contains("`target_margin` must be finite and at least 0"), "{negative}");
}

#[test]
fn a_loss_that_needs_an_entropy_says_which_is_missing() {
    for (table, field) in [
        ("kind = \"dpo\"\nuse_weighting = true\nreference_free = true", "chosen.collision_entropy"),
        ("kind = \"sft\"\nloss_type = \"eaft\"", "chosen.top_entropy"),
    ] {
        let objective = objective(table);
        let error = explain(&objective, &[ROW]).unwrap_err();
        assert!(matches!(&error, ExplainError::Missing { row: 0, field: missing, .. } if missing == field), "{error}");
        let with = |tokens: RowTokens<'static>, entropy: &'static [f64]| {
            Some(RowTokens { completion: tokens.completion.with_entropy(entropy), ..tokens })
        };
        let row = Row { chosen: with(CHOSEN, &[0.5, 1.0]), rejected: with(REJECTED, &[4.0, 1.0, 0.5]), ..ROW };
        assert!(explain(&objective, &[row]).unwrap().pairs[0].chosen_weights.iter().all(|weight| *weight < 0.0));
    }
}

/// The token 9 has p = 1, ½ and ¼ on chosen, twice with a reference, and ½ on rejected.
#[test]
fn a_token_is_summed_up_over_its_occurrences() {
    let ln2 = std::f64::consts::LN_2;
    let (first, second, third) = ([0.0, -ln2], [-2.0 * ln2, -3.0 * ln2], [-ln2]);
    let (ends, end) = ([false, false], [false]);
    let tokens = |ids, logps, is_terminator| RowTokens { ids, completion: Completion::new(logps, is_terminator) };
    let reference = [-1.0, -1.0];
    let mut one = tokens(&[9, 9], &first, &ends);
    one.completion = one.completion.with_reference(&reference);
    let rows = [
        Row { chosen: Some(one), rejected: Some(tokens(&[9], &third, &end)), ..ROW },
        Row { chosen: Some(tokens(&[9, 4], &second, &ends)), rejected: Some(tokens(&[9], &third, &end)), ..ROW },
    ];
    let evaluation = explain(&objective("kind = \"cpo\""), &rows).unwrap();
    let summaries = summarize(&rows, &evaluation);
    let found = |side, id| summaries.iter().find(|token| (token.side, token.id) == (side, id)).unwrap();
    let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
    let of = found(Side::Chosen, 9);
    assert_eq!(of.count, 3);
    near(of.mean_logp, -ln2);
    near(of.mean_change.unwrap(), ((0.0 + 1.0) + (1.0 - ln2)) / 2.0);
    let rejected = found(Side::Rejected, 9);
    assert_eq!((rejected.count, rejected.mean_change), (2, None));
    near(rejected.mean_logp, -ln2);
}

#[test]
fn without_a_gradient_no_token_has_a_share_of_it() {
    // the margin is met, and nothing else is in the objective
    let evaluation = explain(&objective("kind = \"repo\""), &[ROW]).unwrap();
    let summaries = summarize(&[ROW], &evaluation);
    assert_eq!(summaries.len(), 5);
    assert!(summaries.iter().all(|token| (token.weight, token.weight_share, token.pull_share) == (0.0, 0.0, 0.0)));
}

#[test]
fn a_group_is_explained_by_the_losses_that_read_one() {
    let group = [RowMember { tokens: CHOSEN, reward: 1.0 }, RowMember { tokens: REJECTED, reward: 0.0 }];
    let of_group = Row { chosen: None, rejected: None, group: &group, ..ROW };
    let gpo = objective("kind = \"gpo\"");
    let evaluation = explain(&gpo, &[of_group]).unwrap();
    let advantages: Vec<f64> = evaluation.pairs[0].group.iter().map(|member| member.advantage).collect();
    assert_eq!(advantages, [1.0, -1.0]);
    // p·(−A) over the tokens of a completion and the completions of the group
    let weights = &evaluation.pairs[0].group[0].weights;
    assert!((weights[0] + (-0.5f64).exp() / 4.0).abs() < 1e-12 && (weights[1] + (-1.0f64).exp() / 4.0).abs() < 1e-12);

    // one side alone is a group of one, which nothing is compared with
    let alone = explain(&gpo, &[Row { rejected: None, ..ROW }]).unwrap();
    assert!(alone.pairs[0].chosen_weights.iter().all(|weight| *weight == 0.0));
    let error = explain(&gpo, &[Row { chosen: None, rejected: None, ..ROW }]).unwrap_err().to_string();
    assert!(error.starts_with("`completions`: expected a group of completions, or a pair, for loss `gpo`"), "{error}");
    let error = explain(&objective("kind = \"smpo\""), &[Row { group: &group, ..ROW }]).unwrap_err().to_string();
    assert!(error.starts_with("`chosen`: expected a pair, as loss `smpo` reads no group"), "{error}");
}
