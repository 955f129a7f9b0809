//! The generated documentation is current, and every shipped configuration is one.
//!
//! `cargo test -p smpo-trainer --test documentation -- --ignored` validates them against the JSON schema too, with a Python
//! that has the package `jsonschema` in `SMPO_PYTHON` (python3 when absent).

use std::path::{Path, PathBuf};

use smpo_fixtures::repository;
use smpo_trainer::TrainConfig;
use smpo_trainer::config::documentation;

fn current(name: &str, generated: &str) {
    let path = repository().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/{name} is not current: UPDATE_DOCS=1 cargo test -p smpo-trainer --test documentation"
    );
}

#[test]
fn the_reference_page_is_current() {
    current("configuration.md", &documentation::page());
}

#[test]
fn the_schema_is_current() {
    let schema = serde_json::to_string_pretty(&documentation::schema()).unwrap() + "\n";
    current("train.schema.json", &schema);
}

#[test]
fn every_key_is_documented() {
    let schema = documentation::schema();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let described = property["description"].is_string() || name == "$schema" || property.get("$ref").is_some();
        assert!(described, "{name} has no description");
    }
    let page = documentation::page();
    for key in [
        "| `learning_rate` | number | required |",
        "`\"warmup_stable_decay\"`: Constant, then",
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

fn shipped() -> Vec<PathBuf> {
    let mut found = Vec::new();
    configs(&repository().join("configs"), &mut found);
    assert!(found.len() >= 8, "{found:?}");
    found
}

#[test]
fn every_shipped_configuration_loads() {
    for path in shipped() {
        let read = TrainConfig::read(&path, &[]).unwrap();
        assert!(read.notes.is_empty() || path.extension().is_some_and(|ending| ending == "yaml"), "{path:?}");
        smpo_losses::Objective::new(read.config.loss).unwrap();
    }
}

const VALIDATE: &str = "
import json, sys, tomllib
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1])); Draft202012Validator.check_schema(schema)
for path in sys.argv[2:]:
    wrong = [error.message for error in Draft202012Validator(schema).iter_errors(tomllib.load(open(path, 'rb')))]
    print(path, wrong) if wrong else None
";

#[test]
#[ignore = "needs the Python package jsonschema"]
fn the_schema_takes_what_is_shipped_and_what_runs_write_and_no_typing_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (index, path) in shipped().into_iter().enumerate() {
        // As a run directory has it: with every default.
        let resolved = dir.path().join(format!("{index}.toml"));
        std::fs::write(&resolved, toml::to_string(&TrainConfig::read(&path, &[]).unwrap().config).unwrap()).unwrap();
        files.extend([path, resolved]);
    }
    let python = std::env::var("SMPO_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let validate = |files: &[PathBuf]| {
        let schema = repository().join("docs/train.schema.json");
        let output =
            std::process::Command::new(&python).args(["-c", VALIDATE]).arg(schema).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(validate(&files), "");
    let typed = dir.path().join("typed.toml");
    let text = std::fs::read_to_string(&files[0]).unwrap();
    std::fs::write(&typed, format!("learning_rat = 1\n{text}")).unwrap();
    assert!(validate(&[typed]).contains("learning_rat"));
}
