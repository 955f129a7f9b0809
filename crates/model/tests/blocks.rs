//! Frozen matrices in the blocks of a GGUF file: the results of their dequantised values, to the last bit.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use smpo_fixtures::{Gguf, golden};
use smpo_kernels::Gradients;
use smpo_model::gguf::{GgmlType, GgufWeights, convert, dequantise};
use smpo_model::{
    AdapterSaveOptions, Config, Decoder, DecoderSpec, Family, Feed, FourBitOptions, LoraConfig, ModelInfo, PackedBatch,
    Placement, SaveOptions, ScoreOptions, Scratch, Storage, TrainedBeside,
};
use tempfile::TempDir;

const VOCABULARY: usize = 96;

/// Blocks that are read, with the places of their 16-bit scales and a number that keeps values small.
fn scales(kind: GgmlType) -> (&'static [usize], f32) {
    match kind {
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => (&[0], 1e-3),
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q8_1 => (&[0, 2], 2e-3),
        GgmlType::Q2_K => (&[80, 82], 1e-3),
        GgmlType::Q3_K => (&[108], 5e-4),
        GgmlType::Q4_K | GgmlType::Q5_K => (&[0, 2], 1e-4),
        GgmlType::Q6_K => (&[208], 1e-5),
        other => panic!("{} has no scales here", other.name()),
    }
}

fn random_blocks(kind: GgmlType, values: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; values / kind.block_values() * kind.block_bytes()];
    rng.fill_bytes(&mut bytes);
    for block in bytes.chunks_exact_mut(kind.block_bytes()) {
        if kind == GgmlType::Q8_K {
            block[..4].copy_from_slice(&1e-3f32.to_le_bytes());
            continue;
        }
        if kind == GgmlType::MXFP4 {
            block[0] = rng.random_range(114..118);
            continue;
        }
        let (places, size) = scales(kind);
        for &at in places {
            let scale = half::f16::from_f32(size * rng.random_range(0.5..1.0));
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// A Llama whose matrices are wide enough for strips and hold random blocks, in a file.
fn llama(dir: &Path, kind: GgmlType) -> PathBuf {
    written(dir, kind, &random_llama(dir, kind))
}

fn written(dir: &Path, kind: GgmlType, file: &Gguf) -> PathBuf {
    let path = dir.join(format!("{}.gguf", kind.name()));
    fs::write(&path, file.bytes()).unwrap();
    path
}

fn random_llama(dir: &Path, kind: GgmlType) -> Gguf {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 2304,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true
    });
    let plain = dir.join("plain");
    if !plain.exists() {
        let made = Decoder::init(&Config::from_json(config).unwrap(), 3).unwrap();
        made.save(&plain, &SaveOptions::default()).unwrap();
    }
    let mut file = Gguf::of_model(&plain, "llama");
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for tensor in file.tensors_mut().iter_mut().filter(|tensor| tensor.shape.len() == 2) {
        tensor.bytes = random_blocks(kind, tensor.shape.iter().product(), &mut rng);
        tensor.kind = kind.number();
    }
    file
}

fn load(path: &Path, storage: &Storage) -> Decoder {
    Decoder::load_frozen(path, &Placement::default(), storage).unwrap()
}

fn both(path: &Path) -> [Decoder; 2] {
    [Storage::AsStored, Storage::Dequantised].map(|storage| load(path, &storage))
}

fn lora(dora: bool, targets: &[&str]) -> LoraConfig {
    let targets = targets.iter().map(|target| target.to_string()).collect();
    LoraConfig { r: 4, alpha: 8.0, dora, targets, ..LoraConfig::default() }
}

fn batch() -> PackedBatch {
    PackedBatch::from_sequences([(&[1u32, 5, 7, 9, 2][..], &[3u32, 2, 11, 4, 30][..]), (&[8, 1], &[20, 6, 23])])
        .unwrap()
}

