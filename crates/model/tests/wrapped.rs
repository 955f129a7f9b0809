//! The text half of multimodal models: `golden/generate_wrapped.py` made them and says what is in their files.

mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Tensor;
use reference::{Expected, case_dir, models_in, relative_difference, values};
use safetensors::SafeTensors;
use serde_json::Value;
use smpo_kernels::weighted_sum;
use smpo_model::{AdapterSaveOptions, Config, Decoder, LoraConfig, ModelDir, ModelInfo, SaveOptions, merge};
use smpo_model::{Feed, MergeMethod, Scratch, WeightDtype};
use tempfile::TempDir;

const TOLERANCE: f64 = 1e-5;

fn wrapped(case: &str) -> String {
    format!("wrapped/{case}")
}

fn load(case: &str) -> Decoder {
    Decoder::load(case_dir(&wrapped(case))).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Names, shapes and bytes of all tensors of a directory.
fn tensors(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "safetensors") && !path.ends_with("expected.safetensors") {
            let bytes = fs::read(&path).unwrap();
            for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                found.insert(name, (tensor.shape().to_vec(), tensor.data().to_vec()));
            }
        }
    }
    found
}

fn is_text(name: &str) -> bool {
    name.contains("language_model") || name.starts_with("lm_head")
}

/// Moves every trained variable.
fn train(decoder: &Decoder) {
    for (_, variable) in decoder.trainable() {
        variable.set(&(variable.as_tensor() * 1.25).unwrap()).unwrap();
    }
}

#[test]
fn text_halves_equal_transformers() {
    for case in models_in("wrapped") {
        let (decoder, expected) = (load(case), Expected::read(&wrapped(case)));
        let batch = expected.batch();
        let log_probs = decoder.log_probs(&batch).unwrap();
        let difference = relative_difference(&values(&log_probs), &expected.log_probs());
        assert!(difference < TOLERANCE, "{case}: log-probs: {difference:e}");
        let weights = Tensor::new(expected.weights(), &candle_core::Device::Cpu).unwrap();
        let gradients = weighted_sum(&log_probs, &weights).unwrap().backward().unwrap();
        assert_eq!(decoder.trainable().len(), expected.gradients.len(), "{case}");
        for (name, variable) in decoder.trainable() {
            let difference =
                relative_difference(&values(gradients.get(&variable).unwrap()), &expected.gradients[&name]);
            assert!(difference < TOLERANCE, "{case}: gradient of {name}: {difference:e}");
        }
    }
}

#[test]
fn text_halves_continue_as_transformers_does() {
    for case in models_in("wrapped") {
        let (packed, expected) = (load(case).pack().unwrap(), Expected::read(&wrapped(case)));
        for sequence in &expected.sequences {
            let (mut cache, mut scratch) = (packed.sequence(40), Scratch::default());
            let (mut tokens, mut greedy) = (sequence.prompt.clone(), Vec::new());
            for _ in 0..sequence.greedy.len() {
                let mut feeds = [Feed { sequence: &mut cache, tokens: &tokens }];
                let logits = packed.advance(&mut feeds, &mut scratch).unwrap();
                let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
                greedy.push(best);
                tokens = vec![best];
            }
            assert_eq!(greedy, sequence.greedy, "{case}");
        }
    }
}

#[test]
fn a_trained_text_half_is_saved_with_the_untouched_rest() {
    for case in models_in("wrapped") {
        for shard_bytes in [None, Some(4000)] {
            let (decoder, temp) = (load(case), TempDir::new().unwrap());
            train(&decoder);
            let (source, dir) = (case_dir(&wrapped(case)), temp.path().join("saved"));
            decoder
                .save(&dir, &SaveOptions { source: Some(source.clone()), shard_bytes, ..Default::default() })
                .unwrap();
            let (before, after) = (tensors(&source), tensors(&dir));
            assert!(before.keys().eq(after.keys()), "{case}: names");
            for (name, tensor) in &before {
                assert_eq!(after[name] != *tensor, is_text(name), "{case}: {name}");
                assert_eq!(after[name].0, tensor.0, "{case}: {name}");
            }
            let (before, after) = (json(&source.join("config.json")), json(&dir.join("config.json")));
            for key in ["model_type", "architectures", "vision_config", "tie_word_embeddings"] {
                assert_eq!(before[key], after[key], "{case}: {key}");
            }
            assert_eq!(before["text_config"]["model_type"], after["text_config"]["model_type"]);
            assert!(dir.join("processor_config.json").is_file());
            let batch = Expected::read(&wrapped(case)).batch();
            let of = |decoder: &Decoder| values(&decoder.log_probs(&batch).unwrap());
            assert_eq!(of(&decoder), of(&Decoder::load(&dir).unwrap()), "{case}");
        }
    }
}

