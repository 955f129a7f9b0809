//! The table of losses: what the line and the file of a loss must have, so that a forgotten part fails here.

mod strategies;

use std::collections::BTreeSet;
use std::path::Path;

use smpo_losses::function::{Score, k3};
use smpo_losses::{Direction, LOSSES, Loss, LossConfig, Objective, Pairing, Side};
use strategies::{Sides, Tokens, evaluate};

/// A file that has no line in the table is a loss that cannot be named.
#[test]
fn every_file_is_a_line_and_every_line_a_file() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/loss");
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<String> =
        names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).filter(|name| name != "mod").collect();
    let kinds: BTreeSet<String> = Loss::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(files, kinds);
    assert_eq!(LOSSES.len(), kinds.len(), "two losses have one kind");
}

#[test]
fn an_entry_reads_and_writes_its_own_kind() {
    for entry in LOSSES {
        let default = (entry.default)();
        assert_eq!(default.kind(), entry.kind);
        for loss in (entry.variants)() {
            assert_eq!(loss.kind(), entry.kind);
            let config = LossConfig::from(loss.clone());
            Objective::new(config.clone()).unwrap();
            let json = serde_json::to_value(&config).unwrap();
            assert_eq!(json.as_object().unwrap().keys().next().unwrap(), "kind", "{json}");
            assert_eq!(serde_json::from_value::<LossConfig>(json).unwrap(), config);
            assert_eq!(toml::from_str::<LossConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
        assert!((entry.variants)().contains(&default), "{}: the default is no variant", entry.kind);
    }
}

#[test]
fn usual_ranges_are_of_documented_keys_and_hold_the_default() {
    let schema = schemars::schema_for!(LossConfig).to_value();
    for (entry, schema) in LOSSES.iter().zip(schema["oneOf"].as_array().unwrap()) {
        let kind = entry.kind;
        assert_eq!(schema["title"], *kind);
        let description = schema["description"].as_str().unwrap();
        let rates = [entry.learning_rates.full, entry.learning_rates.lora];
        let published = description.contains("Highest published learning rate: ");
        assert_eq!(published, rates.iter().any(Option::is_some), "{kind}: {description}");
        let default = serde_json::to_value(LossConfig::from((entry.default)())).unwrap();
        let own = serde_json::to_value((entry.default)()).unwrap().as_object().unwrap().len() > 1;
        assert!(!own || !entry.usual.is_empty(), "{kind}: no usual range is documented");
        for usual in entry.usual {
            let key = usual.key;
            let described =
                schema["properties"][key]["description"].as_str().unwrap_or_else(|| panic!("{kind}: {key}"));
            assert!(described.contains(" Usually "), "{kind}: {key}: {described}");
            assert!(usual.from <= usual.to && !usual.source.is_empty(), "{kind}: {key}");
            if let Some(default) = default[key].as_f64() {
                assert!((usual.from..=usual.to).contains(&default), "{kind}: {key}: {default} is unusual");
            }
        }
        for rate in rates.into_iter().flatten() {
            assert!(rate.highest > 0.0 && !rate.source.is_empty(), "{kind}");
        }
    }
}

#[test]
fn flat_keys_name_keys_of_their_loss_and_tell_one_loss() {
    let schema = schemars::schema_for!(LossConfig).to_value();
    let mut telling = BTreeSet::new();
    for (entry, schema) in LOSSES.iter().zip(schema["oneOf"].as_array().unwrap()) {
        let keys = entry.flat_keys;
        for spelling in keys.spellings {
            assert!(schema["properties"].get(spelling.ours).is_some(), "{}: no key `{}`", entry.kind, spelling.ours);
        }
        for key in keys.distinctive.iter().chain(keys.suggestive) {
            assert!(keys.spellings.iter().any(|spelling| spelling.theirs == *key), "{}: `{key}`", entry.kind);
            assert!(telling.insert(*key), "`{key}` tells two losses");
        }
    }
}

/// ∂L/∂ℓ of a rejected token in the pair loss, over log-probs from far below to far above the margin. With one token a side,
/// sums and means are the same.
#[test]
fn the_declared_direction_is_the_sign_of_the_gradient() {
    for loss in strategies::preference_losses() {
        let score = |policy: f64| Score { policy, reference: -30.0, tokens: 1 };
        let token = |logp: f64| Tokens { logps: vec![logp], is_terminator: vec![false], ref_logps: vec![-30.0] };
        let grad = |tenths: i32| {
            let rejected = score(f64::from(tenths) / 10.0);
            match loss.pairing() {
                // a function of tokens too: the weight of the only one
                Pairing::Pairwise(_) if loss.token_loss().is_some() => {
                    let pair = Sides { chosen: token(-30.0), rejected: token(rejected.policy) };
                    evaluate(&loss.clone().into(), &[pair]).pairs[0].rejected_weights[0]
                }
                Pairing::Pairwise(loss) => loss.pair(score(-30.0), rejected).d_rejected,
                // of a completion with the advantage −1
                Pairing::Groupwise(loss) => {
                    loss.token(rejected.policy).1 + loss.kl_weight() * k3(rejected.policy, rejected.reference).1
                }
                Pairing::Unpaired(loss) => loss.completion(Side::Rejected, rejected, 0.0).d_score,
                Pairing::SftOnly | Pairing::Pooled(_) => unreachable!("{loss:?} has no pair loss"),
            }
        };
        let grads: Vec<f64> = (-700..=-1).map(grad).collect();
        let any = |holds: fn(&f64) -> bool| grads.iter().any(holds);
        let observed = match (any(|grad| *grad < 0.0), any(|grad| *grad == 0.0)) {
            (true, _) => Direction::Both,
            (false, true) => Direction::DownOrZero,
            (false, false) => Direction::AlwaysDown,
        };
        assert!(any(|grad| *grad > 0.0), "{loss:?} never lowers a rejected token");
        assert_eq!(observed, loss.direction(), "{loss:?}");
    }
}

#[test]
fn every_loss_has_a_row_in_the_documentation() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/losses.md")).unwrap();
    let schema = schemars::schema_for!(smpo_losses::loss::dpo::DpoLossType).to_value();
    let loss_types = schema["oneOf"].as_array().unwrap().iter().map(|variant| variant["const"].as_str().unwrap());
    for name in Loss::KINDS.iter().copied().chain(loss_types) {
        assert!(page.contains(&format!("\n| `{name}` |")), "docs/losses.md has no row of `{name}`");
    }
}

/// The `[loss]` tables of all TOML files in `configs/`; `crates/trainer/tests/documentation.rs` loads the whole files.
#[test]
fn every_shipped_loss_table_is_an_objective() {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")];
    let mut loaded = 0;
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|ending| ending == "toml") {
                let mut table: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
                let loss = table.remove("loss").unwrap_or_else(|| panic!("{} has no [loss]", path.display()));
                let config: LossConfig = loss.try_into().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                Objective::new(config).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                loaded += 1;
            }
        }
    }
    assert!(loaded >= 8, "only {loaded} configurations found");
}
