//! The dependencies between crates are those of ARCHITECTURE.md's table, and each points to a lower layer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// One row of the table.
struct Documented {
    layer: u32,
    uses: BTreeSet<String>,
}

/// The table's rows by crate.
fn documented() -> BTreeMap<String, Documented> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let mut crates = BTreeMap::new();
    for line in text.lines() {
        // | layer | `crate` | knows | may use |
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let [layer, name, _, uses] = cells[..]
            && let Ok(layer) = layer.parse()
        {
            let name = name.trim_matches('`').to_owned();
            let uses = uses.split(',').map(|used| used.trim().trim_matches('`')).filter(|used| *used != "–");
            let row = Documented { layer, uses: uses.map(str::to_owned).collect() };
            assert!(crates.insert(name.clone(), row).is_none(), "{name} has two rows");
        }
    }
    crates
}

/// `cargo metadata` of the workspace members.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The names of a package's dependencies of one kind: `None` is a normal one, else `dev` or `build`.
fn dependencies<'a>(package: &'a Value, kind: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(move |dependency| dependency["kind"].as_str() == kind)
        .map(|dependency| dependency["name"].as_str().unwrap())
}

/// `smpo` is `cli`, `smpo-x` is `x`; none for other packages.
fn short(name: &str) -> Option<String> {
    if name == "smpo" { Some("cli".to_owned()) } else { name.strip_prefix("smpo-").map(str::to_owned) }
}

/// The normal dependencies between the crates, and on candle-core.
fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let mut crates = BTreeMap::new();
    for package in packages() {
        let candle = |name: &str| (name == "candle-core").then(|| name.to_owned());
        let uses = dependencies(&package, None).filter_map(|name| short(name).or_else(|| candle(name))).collect();
        crates.insert(short(package["name"].as_str().unwrap()).unwrap(), uses);
    }
    crates
}

/// Each use of a crate whose layer is not below its user's.
fn upward(crates: &BTreeMap<String, Documented>) -> Vec<String> {
    let mut upward = Vec::new();
    for (name, row) in crates {
        for used in row.uses.iter().filter(|used| *used != "candle-core") {
            match crates.get(used) {
                Some(below) if below.layer < row.layer => {}
                Some(other) => upward.push(format!("{name} (layer {}) uses {used} (layer {})", row.layer, other.layer)),
                None => upward.push(format!("{name} uses {used}, which has no row")),
            }
        }
    }
    upward
}

#[test]
fn the_dependencies_are_those_of_the_table() {
    let (documented, actual) = (documented(), actual());
    assert!(documented.len() >= 14, "the table of ARCHITECTURE.md was not read");
    assert_eq!(documented.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>(), "the crates differ");
    for (name, uses) in &actual {
        assert_eq!(uses, &documented[name].uses, "{name}: Cargo.toml (left) differs from the table (right)");
    }
}

#[test]
fn every_dependency_points_to_a_lower_layer() {
    assert_eq!(upward(&documented()), Vec::<String>::new());
}

#[test]
fn an_upward_dependency_is_found() {
    let row = |layer, used: &str| Documented { layer, uses: BTreeSet::from([used.to_owned()]) };
    let crates = BTreeMap::from([("low".to_owned(), row(0, "high")), ("high".to_owned(), row(1, "candle-core"))]);
    assert_eq!(upward(&crates), ["low (layer 0) uses high (layer 1)"]);
}

#[test]
fn only_inference_depends_on_mistralrs() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let used = [None, Some("dev"), Some("build")].into_iter().flat_map(|kind| dependencies(&package, kind));
        assert_eq!(used.into_iter().any(|used| used == "mistralrs"), name == "smpo-inference", "{name}");
    }
}
