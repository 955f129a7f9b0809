//! Models whose frozen matrices are in few bits: the results of their widened copies, and those of bitsandbytes with PEFT.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use smpo_fixtures::golden;
use smpo_kernels::{AdamW, AdamWOptions, Parameter};
use smpo_model::{
    AdapterSaveOptions, Decoder, Feed, FourBitOptions, FourBitType, LoraConfig, ModelDir, ModelInfo, PackedBatch,
    Placement, SaveOptions, ScoreOptions, Scratch, Storage, TrainedBeside, WeightDtype,
};

fn case(name: &str) -> PathBuf {
    golden("model", &format!("bitsandbytes/{name}"))
}

fn expected() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(case("expected.safetensors"), &Device::Cpu).unwrap()
}

fn four_bit(kind: FourBitType, double: bool) -> Storage {
    Storage::FourBit(FourBitOptions { kind, double, skip: Vec::new() })
}

fn frozen(dir: &str, storage: &Storage) -> Decoder {
    Decoder::load_frozen(case(dir), &Placement::default(), storage).unwrap()
}

fn lora(dora: bool, targets: &[&str]) -> LoraConfig {
    let targets = targets.iter().map(|target| target.to_string()).collect();
    LoraConfig { r: 4, alpha: 8.0, dora, targets, ..LoraConfig::default() }
}

fn sequences(expected: &HashMap<String, Tensor>) -> Vec<[Vec<u32>; 2]> {
    let ids = |name: String| expected[&name].to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect();
    (0..3).map(|i| [ids(format!("s{i}.prompt")), ids(format!("s{i}.completion"))]).collect()
}

fn batch(sequences: &[[Vec<u32>; 2]]) -> PackedBatch {
    PackedBatch::from_sequences(sequences.iter().map(|[prompt, completion]| (&prompt[..], &completion[..]))).unwrap()
}

/// Log-probs, and the gradients of the trained parameters.
fn scored(decoder: &Decoder, batch: &PackedBatch, checkpointing: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let options = ScoreOptions { checkpointing, ..ScoreOptions::default() };
    let scored = decoder.score(batch, &options).unwrap();
    let log_probs = scored.log_probs().to_vec1::<f32>().unwrap();
    let trained = decoder.trainable();
    let mut gradients = smpo_kernels::Gradients::new(trained.iter().map(|(name, var)| (&name[..], var))).unwrap();
    scored.backward(&vec![-0.5; log_probs.len()], &mut gradients).unwrap();
    let gradients = trained.iter().map(|(_, var)| gradients.get(var).unwrap_or_default().to_vec()).collect();
    (log_probs, gradients)
}

/// The same weights in float32, saved and loaded.
fn widened(decoder: &Decoder) -> Decoder {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("widened");
    decoder.save(&dir, &SaveOptions::default()).unwrap();
    Decoder::load(dir).unwrap()
}

#[test]
fn every_storage_gives_the_results_of_its_widened_copy_to_the_last_bit() {
    let batch = batch(&sequences(&expected()));
    let storages = [
        ("base", Storage::AsStored),
        ("base", four_bit(FourBitType::Nf4, true)),
        ("base", four_bit(FourBitType::Fp4, false)),
        ("four-bit", Storage::AsStored),
    ];
    for (dir, storage) in storages {
        let base = frozen(dir, &storage);
        assert!(base.trainable().is_empty());
        for (dora, checkpointing, targets) in [
            (false, false, &["all-linear"][..]),
            (true, true, &["q_proj", "down_proj"]),
            (false, true, &["lm_head", "up_proj"]),
        ] {
            let results = [base.clone(), widened(&base)].map(|mut decoder| {
                decoder.add_lora(&lora(dora, targets), 7).unwrap();
                scored(&decoder, &batch, checkpointing)
            });
            assert!(results[0] == results[1], "{dir} {storage:?} {dora} {targets:?}");
        }
        let logits = [base.clone(), widened(&base)].map(|decoder| {
            let packed = decoder.pack().unwrap();
            let mut sequence = packed.sequence(8);
            let feed = Feed { sequence: &mut sequence, tokens: &[3, 1, 4, 1, 5] };
            packed.advance(&mut [feed], &mut Scratch::default()).unwrap().to_vec()
        });
        assert!(logits[0] == logits[1], "{dir} {storage:?}");
    }
}

