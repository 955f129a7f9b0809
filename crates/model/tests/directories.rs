//! Model directories: written so that they can be read, read as others write them, refused by name when wrong.

mod reference;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reference::{case_dir, values};
use safetensors::{Dtype, SafeTensors, View};
use serde_json::{Value, json};
use smpo_model::{
    Config, Decoder, Family, ModelInfo, PackedBatch, Placement, SaveOptions, WeightDtype, files_left_behind,
};
use tempfile::TempDir;

/// A tensor as it lies in a file.
#[derive(Clone)]
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
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

/// A copy of a golden case that a test may damage.
struct Scratch {
    dir: TempDir,
    config: Value,
    tensors: BTreeMap<String, Raw>,
}

impl Scratch {
    fn new(case: &str) -> Self {
        let config = fs::read_to_string(case_dir(case).join("config.json")).unwrap();
        let bytes = fs::read(case_dir(case).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .map(|(name, t)| {
                let raw = Raw { dtype: t.dtype(), shape: t.shape().to_vec(), bytes: t.data().to_vec() };
                (name.to_string(), raw)
            })
            .collect();
        Self { dir: TempDir::new().unwrap(), config: serde_json::from_str(&config).unwrap(), tensors }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self) -> &Self {
        self.write_config();
        fs::write(self.path().join("model.safetensors"), safetensors::serialize(&self.tensors, None).unwrap()).unwrap();
        self
    }

    fn write_config(&self) {
        fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
    }

    fn load(&self) -> Decoder {
        Decoder::load(self.path()).unwrap()
    }

    /// The error of loading, less the scratch directory's own name.
    fn refusal(&self) -> String {
        let error = Decoder::load(self.path()).expect_err("expected a refusal").to_string();
        error.replace(&self.path().display().to_string(), "DIR")
    }
}

fn refusal_of(case: &str, damage: impl FnOnce(&mut Scratch)) -> String {
    let mut scratch = Scratch::new(case);
    damage(&mut scratch);
    scratch.write().refusal()
}

fn log_probs(decoder: &Decoder) -> Vec<f32> {
    let batch = PackedBatch::from_sequences([(&[1, 2, 3][..], &[4, 5, 6, 7][..])]).unwrap();
    decoder.log_probs(&batch).unwrap().to_vec1().unwrap()
}

#[test]
fn a_saved_model_loads_as_it_was() {
    for case in reference::cases() {
        let decoder = Decoder::load(case_dir(case)).unwrap();
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("deep/model");
        decoder.save(&dir, &SaveOptions::default()).unwrap();
        let again = Decoder::load(&dir).unwrap();
        assert_eq!(again.spec(), decoder.spec(), "{case}");
        assert_eq!(log_probs(&again), log_probs(&decoder), "{case}");
        let left: Vec<_> = fs::read_dir(dir.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["model"], "{case}: nothing but the model is left");
    }
}

#[test]
fn a_saved_config_serves_old_and_new_readers() {
    let save = |case: &str| -> Value {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("model");
        Decoder::load(case_dir(case)).unwrap().save(&dir, &SaveOptions::default()).unwrap();
        serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap()
    };
    let qwen2 = save("qwen2");
    assert_eq!(qwen2["rope_theta"], json!(10000.0));
    assert_eq!(qwen2["rope_parameters"]["rope_theta"], json!(10000.0));
    assert_eq!(qwen2["architectures"], json!(["Qwen2ForCausalLM"]));
    assert_eq!((&qwen2["dtype"], &qwen2["torch_dtype"]), (&json!("float32"), &json!("float32")));
    assert_eq!(qwen2.get("rope_scaling"), None);
    let llama3 = save("llama3-rope");
    assert_eq!(llama3["rope_theta"], json!(100.0));
    assert_eq!(llama3["rope_scaling"]["rope_type"], json!("llama3"));
    assert_eq!(llama3["rope_scaling"]["factor"], json!(4.0));
    let gemma3 = save("gemma3");
    assert_eq!((&gemma3["rope_theta"], &gemma3["rope_local_base_freq"]), (&json!(1000000.0), &json!(10000.0)));
    assert_eq!(save("phi3")["partial_rotary_factor"], json!(0.5));
    // transformers 4 takes these three fields and no other.
    let longrope = save("longrope");
    let expected =
        json!({"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.5, 2.0, 3.0, 4.0]});
    assert_eq!((&longrope["rope_scaling"], &longrope["original_max_position_embeddings"]), (&expected, &json!(16)));
}

#[test]
fn a_config_of_transformers_4_means_the_same() {
    for case in reference::cases() {
        let mut scratch = Scratch::new(case);
        let new = Config::from_json(scratch.config.clone()).unwrap();
        let fields = scratch.config.as_object_mut().unwrap();
        // transformers 4 knows no rope_parameters: base and share at the top level, the rest in rope_scaling.
        let mut rope = fields.remove("rope_parameters").unwrap();
        if let Some(sliding) = rope.get("sliding_attention") {
            fields.insert("rope_local_base_freq".into(), sliding["rope_theta"].clone());
            rope = rope["full_attention"].clone();
        }
        let rope = rope.as_object_mut().unwrap();
        fields.insert("rope_theta".into(), rope.remove("rope_theta").unwrap());
        if let Some(share) = rope.remove("partial_rotary_factor") {
            fields.insert("partial_rotary_factor".into(), share);
        }
        let kind = rope.remove("rope_type").unwrap();
        if kind == "default" {
            fields.insert("rope_scaling".into(), Value::Null);
        } else {
            rope.insert("type".into(), kind);
            fields.insert("rope_scaling".into(), Value::Object(rope.clone()));
        }
        let dtype = fields.remove("dtype").unwrap();
        fields.insert("torch_dtype".into(), dtype);
        let old = Config::from_json(scratch.config).unwrap();
        assert_eq!(old.spec(), new.spec(), "{case}");
    }
}

#[test]
fn companions_come_along_and_a_full_directory_is_left_alone() {
    let source = TempDir::new().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "other"] {
        fs::write(source.path().join(name), name).unwrap();
    }
    let options = SaveOptions { source: Some(source.path().to_path_buf()), ..SaveOptions::default() };
    let decoder = Decoder::load(case_dir("qwen2")).unwrap();
    let target = TempDir::new().unwrap();
    decoder.save(target.path(), &options).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(target.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let before = fs::read(target.path().join("model.safetensors")).unwrap();
    let error = decoder.save(target.path(), &options).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(fs::read(target.path().join("model.safetensors")).unwrap(), before);
}

#[test]
fn half_precision_is_read_and_written_by_rounding_to_nearest() {
    let exact = Decoder::load(case_dir("llama")).unwrap();
    for (dtype, stored, precision) in
        [(WeightDtype::Bf16, Dtype::BF16, 2f32.powi(-8)), (WeightDtype::F16, Dtype::F16, 2f32.powi(-11))]
    {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("model");
        exact.save(&dir, &SaveOptions { dtype, ..SaveOptions::default() }).unwrap();
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        assert!(SafeTensors::deserialize(&bytes).unwrap().iter().all(|(_, t)| t.dtype() == stored));
        let rounded = Decoder::load(&dir).unwrap();
        for ((name, a), (_, b)) in exact.trainable().iter().zip(rounded.trainable()) {
            for (a, b) in values(a).into_iter().zip(values(&b)) {
                // 2^-25 is half the smallest float16.
                assert!((a - b).abs() <= a.abs() * precision + 2f32.powi(-25), "{name}: {a} became {b}");
            }
        }
        // What is already rounded survives another round trip bit for bit.
        let twice = temp.path().join("twice");
        rounded.save(&twice, &SaveOptions { dtype, ..SaveOptions::default() }).unwrap();
        assert_eq!(fs::read(twice.join("model.safetensors")).unwrap(), bytes);
    }
}

#[test]
fn shards_with_an_index_are_one_model() {
    let scratch = Scratch::new("qwen3");
    scratch.write_config();
    let mut shards = [BTreeMap::new(), BTreeMap::new()];
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in scratch.tensors.iter().enumerate() {
        shards[i % 2].insert(name, tensor);
        map.insert(name.clone(), json!(format!("model-0000{}-of-00002.safetensors", i % 2 + 1)));
    }
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", i + 1);
        fs::write(
            scratch.path().join(name),
            safetensors::serialize(shard.iter().map(|(n, t)| (*n, *t)), None).unwrap(),
        )
        .unwrap();
    }
    let index = scratch.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    assert_eq!(log_probs(&scratch.load()), log_probs(&Decoder::load(case_dir("qwen3")).unwrap()));

    let right = map.insert("lm_head.weight".into(), json!("model-00002-of-00002.safetensors")).unwrap();
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let refusal = scratch.refusal();
    assert!(
        refusal.starts_with("DIR/model-00002-of-00002.safetensors: missing tensors: `lm_head.weight`"),
        "{refusal}"
    );
    map.insert("lm_head.weight".into(), right);

    map.insert("model.norm.weight".into(), json!("../elsewhere.safetensors"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let refusal = scratch.refusal();
    assert!(refusal.contains("`weight_map`: expected names of files in the same directory"), "{refusal}");

    map.insert("model.norm.weight".into(), json!("model-00003-of-00002.safetensors"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let refusal = scratch.refusal();
    assert!(refusal.starts_with("DIR/model-00003-of-00002.safetensors: "), "{refusal}");
}

/// `torch.compile`, DDP, FSDP and PEFT put a module around a model, whose name stands before those of the tensors.
#[test]
fn weights_of_a_wrapped_model_are_the_models() {
    for around in ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "base_model.model."] {
        let mut scratch = Scratch::new("qwen3");
        let plain = std::mem::take(&mut scratch.tensors);
        scratch.tensors = plain.into_iter().map(|(name, tensor)| (format!("{around}{name}"), tensor)).collect();
        let read = scratch.write().load();
        assert_eq!(log_probs(&read), log_probs(&Decoder::load(case_dir("qwen3")).unwrap()), "{around}");
        let of = |dir: &Path| smpo_model::ModelDir::open(dir, None).unwrap().fingerprint().unwrap();
        assert_eq!(of(scratch.path()), of(&case_dir("qwen3")), "{around}");
    }
}

/// Leftovers of other programs in a file of weights are named, with the way out.
#[test]
fn weights_that_other_programs_left_unfinished_are_refused_with_the_way_out() {
    let renamed = |from: &str, to: &str| {
        refusal_of("qwen3", |scratch| {
            let tensor = scratch.tensors.remove(from).unwrap();
            scratch.tensors.insert(to.to_owned(), tensor);
        })
    };
    let norm = "model.norm.weight";
    let one = renamed(norm, "module.model.norm.weight");
    assert!(
        one.starts_with(
            "DIR: missing tensors: `model.norm.weight`; got `module.model.norm.weight`; these are names of"
        ),
        "{one}"
    );
    let adapted = renamed("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.base_layer.weight");
    assert!(
        adapted.contains("; got `model.layers.0.mlp.up_proj.base_layer.weight`; this is a model of PEFT"),
        "{adapted}"
    );
    let value_head = refusal_of("qwen3", |scratch| {
        let tensor = scratch.tensors[norm].clone();
        scratch.tensors.insert("v_head.summary.weight".to_owned(), tensor);
    });
    assert!(
        value_head.contains("unexpected tensors: `v_head.summary.weight`; `v_head` is the value head"),
        "{value_head}"
    );
    let parts = refusal_of("qwen3", |scratch| {
        let tensor = scratch.tensors.get_mut(norm).unwrap();
        (tensor.shape, tensor.bytes) = (vec![0], Vec::new());
    });
    assert!(parts.contains("got [0]; DeepSpeed's ZeRO-3") && parts.ends_with("zero_to_fp32.py"), "{parts}");
}

#[test]
fn a_model_is_saved_in_shards_when_it_is_large() {
    let decoder = Decoder::load(case_dir("gemma2")).unwrap();
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("model");
    const LIMIT: u64 = 4000;
    decoder.save(&dir, &SaveOptions { shard_bytes: Some(LIMIT), ..SaveOptions::default() }).unwrap();
    let index: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_parameters"], json!(decoder.parameter_count()));
    assert_eq!(index["metadata"]["total_size"], json!(4 * decoder.parameter_count()));
    let mut files: Vec<&str> = index["weight_map"].as_object().unwrap().values().map(|f| f.as_str().unwrap()).collect();
    files.sort_unstable();
    files.dedup();
    assert!(files.len() > 2);
    for (number, file) in files.iter().enumerate() {
        assert_eq!(*file, format!("model-{:05}-of-{:05}.safetensors", number + 1, files.len()));
        let bytes = fs::read(dir.join(file)).unwrap();
        let data: usize = SafeTensors::deserialize(&bytes).unwrap().iter().map(|(_, t)| t.data().len()).sum();
        assert!(data as u64 <= LIMIT, "{file}: {data}");
    }
    assert_eq!(log_probs(&Decoder::load(&dir).unwrap()), log_probs(&decoder));
}

#[test]
fn damaged_weight_files_are_refused() {
    let scratch = Scratch::new("qwen2");
    scratch.write();
    let path = scratch.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        scratch.refusal()
    };
    assert_eq!(
        refusal(&[]),
        "DIR/model.safetensors: not a readable safetensors file: expected at least 8 bytes, got 0; the file is truncated or empty"
    );
    let cut = refusal(&whole[..whole.len() - 5]);
    assert!(cut.contains("truncated?"), "{cut}");
    let cut = refusal(&whole[..100]);
    assert!(cut.contains("its header is said to take"), "{cut}");
    let mut longer = u64::MAX.to_le_bytes().to_vec();
    longer.extend_from_slice(&whole[8..]);
    assert!(refusal(&longer).contains("its header is said to take 18446744073709551615 bytes"));
    assert!(refusal(b"not a safetensors file at all").contains("not a readable safetensors file"));
    // Every single cut and a flip in every header byte: refused or read, but no panic.
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(Decoder::load(scratch.path()).is_err(), "cut at {length}");
    }
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (0..header + 8).step_by(13) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x15;
        fs::write(&path, &flipped).unwrap();
        let _ = Decoder::load(scratch.path());
    }
    fs::remove_file(&path).unwrap();
    assert!(scratch.refusal().starts_with("DIR: expected model.safetensors, "), "{}", scratch.refusal());
}

#[test]
fn tensors_that_do_not_fit_the_config_are_refused_by_name() {
    assert_eq!(
        refusal_of("qwen2", |s| {
            s.tensors.remove("model.layers.1.mlp.up_proj.weight");
        }),
        "DIR: missing tensors: `model.layers.1.mlp.up_proj.weight`; does config.json belong to these weights?"
    );
    assert_eq!(
        refusal_of("qwen2", |s| {
            let norm = s.tensors["model.norm.weight"].clone();
            s.tensors.insert("model.surprise".into(), norm);
        }),
        "DIR: unexpected tensors: `model.surprise`; does config.json belong to these weights?"
    );
    let more_layers = refusal_of("llama", |s| s.config["num_hidden_layers"] = json!(3));
    assert!(
        more_layers.starts_with("DIR: missing tensors: `model.layers.2.self_attn.q_proj.weight`, "),
        "{more_layers}"
    );
    assert!(more_layers.contains(" more; "), "{more_layers}");
    let fewer_layers = refusal_of("llama", |s| s.config["num_hidden_layers"] = json!(1));
    assert!(fewer_layers.starts_with("DIR: unexpected tensors: `model.layers.1."), "{fewer_layers}");
    assert_eq!(
        refusal_of("qwen2", |s| s.config["vocab_size"] = json!(33)),
        "DIR/model.safetensors: tensor `model.embed_tokens.weight`: expected shape [33, 16], got [32, 16]"
    );
    assert_eq!(
        refusal_of("qwen2", |s| s.config["num_key_value_heads"] = json!(1)),
        "DIR/model.safetensors: tensor `model.layers.0.self_attn.k_proj.weight`: expected shape [4, 16], got [8, 16]"
    );
    assert_eq!(
        refusal_of("qwen2", |s| s.tensors.get_mut("model.norm.weight").unwrap().dtype = Dtype::I32),
        "DIR/model.safetensors: tensor `model.norm.weight`: expected float32, bfloat16 or float16, got I32; \
         these are quantised weights, give the model they were made from"
    );
    let untied = refusal_of("qwen2-tied", |s| s.config["tie_word_embeddings"] = json!(false));
    assert!(untied.starts_with("DIR: missing tensors: `lm_head.weight`"), "{untied}");
    let differs = refusal_of("qwen2", |s| s.config["tie_word_embeddings"] = json!(true));
    assert!(differs.contains("`lm_head.weight` differs from `model.embed_tokens.weight`"), "{differs}");
}

#[test]
fn a_tied_head_that_is_stored_all_the_same_is_no_surprise() {
    let mut scratch = Scratch::new("qwen2-tied");
    let embedding = scratch.tensors["model.embed_tokens.weight"].clone();
    scratch.tensors.insert("lm_head.weight".into(), embedding);
    assert_eq!(log_probs(&scratch.write().load()), log_probs(&Decoder::load(case_dir("qwen2-tied")).unwrap()));
}

#[test]
fn configs_that_would_have_to_be_approximated_are_refused_by_name() {
    let refusal = |case: &str, field: &str, value: Value| refusal_of(case, |s| s.config[field] = value);
    let supported: Vec<&str> = Family::ALL.iter().map(|family| family.model_type()).collect();
    assert_eq!(
        refusal("qwen2", "model_type", json!("qwen22")),
        format!(
            "DIR/config.json: model family `qwen22` is not supported; supported are {}, and the text halves of gemma3, \
             mistral3, llava, internvl, qwen3_5",
            supported.join(", ")
        )
    );
    assert!(
        refusal("qwen2", "model_type", json!("mamba"))
            .contains("model family `mamba` is not supported (it has state-space blocks (Mamba)); supported")
    );
    assert!(refusal("qwen2", "model_type", json!(3)).contains("field `model_type`: expected a string, got 3"));
    assert_eq!(
        refusal("llama", "rope_scaling", json!({"rope_type": "dynamic", "factor": 2.0})),
        "DIR/config.json: rope scaling `dynamic` is not supported"
    );
    assert!(
        refusal("llama", "hidden_act", json!("relu")).contains("activation `relu` (`hidden_act`) is not supported")
    );
    assert!(refusal("llama", "quantization_config", json!({})).contains("a quantised model"));
    assert!(refusal("llama", "attention_dropout", json!(0.1)).contains("dropout in the base model"));
    assert!(refusal("qwen2", "is_causal", json!(false)).contains("attention to later tokens (`is_causal`: false)"));
    assert!(refusal("llama", "partial_rotary_factor", json!(0.5)).contains("`partial_rotary_factor` in this family"));
    assert!(refusal("gemma3", "attn_logit_softcapping", json!(50.0)).contains("`attn_logit_softcapping` in this"));
    assert!(
        refusal("gemma3", "rope_parameters", json!({"rope_type": "linear", "factor": 8.0}))
            .contains("`rope_parameters`: expected `full_attention` and `sliding_attention`")
    );
    assert!(refusal("gemma3", "use_bidirectional_attention", json!(true)).contains("bidirectional attention"));
    assert!(
        refusal("gemma2", "layer_types", json!(["full_attention", "chunked_attention"]))
            .contains("`chunked_attention`")
    );
    assert_eq!(
        refusal("llama", "hidden_size", json!(-4)),
        "DIR/config.json: field `hidden_size`: expected a whole number from 1 to 2^24, got -4"
    );
    assert_eq!(
        refusal("llama", "num_key_value_heads", json!(3)),
        "DIR/config.json: field `num_key_value_heads`: expected a divisor of num_attention_heads 4, got 3"
    );
    assert_eq!(
        refusal(
            "longrope",
            "rope_scaling",
            json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]})
        ),
        "DIR/config.json: field `rope_scaling.short_factor`: expected 4 numbers above zero, got 1 numbers"
    );
    assert!(refusal("llama", "num_hidden_layers", json!(1_000_000)).contains("expected at most 4096, got 1000000"));
    let scratch = Scratch::new("qwen2");
    scratch.write();
    fs::write(scratch.path().join("config.json"), "{\"model_type\": ").unwrap();
    assert!(scratch.refusal().starts_with("DIR/config.json: not valid JSON: "));
    fs::write(scratch.path().join("config.json"), "[]").unwrap();
    assert!(scratch.refusal().contains("expected an object"));
    fs::remove_file(scratch.path().join("config.json")).unwrap();
    assert!(scratch.refusal().starts_with("DIR/config.json: "));
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    let decoder = Decoder::load(case_dir("qwen2")).unwrap();
    for (prompt, completion) in [([1u32, 32], [3u32, 4]), ([1, 2], [3, 99])] {
        let batch = PackedBatch::from_sequences([(&prompt[..], &completion[..])]).unwrap();
        let error = decoder.log_probs(&batch).unwrap_err().to_string();
        assert!(error.contains("outside the vocabulary"), "{error}");
    }
}

