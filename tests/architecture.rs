//! The arrows between crates are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The table's rows: a crate, and what it may use.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let mut arrows = BTreeMap::new();
    for line in text.lines() {
        // | layer | `crate` | knows | may use |
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let [layer, name, _, uses] = cells[..]
            && layer.parse::<u32>().is_ok()
        {
            let name = name.trim_matches('`').to_owned();
            let uses = uses.split(',').map(|used| used.trim().trim_matches('`')).filter(|used| *used != "–");
            arrows.insert(name, uses.map(str::to_owned).collect());
        }
    }
    arrows
}

/// What `cargo metadata` says, tests and benches left out.
fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &str| {
        if name == "smpo" { Some("cli".to_owned()) } else { name.strip_prefix("smpo-").map(str::to_owned) }
    };
    let mut arrows = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let uses = package["dependencies"].as_array().unwrap().iter();
        let uses = uses
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap());
        let candle = |name: &str| (name == "candle-core").then(|| name.to_owned());
        arrows.insert(
            short(package["name"].as_str().unwrap()).unwrap(),
            uses.filter_map(|name| short(name).or_else(|| candle(name))).collect(),
        );
    }
    arrows
}

#[test]
fn the_arrows_are_those_of_the_table() {
    let (documented, actual) = (documented(), actual());
    assert!(documented.len() >= 14, "the table of ARCHITECTURE.md was not read: {documented:?}");
    assert_eq!(documented.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>(), "the crates differ");
    for (name, uses) in &actual {
        assert_eq!(uses, &documented[name], "{name}: what Cargo.toml has (left) is not what the table says (right)");
    }
}

#[test]
fn only_inference_names_the_engine() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for entry in std::fs::read_dir(&crates).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        if manifest.exists() && !manifest.parent().unwrap().ends_with("inference") {
            let text = std::fs::read_to_string(&manifest).unwrap();
            assert!(!text.contains("mistralrs.workspace"), "{}", manifest.display());
        }
    }
}
