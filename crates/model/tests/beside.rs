//! Modules and rows of the embedding trained beside adapters, and new tokens: saved and read back.

mod reference;

use reference::{case_dir, values};
use serde_json::Value;
use smpo_model::{AdapterInfo, AdapterSaveOptions, Decoder, LoraConfig, PackedBatch, SaveOptions, TrainedBeside};
use tempfile::TempDir;

fn adapted(case: &str, modules: &[&str], tokens: &[u32], new: usize) -> Result<Decoder, String> {
    let mut decoder = Decoder::load(case_dir(case)).unwrap();
    decoder.add_tokens(decoder.spec().vocab_size, new).unwrap();
    let targets = vec!["q_proj".to_owned(), "down_proj".to_owned()];
    let lora = LoraConfig { r: 2, alpha: 4.0, targets, ..LoraConfig::default() };
    decoder.add_lora(&lora, 1).unwrap();
    let modules = modules.iter().map(|name| (*name).to_owned()).collect();
    let beside = TrainedBeside { modules, tokens: tokens.to_vec() };
    decoder.train_beside(&beside).map(|()| decoder).map_err(|error| error.to_string())
}

/// Moves the variables; of the embedding the given rows, or all.
fn move_variables(decoder: &Decoder) {
    let rows = decoder.trained_tokens();
    for (index, (name, variable)) in decoder.trainable().iter().enumerate() {
        let width = variable.dims().last().copied().unwrap();
        let kept =
            |i: usize| name == "model.embed_tokens.weight" && !rows.is_empty() && !rows.contains(&((i / width) as u32));
        let moved: Vec<f32> = values(variable)
            .iter()
            .enumerate()
            .map(|(i, x)| if kept(i) { *x } else { x + 0.1 * ((i + 3 * index) as f32).cos() })
            .collect();
        variable.set(&candle_core::Tensor::from_vec(moved, variable.shape(), variable.device()).unwrap()).unwrap();
    }
}

fn log_probs(decoder: &Decoder) -> Vec<f32> {
    let batch = PackedBatch::from_sequences([(&[1, 2, 3][..], &[4, 5][..]), (&[5, 1][..], &[2][..])]).unwrap();
    values(&decoder.log_probs(&batch).unwrap())
}

fn config(dir: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn what_is_trained_beside_adapters_is_saved_and_read_back() {
    let temp = TempDir::new().unwrap();
    for (number, (case, modules, tokens, new)) in [
        ("qwen2", &["embed_tokens", "lm_head"][..], &[][..], 0),
        ("qwen2", &["lm_head", "model.norm", "model.layers.1.input_layernorm"], &[], 0),
        ("qwen2", &[], &[1, 3], 0),
        ("qwen2-tied", &["embed_tokens"], &[], 0),
        ("qwen2-tied", &["lm_head"], &[], 3),
        ("qwen2-tied", &[], &[2], 0),
        ("qwen2", &["embed_tokens", "lm_head"], &[], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let trained = adapted(case, modules, tokens, new).unwrap();
        move_variables(&trained);
        let dir = temp.path().join(number.to_string());
        trained.save_adapter(&dir, &AdapterSaveOptions::default()).unwrap();
        let mut read = Decoder::load(case_dir(case)).unwrap();
        let base = log_probs(&read);
        read.load_adapter(&dir).unwrap();
        assert_eq!(log_probs(&read), log_probs(&trained), "{case} {modules:?} {tokens:?}");
        assert_ne!(log_probs(&read), base);
        assert_eq!(read.trained_tokens(), tokens);
        assert_eq!(read.spec().vocab_size, trained.spec().vocab_size);
        let names = |decoder: &Decoder| decoder.trainable().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&read), names(&trained), "what was trained goes on being trained");
        assert!(AdapterInfo::read(&dir).unwrap().parameters > 0);

        let (mut merged, full) = (read, temp.path().join(format!("full-{number}")));
        merged.merge_lora().unwrap();
        merged.save(&full, &SaveOptions::default()).unwrap();
        let whole = Decoder::load(&full).unwrap();
        assert_eq!(whole.spec().vocab_size, trained.spec().vocab_size);
        let differs = log_probs(&whole).iter().zip(log_probs(&trained)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(differs < 1e-4, "{differs}");
    }
}

#[test]
fn the_configuration_names_what_peft_reads() {
    let temp = TempDir::new().unwrap();
    let saved = |name: &str, case: &str, modules: &[&str], tokens: &[u32]| {
        let dir = temp.path().join(name);
        adapted(case, modules, tokens, 0).unwrap().save_adapter(&dir, &AdapterSaveOptions::default()).unwrap();
        config(&dir)
    };
    // PEFT keeps a tied head apart from a trained embedding: both are saved.
    let tied = saved("tied", "qwen2-tied", &["embed_tokens"], &[]);
    assert_eq!(tied["modules_to_save"], serde_json::json!(["embed_tokens", "lm_head"]));
    let part = saved("part", "qwen2", &["model.norm", "model.layers.1.input_layernorm"], &[]);
    assert_eq!(part["modules_to_save"], serde_json::json!(["model.layers.1.input_layernorm", "model.norm"]));
    let rows = saved("rows", "qwen2", &[], &[4, 2]);
    assert_eq!(
        (&rows["trainable_token_indices"], &rows["modules_to_save"]),
        (&serde_json::json!([4, 2]), &Value::Null)
    );
}

#[test]
fn names_and_tokens_that_do_not_fit_are_refused() {
    let refused = |case: &str, modules: &[&str], tokens: &[u32]| adapted(case, modules, tokens, 0).unwrap_err();
    assert!(refused("qwen2", &["embed_token"], &[]).contains("did you mean `embed_tokens`?"));
    assert!(refused("qwen2", &["q_proj"], &[]).contains("which has an adapter"));
    assert!(refused("qwen2", &["embed_tokens"], &[1]).contains("not trained whole"));
    assert!(refused("qwen2", &[], &[99_999]).contains("ids below the vocabulary"));
}

#[test]
fn rows_of_new_tokens_are_the_mean_of_the_others() {
    let mut decoder = Decoder::load(case_dir("qwen2")).unwrap();
    let (known, width) = (decoder.spec().vocab_size, decoder.spec().hidden_size);
    let before = values(&decoder.embedding_var().unwrap());
    decoder.add_tokens(known, 2).unwrap();
    let after = values(&decoder.embedding_var().unwrap());
    assert_eq!((decoder.spec().vocab_size, after.len()), (known + 2, (known + 2) * width));
    assert_eq!(after[..before.len()], before[..]);
    for column in 0..width {
        let mean = before.iter().skip(column).step_by(width).sum::<f32>() / known as f32;
        assert!((after[known * width + column] - mean).abs() < 1e-5);
    }
    // In a model with more rows than tokens they take the place of unused ones.
    decoder.add_tokens(known - 3, 2).unwrap();
    assert_eq!(decoder.spec().vocab_size, known + 2);
    let padded = values(&decoder.embedding_var().unwrap());
    assert_ne!(padded[(known - 3) * width..(known - 1) * width], after[(known - 3) * width..(known - 1) * width]);
    assert_eq!(padded[(known - 1) * width..], after[(known - 1) * width..]);
    // Rows that look untrained are found where nothing trains them.
    decoder.set_trainable(|_| false).unwrap();
    let (a, b) = (known as u32, known as u32 + 1);
    assert_eq!(decoder.untrained_tokens(&[0, 1, a, b]).unwrap(), [a, b]);
}
