//! Peak memory of merging, measured by a counting allocator. The weights are read piece by piece from files
//! and not mapped, so the heap is all there is.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use smpo_fixtures::CountingAllocator;
use smpo_model::{MergeMethod, merge};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const SHARDS: usize = 3;
/// bfloat16 values in a shard's one tensor: 32 MiB, as a large model's embedding nearly fills its shard.
const VALUES: usize = 16 << 20;

/// A model in bfloat16, each of whose shards is one tensor.
fn model(dir: &Path, seed: u8) {
    fs::create_dir(dir).unwrap();
    let mut map = serde_json::Map::new();
    for shard in 0..SHARDS {
        let name = format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1);
        // Any bits with a small exponent will do.
        let bytes: Vec<u8> = (0..VALUES)
            .flat_map(|i| [(i as u8).wrapping_mul(37).wrapping_add(seed), 0x3c ^ (i as u8 & 0x83)])
            .collect();
        let tensor = TensorView::new(Dtype::BF16, vec![VALUES / 1024, 1024], &bytes).unwrap();
        let tensors = BTreeMap::from([(format!("w{shard}"), tensor)]);
        safetensors::serialize_to_file(&tensors, None, &dir.join(&name)).unwrap();
        map.insert(format!("w{shard}"), json!(name));
    }
    fs::write(dir.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
    fs::write(dir.join("config.json"), json!({"model_type": "any"}).to_string()).unwrap();
}

/// One test: the counters are the whole process's.
#[test]
fn no_merge_takes_twice_a_shard() {
    let temp = TempDir::new().unwrap();
    let path = |name: &str| temp.path().join(name);
    for (seed, name) in ["base", "one", "two"].into_iter().enumerate() {
        model(&path(name), 11 * seed as u8);
    }
    let shard_bytes = 2 * VALUES;
    let ties = MergeMethod::Ties { base: path("base"), weights: vec![1.0, 1.0], density: 0.2, lambda: 1.0 };
    let methods = [MergeMethod::Linear { weights: vec![1.0, 2.0] }, MergeMethod::Slerp { t: 0.3 }, ties];
    let models: Vec<PathBuf> = vec![path("one"), path("two")];
    for method in methods {
        let out = path("out");
        let (peak, report) =
            ALLOCATOR.peak(|| merge(&models, &method, None, &out, |_, _| ControlFlow::Continue(())).unwrap());
        let used = peak as f64 / shard_bytes as f64;
        assert_eq!((report.shards, report.parameters), (SHARDS, SHARDS * VALUES));
        println!("{method:?}: {used:.2} shards");
        assert!(used < 2.0, "{method:?}: {used:.2} shards");
        fs::remove_dir_all(&out).unwrap();
    }
}
