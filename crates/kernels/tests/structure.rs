//! The crate's structure: modules use only modules below them, and no operation or kernel lacks one of its parts
//! (CONTRIBUTING, "Add a kernel").

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the lowest to the highest layer, and the modules that each may use.
const LAYERS: [(&str, &[&str]); 11] = [
    ("error", &[]),
    ("checks", &["error"]),
    ("options", &["error"]),
    ("cpu", &["error", "options"]),
    ("device", &["error", "options", "cpu"]),
    ("autograd", &["error", "checks", "cpu", "device"]),
    ("optim", &["error", "options", "cpu", "device", "autograd"]),
    ("ops", &["error", "checks", "options", "cpu", "device", "autograd"]),
    ("decode", &["error", "checks", "options", "cpu", "device"]),
    ("naive", &["options", "ops"]),
    ("selftest", &["error", "options", "device", "autograd", "optim", "ops", "decode"]),
];

/// Public operations that are a variant of another and share its twin.
const VARIANTS: [&str; 4] = [
    "adapted_linear_for_backward",
    "linear_for_backward",
    "selected_log_probs_with_entropy",
    "selected_log_probs_with_terminators",
];

/// Operations of the CPU alone, which the self-test of a device has no case of.
const CPU_ONLY: [&str; 8] = [
    "attention_with_sinks",
    "clamped_swiglu",
    "combine",
    "gated_delta_rule",
    "log_decay",
    "route",
    "short_convolution",
    "sigmoid_gate",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

/// Names after `crate::` outside comments, one level deep: of `crate::a::b` and `crate::{a::b, c}` a, b of neither, c.
fn used(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let list = after.strip_prefix('{').and_then(|list| list.split_once('}')).map_or(after, |(list, _)| list);
        let parts = if after.starts_with('{') { list.split(',').collect() } else { vec![list] };
        for part in parts {
            let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                names.insert(name);
            }
        }
    }
    names
}

#[test]
fn modules_use_only_modules_below_them() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    for (index, (module, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            assert!(LAYERS[..index].iter().any(|(below, _)| below == used), "{module}: {used} is not below it");
        }
    }
    let root = source();
    let mut found = vec![];
    files(&root, "rs", &mut found);
    for path in found {
        let inside = path.strip_prefix(&root).unwrap();
        let module = inside.iter().next().and_then(|part| Path::new(part).file_stem()).unwrap().to_str().unwrap();
        if module == "lib" {
            continue;
        }
        let allowed = layers.get(module).unwrap_or_else(|| panic!("{}: not in LAYERS", inside.display()));
        for name in used(&read(&path)) {
            // The self-test uses the crate as others do.
            let public = module == "selftest" && !layers.contains_key(&name[..]);
            assert!(
                public || name == module || allowed.contains(&&name[..]),
                "{}: crate::{name} is not among the modules that `{module}` may use: {allowed:?}",
                inside.display()
            );
        }
    }
}

/// Names in the `pub use` items of a module.
fn exported(text: &str) -> BTreeSet<String> {
    let items = text.split("pub use ").skip(1).filter_map(|item| item.split_once(';'));
    let names = items.flat_map(|(item, _)| {
        let (_, names) = item.split_once("::").unwrap_or(("", item));
        names.trim_matches(['{', '}']).split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()
    });
    // Functions alone.
    names.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.is_empty()).collect()
}

#[test]
fn every_operation_has_its_twin_its_self_test_and_its_tests() {
    let root = source();
    let operations = exported(&read(root.join("ops/mod.rs")));
    assert!(operations.len() > 10, "{operations:?}");
    let public = read(root.join("lib.rs"));
    let naive = read(root.join("naive.rs"));
    let all = |dir: &Path| {
        let mut found = vec![];
        files(dir, "rs", &mut found);
        found.iter().map(read).collect::<Vec<_>>().join("\n")
    };
    let selftest = all(&root.join("selftest"));
    let tests = all(&root.join("../tests/kernels"));
    for operation in operations {
        assert!(public.contains(&operation), "{operation}: not exported in src/lib.rs");
        if VARIANTS.contains(&&operation[..]) {
            continue;
        }
        assert!(naive.contains(&format!("pub fn {operation}(")), "{operation}: no twin in src/naive.rs");
        assert!(
            CPU_ONLY.contains(&&operation[..]) || selftest.contains(&format!("{operation}(&x[")),
            "{operation}: no case in src/selftest/cases.rs"
        );
        assert!(tests.contains(&format!("naive::{operation}(")), "{operation}: not compared in tests/kernels");
    }
}

#[test]
fn every_cuda_file_is_launched() {
    let cuda = source().join("device/cuda");
    let mut found = vec![];
    files(&cuda, "cu", &mut found);
    let mut device = vec![];
    files(&source().join("device"), "rs", &mut device);
    let device = device.iter().map(read).collect::<Vec<_>>().join("\n");
    for path in found {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = [format!("module!(\"{name}\")"), format!("module!(\"{name}_")];
        assert!(module.iter().any(|module| device.contains(module)), "{name}.cu: no `module!` in src/device");
    }
}
