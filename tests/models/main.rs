//! `smpo model info`, `merge`, `export` and `logps` as a user meets them: their output, files and refusals.

mod convert;
mod damage;
mod export;
mod info;
mod logps;
mod merge;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use smpo_model::{AdapterSaveOptions, Decoder, LoraConfig};
use tempfile::TempDir;

fn smpo() -> Command {
    Command::cargo_bin("smpo").unwrap()
}

fn base() -> PathBuf {
    smpo_fixtures::demo("base")
}

/// A directory to work in, with an adapter on the demo's base and a few pairs.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: TempDir::new().unwrap() };
        let pairs = fs::read_to_string(base().parent().unwrap().join("held_out.jsonl")).unwrap();
        let few: Vec<&str> = pairs.lines().take(5).collect();
        fs::write(desk.path("pairs.jsonl"), few.join("\n")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of what is there, hidden files too.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// An adapter that changes the model, rsLoRA or DoRA, saved as `name`.
    fn adapter(&self, name: &str, dora: bool, base_model: &str) -> PathBuf {
        let mut decoder = Decoder::load(base()).unwrap();
        let targets = vec!["q_proj".into(), "down_proj".into(), "lm_head".into()];
        decoder
            .add_lora(&LoraConfig { r: 4, alpha: 8.0, rslora: !dora, dora, targets, ..LoraConfig::default() }, 1)
            .unwrap();
        let path = self.path(name);
        let options = AdapterSaveOptions { base_model: base_model.into(), ..AdapterSaveOptions::default() };
        decoder.save_adapter(&path, &options).unwrap();
        shift(&path.join("adapter_model.safetensors"), 0.02);
        path
    }

    /// The base, moved a little: another model of the same shapes.
    fn tuned(&self, name: &str, by: f32) -> PathBuf {
        let path = self.copy(name);
        shift(&path.join("model.safetensors"), by);
        path
    }

    /// A copy of the base that a test may damage.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        for entry in fs::read_dir(base()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        path
    }

    /// Rows that `smpo logps` writes for a model.
    fn logps(&self, model: &Path, more: &[&str]) -> Vec<Value> {
        let out = self.path("logps.jsonl");
        let pairs = self.path("pairs.jsonl");
        smpo().arg("logps").arg(model).arg(pairs).arg("--out").arg(&out).args(more).assert().success();
        let lines = fs::read_to_string(&out).unwrap();
        fs::remove_file(out).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Moves every float32 of a safetensors file by up to `by`.
fn shift(file: &Path, by: f32) {
    let mut bytes = fs::read(file).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for (index, value) in bytes[data..].chunks_exact_mut(4).enumerate() {
        let moved = f32::from_le_bytes((&*value).try_into().unwrap()) + by * ((7 * index + 1) as f32).sin();
        value.copy_from_slice(&moved.to_le_bytes());
    }
    fs::write(file, bytes).unwrap();
}

fn json_of(command: &mut Command) -> Value {
    let output = command.args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The largest difference between log-probs of the same tokens.
fn difference(ours: &[Value], theirs: &[Value], key: &str) -> f64 {
    let logps = |line: &Value, side: &str, key: &str| -> Vec<f64> {
        serde_json::from_value(line[side][key].clone()).unwrap_or_else(|_| panic!("no {key} in {line}"))
    };
    let mut largest = 0f64;
    for (a, b) in ours.iter().zip(theirs) {
        for side in ["chosen", "rejected"] {
            let (a, b) = (logps(a, side, "logps"), logps(b, side, key));
            assert_eq!(a.len(), b.len());
            largest = a.iter().zip(&b).fold(largest, |largest, (a, b)| largest.max((a - b).abs()));
        }
    }
    largest
}
