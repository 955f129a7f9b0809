//! The generated documentation is current, and every shipped configuration is one.

use std::path::{Path, PathBuf};

use smpo_trainer::TrainConfig;
use smpo_trainer::config::reference;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn current(name: &str, generated: &str) {
    let path = repository().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/{name} is not current: UPDATE_DOCS=1 cargo test -p smpo-trainer --test reference"
    );
}

#[test]
fn the_reference_page_is_current() {
    current("configuration.md", &reference::page());
}

#[test]
fn the_schema_is_current() {
    let schema = serde_json::to_string_pretty(&reference::schema()).unwrap() + "\n";
    current("train.schema.json", &schema);
}

#[test]
fn every_key_is_documented() {
    let schema = reference::schema();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let described = property["description"].is_string() || name == "$schema" || property.get("$ref").is_some();
        assert!(described, "{name} has no description");
    }
    let page = reference::page();
    for key in [
        "| `learning_rate` | number | required |",
        "`\"warmup_stable_decay\"`: It stays",
        "| `max_eos_drop` |",
        "| `min_log_prob` |",
    ] {
        assert!(page.contains(key), "{key}\n{page}");
    }
}

fn configs(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            configs(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "toml" || ending == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_shipped_configuration_loads() {
    let mut found = Vec::new();
    configs(&repository().join("configs"), &mut found);
    assert!(found.len() >= 8, "{found:?}");
    for path in found {
        let read = TrainConfig::read(&path, &[]).unwrap();
        assert!(read.notes.is_empty() || path.extension().is_some_and(|ending| ending == "yaml"), "{path:?}");
        smpo_losses::Objective::new(read.config.loss).unwrap();
    }
}
