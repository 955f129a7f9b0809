//! gpt-oss's files: all experts of a block in one tensor, in floats and in MXFP4.

mod reference;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use reference::{Expected, case_dir, perturb, relative_difference, values};
use serde_json::Value;
use smpo_model::{
    AdapterSaveOptions, Config, Decoder, Feed, FrozenStorage, LoraConfig, MergeMethod, ModelInfo, Placement,
    SaveOptions, Scratch, Storage, WeightDtype, merge,
};
use tempfile::TempDir;

/// gpt-oss in MXFP4: `golden/generate_mxfp4.py` made it.
const PACKED: &str = "mxfp4/gpt_oss";

fn tensors(dir: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    values(&tensor.to_dtype(DType::F32).unwrap())
}

fn frozen(dir: &Path, storage: &Storage) -> Decoder {
    Decoder::load_frozen(dir, &Placement::default(), storage).unwrap()
}

fn log_probs(decoder: &Decoder, expected: &Expected) -> Vec<f32> {
    values(&decoder.log_probs(&expected.batch()).unwrap())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_saved_model_has_the_tensors_of_transformers() {
    let temp = TempDir::new().unwrap();
    let (dir, out) = (case_dir("gpt_oss"), temp.path().join("saved"));
    let theirs = tensors(&dir);
    for storage in [None, Some(Storage::AsStored)] {
        let decoder = match &storage {
            None => Decoder::load(&dir).unwrap(),
            Some(storage) => frozen(&dir, storage),
        };
        decoder
            .save(&out, &SaveOptions { shard_bytes: storage.as_ref().map(|_| 9000), ..SaveOptions::default() })
            .unwrap();
        let ours = match &storage {
            None => tensors(&out),
            Some(_) => {
                let index = json(&out.join("model.safetensors.index.json"));
                let names: std::collections::BTreeSet<String> =
                    index["weight_map"].as_object().unwrap().values().map(|v| v.as_str().unwrap().to_owned()).collect();
                assert!(names.len() > 2);
                let load = |name: &String| candle_core::safetensors::load(out.join(name), &Device::Cpu).unwrap();
                names.iter().flat_map(load).collect()
            }
        };
        assert_eq!(ours.len(), theirs.len());
        for (name, theirs) in &theirs {
            assert_eq!(ours[name].dims(), theirs.dims(), "{name}");
            assert!(floats(&ours[name]) == floats(theirs), "{name}");
        }
        let expected = Expected::read("gpt_oss");
        assert_eq!(log_probs(&Decoder::load(&out).unwrap(), &expected), log_probs(&decoder, &expected));
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn experts_in_mxfp4_are_what_transformers_dequantises() {
    let temp = TempDir::new().unwrap();
    let (dir, out) = (case_dir(PACKED), temp.path().join("saved"));
    let decoder = Decoder::load(&dir).unwrap();
    let expected = Expected::read(PACKED);
    assert!(relative_difference(&log_probs(&decoder, &expected), &expected.log_probs()) < 1e-5);
    decoder.save(&out, &SaveOptions { dtype: WeightDtype::Bf16, ..SaveOptions::default() }).unwrap();
    assert_eq!(json(&out.join("config.json"))["quantization_config"], Value::Null);
    let (ours, theirs) =
        (tensors(&out), candle_core::safetensors::load(dir.join("expected.safetensors"), &Device::Cpu).unwrap());
    for name in ["gate_up_proj", "down_proj"] {
        let (ours, theirs) =
            (&ours[&format!("model.layers.0.mlp.experts.{name}")], &theirs[&format!("dequantised.{name}")]);
        assert_eq!((ours.dtype(), ours.dims()), (DType::BF16, theirs.dims()));
        // Bit for bit: bfloat16 holds every value.
        let bits = |tensor: &Tensor| floats(tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(bits(ours) == bits(theirs), "{name}");
    }
}

/// Logits after a prompt, through the key–value cache.
fn next_logits(decoder: &Decoder) -> Vec<f32> {
    let packed = decoder.pack().unwrap();
    let mut sequence = packed.sequence(8);
    let mut feeds = [Feed { sequence: &mut sequence, tokens: &[3, 1, 4, 1, 5] }];
    packed.advance(&mut feeds, &mut Scratch::default()).unwrap().to_vec()
}

#[test]
fn frozen_experts_stay_in_mxfp4_and_compute_the_same() {
    let dir = case_dir(PACKED);
    let expected = Expected::read(PACKED);
    let dequantised = frozen(&dir, &Storage::Dequantised);
    let whole = log_probs(&dequantised, &expected);
    // Two experts of three of 4 · 3 · 32 · 32 values and their share of a scale.
    let (count, packed) = (4 * 3 * 32 * 32, 4 * 3 * 32 * 17);
    for storage in [Storage::AsStored, Storage::FourBit(smpo_model::FourBitOptions::default())] {
        let decoder = frozen(&dir, &storage);
        let saved = dequantised.parameter_bytes() - decoder.parameter_bytes();
        assert!(saved >= 4 * count - packed, "{storage:?}: {saved}");
        if storage == Storage::AsStored {
            assert_eq!(log_probs(&decoder, &expected), whole);
            // In sampling too.
            assert_eq!(next_logits(&decoder), next_logits(&dequantised));
        }
    }
    let info = ModelInfo::read(&dir).unwrap();
    assert_eq!((info.four_bit, info.parameters), (count, Decoder::load(&dir).unwrap().parameter_count()));
    assert_eq!(info.stored_bytes as usize, packed + 2 * (info.parameters - count));
    ModelInfo::check_values(&dir).unwrap();
    for storage in [Storage::AsStored, Storage::Dequantised] {
        let estimated = FrozenStorage { storage: &storage, stored: info.matrices }.total(&info.spec, None, 1).unwrap();
        assert_eq!(estimated as usize, frozen(&dir, &storage).parameter_bytes(), "{storage:?}");
    }

    let mut decoder = frozen(&dir, &Storage::AsStored);
    let targets = vec!["all-linear".to_owned()];
    for dora in [false, true] {
        decoder
            .add_lora(&LoraConfig { r: 2, alpha: 4.0, dora, targets: targets.clone(), ..LoraConfig::default() }, 1)
            .unwrap();
        perturb(&decoder);
        let adapted = log_probs(&decoder, &expected);
        assert!(relative_difference(&adapted, &whole) > 1e-3);
        decoder.merge_lora().unwrap();
        assert!(relative_difference(&log_probs(&decoder, &expected), &adapted) < 1e-5);
        decoder = frozen(&dir, &Storage::AsStored);
    }
}

/// All variables, by name.
fn trained(decoder: &Decoder) -> HashMap<String, Vec<f32>> {
    decoder.trainable().into_iter().map(|(name, var)| (name, values(&var))).collect()
}

#[test]
fn adapters_are_saved_as_peft_has_them_and_read_again_as_they_were() {
    let temp = TempDir::new().unwrap();
    let adapted = |index: usize, config: LoraConfig| -> (Vec<String>, Value) {
        let mut decoder = Decoder::load(case_dir("gpt_oss")).unwrap();
        decoder.add_lora(&config, 1).unwrap();
        perturb(&decoder);
        let dir = temp.path().join(index.to_string());
        decoder.save_adapter(&dir, &AdapterSaveOptions::default()).unwrap();
        let mut again = Decoder::load(case_dir("gpt_oss")).unwrap();
        again.load_adapter(&dir).unwrap();
        assert!(trained(&again) == trained(&decoder), "{index}");
        let expected = Expected::read("gpt_oss");
        assert_eq!(log_probs(&again, &expected), log_probs(&decoder, &expected));
        let tensors = candle_core::safetensors::load(dir.join("adapter_model.safetensors"), &Device::Cpu).unwrap();
        let names = tensors.into_iter().map(|(name, tensor)| format!("{name} {:?}", tensor.dims()));
        (names.filter(|name| name.contains("layers.0.mlp")).collect(), json(&dir.join("adapter_config.json")))
    };
    let lora = |targets: &[&str]| {
        let targets = targets.iter().map(|target| target.to_string()).collect();
        LoraConfig { r: 3, alpha: 6.0, dropout: 0.1, targets, ..LoraConfig::default() }
    };
    const BLOCK: &str = "base_model.model.model.layers.0.mlp";
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };

    // E · r rows of A; gate and up have the ranks of both.
    let (names, config) = adapted(0, lora(&["all-linear"]));
    let of = |module: &str, a: [usize; 2], b: [usize; 2]| {
        [("A", a), ("B", b)].map(|(part, shape)| format!("{BLOCK}.{module}.lora_{part}.weight {shape:?}"))
    };
    let all = [
        of("experts", [12, 24], [16, 12]),
        of("experts.base_layer", [24, 16], [48, 24]),
        of("router", [3, 16], [4, 3]),
    ];
    assert_eq!(sorted(names), sorted(all.concat()));
    assert_eq!(config["target_modules"], serde_json::json!(["k_proj", "o_proj", "q_proj", "v_proj"]));
    assert_eq!(config["target_parameters"].as_array().unwrap().len(), 2 * 3);
    assert_eq!(config["target_parameters"][0], "model.layers.0.mlp.experts.down_proj");
    assert_eq!(config["rank_pattern"]["model.layers.1.mlp.experts.gate_up_proj"], 6);
    assert_eq!(config["alpha_pattern"]["model.layers.1.mlp.experts.gate_up_proj"], 12);
    assert_eq!(config["lora_dropout"], 0.0);

    // One of the two alone, with other ranks and scales.
    let patterns = LoraConfig {
        rslora: true,
        rank_pattern: [("up_proj".to_owned(), 2)].into(),
        alpha_pattern: [("up_proj".to_owned(), 5.0)].into(),
        ..lora(&["up_proj", "v_proj"])
    };
    let (names, config) = adapted(1, patterns);
    assert_eq!(sorted(names), sorted(of("experts", [8, 16], [48, 8]).to_vec()));
    assert_eq!(config["rank_pattern"]["model.layers.1.mlp.experts.gate_up_proj"], 2);
    assert_eq!(config["alpha_pattern"]["model.layers.1.mlp.experts.gate_up_proj"], 5);

    // PEFT cannot have these: some of the experts, DoRA.
    let (names, config) = adapted(2, lora(&["*.experts.[0-1].down_proj"]));
    let one = |expert: usize| of(&format!("experts.{expert}.down_proj"), [3, 24], [16, 3]);
    assert_eq!(sorted(names), sorted([one(0), one(1)].concat()));
    assert_eq!((config["target_parameters"].clone(), config["lora_dropout"].clone()), (Value::Null, 0.1.into()));
    let (names, _) = adapted(3, LoraConfig { dora: true, ..lora(&["down_proj"]) });
    assert_eq!(names.len(), 3 * 4);
}

/// A copy of a golden model with changed tensors and configuration.
fn changed(
    temp: &TempDir,
    case: &str,
    config: impl FnOnce(&mut Value),
    change: impl FnOnce(&mut HashMap<String, Tensor>),
) -> PathBuf {
    let dir = temp.path().join(format!("{}", fs::read_dir(temp.path()).unwrap().count()));
    fs::create_dir(&dir).unwrap();
    let mut fields = json(&case_dir(case).join("config.json"));
    config(&mut fields);
    fs::write(dir.join("config.json"), fields.to_string()).unwrap();
    let mut all = tensors(&case_dir(case));
    change(&mut all);
    candle_core::safetensors::save(&all, dir.join("model.safetensors")).unwrap();
    dir
}

fn refusal(dir: &Path) -> String {
    let message = Decoder::load(dir).unwrap_err().to_string();
    assert_eq!(message, frozen_refusal(dir));
    message
}

fn frozen_refusal(dir: &Path) -> String {
    Decoder::load_frozen(dir, &Placement::default(), &Storage::default()).unwrap_err().to_string()
}

#[test]
fn experts_that_do_not_fit_are_refused_by_name() {
    const GATE_UP: &str = "model.layers.0.mlp.experts.gate_up_proj";
    let temp = TempDir::new().unwrap();
    let with =
        |case: &str, change: &dyn Fn(&mut HashMap<String, Tensor>)| refusal(&changed(&temp, case, |_| {}, change));
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let name = |end: &str| format!("{GATE_UP}{end}");

    let error = with("gpt_oss", &|all| drop(all.remove(GATE_UP)));
    assert!(error.contains("missing") && error.contains(GATE_UP) && !error.contains("experts.0"), "{error}");
    let error = with("gpt_oss", &|all| drop(all.insert(name(""), zeros(&[4, 48, 16], DType::F32))));
    assert!(error.contains("[4, 16, 48]") && error.contains("[4, 48, 16]"), "{error}");
    let error = with("gpt_oss", &|all| drop(all.insert(name("_scales"), zeros(&[4], DType::U8))));
    assert!(error.contains("unexpected") && error.contains("gate_up_proj_scales"), "{error}");
    let error = with(PACKED, &|all| drop(all.remove(&name("_scales"))));
    assert!(error.contains("missing") && error.contains(GATE_UP), "{error}");
    let error = with(PACKED, &|all| drop(all.insert(name("_scales"), zeros(&[4, 64, 2], DType::U8))));
    assert!(error.contains("[4, 64, 1]") && error.contains("[4, 64, 2]"), "{error}");
    let error = with(PACKED, &|all| drop(all.insert(name("_blocks"), zeros(&[4, 64, 1, 16], DType::F32))));
    assert!(error.contains("expected U8, got F32"), "{error}");

    // The largest scale is no number.
    let blown = changed(
        &temp,
        PACKED,
        |_| {},
        |all| {
            let scales = Tensor::full(255u8, (4, 64, 1), &Device::Cpu).unwrap();
            all.insert(name("_scales"), scales);
        },
    );
    for error in [
        Decoder::load(&blown).unwrap_err().to_string(),
        frozen_refusal(&blown),
        ModelInfo::check_values(&blown).unwrap_err().to_string(),
    ] {
        assert!(error.contains("gate") && (error.contains("inf") || error.contains("NaN")), "{error}");
    }
    // No block of 32 fits into 16 inputs.
    let error = with("gpt_oss", &|all| {
        all.remove(GATE_UP);
        all.insert(name("_blocks"), zeros(&[4, 48, 1, 8], DType::U8));
        all.insert(name("_scales"), zeros(&[4, 48, 1], DType::U8));
    });
    assert!(error.contains("expected a multiple of 32 inputs, got 16"), "{error}");
}

#[test]
fn mxfp4_of_another_family_is_refused() {
    let temp = TempDir::new().unwrap();
    let quantised = |config: &mut Value| config["quantization_config"] = serde_json::json!({"quant_method": "mxfp4"});
    let error = refusal(&changed(&temp, "llama", quantised, |_| {}));
    assert!(error.contains("a quantised model (`quantization_config`: mxfp4)"), "{error}");
}

#[test]
fn fields_have_the_defaults_of_transformers() {
    let config = Config::from_json(serde_json::json!({
        "model_type": "gpt_oss", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32,
        "num_hidden_layers": 3, "intermediate_size": 32, "num_local_experts": 4,
    }));
    let spec = config.unwrap().spec().clone();
    let windows: Vec<Option<usize>> = spec.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(windows, [Some(128), None, Some(128)]);
    assert!(spec.sinks && spec.biases.qkv && spec.biases.output && spec.layers.iter().all(|layer| layer.routed));
    let rope = format!("{:?}", spec.ropes);
    assert!(rope.contains("150000") && rope.contains("factor: 32.0") && rope.contains("truncate: false"), "{rope}");
    assert!(rope.contains("original_length: 4096"), "{rope}");
    let gate = format!("{:?}", spec.activation);
    assert!(gate.contains("1.702") && gate.contains("7.0"), "{gate}");
    assert_eq!((spec.head_dim, spec.experts.unwrap().per_token), (64, 4));
}

#[test]
fn models_are_merged_as_they_are_stored() {
    let temp = TempDir::new().unwrap();
    let halved = changed(
        &temp,
        "gpt_oss",
        |_| {},
        |all| {
            for tensor in all.values_mut() {
                *tensor = (&*tensor * 0.5).unwrap();
            }
        },
    );
    let out = temp.path().join("merged");
    let method = MergeMethod::Linear { weights: vec![1.0, 1.0] };
    merge(&[case_dir("gpt_oss"), halved], &method, None, &out, |_, _| std::ops::ControlFlow::Continue(())).unwrap();
    let name = "model.layers.1.mlp.experts.down_proj";
    let (merged, whole) = (floats(&tensors(&out)[name]), floats(&tensors(&case_dir("gpt_oss"))[name]));
    assert!(relative_difference(&merged, &whole.iter().map(|x| 0.75 * x).collect::<Vec<_>>()) < 1e-6);
}

#[test]
fn gguf_files_are_merged_into_the_tensors_of_transformers() {
    let temp = TempDir::new().unwrap();
    let (home, out) = (temp.path().join("home"), temp.path().join("merged"));
    fs::create_dir(&home).unwrap();
    let file = home.join("model.gguf");
    fs::copy(smpo_fixtures::golden("model", "gguf/gpt_oss").join("model.gguf"), &file).unwrap();
    fs::copy(smpo_fixtures::golden("inference", "qwen2").join("tokenizer.json"), home.join("tokenizer.json")).unwrap();
    let method = MergeMethod::Linear { weights: vec![1.0, 3.0] };
    let both = [file.clone(), file.clone()];
    let go_on = |_, _| std::ops::ControlFlow::Continue(());
    merge(&both, &method, Some(WeightDtype::F32), &out, go_on).unwrap();
    assert_eq!(tensors(&out)["model.layers.1.mlp.experts.gate_up_proj"].dims(), [4, 32, 64]);
    let [merged, whole] = [&out, &file].map(|model| Decoder::load(model).unwrap());
    let batch = smpo_model::PackedBatch::from_sequences([(&[1u32, 2][..], &[3u32, 4, 5][..])]).unwrap();
    let [merged, whole] = [merged, whole].map(|decoder| values(&decoder.log_probs(&batch).unwrap()));
    assert!(relative_difference(&merged, &whole) < 1e-5);
}