#[test]
fn the_rest_keeps_its_dtype() {
    let (decoder, temp) = (load("mistral3"), TempDir::new().unwrap());
    let (source, dir) = (case_dir("wrapped/mistral3"), temp.path().join("saved"));
    decoder.save(&dir, &SaveOptions { dtype: WeightDtype::Bf16, ..Default::default() }).unwrap();
    let (before, after) = (tensors(&source), tensors(&dir));
    for (name, (_, bytes)) in &before {
        let expected = if is_text(name) { bytes.len() / 2 } else { bytes.len() };
        assert_eq!(after[name].1.len(), expected, "{name}");
    }
}

#[test]
fn an_adapter_of_peft_is_read_and_merged() {
    let dir = case_dir("wrapped/peft-gemma3");
    let expected = Expected::read("wrapped/peft-gemma3");
    let mut decoder = ModelDir::open(&dir, None).unwrap().load().unwrap();
    let of = |decoder: &Decoder| values(&decoder.log_probs(&expected.batch()).unwrap());
    let difference = relative_difference(&of(&decoder), &expected.log_probs());
    assert!(difference < TOLERANCE, "{difference:e}");
    decoder.merge_lora().unwrap();
    let temp = TempDir::new().unwrap();
    decoder.save(temp.path().join("merged"), &SaveOptions::default()).unwrap();
    let merged = Decoder::load(temp.path().join("merged")).unwrap();
    let difference = relative_difference(&of(&merged), &expected.log_probs());
    assert!(difference < TOLERANCE, "merged: {difference:e}");
}

#[test]
fn an_adapter_has_the_names_that_peft_gives_a_multimodal_model() {
    let mut decoder = load("gemma3");
    let targets = vec!["q_proj".to_owned(), "lm_head".to_owned()];
    let lora = LoraConfig { r: 2, alpha: 4.0, dora: true, targets, ..LoraConfig::default() };
    decoder.add_lora(&lora, 1).unwrap();
    train(&decoder);
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("adapter");
    decoder.save_adapter(&dir, &AdapterSaveOptions::default()).unwrap();
    let names: Vec<String> = tensors(&dir).into_keys().collect();
    for name in ["model.language_model.layers.1.self_attn.q_proj.lora_A.weight", "lm_head.lora_magnitude_vector"] {
        assert!(names.contains(&format!("base_model.model.{name}")), "{names:?}");
    }
    // The other half has a `q_proj` too: the whole names are written.
    let targets = json(&dir.join("adapter_config.json"))["target_modules"].clone();
    let expected =
        ["lm_head", "model.language_model.layers.0.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"];
    assert_eq!(targets, serde_json::json!(expected));
    let mut again = load("gemma3");
    again.load_adapter(&dir).unwrap();
    let batch = Expected::read("wrapped/gemma3").batch();
    assert_eq!(values(&again.log_probs(&batch).unwrap()), values(&decoder.log_probs(&batch).unwrap()));
}

#[test]
fn models_are_merged_whole() {
    let temp = TempDir::new().unwrap();
    let (source, other) = (case_dir("wrapped/gemma3"), temp.path().join("other"));
    let decoder = load("gemma3");
    train(&decoder);
    decoder.save(&other, &SaveOptions { source: Some(source.clone()), ..Default::default() }).unwrap();
    let out = temp.path().join("merged");
    let method = MergeMethod::Linear { weights: vec![1.0, 1.0] };
    merge(&[source.clone(), other], &method, None, &out, |_, _| std::ops::ControlFlow::Continue(())).unwrap();
    let (before, after) = (tensors(&source), tensors(&out));
    assert!(before.keys().eq(after.keys()));
    assert!(before.iter().all(|(name, tensor)| (after[name] != *tensor) == is_text(name)));
    Decoder::load(&out).unwrap();
    assert!(out.join("processor_config.json").is_file());
}