#[test]
fn sixteen_bits_take_half_of_the_memory_and_four_a_sixth() {
    let all = Decoder::load(case("base")).unwrap();
    assert_eq!(all.parameter_bytes(), 4 * all.parameter_count());
    let half = frozen("base", &Storage::AsStored);
    assert_eq!(half.parameter_count(), all.parameter_count());
    assert!(half.parameter_bytes() < 2 * all.parameter_count() + 2000);
    let packed = frozen("base", &four_bit(FourBitType::Nf4, true));
    assert_eq!(packed.parameter_count(), all.parameter_count());
    assert!(packed.parameter_bytes() < all.parameter_bytes() / 6, "{}", packed.parameter_bytes());
}

#[test]
fn stored_four_bit_weights_are_those_of_bitsandbytes_to_the_last_bit() {
    let expected = expected();
    let decoder = widened(&frozen("four-bit", &Storage::AsStored));
    let values: Vec<&String> = expected.keys().filter(|name| name.starts_with("values.")).collect();
    assert_eq!(values.len(), 14);
    for name in values {
        let parameter = name.trim_start_matches("values.");
        let (_, var) = decoder.trainable().into_iter().find(|(name, _)| name == parameter).unwrap();
        assert!(var.to_vec2::<f32>().unwrap() == expected[name].to_vec2::<f32>().unwrap(), "{parameter}");
    }
    let info = ModelInfo::read(case("four-bit")).unwrap();
    assert_eq!((info.parameters, info.dtypes), (decoder.parameter_count(), vec![WeightDtype::Bf16]));
    assert_eq!(info.four_bit, info.parameters - 2 * 48 * 64 - 5 * 64);
}

#[test]
fn losses_of_thirty_steps_are_those_of_peft_with_bitsandbytes() {
    let expected = expected();
    let sequences = sequences(&expected);
    let batch = batch(&sequences);
    for (kind, storage) in [("nf4", four_bit(FourBitType::Nf4, true)), ("fp4", four_bit(FourBitType::Fp4, false))] {
        let mut decoder = frozen("base", &storage);
        let log_probs = decoder.log_probs(&batch).unwrap().to_vec1::<f32>().unwrap();
        let theirs: Vec<f32> =
            (0..3).flat_map(|i| expected[&format!("{kind}.s{i}.log_probs")].to_vec1::<f32>().unwrap()).collect();
        smpo_fixtures::assert_close(kind, &log_probs, &theirs, |_| 1e-4);
        decoder.load_adapter(case("adapter")).unwrap();
        let parameters = decoder.trainable().into_iter().map(|(name, var)| Parameter {
            name,
            var,
            decay: false,
            full_moments: false,
        });
        let mut optimizer = AdamW::new(parameters.collect(), AdamWOptions::default()).unwrap();
        let mut gradients = optimizer.gradients().unwrap();
        for (step, theirs) in expected[&format!("{kind}.losses")].to_vec1::<f32>().unwrap().into_iter().enumerate() {
            gradients.clear();
            let scored = decoder.score(&batch, &ScoreOptions::default()).unwrap();
            let log_probs = scored.log_probs().to_vec1::<f32>().unwrap();
            let loss = -log_probs.iter().sum::<f32>() / log_probs.len() as f32;
            assert!((loss - theirs).abs() < 2e-3, "{kind}, step {step}: {loss} and {theirs}");
            scored.backward(&vec![-1.0 / log_probs.len() as f32; log_probs.len()], &mut gradients).unwrap();
            optimizer.step(&gradients, 1e-2).unwrap();
        }
    }
}

