//! Models in GGUF: the golden models of every architecture, written as GGUF, are the models they were made from.

mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use reference::case_dir;
use serde_json::json;
use smpo_fixtures::Gguf;
use smpo_model::gguf::{GgmlType, GgufWeights, convert, dequantise};
use smpo_model::{
    AdapterSaveOptions, Config, Decoder, Family, LoraConfig, MergeMethod, ModelDir, ModelInfo, PackedBatch,
    SaveOptions, WeightDtype, merge,
};
use tempfile::TempDir;

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, file: &Gguf) -> PathBuf {
        let path = self.path("m.gguf");
        fs::write(&path, file.bytes()).unwrap();
        path
    }

    fn refusal(&self, file: &Gguf) -> String {
        Decoder::load(self.write(file)).unwrap_err().to_string()
    }
}

fn f32s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect()
}

/// A golden model as GGUF, with its rotary embeddings and what else its architecture says of itself.
fn golden(case: &str) -> Gguf {
    let file = |architecture| Gguf::of_model(&case_dir(case), architecture);
    match case {
        "llama" => file("llama").u32("llama.rope.dimension_count", 4),
        // Of factor 4 over 32 positions at θ = 100, per frequency.
        "llama3-rope" => {
            let factors = [0, 1, 2, 3].map(|index| {
                let wave = std::f64::consts::TAU * 100f64.powf(f64::from(index) / 4.0);
                let smooth = (32.0 / wave - 1.0) / 3.0;
                if wave < 8.0 {
                    1.0
                } else if wave > 32.0 {
                    4.0
                } else {
                    1.0 / ((1.0 - smooth) / 4.0 + smooth)
                }
            });
            file("llama").f32("llama.rope.freq_base", 100.0).tensor("rope_freqs.weight", &[4], 0, f32s(&factors))
        }
        "qwen2" | "qwen2-tied" => file("qwen2"),
        "qwen3" => file("qwen3").f32("qwen3.rope.freq_base", 10_000.0),
        "phi3" => file("phi3").u32("phi3.rope.dimension_count", 2),
        "gemma2" => file("gemma2")
            .f32("gemma2.attention.scale", 12f32.powf(-0.5))
            .f32("gemma2.attn_logit_softcapping", 4.0)
            .f32("gemma2.final_logit_softcapping", 3.0),
        "gemma3" => file("gemma3")
            .f32("gemma3.attention.scale", 12f32.powf(-0.5))
            .f32("gemma3.rope.freq_base", 1e6)
            .u32("gemma3.attention.sliding_window_pattern", 2),
        other => panic!("{other} has no GGUF here"),
    }
}

const CASES: [&str; 8] = ["llama", "llama3-rope", "qwen2", "qwen2-tied", "qwen3", "phi3", "gemma2", "gemma3"];

/// All weights, by name; norms that are stored with 1 added are off by its rounding.
fn assert_same(expected: &Decoder, got: &Decoder, case: &str) {
    let (expected, got) = (expected.trainable(), got.trainable());
    let names = |all: &[(String, candle_core::Var)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&got), "{case}");
    for ((name, expected), (_, got)) in expected.iter().zip(&got) {
        let values = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let tolerance = if case.starts_with("gemma") && name.contains("norm") { 2e-7 } else { 0.0 };
        for (expected, got) in values(expected).into_iter().zip(values(got)) {
            assert!((expected - got).abs() <= tolerance, "{case}: {name}: {got} instead of {expected}");
        }
    }
}

#[test]
fn every_architecture_is_the_model_it_was_made_from() {
    let desk = Desk::new();
    for case in CASES {
        let (dir, file) = (case_dir(case), desk.write(&golden(case)));
        let (expected, got) = (Decoder::load(&dir).unwrap(), Decoder::load(&file).unwrap());
        assert_same(&expected, &got, case);
        let batch = PackedBatch::from_sequences([(&[1u32, 5, 7, 9][..], &[3u32, 2, 11, 4, 30][..])]).unwrap();
        let log_probs = |decoder: &Decoder| decoder.log_probs(&batch).unwrap().to_vec1::<f32>().unwrap();
        for (expected, got) in log_probs(&expected).iter().zip(log_probs(&got)) {
            assert!((expected - got).abs() < 2e-5, "{case}: {got} instead of {expected}");
        }
        assert_eq!(ModelDir::open(&file, None).unwrap().fingerprint().unwrap().len(), 32);
    }
    let named: Vec<Family> = CASES.map(|case| Config::from_dir(desk.write(&golden(case))).unwrap().family()).to_vec();
    // Mistral's architecture is Llama's.
    let covered = |family: &Family| named.contains(family) || *family == Family::Mistral;
    let of_gguf = [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Phi3, Family::Gemma2, Family::Gemma3Text];
    assert!(of_gguf.iter().all(covered));
}