#[test]
fn fresh_weights_depend_on_the_seed_alone() {
    let config = Config::from_dir(case_dir("qwen2")).unwrap();
    let all = |d: &Decoder| d.trainable().into_iter().map(|(n, v)| (n, values(&v))).collect::<BTreeMap<_, _>>();
    let one = all(&Decoder::init(&config, 1).unwrap());
    assert_eq!(one, all(&Decoder::init(&config, 1).unwrap()));
    assert_ne!(one, all(&Decoder::init(&config, 2).unwrap()));
    assert!(one["model.norm.weight"].iter().all(|g| *g == 1.0));
    assert!(one["model.layers.0.self_attn.q_proj.bias"].iter().all(|b| *b == 0.0));
    let std = |v: &[f32]| (v.iter().map(|x| f64::from(x * x)).sum::<f64>() / v.len() as f64).sqrt();
    // 512 draws: the sample's standard deviation is within 15 % of 0.3 but for one case in 10^6.
    assert!((std(&one["lm_head.weight"]) / 0.3 - 1.0).abs() < 0.15);
    let wide = all(&Decoder::init_on(&config, 1, Some(3.0), &Placement::default()).unwrap());
    assert!((std(&wide["model.embed_tokens.weight"]) / 3.0 - 1.0).abs() < 0.15);
    assert!((std(&wide["lm_head.weight"]) / 0.3 - 1.0).abs() < 0.15);
}