/// A directory of a case whose configuration is changed.
fn changed(case: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let (temp, source) = (TempDir::new().unwrap(), case_dir(&wrapped(case)));
    let mut config = json(&source.join("config.json"));
    change(&mut config);
    fs::write(temp.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(source.join("model.safetensors"), temp.path().join("model.safetensors")).unwrap();
    temp
}

#[test]
fn what_the_wrapper_says_of_the_head_counts() {
    let untied = |dir: &TempDir| !Config::from_dir(dir.path()).unwrap().spec().tied;
    let unsaid = changed("mistral3", |config| drop(config.as_object_mut().unwrap().remove("tie_word_embeddings")));
    assert!(untied(&unsaid), "weights with a head");
    let unsaid = changed("gemma3", |config| drop(config.as_object_mut().unwrap().remove("tie_word_embeddings")));
    assert!(!untied(&unsaid), "weights without one");
    let tied = changed("mistral3", |config| config["tie_word_embeddings"] = true.into());
    let error = Decoder::load(tied.path()).unwrap_err().to_string();
    assert!(error.contains("`tie_word_embeddings` is true, but `lm_head.weight` differs"), "{error}");
}

#[test]
fn a_text_config_may_leave_out_the_defaults_of_its_class() {
    let left_out = ["num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"];
    let dir = changed("gemma3", |config| {
        let text = config["text_config"].as_object_mut().unwrap();
        left_out.iter().for_each(|key| drop(text.remove(*key)));
    });
    let config = Config::from_dir(dir.path()).unwrap();
    let spec = config.spec();
    assert_eq!((spec.heads, spec.kv_heads, spec.head_dim, spec.vocab_size), (8, 4, 256, 262_208));
}

#[test]
fn what_is_no_text_half_is_refused_by_name() {
    let refusal = |dir: &TempDir| Decoder::load(dir.path()).unwrap_err().to_string();
    let other_text = changed("gemma3", |config| config["text_config"]["model_type"] = "gemma9_text".into());
    assert!(refusal(&other_text).contains("model family `gemma9_text` is not supported"), "{}", refusal(&other_text));
    let other_wrapper = changed("gemma3", |config| config["model_type"] = "gemma9".into());
    assert!(refusal(&other_wrapper).contains("`gemma9`"), "{}", refusal(&other_wrapper));
    assert!(refusal(&other_wrapper).contains("a wrapper around the text model `gemma3_text`"));
    let wide = changed("gemma3", |config| config["text_config"]["intermediate_size"] = 24.into());
    assert!(refusal(&wide).contains("expected shape"), "{}", refusal(&wide));
    let shallow = changed("gemma3", |config| {
        config["text_config"]["num_hidden_layers"] = 1.into();
        config["text_config"]["layer_types"] = serde_json::json!(["full_attention"]);
    });
    assert!(refusal(&shallow).contains("unexpected tensors"), "{}", refusal(&shallow));
    let none = changed("gemma3", |config| drop(config.as_object_mut().unwrap().remove("text_config")));
    assert!(refusal(&none).contains("`text_config`: expected"), "{}", refusal(&none));
    let plain = changed("gemma3", |_| ());
    fs::copy(case_dir("gemma3").join("model.safetensors"), plain.path().join("model.safetensors")).unwrap();
    assert!(refusal(&plain).contains("missing tensors: `model.language_model.embed_tokens.weight` or"));
    assert!(Decoder::init(&Config::from_dir(case_dir("wrapped/gemma3")).unwrap(), 0).is_err());
}

#[test]
fn info_describes_the_text_half() {
    let info = ModelInfo::read(case_dir("wrapped/gemma3")).unwrap();
    assert_eq!(info.wrapper, Some("Gemma3ForConditionalGeneration"));
    assert_eq!(info.parameters, load("gemma3").parameter_count());
}
