//! Each loss about itself: its rows, what it needs beside log-probs, its cross-entropy, its margin, its variants and
//! its schema.

use std::collections::BTreeSet;

use serde_json::Value;
use smpo_losses::divergence::{Distance, Divergence};
use smpo_losses::entropy::TokenEntropy;
use smpo_losses::{Direction, LOSSES, Loss, LossConfig, Objective, Pairing, PooledRow, Transforms, WinsorScope};

fn read(table: &str) -> Objective {
    let config: LossConfig = toml::from_str(table).unwrap_or_else(|error| panic!("{table}: {error}"));
    Objective::new(config).unwrap_or_else(|error| panic!("{table}: {error}"))
}

/// Rows that a loss compares.
fn rows(loss: &Loss) -> &'static str {
    match loss.pairing() {
        Pairing::Pairwise(_) => "pairs",
        Pairing::Unpaired(_) => "completions",
        Pairing::Groupwise(_) => "groups",
        Pairing::SftOnly => "texts",
        Pairing::Pooled(_) => "values of a head",
    }
}

/// Needs of a loss beside log-probs of the rows' completions.
fn needs(objective: &Objective) -> String {
    let needs = [
        objective.needs_reference().then_some("reference"),
        objective.needs_entropy().map(TokenEntropy::name),
        objective.needs_mismatched().then_some("mismatched"),
        objective.config().loss.compares_pairs().then_some("the step"),
        objective.distance(0, None).is_some().then_some("teacher"),
    ];
    needs.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Each loss by its paper and its authors' code: rows, needs, the weights of NLL(y+) and NLL(y−), and γ.
type Said = (&'static str, &'static str, &'static str, (f64, f64), Option<f64>);

const DEFAULTS: [Said; 17] = [
    ("sft", "texts", "", (1.0, 0.0), None),
    ("distill", "texts", "teacher", (0.5, 0.0), None),
    ("smpo", "pairs", "", (0.8, 0.2), Some(0.35)),
    ("dpo", "pairs", "reference", (0.0, 0.0), None),
    ("simpo", "pairs", "", (0.0, 0.0), Some(1.0)),
    ("cpo", "pairs", "", (1.0, 0.0), None),
    ("lmpo", "pairs", "the step", (0.0, 0.0), Some(1.375)),
    ("orpo", "pairs", "", (1.0, 0.0), None),
    ("kto", "completions", "reference and mismatched", (0.0, 0.0), None),
    ("gpo", "groups", "", (0.0, 0.0), None),
    ("simper", "pairs", "", (0.0, 0.0), None),
    ("repo", "pairs", "", (0.0, 0.0), Some(0.5)),
    ("npo", "pairs", "reference", (1.0, 0.0), None),
    ("unlikelihood", "pairs", "", (1.0, 0.0), None),
    ("slime", "pairs", "", (0.0, 0.0), None),
    ("reward", "values of a head", "", (0.0, 0.0), None),
    ("classification", "values of a head", "", (0.0, 0.0), None),
];

/// Keys that change what the loss needs.
const OTHERS: [(&str, Said); 14] = [
    ("loss_type = \"eaft\"", ("sft", "texts", "top_entropy", (1.0, 0.0), None)),
    ("loss_type = \"dft\"", ("sft", "texts", "", (1.0, 0.0), None)),
    ("alpha = 0.25", ("distill", "texts", "teacher", (0.75, 0.0), None)),
    ("chosen_sft_ratio = 1.0\ntarget_margin = 0.1", ("smpo", "pairs", "", (1.0, 0.0), Some(0.1))),
    ("reference_free = true", ("dpo", "pairs", "", (0.0, 0.0), None)),
    ("use_weighting = true", ("dpo", "pairs", "reference and collision_entropy", (0.0, 0.0), None)),
    ("loss_type = \"aot\"\nrpo_alpha = 0.5", ("dpo", "pairs", "reference and the step", (0.5, 0.0), None)),
    ("loss_type = [\"aot_unpaired\", \"sft\"]", ("dpo", "pairs", "reference and the step", (1.0, 0.0), None)),
    ("gamma = 0.25\nsft_weight = 0.5", ("simpo", "pairs", "", (0.5, 0.0), Some(0.25))),
    ("kl_baseline = \"zero\"", ("kto", "completions", "reference", (0.0, 0.0), None)),
    ("loss_type = \"apo_zero_unpaired\"", ("kto", "completions", "reference", (0.0, 0.0), None)),
    ("kl_beta = 0.1", ("gpo", "groups", "reference", (0.0, 0.0), None)),
    ("sft_weight = 0.5", ("npo", "pairs", "reference", (0.5, 0.0), None)),
    ("sft_weight = 0.5", ("unlikelihood", "pairs", "", (0.5, 0.0), None)),
];

#[test]
fn each_loss_says_what_it_compares_and_what_it_needs() {
    assert_eq!(DEFAULTS.map(|said| said.0), Loss::KINDS, "a row for each loss");
    let defaults = DEFAULTS.into_iter().map(|said| ("", said));
    for (keys, (kind, of, needed, (chosen, rejected), margin)) in defaults.chain(OTHERS) {
        let table = format!("kind = \"{kind}\"\n{keys}");
        let objective = read(&table);
        let loss = &objective.config().loss;
        assert_eq!((rows(loss), needs(&objective).as_str()), (of, needed), "{table}");
        let sft = loss.sft_weights();
        assert!((sft.chosen - chosen).abs() < 1e-12 && (sft.rejected - rejected).abs() < 1e-12, "{table}: {sft:?}");
        assert_eq!(loss.target_margin(), margin, "{table}");
    }
}

/// Every other key stays as it was, but for a schedule of the margin.
#[test]
fn another_margin_changes_the_margin_alone() {
    for (kind, key, keys) in [
        ("smpo", "target_margin", "beta = 3.0"),
        ("simpo", "gamma", "beta = 3.0"),
        ("lmpo", "gamma", "beta = 3.0"),
        ("repo", "gamma", ""),
    ] {
        let objective = read(&format!("kind = \"{kind}\"\n{keys}"));
        let mut expected = serde_json::to_value(objective.config()).unwrap();
        let config = objective.with_target_margin(0.75).unwrap().config().clone();
        assert_eq!(config.loss.margin_key(), key);
        assert_eq!(config.loss.target_margin(), Some(0.75), "{kind}");
        expected[key] = Value::from(0.75);
        if kind == "smpo" {
            expected["use_margin_schedule"] = Value::from(false);
        }
        assert_eq!(serde_json::to_value(config).unwrap(), expected);
    }
}

#[test]
fn what_must_be_known_before_a_weight_is() {
    let (one_by_one, the_microbatch, the_step) = ((false, false), (false, true), (true, false));
    for (table, expected) in [
        ("kind = \"smpo\"", one_by_one),
        ("kind = \"smpo\"\nmin_log_prob = -2.3\neos_term = \"invert\"", one_by_one),
        ("kind = \"smpo\"\nlower_clip_percentile = 0.02", the_microbatch),
        ("kind = \"smpo\"\nupper_clip_percentile = 0.97", the_microbatch),
        ("kind = \"smpo\"\nlower_clip_percentile = 0.02\nwinsor_scope = \"step\"", the_step),
        ("kind = \"smpo\"\nupper_clip_percentile = 0.97\nwinsor_scope = { window = 64 }", the_step),
        ("kind = \"dpo\"\nloss_type = \"aot\"", the_step),
        ("kind = \"lmpo\"", the_step),
        ("kind = \"kto\"", the_step),
        ("kind = \"kto\"\nkl_baseline = \"zero\"", one_by_one),
        ("kind = \"kto\"\nlower_clip_percentile = 0.02", (true, true)),
    ] {
        let objective = read(table);
        assert_eq!((objective.needs_whole_step(), objective.needs_whole_microbatch()), expected, "{table}");
    }
}

#[test]
fn the_divergence_from_a_teacher_has_its_numbers_and_its_schedule() {
    let default = Distance { divergence: Divergence::ForwardKl, temperature: 1.0, mixture: 0.5 };
    assert_eq!(read("kind = \"distill\"").distance(0, None), Some((default, 0.5)));
    let js = "kind = \"distill\"\nloss_type = \"jensen_shannon\"\njs_beta = 0.1\ntemperature = 2.0";
    let expected = Distance { divergence: Divergence::JensenShannon, temperature: 2.0, mixture: 0.1 };
    let scheduled = read(&format!("{js}\nalpha = {{ from = 0.0, to = 1.0 }}"));
    for (step, steps, alpha) in [(0, Some(11), 0.0), (5, Some(11), 0.5), (10, Some(11), 1.0), (0, None, 1.0)] {
        assert_eq!(scheduled.distance(step, steps), Some((expected, alpha)), "step {step}");
    }
}

#[test]
fn a_list_of_loss_types_has_the_direction_of_those_that_weigh() {
    let direction = |keys: &str| read(&format!("kind = \"dpo\"\n{keys}")).config().loss.direction();
    assert_eq!(direction("loss_type = [\"sigmoid\", \"ipo\"]"), Direction::Both);
    assert_eq!(direction("loss_type = [\"sigmoid\", \"ipo\"]\nloss_weights = [1.0, 0.0]"), Direction::AlwaysDown);
}

/// The sign of ∂L/∂r(y−), over rewards from far below to far above.
#[test]
fn a_reward_model_is_pulled_back_by_the_centre_alone() {
    for (c, expected) in [(0.0, Direction::AlwaysDown), (0.01, Direction::Both)] {
        let objective = read(&format!("kind = \"reward\"\ncenter_rewards_coefficient = {c:?}"));
        let loss = &objective.config().loss;
        let slope = |reward: i32| {
            let rejected = [f64::from(reward)];
            let row = PooledRow { chosen: &[0.0], rejected: Some(&rejected), margin: 0.0, labels: &[] };
            loss.pooled().unwrap().row(&row).d_rejected[0]
        };
        let always_down = (-50..=50).all(|reward| slope(reward) > 0.0);
        assert_eq!((always_down, loss.direction()), (expected == Direction::AlwaysDown, expected));
    }
}

/// Values of the enums in a schema, those of its references too.
fn names(schema: &Value, root: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(keys) => {
            if let Some(path) = keys.get("$ref").and_then(Value::as_str) {
                names(root.pointer(path.trim_start_matches('#')).unwrap(), root, found);
            }
            let consts =
                keys.get("const").into_iter().chain(keys.get("enum").and_then(Value::as_array).into_iter().flatten());
            found.extend(consts.filter_map(Value::as_str).map(str::to_owned));
            keys.values().for_each(|value| names(value, root, found));
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, root, found)),
        _ => {}
    }
}