#[test]
fn weights_that_are_no_numbers_are_refused_with_their_place() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let damage = |scratch: &mut Scratch| {
            let norm = scratch.tensors.get_mut("model.norm.weight").unwrap();
            norm.bytes[8..12].copy_from_slice(&value.to_le_bytes());
        };
        let expected = format!("tensor `model.norm.weight`: expected finite numbers, got {value} at index 2");
        let refusal = refusal_of("qwen2", damage);
        assert!(refusal.contains(&expected), "{refusal}");
        // Headers alone say nothing of it.
        let mut scratch = Scratch::new("qwen2");
        damage(&mut scratch);
        scratch.write();
        ModelInfo::read(scratch.path()).unwrap();
        assert!(ModelInfo::check_values(scratch.path()).unwrap_err().to_string().contains(&expected));
    }
    ModelInfo::check_values(case_dir("qwen2")).unwrap();
}

#[test]
fn git_lfs_pointers_are_called_that() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 988097824\n";
    for file in ["config.json", "model.safetensors"] {
        let scratch = Scratch::new("qwen2");
        scratch.write();
        fs::write(scratch.path().join(file), pointer).unwrap();
        let refusal = scratch.refusal();
        assert!(refusal.contains(file) && refusal.contains("it is a Git LFS pointer; fetch"), "{refusal}");
    }
    let scratch = Scratch::new("qwen2");
    scratch.write_config();
    fs::write(scratch.path().join("model.safetensors.index.json"), pointer).unwrap();
    assert!(scratch.refusal().contains("it is a Git LFS pointer; fetch"), "{}", scratch.refusal());
}

