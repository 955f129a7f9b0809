//! Merging model directories.

mod reference;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use reference::{case_dir, relative_difference, values};
use safetensors::{Dtype, SafeTensors, View};
use smpo_model::{Config, Decoder, MergeMethod, SaveOptions, WeightDtype, merge};
use tempfile::TempDir;

/// Two models of one architecture, and what they came from.
struct Models {
    temp: TempDir,
}

impl Models {
    fn new() -> Self {
        let models = Self { temp: TempDir::new().unwrap() };
        let config = Config::from_dir(case_dir("qwen2")).unwrap();
        for (seed, name) in ["base", "one", "two"].into_iter().enumerate() {
            Decoder::init(&config, seed as u64).unwrap().save(models.path(name), &SaveOptions::default()).unwrap();
        }
        fs::write(models.path("one").join("tokenizer.json"), "one's").unwrap();
        models
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn merge(&self, method: &MergeMethod, dtype: Option<WeightDtype>) -> Decoder {
        let out = self.path("out");
        let _ = fs::remove_dir_all(&out);
        let report = merge(&[self.path("one"), self.path("two")], method, dtype, &out, go_on).unwrap();
        let merged = Decoder::load(&out).unwrap();
        assert_eq!(report.parameters, merged.parameter_count());
        merged
    }

    fn all(&self, name: &str) -> Vec<Vec<f32>> {
        all(&Decoder::load(self.path(name)).unwrap())
    }
}

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn all(decoder: &Decoder) -> Vec<Vec<f32>> {
    decoder.trainable().iter().map(|(_, v)| values(v)).collect()
}

#[test]
fn linear_is_the_weighted_mean_of_every_tensor() {
    let models = Models::new();
    let merged = all(&models.merge(&MergeMethod::Linear { weights: vec![1.0, 3.0] }, None));
    for ((merged, one), two) in merged.iter().zip(models.all("one")).zip(models.all("two")) {
        let expected: Vec<f32> = one.iter().zip(&two).map(|(a, b)| 0.25 * a + 0.75 * b).collect();
        assert!(merged.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    assert_eq!(fs::read_to_string(models.path("out").join("tokenizer.json")).unwrap(), "one's");
}

#[test]
fn the_ends_of_slerp_are_the_models() {
    let models = Models::new();
    assert_eq!(all(&models.merge(&MergeMethod::Slerp { t: 0.0 }, None)), models.all("one"));
    let end = all(&models.merge(&MergeMethod::Slerp { t: 1.0 }, None));
    for (end, two) in end.iter().zip(models.all("two")) {
        // Biases are zero in both, and their relative difference has no meaning.
        assert!(two.iter().all(|x| *x == 0.0) || relative_difference(end, &two) < 1e-6);
    }
}

#[test]
fn ties_with_one_model_and_everything_kept_is_that_model() {
    let models = Models::new();
    let method = MergeMethod::Ties { base: models.path("base"), weights: vec![1.0], density: 1.0, lambda: 1.0 };
    let out = models.path("out");
    merge(&[models.path("one")], &method, None, &out, go_on).unwrap();
    for (merged, one) in all(&Decoder::load(&out).unwrap()).iter().zip(models.all("one")) {
        assert!(merged.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn ties_changes_no_more_than_the_density_allows() {
    let models = Models::new();
    let method = MergeMethod::Ties { base: models.path("base"), weights: vec![1.0, 1.0], density: 0.1, lambda: 1.0 };
    let merged = all(&models.merge(&method, None));
    for (merged, base) in merged.iter().zip(models.all("base")) {
        let changed = merged.iter().zip(&base).filter(|(a, b)| a != b).count();
        assert!(changed as f64 <= 0.2 * base.len() as f64 + 2.0, "{changed} of {}", base.len());
    }
}

#[test]
fn shards_and_element_types_are_the_first_models_or_as_asked() {
    let models = Models::new();
    models.merge(&MergeMethod::Slerp { t: 0.5 }, Some(WeightDtype::Bf16));
    let config = fs::read_to_string(models.path("out").join("config.json")).unwrap();
    assert!(config.contains("\"torch_dtype\": \"bfloat16\""), "{config}");
    let size = |path: PathBuf| fs::metadata(path.join("model.safetensors")).unwrap().len();
    assert!(size(models.path("out")) < size(models.path("one")) * 2 / 3);

    shard(&models.path("one"));
    let sharded = all(&models.merge(&MergeMethod::Slerp { t: 0.0 }, None));
    assert_eq!(sharded, models.all("one"));
    assert!(models.path("out").join("model.safetensors.index.json").exists());
    assert!(!models.path("out").join("model.safetensors").exists());
}

/// Splits a model's one file into two with an index.
fn shard(dir: &Path) {
    let single = dir.join("model.safetensors");
    let bytes = fs::read(&single).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    for part in 0..2 {
        let name = format!("model-0000{}-of-00002.safetensors", part + 1);
        let tensors: Vec<_> =
            file.tensors().into_iter().enumerate().filter(|(i, _)| i % 2 == part).map(|(_, t)| t).collect();
        map.extend(tensors.iter().map(|(n, _)| (n.clone(), serde_json::json!(name))));
        fs::write(dir.join(name), safetensors::serialize(tensors, None).unwrap()).unwrap();
    }
    let index = serde_json::json!({"weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::remove_file(single).unwrap();
}

#[test]
fn models_that_differ_are_refused_and_nothing_is_left() {
    let models = Models::new();
    let out = models.path("out");
    let method = MergeMethod::Linear { weights: vec![1.0, 1.0] };
    let refusal =
        |other: PathBuf| merge(&[models.path("one"), other], &method, None, &out, go_on).unwrap_err().to_string();
    let tied = refusal(case_dir("qwen2-tied"));
    assert!(tied.contains("missing tensors: `lm_head.weight`, "), "{tied}");
    let extra = refusal(case_dir("qwen3"));
    assert!(extra.contains("tensors: "), "{extra}");
    assert!(refusal(models.path("absent")).contains("absent: expected model.safetensors"));
    let config = models.path("two").join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("10000.0", "20000.0")).unwrap();
    let other_rope = refusal(models.path("two"));
    assert!(other_rope.contains("expected configurations that compute the same as"), "{other_rope}");
    fs::write(&config, text).unwrap();
    assert!(!out.exists());
    let left = fs::read_dir(models.temp.path()).unwrap().count();
    assert_eq!(left, 3, "only the three models are there");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("precious"), "").unwrap();
    assert!(refusal(models.path("two")).contains("not empty"));
}

#[test]
fn a_merge_can_be_stopped_and_leaves_nothing() {
    let models = Models::new();
    let out = models.path("out");
    let method = MergeMethod::Slerp { t: 0.5 };
    let stop = |done: usize, total: usize| {
        assert!(done <= 3 && total == 27, "{done} of {total}");
        if done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = merge(&[models.path("one"), models.path("two")], &method, None, &out, stop).unwrap_err();
    assert_eq!(error.to_string(), "stopped; nothing was written");
    assert_eq!(fs::read_dir(models.temp.path()).unwrap().count(), 3, "only the three models are there");
}

/// A copy of the tied golden model whose tensors are changed.
fn tied(temp: &TempDir, name: &str, change: impl FnOnce(&mut BTreeMap<String, Raw>)) -> PathBuf {
    let dir = temp.path().join(name);
    fs::create_dir(&dir).unwrap();
    fs::copy(case_dir("qwen2-tied").join("config.json"), dir.join("config.json")).unwrap();
    let bytes = fs::read(case_dir("qwen2-tied").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name, Raw { shape: tensor.shape().to_vec(), bytes: tensor.data().to_vec() }))
        .collect();
    change(&mut tensors);
    fs::write(dir.join("model.safetensors"), safetensors::serialize(&tensors, None).unwrap()).unwrap();
    dir
}

/// A float32 tensor.
#[derive(Clone)]
struct Raw {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";

#[test]
fn copies_of_a_tied_head_and_rotary_buffers_are_left_out() {
    let temp = TempDir::new().unwrap();
    let plain = tied(&temp, "plain", |_| ());
    let stored = tied(&temp, "stored", |tensors| {
        let copy = tensors[EMBEDDING].clone();
        tensors.insert("lm_head.weight".into(), copy);
    });
    let buffer = tied(&temp, "buffer", |tensors| {
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
        tensors.insert(name.into(), Raw { shape: vec![2], bytes: vec![0; 8] });
    });
    let method = MergeMethod::Linear { weights: vec![1.0, 1.0] };
    for (index, pair) in
        [[&plain, &stored], [&stored, &plain], [&plain, &buffer], [&buffer, &plain]].into_iter().enumerate()
    {
        let out = temp.path().join(format!("out{index}"));
        merge(&pair.map(PathBuf::clone), &method, None, &out, go_on).unwrap();
        assert_eq!(all(&Decoder::load(&out).unwrap()), all(&Decoder::load(&plain).unwrap()));
    }
}

#[test]
fn heads_that_do_not_belong_together_are_told_apart() {
    let temp = TempDir::new().unwrap();
    let head = |bytes: Vec<u8>| {
        move |tensors: &mut BTreeMap<String, Raw>| {
            let shape = tensors[EMBEDDING].shape.clone();
            tensors.insert("lm_head.weight".into(), Raw { shape, bytes });
        }
    };
    let plain = tied(&temp, "plain", |_| ());
    let differs = tied(&temp, "differs", head(vec![0; 32 * 16 * 4]));
    let untied = tied(&temp, "untied", head(vec![0; 32 * 16 * 4]));
    let config = fs::read_to_string(untied.join("config.json")).unwrap();
    fs::write(
        untied.join("config.json"),
        config.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
    )
    .unwrap();
    let method = MergeMethod::Linear { weights: vec![1.0, 1.0] };
    let refusal = |one: &Path, other: &Path| {
        let out = temp.path().join("out");
        let error = merge(&[one.to_owned(), other.to_owned()], &method, None, &out, go_on).unwrap_err().to_string();
        assert!(!out.exists());
        error
    };
    assert!(refusal(&differs, &differs).contains("`tie_word_embeddings` is true, but `lm_head.weight` differs"));
    for (one, other) in [(&plain, &untied), (&untied, &plain)] {
        let refusal = refusal(one, other);
        let expected = format!("the embedding as the head in {} and a head of its own in", plain.display());
        assert!(refusal.contains(&expected), "{refusal}");
    }
}

#[test]
fn a_model_with_a_nan_is_not_merged() {
    let temp = TempDir::new().unwrap();
    let plain = tied(&temp, "plain", |_| ());
    let damaged = tied(&temp, "damaged", |tensors| {
        tensors.get_mut("model.norm.weight").unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let out = temp.path().join("out");
    let method = MergeMethod::Linear { weights: vec![1.0, 1.0] };
    let error = merge(&[plain, damaged.clone()], &method, None, &out, go_on).unwrap_err().to_string();
    let expected = "tensor `model.norm.weight`: expected finite numbers, got NaN at index 0";
    assert!(error.contains(expected) && error.contains(&damaged.display().to_string()), "{error}");
    assert!(!out.exists());
}
