//! The files below a directory, and the comparison of two such sets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Files and directories by their paths, these with a `/` at the end.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Speed of training, a number of its own in every run.
const SPEED: &str = "tokens_per_s";

/// Reads everything below a directory but what may differ between two runs: locks, event files of TensorBoard, whose names and
/// records have the time, the cache of tokens, which a run does without, and the speed of training.
pub fn read(root: &Path) -> Tree {
    let (mut tree, mut dirs) = (Tree::new(), vec![root.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name.ends_with("/tokens") {
                continue;
            }
            if path.is_dir() {
                tree.insert(format!("{name}/"), Vec::new());
                dirs.push(path);
            } else if !name.ends_with(".lock") && !name.contains("tfevents") {
                let bytes = fs::read(path).unwrap();
                tree.insert(name.clone(), if name.ends_with("metrics.jsonl") { timeless(&bytes) } else { bytes });
            }
        }
    }
    tree
}

/// Metrics of training without the speed; half a line stays as it is.
fn timeless(bytes: &[u8]) -> Vec<u8> {
    let without = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(mut record)) => {
            record.remove(SPEED);
            Value::Object(record).to_string() + "\n"
        }
        _ => line.to_owned(),
    };
    String::from_utf8_lossy(bytes).lines().map(without).collect::<String>().into_bytes()
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The names by which two trees differ; empty if they are the same.
pub fn differences(found: &Tree, expected: &Tree) -> Vec<String> {
    let mut different = Vec::new();
    for name in found.keys().chain(expected.keys().filter(|name| !found.contains_key(*name))) {
        match (found.get(name), expected.get(name)) {
            (Some(found), Some(expected)) if found == expected => {}
            (Some(_), Some(_)) => different.push(format!("{name} differs")),
            (Some(_), None) => different.push(format!("{name} is too much")),
            _ => different.push(format!("{name} is missing")),
        }
    }
    different
}

/// Files that grow while a command works, in an order that may not be that of the end.
const GROWING: [&str; 3] = ["samples.jsonl", "measurements.jsonl", "metrics.jsonl"];

/// True if every line of a file is one of another's; the last may be torn.
fn is_part(part: &[u8], all: &[u8]) -> bool {
    let known: Vec<&[u8]> = all.split(|&byte| byte == b'\n').collect();
    let mut lines = part.split(|&byte| byte == b'\n');
    lines.next_back().is_none_or(|torn| known.iter().any(|line| line.starts_with(torn)))
        && lines.all(|line| known.contains(&line))
}

/// The files that are neither as before nor as in the end. Temporary files, and what is below a directory that a fault kept
/// from being removed, are nobody's.
pub fn halves(found: &Tree, before: &Tree, whole: &Tree) -> Vec<String> {
    let is_whole = |name: &String, bytes: &Vec<u8>| {
        let in_whole = whole.get(name);
        name.contains(".partial")
            || name.ends_with('/')
            // written when the samples begin, and with more when they are there
            || (name.ends_with("run.json") && serde_json::from_slice::<Value>(bytes).is_ok())
            || before.get(name) == Some(bytes)
            || in_whole == Some(bytes)
            || (GROWING.iter().any(|growing| name.ends_with(growing))
                && in_whole.is_some_and(|all| is_part(bytes, all)))
    };
    found.iter().filter(|(name, bytes)| !is_whole(name, bytes)).map(|(name, _)| name.clone()).collect()
}
