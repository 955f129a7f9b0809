//! Peak memory of four ranks together, with whole weights and with weights in parts (`--nocapture` shows it).

mod support;

use std::path::Path;

use serde_json::json;
use smpo_fixtures::demo;
use smpo_model::{Config, Decoder, SaveOptions};
use smpo_trainer::TrainConfigBuilder;
use support::{demo_run, loss, run_on};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: smpo_fixtures::CountingAllocator = smpo_fixtures::CountingAllocator::new();

/// The demo's model with more and larger blocks: 23 M values in 24 blocks.
fn larger(dir: &Path) {
    let text = std::fs::read_to_string(demo("base").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [("hidden_size", 256), ("intermediate_size", 1024), ("num_hidden_layers", 24)] {
        config[key] = json!(value);
    }
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let source = Some(demo("base"));
    let model = Decoder::init(&Config::from_dir(dir).unwrap(), 0).unwrap();
    model.save(dir.join("model"), &SaveOptions { source, ..SaveOptions::default() }).unwrap();
}

#[test]
fn four_ranks_with_weights_in_parts_take_little_more_memory_than_one() {
    let dir = TempDir::new().unwrap();
    larger(dir.path());
    let peak = |name: &str, world: usize, zero_stage: u8, adapters: bool| {
        let out = dir.path().join(name);
        let config =
            demo_run(&out, 4, loss("kind = \"smpo\"")).model(dir.path().join("model")).max_steps(1).learning_rate(1e-4);
        let config: TrainConfigBuilder = config.gradient_checkpointing(true).zero_stage(zero_stage).use_peft(adapters);
        let config = config.build().unwrap();
        let (bytes, _) = ALLOCATOR.peak(|| run_on(world, &config));
        println!("{name}: {} MiB", bytes >> 20);
        bytes
    };
    for (kind, adapters, share) in [("all weights", false, 0.6), ("adapters", true, 0.6)] {
        let alone = peak(&format!("{kind}, one"), 1, 0, adapters);
        let whole = peak(&format!("{kind}, four, whole"), 4, 1, adapters);
        let parts = peak(&format!("{kind}, four, in parts"), 4, 3, adapters);
        assert!((parts as f64) < share * whole as f64, "{kind}: {parts} in parts, {whole} whole, {alone} alone");
    }
}