/// Log-probs, and the gradients of what is trained, which is moved off its start first.
fn scored(decoder: &Decoder, adapter: &LoraConfig, checkpointing: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut decoder = decoder.clone();
    decoder.add_lora(adapter, 7).unwrap();
    let trained = decoder.trainable();
    for (_, var) in trained.iter().filter(|(name, _)| name.contains("lora_B")) {
        var.set(&(var.detach() + 0.02).unwrap()).unwrap();
    }
    let batch = batch();
    let scored = decoder.score(&batch, &ScoreOptions { checkpointing, ..ScoreOptions::default() }).unwrap();
    let log_probs = scored.log_probs().to_vec1::<f32>().unwrap();
    assert!(log_probs.iter().all(|value| value.is_finite() && *value < 0.0), "{log_probs:?}");
    let mut gradients = Gradients::new(trained.iter().map(|(name, var)| (&name[..], var))).unwrap();
    scored.backward(&vec![-0.5; log_probs.len()], &mut gradients).unwrap();
    (log_probs, trained.iter().map(|(_, var)| gradients.get(var).unwrap_or_default().to_vec()).collect())
}

fn logits(decoder: &Decoder) -> Vec<f32> {
    let packed = decoder.pack().unwrap();
    let mut sequence = packed.sequence(8);
    let feed = Feed { sequence: &mut sequence, tokens: &[3, 1, 4, 1, 5] };
    packed.advance(&mut [feed], &mut Scratch::default()).unwrap().to_vec()
}

fn kinds() -> Vec<GgmlType> {
    GgmlType::ALL.iter().copied().filter(|kind| kind.is_quantised() && kind.is_dequantised()).collect()
}

#[test]
fn every_kind_of_block_gives_the_results_of_its_values_to_the_last_bit() {
    let temp = TempDir::new().unwrap();
    assert_eq!(kinds().len(), 13);
    for kind in kinds() {
        let path = llama(temp.path(), kind);
        let [packed, dequantised] = both(&path);
        assert!(packed.trainable().is_empty());
        assert_eq!(packed.parameter_count(), dequantised.parameter_count());
        let stored = ModelInfo::read(&path).unwrap().stored_bytes as usize;
        let (few, many) = (packed.parameter_bytes(), dequantised.parameter_bytes());
        assert_eq!((few, many), (stored, 4 * packed.parameter_count()), "{}", kind.name());
        for (dora, checkpointing, targets) in
            [(false, false, &["all-linear"][..]), (true, true, &["q_proj", "down_proj"]), (false, true, &["lm_head"])]
        {
            let [packed, dequantised] =
                [&packed, &dequantised].map(|decoder| scored(decoder, &lora(dora, targets), checkpointing));
            assert!(packed == dequantised, "{} {dora} {targets:?}", kind.name());
        }
        assert!(logits(&packed) == logits(&dequantised), "{}", kind.name());
    }
}

#[test]
fn any_range_of_a_weight_is_read() {
    let temp = TempDir::new().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for kind in [GgmlType::Q4_1, GgmlType::Q4_K] {
        let weights = GgufWeights::open(&llama(temp.path(), kind)).unwrap();
        let blocks = weights.blocks("model.layers.1.self_attn.k_proj.weight").unwrap().unwrap();
        let mut values = Vec::new();
        dequantise(kind, &blocks.bytes, &mut values).unwrap();
        let weight = blocks.pack().unwrap();
        assert!(weight.dequantise() == values);
        for _ in 0..200 {
            let first = rng.random_range(0..values.len());
            let count = rng.random_range(0..(values.len() - first).min(700) + 1);
            let mut part = vec![f32::NAN; count];
            weight.read(first, &mut part);
            assert!(part == values[first..first + count], "{first} {count}");
        }
    }
}

