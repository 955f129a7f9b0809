//! PEFT adapters: their configuration and weights, on a base that is right.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use smpo_fixtures::golden;
use smpo_fuzz::{Files, target};
use smpo_model::{AdapterInfo, ModelDir, PackedBatch};

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let read = |case: &str, name: &str| std::fs::read(golden("model", case).join(name)).expect("a golden model");
    Files::with([
        ("adapter_config.json", read("peft-lora", "adapter_config.json")),
        ("adapter_model.safetensors", read("peft-lora", "adapter_model.safetensors")),
        ("base/config.json", read("qwen2", "config.json")),
        ("base/model.safetensors", read("qwen2", "model.safetensors")),
    ])
});

fn run(dir: &Path) {
    let _ = AdapterInfo::read(dir);
    let opened = ModelDir::open(dir, Some(&dir.join("base")));
    let _ = opened.and_then(|model| model.load()).and_then(|decoder| {
        let batch = PackedBatch::from_sequences([(&[0u32][..], &[0u32, 0][..])])?;
        decoder.log_probs(&batch).map(drop)
    });
}

target!(data, FILES.replaced(data, run));
