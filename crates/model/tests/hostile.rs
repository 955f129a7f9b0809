//! Model directories that lie, as hostile files do: an error or a model, never a panic, and at no cost in memory beyond what
//! the files hold.

use std::fs;
use std::path::Path;

use serde_json::Value;
use smpo_fixtures::{CountingAllocator, Dice, damage, golden, hostile_json};
use smpo_model::{AdapterInfo, Config, Decoder, ModelDir, ModelInfo, PackedBatch, Placement, Storage};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Memory of reading beside what is in the files: buffers, messages, and the layout of as many blocks as any model has.
const OVERHEAD: usize = 48 << 20;

/// Copies of the files' bytes that may be in memory at once.
const COPIES: usize = 24;

const ROUNDS: u64 = 400;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn copy(from: &Path, to: &Path) -> usize {
    let mut bytes = 0;
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_file() && name != "expected.safetensors" {
            bytes += fs::copy(&path, to.join(name)).unwrap() as usize;
        }
    }
    bytes
}

/// Reads a model directory in every way. True if one of them finds a fault.
fn read(dir: &Path) -> bool {
    let info = ModelInfo::read(dir).map(drop);
    let values = ModelInfo::check_values(dir);
    let loaded = Decoder::load_frozen(dir, &Placement::default(), &Storage::default()).and_then(|decoder| {
        let batch = PackedBatch::from_sequences([(&[0u32][..], &[0u32, 0][..])])?;
        decoder.log_probs(&batch).map(drop)
    });
    let opened = ModelDir::open(dir, None).and_then(|dir| dir.fingerprint()).map(drop);
    [Config::from_dir(dir).map(drop), info, values, loaded, opened].iter().any(Result::is_err)
}

/// Rewrites a file of a directory `ROUNDS` times, reads it each time, and returns how often that found a fault.
fn survive(
    dir: &Path,
    size: usize,
    file: &str,
    mut rewrite: impl FnMut(&mut Dice) -> Vec<u8>,
    read: impl Fn(&Path) -> bool,
) -> u64 {
    let mut faults = 0;
    for seed in 0..ROUNDS {
        let bytes = rewrite(&mut Dice::new(seed));
        fs::write(dir.join(file), &bytes).unwrap();
        let (peak, fault) = ALLOCATOR.peak(|| read(dir));
        faults += u64::from(fault);
        let most = OVERHEAD + COPIES * (size + bytes.len());
        assert!(peak <= most, "{file}, seed {seed}: {peak} bytes instead of at most {most}");
    }
    faults
}

/// One test: the allocator counts for the whole process.
#[test]
fn files_that_lie_cost_nothing_and_panic_nowhere() {
    directories();
    index();
    adapters();
    four_bit_weights();
}

fn directories() {
    let temp = TempDir::new().unwrap();
    for case in [
        "llama3-rope",
        "gemma3",
        "smollm3",
        "granite4",
        "glm4",
        "ministral3",
        "longrope",
        "wrapped/gemma3",
        "gpt_oss",
        "mxfp4/gpt_oss",
    ] {
        let from = golden("model", case);
        if !from.is_dir() {
            continue;
        }
        let dir = temp.path().join(case.replace('/', "-"));
        let size = copy(&from, &dir);
        let config = json(&dir.join("config.json"));
        let faults = survive(&dir, size, "config.json", |dice| hostile_json(&config, dice), read);
        assert!(faults > ROUNDS / 4, "{case}: {faults}");
        fs::write(dir.join("config.json"), config.to_string()).unwrap();

        let weights = fs::read(dir.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
        let with_header =
            |header: &[u8]| [&(header.len() as u64).to_le_bytes(), header, &weights[8 + length..]].concat();
        let faults = survive(&dir, size, "model.safetensors", |dice| with_header(&hostile_json(&header, dice)), read);
        assert!(faults > ROUNDS / 2, "{case}: {faults}");
        let damaged = |dice: &mut Dice| {
            let mut start = weights[..8 + length].to_vec();
            damage(&mut start, dice);
            [&start[..], &weights[8 + length..]].concat()
        };
        survive(&dir, size, "model.safetensors", damaged, read);
    }
}

fn index() {
    let temp = TempDir::new().unwrap();
    let size = copy(&golden("model", "llama"), temp.path());
    fs::rename(temp.path().join("model.safetensors"), temp.path().join("model-1.safetensors")).unwrap();
    let names =
        ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"];
    let index = serde_json::json!({"weight_map": names.map(|name| (name, "model-1.safetensors")).into_iter().collect::<std::collections::BTreeMap<_, _>>()});
    survive(temp.path(), size, "model.safetensors.index.json", |dice| hostile_json(&index, dice), read);
}

fn adapters() {
    let temp = TempDir::new().unwrap();
    for case in
        ["peft-lora", "peft-dora", "peft-patterns", "peft-pissa", "peft-bias", "peft-stacked", "bitsandbytes/adapter"]
    {
        let from = [golden("model", case), golden("model", case).join("adapter")];
        let Some(from) = from.into_iter().find(|dir| dir.join("adapter_config.json").is_file()) else { continue };
        let dir = temp.path().join(case.replace('/', "-"));
        let size = copy(&from, &dir);
        let base = Decoder::load(golden("model", if case == "peft-stacked" { "gpt_oss" } else { "qwen2" })).unwrap();
        let read = |dir: &Path| AdapterInfo::read(dir).is_err() | base.clone().load_adapter(dir).is_err();
        let config = json(&dir.join("adapter_config.json"));
        let faults = survive(&dir, size, "adapter_config.json", |dice| hostile_json(&config, dice), read);
        assert!(faults > ROUNDS / 4, "{case}: {faults}");
        fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
        let weights = fs::read(dir.join("adapter_model.safetensors")).unwrap();
        let damaged = |dice: &mut Dice| {
            let mut bytes = weights.clone();
            damage(&mut bytes, dice);
            bytes
        };
        survive(&dir, size, "adapter_model.safetensors", damaged, read);
    }
}

fn four_bit_weights() {
    let temp = TempDir::new().unwrap();
    let size = copy(&golden("model", "bitsandbytes/four-bit"), temp.path());
    let weights = fs::read(temp.path().join("model.safetensors")).unwrap();
    let damaged = |dice: &mut Dice| {
        let mut bytes = weights.clone();
        // Within the texts of the quantisation state, where all sizes are.
        let states: Vec<usize> =
            bytes.windows(9).enumerate().filter(|(_, part)| *part == b"blocksize").map(|(at, _)| at).collect();
        let at = states[dice.below(states.len())] + dice.below(120);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = b"0123456789-.,\"e"[dice.below(15)];
        }
        bytes
    };
    survive(temp.path(), size, "model.safetensors", damaged, read);
}