#[test]
fn what_is_to_be_trained_is_dequantised() {
    let temp = TempDir::new().unwrap();
    let path = llama(temp.path(), GgmlType::Q4_K);
    let names = |decoder: &Decoder| decoder.trainable().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    // Patterns, rows of the embedding and whole modules train the same from blocks as from values.
    let patterns = ["layers.1.mlp".to_string(), "lm_head".into()];
    let [packed, dequantised] = both(&path).map(|mut decoder| {
        decoder.train_only(&patterns).unwrap();
        let scored = decoder.log_probs(&batch()).unwrap().to_vec1::<f32>().unwrap();
        (names(&decoder), scored)
    });
    assert_eq!(packed.0, dequantised.0);
    assert_eq!(packed.0[0], "model.embed_tokens.weight");
    assert!(packed.1 == dequantised.1);
    for (modules, tokens) in [(vec!["up_proj".to_string(), "embed_tokens".into()], vec![]), (vec![], vec![3u32, 90])] {
        let adapter = temp.path().join(format!("adapter-{}", tokens.len()));
        let [packed, dequantised] = both(&path).map(|mut decoder| {
            decoder.add_lora(&lora(false, &["q_proj"]), 2).unwrap();
            decoder.train_beside(&TrainedBeside { modules: modules.clone(), tokens: tokens.clone() }).unwrap();
            // Of rows that are trained alone only those are saved.
            let whole = |name: &str| tokens.is_empty() || !name.contains("embed_tokens");
            for (_, var) in decoder.trainable().into_iter().filter(|(name, _)| whole(name)) {
                var.set(&(var.detach() * 1.01).unwrap()).unwrap();
            }
            decoder
        });
        assert_eq!(names(&packed), names(&dequantised));
        packed.save_adapter(&adapter, &AdapterSaveOptions::default()).unwrap();
        let read = both(&path).map(|mut decoder| {
            decoder.load_adapter(&adapter).unwrap();
            decoder
        });
        let log_probs = |decoder: &Decoder| decoder.log_probs(&batch()).unwrap().to_vec1::<f32>().unwrap();
        let expected = log_probs(&dequantised);
        assert!([&packed, &read[0], &read[1]].into_iter().all(|decoder| log_probs(decoder) == expected));
    }
    // New tokens and merging.
    let [packed, dequantised] = both(&path).map(|mut decoder| {
        decoder.add_tokens(VOCABULARY - 1, 4).unwrap();
        decoder.add_lora(&lora(true, &["o_proj", "lm_head"]), 2).unwrap();
        decoder.merge_lora().unwrap();
        (names(&decoder), decoder.log_probs(&batch()).unwrap().to_vec1::<f32>().unwrap())
    });
    assert_eq!(packed.0.len(), 2 * 9 + 3);
    assert!(packed == dequantised);
}

#[test]
fn a_module_quantised_for_the_run_still_cannot_be_trained() {
    let temp = TempDir::new().unwrap();
    let storage = Storage::FourBit(FourBitOptions { skip: vec!["up_proj".into()], ..FourBitOptions::default() });
    let mut decoder = load(&llama(temp.path(), GgmlType::Q8_0), &storage);
    decoder.add_lora(&lora(false, &["q_proj"]), 0).unwrap();
    let mut train =
        |module: &str| decoder.train_beside(&TrainedBeside { modules: vec![module.into()], tokens: Vec::new() });
    train("up_proj").unwrap();
    assert!(train("down_proj").unwrap_err().to_string().contains("frozen in four bits"));
}