#[test]
fn an_adapter_goes_from_the_quantised_base_to_the_original_and_back() {
    let temp = tempfile::tempdir().unwrap();
    let batch = batch(&sequences(&expected()));
    let mut quantised = frozen("base", &four_bit(FourBitType::Nf4, false));
    quantised.add_lora(&lora(false, &["all-linear"]), 3).unwrap();
    let dir = temp.path().join("adapter");
    quantised.save_adapter(&dir, &AdapterSaveOptions::default()).unwrap();
    let mut again = frozen("base", &four_bit(FourBitType::Nf4, false));
    again.load_adapter(&dir).unwrap();
    assert!(scored(&again, &batch, false) == scored(&quantised, &batch, false));
    Decoder::load(case("base")).unwrap().load_adapter(&dir).unwrap();
    frozen("base", &Storage::AsStored).load_adapter(&dir).unwrap();
    // Merged, everything is dequantised.
    let merged = temp.path().join("merged");
    again.merge_lora().unwrap();
    again.save(&merged, &SaveOptions::default()).unwrap();
    let info = ModelInfo::read(&merged).unwrap();
    assert_eq!((info.four_bit, info.dtypes), (0, vec![WeightDtype::F32]));
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    let log_probs = Decoder::load(&merged).unwrap().log_probs(&batch).unwrap().to_vec1::<f32>().unwrap();
    assert!(close(&log_probs, &scored(&quantised, &batch, false).0));
    // A checkpoint in four bits is saved as floats too, and says so.
    let stored = temp.path().join("stored");
    ModelDir::open(case("four-bit"), None).unwrap().load().unwrap().save(&stored, &SaveOptions::default()).unwrap();
    assert!(!std::fs::read_to_string(stored.join("config.json")).unwrap().contains("quantization_config"));
    assert_eq!(ModelInfo::read(&stored).unwrap().four_bit, 0);
}

#[test]
fn decoding_with_an_adapter_beside_the_base_is_that_of_the_merged_model() {
    for dora in [false, true] {
        let mut decoder = frozen("base", &four_bit(FourBitType::Nf4, true));
        decoder.load_adapter(case("adapter")).unwrap();
        if dora {
            decoder = frozen("base", &Storage::AsStored);
            decoder.add_lora(&lora(true, &["q_proj", "up_proj", "lm_head"]), 1).unwrap();
        }
        for (name, var) in decoder.trainable() {
            if name.contains("lora_B") || name.contains("magnitude") {
                let values = (var.detach() + 0.05).unwrap();
                var.set(&values).unwrap();
            }
        }
        let logits = |decoder: &Decoder| {
            let packed = decoder.pack().unwrap();
            let mut sequence = packed.sequence(8);
            let feed = Feed { sequence: &mut sequence, tokens: &[3, 1, 4, 1, 5] };
            packed.advance(&mut [feed], &mut Scratch::default()).unwrap().to_vec()
        };
        let apart = logits(&decoder);
        decoder.merge_lora().unwrap();
        smpo_fixtures::assert_close("logits", &apart, &logits(&decoder), |_| 1e-4);
    }
}

#[test]
fn what_is_quantised_cannot_be_trained_and_what_is_skipped_can() {
    let train = |skip: &[&str], modules: &[&str]| {
        let skip = skip.iter().map(|name| name.to_string()).collect();
        let storage = Storage::FourBit(FourBitOptions { kind: FourBitType::Nf4, double: false, skip });
        let mut decoder = frozen("base", &storage);
        decoder.add_lora(&lora(false, &["q_proj"]), 0).unwrap();
        let modules = modules.iter().map(|name| name.to_string()).collect();
        decoder.train_beside(&TrainedBeside { modules, tokens: Vec::new() }).map(|()| decoder)
    };
    let error = train(&[], &["layers.0.mlp.up_proj"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "modules_to_save: expected modules that are not quantised, got `model.layers.0.mlp.up_proj`, which is frozen in \
         four bits; name it in llm_int8_skip_modules"
    );
    let decoder = train(&["up_proj", "lm_head"], &["layers.0.mlp.up_proj", "lm_head", "embed_tokens"]).unwrap();
    for (name, var) in decoder.trainable() {
        assert_eq!(var.dtype(), candle_core::DType::F32, "{name}");
    }
    scored(&decoder, &batch(&sequences(&expected())), false);
}