#[test]
fn scaled_ropes_are_read() {
    let desk = Desk::new();
    let llama = || Gguf::of_model(&case_dir("llama"), "llama");
    let rope = |file: &Gguf| Config::from_dir(desk.write(file)).unwrap().spec().ropes[0].clone();
    let as_json = |scaling: serde_json::Value| {
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(case_dir("llama").join("config.json")).unwrap()).unwrap();
        config["rope_parameters"] = json!(null);
        config["rope_scaling"] = scaling;
        Config::from_json(config).unwrap().spec().ropes[0].clone()
    };
    let scaled = |kind: &str| llama().text("llama.rope.scaling.type", kind).f32("llama.rope.scaling.factor", 4.0);
    assert_eq!(rope(&scaled("linear")), as_json(json!({"rope_type": "linear", "factor": 4.0})));
    let yarn = scaled("yarn").u32("llama.rope.scaling.original_context_length", 32);
    let expected = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    assert_eq!(rope(&yarn), as_json(expected));
    // Factors of no known kind are taken as they are.
    let odd = llama().tensor("rope_freqs.weight", &[2], 0, f32s(&[3.0, 5.0]));
    assert!(format!("{:?}", rope(&odd).scaling).contains("long: [3.0, 5.0]"));
    let phi3 = golden("phi3")
        .tensor("rope_factors_long.weight", &[1], 0, f32s(&[2.0]))
        .tensor("rope_factors_short.weight", &[1], 0, f32s(&[1.5]))
        .u32("phi3.rope.scaling.original_context_length", 64);
    assert!(format!("{:?}", rope(&phi3).scaling).contains("short: [1.5], long: [2.0]"));
    let refused = Config::from_dir(desk.write(&scaled("dynamic"))).unwrap_err().to_string();
    assert!(refused.contains("`llama.rope.scaling.type` of \"dynamic\""), "{refused}");
}

/// A Llama whose rows are whole blocks.
fn wide() -> Decoder {
    let config = json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true
    });
    Decoder::init(&Config::from_json(config).unwrap(), 3).unwrap()
}

#[test]
fn blocks_are_given_in_the_order_of_their_values() {
    let desk = Desk::new();
    wide().save(desk.path("wide"), &SaveOptions::default()).unwrap();
    let path = desk.write(&Gguf::of_model(&desk.path("wide"), "llama").quantised());
    let weights = GgufWeights::open(&path).unwrap();
    let name = "model.layers.0.self_attn.k_proj.weight";
    let blocks = weights.blocks(name).unwrap().unwrap();
    assert_eq!((blocks.kind, &blocks.shape[..]), (GgmlType::Q8_0, &[32, 64][..]));
    let mut values = Vec::new();
    dequantise(blocks.kind, &blocks.bytes, &mut values).unwrap();
    assert_eq!(values, weights.read_part(name, 0..32 * 64).unwrap());
    assert_eq!(values[100..777], weights.read_part(name, 100..777).unwrap());
    // They are those of the model it was made from, to half a step of 8 bits.
    let expected = wide().trainable().into_iter().find(|(found, _)| found == name).unwrap().1;
    let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (largest, worst) = expected.iter().zip(&values).fold((0f32, 0f32), |(largest, worst), (expected, got)| {
        (largest.max(expected.abs()), worst.max((expected - got).abs()))
    });
    assert!(worst <= largest / 100.0, "{worst} of {largest}");
    assert!(weights.blocks("model.norm.weight").unwrap().is_none());
    let info = ModelInfo::read(&path).unwrap();
    assert_eq!((info.ggml_types, info.dtypes[0], info.shards), (vec!["Q8_0", "F32"], WeightDtype::Bf16, 1));
}