#[test]
fn a_block_that_is_no_number_is_refused() {
    let temp = TempDir::new().unwrap();
    let mut file = random_llama(temp.path(), GgmlType::Q8_0);
    let down = file.tensors_mut().iter_mut().find(|tensor| tensor.name == "blk.1.ffn_down.weight").unwrap();
    down.bytes[34 * 7..][..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    let path = written(temp.path(), GgmlType::Q8_0, &file);
    for storage in [Storage::AsStored, Storage::Dequantised] {
        let error = Decoder::load_frozen(&path, &Placement::default(), &storage).unwrap_err().to_string();
        assert!(
            error.contains("`model.layers.1.mlp.down_proj.weight`") && error.contains("NaN at index 224"),
            "{error}"
        );
    }
}

/// Folders of `golden/gguf`.
fn families() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(golden("model", "gguf"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    found.sort();
    found
}

#[test]
fn files_as_llama_cpp_converts_them_compute_what_transformers_does() {
    let mut seen = Vec::new();
    for (case, dir) in families() {
        let path = dir.join("model.gguf");
        let expected = candle_core::safetensors::load(dir.join("expected.safetensors"), &Device::Cpu).unwrap();
        let config = Config::from_dir(&path).unwrap();
        seen.push(config.family());
        // Without Mamba blocks Granite 4 is converted as Granite 3.
        if case != "granite4" {
            // The metadata does not say how a model was initialised.
            let theirs = Config::from_dir(&dir).unwrap().spec().clone();
            let initializer_range = theirs.initializer_range;
            assert_eq!(DecoderSpec { initializer_range, ..config.spec().clone() }, theirs, "{case}");
        }
        let decoders = both(&path);
        for index in 0..2 {
            let ids: Vec<u32> =
                expected[&format!("s{index}.ids")].to_vec1::<i64>().unwrap().iter().map(|id| *id as u32).collect();
            let batch = PackedBatch::from_sequences([(&ids[..1], &ids[1..])]).unwrap();
            let [packed, dequantised] =
                [0, 1].map(|decoder: usize| decoders[decoder].log_probs(&batch).unwrap().to_vec1::<f32>().unwrap());
            assert!(packed == dequantised, "{case}");
            let theirs = expected[&format!("s{index}.log_probs")].to_vec1::<f32>().unwrap();
            smpo_fixtures::assert_close(&case, &packed, &theirs, |_| 1e-5);
        }
    }
    let without = [Family::Granite4, Family::Qwen35];
    let missing: Vec<&Family> =
        Family::ALL.iter().filter(|family| !seen.contains(family) && !without.contains(family)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_converted_file_is_the_same_model() {
    let temp = TempDir::new().unwrap();
    for (case, dir) in families() {
        let path = dir.join("model.gguf");
        // None of these files has a tokenizer: the directory's is taken.
        let home = temp.path().join(&case);
        fs::create_dir(&home).unwrap();
        fs::copy(&path, home.join("model.gguf")).unwrap();
        fs::copy(golden("inference", "qwen2").join("tokenizer.json"), home.join("tokenizer.json")).unwrap();
        let out = temp.path().join(format!("{case}-converted"));
        convert(&home.join("model.gguf"), &out, &SaveOptions::default()).unwrap();
        let (read, converted) = (Decoder::load(&path).unwrap(), Decoder::load(&out).unwrap());
        assert_eq!(read.spec(), converted.spec(), "{case}");
        let log_probs = |decoder: &Decoder| decoder.log_probs(&batch()).unwrap().to_vec1::<f32>().unwrap();
        assert!(log_probs(&read) == log_probs(&converted), "{case}");
    }
}

#[test]
fn every_family_trains_adapters_on_packed_bases_as_on_their_values() {
    let temp = TempDir::new().unwrap();
    let gguf = families().into_iter().map(|(case, dir)| (case, dir.join("model.gguf"), Storage::AsStored));
    // Routed experts have tests of their own.
    let routed = [Family::Qwen3Moe, Family::GptOss];
    let four_bit = Family::ALL.iter().filter(|family| !routed.contains(family)).map(|family| {
        let case = family.module();
        (case.to_owned(), golden("model", case), Storage::FourBit(FourBitOptions::default()))
    });
    for (index, (case, path, storage)) in gguf.chain(four_bit).enumerate() {
        let packed = load(&path, &storage);
        let values = temp.path().join(index.to_string());
        packed.save(&values, &SaveOptions::default()).unwrap();
        let dequantised = Decoder::load(&values).unwrap();
        assert!(packed.parameter_bytes() < dequantised.parameter_bytes(), "{case} {storage:?}");
        for (dora, checkpointing) in [(false, false), (false, true), (true, false), (true, true)] {
            let [packed, dequantised] =
                [&packed, &dequantised].map(|decoder| scored(decoder, &lora(dora, &["all-linear"]), checkpointing));
            assert!(packed == dequantised, "{case} {storage:?} {dora} {checkpointing}");
        }
    }
}
