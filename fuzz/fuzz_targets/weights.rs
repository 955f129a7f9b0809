//! Model directories: `config.json`, and a safetensors file; described, checked, loaded and run.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use smpo_fixtures::golden;
use smpo_fuzz::{Files, target};
use smpo_model::{Config, Decoder, ModelDir, ModelInfo, PackedBatch, Placement, Storage};

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let model = golden("model", "qwen2");
    let read = |name: &'static str| (name, std::fs::read(model.join(name)).expect("a golden model"));
    Files::with([read("config.json"), read("model.safetensors")])
});

fn run(dir: &Path) {
    let _ = Config::from_dir(dir);
    let _ = ModelInfo::read(dir);
    let _ = ModelInfo::check_values(dir);
    let _ = ModelDir::open(dir, None).and_then(|dir| dir.fingerprint());
    let loaded = Decoder::load_frozen(dir, &Placement::default(), &Storage::default());
    let _ = loaded.and_then(|decoder| {
        let batch = PackedBatch::from_sequences([(&[0u32][..], &[0u32, 0][..])])?;
        decoder.log_probs(&batch).map(drop)
    });
}

target!(data, FILES.replaced(data, run));