#[test]
fn further_templates_come_along_and_what_does_not_is_known() {
    let source = TempDir::new().unwrap();
    let templates = source.path().join("additional_chat_templates");
    fs::create_dir_all(templates.join("deep")).unwrap();
    for name in ["tool_use.jinja", "rag.jinja", "notes.txt", "deep/other.jinja"] {
        fs::write(templates.join(name), name).unwrap();
    }
    for name in
        ["README.md", "modeling_x.py", "processor_config.json", "config.json", "model.safetensors", ".gitattributes"]
    {
        fs::write(source.path().join(name), name).unwrap();
    }
    let target = TempDir::new().unwrap();
    let options = SaveOptions { source: Some(source.path().to_path_buf()), ..SaveOptions::default() };
    Decoder::load(case_dir("qwen2")).unwrap().save(target.path(), &options).unwrap();
    let mut saved: Vec<_> = fs::read_dir(target.path().join("additional_chat_templates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    saved.sort();
    assert_eq!(saved, ["rag.jinja", "tool_use.jinja"]);
    assert!(target.path().join("processor_config.json").is_file());
    assert_eq!(files_left_behind(source.path()), ["README.md", "modeling_x.py"]);
}

#[test]
fn a_hint_is_given_where_following_it_can_work() {
    let refusal = |name: &str| refusal_of("qwen2", |scratch| scratch.config["model_type"] = name.into());
    for (name, meant) in [("qwenn3", "qwen3"), ("olmo-2", "olmo2"), ("gemma_3", "gemma3"), ("smolm3", "smollm3")] {
        assert!(refusal(name).contains(&format!("(did you mean `{meant}`?)")), "{}", refusal(name));
    }
    for other in ["gemma3n", "ministral", "mixtral", "llama4", "granitemoe", "glm4v", "qwen2_vl", "gpt2"] {
        let said = refusal(other);
        assert!(said.contains(&format!("`{other}` is not supported")) && !said.contains("did you mean"), "{said}");
    }
}

/// A golden model with another field.
fn changed_field(case: &str, field: &str, value: Value) -> String {
    refusal_of(case, |scratch| scratch.config[field] = value)
}

#[test]
fn options_of_the_newer_families_are_read_or_refused() {
    let refusal = changed_field;
    for (case, field, value, part) in [
        ("smollm3", "no_rope_layers", json!([1]), "a 0 or 1 for each of 2 blocks"),
        ("smollm3", "no_rope_layers", json!([1, 2]), "a 0 or 1 for each of 2 blocks"),
        ("smollm3", "layer_types", json!(["full_attention", "sliding_attention"]), "no sliding window is in use"),
        ("olmo3", "layer_types", json!(["full_attention"]), "num_hidden_layers 2 entries"),
        ("granite4", "num_local_experts", json!(4), "a mixture of experts (`num_local_experts` = 4)"),
        ("granite4", "layer_types", json!(["mamba", "attention"]), "a Mamba block"),
        ("granite4", "position_embedding_type", json!("alibi"), "`position_embedding_type` \"alibi\""),
        ("granite", "residual_multiplier", json!(0), "a number above zero"),
        ("ministral3", "rope_parameters", json!({"rope_type": "yarn", "factor": 2.0}), "llama_4_scaling_beta"),
        ("cohere2", "logit_scale", json!("x"), "a number"),
        ("glm4", "hidden_act", json!("relu"), "activation `relu`"),
    ] {
        assert!(refusal(case, field, value.clone()).contains(part), "{case}: {}", refusal(case, field, value));
    }
    let rotated = |case: &str, field: &str, value: Value| -> Vec<bool> {
        let mut scratch = Scratch::new(case);
        scratch.config[field] = value;
        Config::from_json(scratch.config).unwrap().spec().layers.iter().map(|layer| layer.rope.is_some()).collect()
    };
    assert_eq!(rotated("smollm3", "no_rope_layers", json!(null)), [true, true], "every fourth block");
    assert_eq!(rotated("granite4", "position_embedding_type", json!(null)), [false, false]);
    assert_eq!(rotated("cohere2", "sliding_window", json!(null)), [false, false], "a window is what rotates");
}