/// The property tests run over variants: what no variant has they do not see.
#[test]
fn variants_are_different_and_have_every_name_that_a_key_can_have() {
    let root = schemars::schema_for!(LossConfig).to_value();
    for (entry, schema) in LOSSES.iter().zip(root["oneOf"].as_array().unwrap()) {
        let variants = (entry.variants)();
        for (at, variant) in variants.iter().enumerate() {
            assert!(!variants[..at].contains(variant), "{variant:?} is there twice");
        }
        let has_one_branch = matches!(entry.kind, "orpo" | "simper" | "repo");
        assert_eq!(variants.len() == 1, has_one_branch, "{}", entry.kind);
        // no function of log-probs, which the property tests are about
        if matches!(entry.kind, "distill" | "classification") {
            continue;
        }
        let tables: Vec<Value> = variants.iter().map(|variant| serde_json::to_value(variant).unwrap()).collect();
        let named = tables[0].as_object().unwrap().iter().filter(|(key, value)| *key != "kind" && value.is_string());
        for (key, _) in named {
            let (mut expected, mut had) = (BTreeSet::new(), BTreeSet::new());
            names(&schema["properties"][key], &root, &mut expected);
            for value in tables.iter().map(|table| &table[key]) {
                let several = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                had.extend(several.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            assert!(had.is_superset(&expected), "{}: `{key}`: {had:?} of {expected:?}", entry.kind);
        }
    }
}

#[test]
fn transforms_are_keys_of_the_losses_that_compare_log_probs() {
    let root = schemars::schema_for!(LossConfig).to_value();
    let switches = ["eos_term", "lower_clip_percentile", "min_log_prob", "winsor_scope", "eos_anchor"];
    for (entry, schema) in LOSSES.iter().zip(root["oneOf"].as_array().unwrap()) {
        let compares = !["sft", "distill", "reward", "classification"].contains(&entry.kind);
        for key in switches {
            assert_eq!(schema["properties"].get(key).is_some(), compares, "{}: `{key}`", entry.kind);
        }
        let default = LossConfig::from((entry.default)());
        let written = serde_json::to_value(&default).unwrap();
        assert_eq!(written.get("eos_term").is_some(), compares, "{written}");
        assert_eq!(written.get("eos_anchor"), None, "{}: an anchor that is off is left out", entry.kind);
        // what has no effect is written too: reading it says so
        let modified = default.with_transforms(Transforms { eos_anchor: 0.5, ..Transforms::modified() });
        assert!(modified.transforms.is_active());
        let written = serde_json::to_value(&modified).unwrap();
        assert_eq!(written["eos_anchor"], 0.5);
        let read: LossConfig = serde_json::from_value(written).unwrap();
        assert_eq!(read, modified);
        assert_eq!(read.validate().is_ok(), compares, "{}", entry.kind);
    }
}

#[test]
fn a_number_takes_a_schedule_and_nothing_else_does() {
    let root = schemars::schema_for!(LossConfig).to_value();
    let property = |kind: &str, key: &str| {
        let schema = root["oneOf"].as_array().unwrap().iter().find(|schema| schema["title"] == kind).unwrap();
        schema["properties"][key].clone()
    };
    let schedule = serde_json::json!({"$ref": "#/$defs/LossSchedule"});
    for (kind, key) in [("smpo", "beta"), ("dpo", "rpo_alpha"), ("orpo", "min_log_prob")] {
        let property = property(kind, key);
        assert_eq!((property.get("type"), &property["anyOf"][1]), (None, &schedule), "{kind}: {key}: {property}");
        let number = property["anyOf"][0]["type"].to_string();
        assert!(number.contains("\"number\""), "{kind}: {key}: {number}");
    }
    for (kind, key) in [("smpo", "use_margin_schedule"), ("dpo", "sampo_seed"), ("dpo", "loss_weights")] {
        let property = property(kind, key);
        assert!(property.get("type").is_some() && property.get("anyOf").is_none(), "{kind}: {key}: {property}");
    }
    assert!(!property("smpo", "loss_type").to_string().contains("LossSchedule"));
}

#[test]
fn a_usual_range_is_written_out_and_one_of_a_single_number_as_that_number() {
    let root = schemars::schema_for!(LossConfig).to_value();
    let described = |kind: &str, key: &str| {
        let schema = root["oneOf"].as_array().unwrap().iter().find(|schema| schema["title"] == kind).unwrap();
        schema["properties"][key]["description"].as_str().unwrap().to_owned()
    };
    assert!(described("smpo", "beta").ends_with(" Usually 1.1 to 1.6 (VikhrModels' recipes)."));
    assert!(described("slime", "hard_margin").ends_with(" Usually 1.5 (the authors' code)."));
}

/// The schema lets pass what reading takes.
#[test]
fn the_schema_of_a_scope_has_both_spellings() {
    let schema = schemars::schema_for!(WinsorScope).to_value();
    assert_eq!(schema["oneOf"][0]["pattern"], "^(microbatch|step|window: *[0-9]+)$");
    assert_eq!(schema["oneOf"][1]["required"], serde_json::json!(["window"]));
    for (given, expected) in [
        (serde_json::json!("microbatch"), WinsorScope::Microbatch),
        (serde_json::json!("step"), WinsorScope::Step),
        (serde_json::json!("window: 7"), WinsorScope::Window(7)),
        (serde_json::json!({"window": 7}), WinsorScope::Window(7)),
    ] {
        assert_eq!(serde_json::from_value::<WinsorScope>(given).unwrap(), expected);
    }
}