#[test]
fn a_converted_file_is_a_directory_of_the_same_model() {
    let desk = Desk::new();
    for (number, case) in CASES.into_iter().enumerate() {
        let tokenizer = smpo_fixtures::golden("inference", "qwen2");
        let file = desk.write(&golden(case).with_tokenizer(&tokenizer));
        let out = desk.path(&number.to_string());
        convert(&file, &out, &SaveOptions { shard_bytes: Some(4096), ..SaveOptions::default() }).unwrap();
        assert!(out.join("model.safetensors.index.json").is_file(), "{case}: shards of 4 KB");
        let (read, converted) = (Decoder::load(&file).unwrap(), Decoder::load(&out).unwrap());
        assert_same(&read, &converted, "converted");
        assert_eq!(read.spec().ropes, converted.spec().ropes, "{case}");
        for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
            assert!(out.join(name).is_file(), "{case}: {name}");
        }
    }
    let again = convert(&desk.path("m.gguf"), &desk.path("0"), &SaveOptions::default()).unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");
}

#[test]
fn adapters_and_merges_take_a_gguf_file_for_a_model() {
    let desk = Desk::new();
    let file = desk.write(&golden("llama").with_tokenizer(&smpo_fixtures::golden("inference", "qwen2")));
    let mut decoder = ModelDir::open(&file, None).unwrap().load().unwrap();
    let targets = vec!["q_proj".into()];
    decoder.add_lora(&LoraConfig { r: 2, alpha: 4.0, targets, ..LoraConfig::default() }, 1).unwrap();
    let options = AdapterSaveOptions {
        base_model: file.display().to_string(),
        source: Some(file.clone()),
        ..AdapterSaveOptions::default()
    };
    decoder.save_adapter(desk.path("adapter"), &options).unwrap();
    let found = ModelDir::open(desk.path("adapter"), None).unwrap();
    assert_eq!((found.weights(), found.tokenizer_files()), (&*file, &*desk.path("adapter")));
    assert!(found.load().unwrap().lora().is_some());

    let models = [file.clone(), case_dir("llama")];
    let half = MergeMethod::Linear { weights: vec![0.5, 0.5] };
    let go_on = |_, _| std::ops::ControlFlow::Continue(());
    merge(&models, &half, None, desk.path("merged"), go_on).unwrap();
    assert_same(&Decoder::load(case_dir("llama")).unwrap(), &Decoder::load(desk.path("merged")).unwrap(), "merged");
    assert!(desk.path("merged/tokenizer.json").is_file());
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let desk = Desk::new();
    let unknown = desk.refusal(&Gguf::of_model(&case_dir("qwen2"), "olmo9"));
    assert!(unknown.contains("model family `olmo9` is not supported"), "{unknown}");
    assert!(unknown.contains("llama, qwen2, qwen3"), "{unknown}");
    let nothing = desk.refusal(&Gguf::default());
    assert!(nothing.contains("`general.architecture`: expected the name of a model family, got nothing"), "{nothing}");
    let experts = desk.refusal(&golden("qwen2").u32("qwen2.expert_count", 8));
    assert!(experts.contains("`qwen2.expert_count` of a mixture of experts"), "{experts}");
    let mut file = golden("qwen2");
    file.tensors_mut().retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
    let missing = desk.refusal(&file);
    assert!(missing.contains("`tensors`") && missing.contains("`blk.1.ffn_up.weight`"), "{missing}");
    let extra = desk.refusal(&golden("qwen2").tensor("blk.0.ssm_a", &[4], 0, vec![0; 16]));
    assert!(extra.contains("`blk.0.ssm_a`"), "{extra}");
    let mut file = golden("qwen2");
    let up = file.tensors_mut().iter_mut().find(|tensor| tensor.name == "blk.0.ffn_up.weight").unwrap();
    up.shape.reverse();
    let shape = desk.refusal(&file);
    assert!(shape.contains("tensor `blk.0.ffn_up.weight`: expected shape"), "{shape}");
    let mut file = golden("qwen2");
    let norm = file.tensors_mut().iter_mut().find(|tensor| tensor.name == "output_norm.weight").unwrap();
    norm.kind = GgmlType::F64.number();
    norm.bytes.resize(2 * norm.bytes.len(), 0);
    let kind = desk.refusal(&file);
    assert!(kind.contains("tensor `output_norm.weight` is stored as F64, which is not read; read are F32"), "{kind}");
    let lie = golden("qwen2").text("qwen2.rope.freq_base", "x");
    let number = desk.refusal(&lie);
    assert!(number.contains("`qwen2.rope.freq_base`: expected a finite number, got \"x\""), "{number}");
    assert!(convert(Path::new("/nowhere.gguf"), &desk.path("x"), &SaveOptions::default()).is_err());
}
