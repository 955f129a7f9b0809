//! Published training files, as far as the loss goes.

use serde_json::{Map, Value, json};
use smpo_losses::import::{ImportError, kind_of, other_spellings, published};
use smpo_losses::loss::dpo::{DpoConfig, DpoLossType, LossTypes};
use smpo_losses::loss::{SimpoConfig, SmpoConfig};
use smpo_losses::{Loss, LossConfig, Objective, Transforms};

fn keys(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(keys) => keys,
        other => panic!("{other}"),
    }
}

/// The settings of the three published SMPO recipes.
#[test]
fn the_published_recipes_import_unchanged() {
    let recipe = |beta: f64, margin: f64, ratio: f64| {
        let value = json!({
            "model_name_or_path": "base", "learning_rate": 2e-5, "beta": beta, "margin_min": margin, "margin_delta": 0.2,
            "chosen_sft_ratio": ratio, "loss_type": "smooth_lower_bound",
        });
        (keys(value), SmpoConfig { beta, target_margin: margin, chosen_sft_ratio: ratio, ..SmpoConfig::default() })
    };
    let (qvikhr, expected) = recipe(1.6, 0.5, 0.9);
    let imported = published(None, qvikhr).unwrap();
    assert_eq!(imported.config, Loss::Smpo(expected).into());
    assert_eq!(imported.rest.keys().collect::<Vec<_>>(), ["model_name_or_path", "learning_rate"]);
    assert!(imported.notes.is_empty());

    let (mut phi, expected) = recipe(1.1, 0.5, 1.0);
    phi.extend(keys(json!({"lower_clip_percentile": 0.02, "min_log_prob": -2.3, "upper_clip_percentile": null})));
    let imported = published(Some("smpo"), phi).unwrap();
    assert_eq!(imported.config.loss, Loss::Smpo(expected));
    let clips = Transforms { lower_clip_percentile: Some(0.02), min_log_prob: Some(-2.3), ..Transforms::default() };
    assert_eq!(imported.config.transforms, clips);
    assert_eq!(imported.notes.len(), 2, "the published code never applied them: {:?}", imported.notes);
    Objective::new(imported.config).unwrap();
}

#[test]
fn older_trim_spellings_and_both_margins() {
    let imported = published(None, keys(json!({"margin_min": 0.4, "lower_trim_percentile": 0.02}))).unwrap();
    assert_eq!(imported.config.transforms.lower_clip_percentile, Some(0.02));
    let error = published(None, keys(json!({"margin_min": 0.4, "target_margin": 0.4}))).unwrap_err();
    assert_eq!(error, ImportError::Twice { first: "target_margin".into(), second: "margin_min".into() });
}

#[test]
fn the_other_published_losses() {
    let slic = json!({"loss_type": "hinge", "beta": 0.1, "reference_free": true, "seed": 42});
    let expected = DpoConfig { loss_type: DpoLossType::Hinge.into(), reference_free: true, ..DpoConfig::default() };
    assert_eq!(published(None, keys(slic)).unwrap().config, Loss::Dpo(expected).into());
    let ratio = json!({"beta": 2.5, "gamma_beta_ratio": 0.4, "loss_type": "sigmoid", "sft_weight": 1.0});
    let expected = SimpoConfig { beta: 2.5, gamma: 1.0, sft_weight: 1.0, ..SimpoConfig::default() };
    assert_eq!(published(None, keys(ratio)).unwrap().config, Loss::Simpo(expected).into());
    let trl = json!({"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.5, "beta": 2.0});
    let expected = SimpoConfig { gamma: 0.5, ..SimpoConfig::default() };
    assert_eq!(published(None, keys(trl)).unwrap().config, Loss::Simpo(expected).into());
    assert_eq!(published(Some("orpo"), keys(json!({"beta": 0.2}))).unwrap().config.loss.kind(), "orpo");
    assert_eq!(published(Some("sft"), keys(json!({"seed": 1}))).unwrap().rest.len(), 1);
}

#[test]
fn what_cannot_be_imported_says_so() {
    assert_eq!(kind_of(&keys(json!({"learning_rate": 1e-5}))), None);
    assert_eq!(published(None, keys(json!({"beta": 1.0}))).unwrap_err(), ImportError::NoKind);
    let complaint = |kind, value| published(kind, keys(value)).unwrap_err().to_string();
    let unknown = complaint(Some("smppo"), json!({}));
    assert!(unknown.contains("unknown loss `smppo` (did you mean `smpo`?)"), "{unknown}");
    let old = complaint(None, json!({"gamma_beta_ratio": 0.8, "loss_type": "smooth_ipo"}));
    assert!(old.contains("`loss_type`: expected none or one of `simpo`, `sigmoid`, got \"smooth_ipo\""), "{old}");
    let typo = complaint(None, json!({"margin_min": 0.4, "loss_type": "smooth_lower"}));
    assert!(typo.contains("did you mean `smooth_lower_bound`?"), "{typo}");
}

#[test]
fn a_key_has_the_other_spellings_of_its_own_loss() {
    for (key, expected) in [
        ("margin_min", &["target_margin"][..]),
        ("target_margin", &["margin_min"]),
        ("lower_clip_percentile", &["lower_trim_percentile"]),
        ("simpo_gamma", &["gamma_beta_ratio"]),
        // of SimPO; in CPO's own files it has no other
        ("cpo_alpha", &["sft_weight"]),
        ("beta", &[]),
        ("learning_rate", &[]),
    ] {
        assert_eq!(other_spellings(key), expected, "{key}");
    }
}

/// TRL's `ipo` is per token.
#[test]
fn the_ipo_of_trl_is_per_token() {
    let imported = |value| published(Some("dpo"), keys(json!({"loss_type": value}))).unwrap().config;
    let dpo = |loss_type| LossConfig::from(Loss::Dpo(DpoConfig { loss_type, ..DpoConfig::default() }));
    assert_eq!(imported(json!("ipo")), dpo(DpoLossType::IpoNorm.into()));
    let list = LossTypes::Many(vec![DpoLossType::Sigmoid, DpoLossType::IpoNorm]);
    assert_eq!(imported(json!(["sigmoid", "ipo"])), dpo(list));
}
