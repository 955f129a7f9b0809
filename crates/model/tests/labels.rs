//! Models with a head of labels against transformers and PEFT (`golden/generate_labels.py`), saved and read again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use smpo_kernels::Gradients;
use smpo_model::{AdapterSaveOptions, Decoder, Labels, ModelDir, PackedBatch, SaveOptions, ScoreOptions};

const CASES: [(&str, usize); 5] = [("reward", 1), ("reward-gemma3", 1), ("classes", 3), ("several", 2), ("peft", 1)];

fn case(name: &str) -> PathBuf {
    smpo_fixtures::golden("model", "labels").join(name)
}

struct Expected {
    ids: Vec<Vec<u32>>,
    values: Vec<f32>,
    weights: Vec<f32>,
    gradients: HashMap<String, Vec<f32>>,
}

impl Expected {
    fn read(name: &str) -> Self {
        let bytes = std::fs::read(case(name).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str, dtype| -> Vec<[u8; 4]> {
            let tensor = file.tensor(name).unwrap();
            assert_eq!(tensor.dtype(), dtype, "{name}");
            tensor.data().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
        };
        let floats = |name: &str| words(name, Dtype::F32).into_iter().map(f32::from_le_bytes).collect::<Vec<_>>();
        let ids = |i: usize| words(&format!("s{i}.ids"), Dtype::I32).into_iter().map(u32::from_le_bytes).collect();
        let of_all = |field: &str| (0..3).flat_map(|i| floats(&format!("s{i}.{field}"))).collect();
        let gradients = file.names().into_iter().filter_map(|name| {
            let parameter = name.strip_prefix("grad.")?;
            Some((parameter.to_owned(), floats(name)))
        });
        Self {
            ids: (0..3).map(ids).collect(),
            values: of_all("values"),
            weights: of_all("weights"),
            gradients: gradients.collect(),
        }
    }

    /// The sequences, each split after its first two tokens, as a prompt of its own.
    fn batch(&self, pad: Option<u32>) -> PackedBatch {
        let mut builder = PackedBatch::builder();
        for ids in &self.ids {
            builder.push_pooled(&ids[..2], &[&ids[2..]], pad).unwrap();
        }
        builder.build().unwrap()
    }
}

fn load(dir: &Path) -> Decoder {
    ModelDir::open(dir, None).unwrap().load().unwrap()
}

fn values(decoder: &Decoder, expected: &Expected) -> Vec<f32> {
    let batch = expected.batch(decoder.config().pad_token());
    decoder.score(&batch, &ScoreOptions::default()).unwrap().values().unwrap()
}

fn close(what: &str, ours: &[f32], theirs: &[f32], within: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= within * largest, "{what}: {a}, transformers {b}");
    }
}

#[test]
fn values_and_gradients_are_those_of_transformers() {
    for (name, labels) in CASES {
        let expected = Expected::read(name);
        let decoder = load(&case(name));
        assert_eq!(decoder.config().labels().unwrap().count(), labels, "{name}");
        // adapters of PEFT alone bring no padding token
        let pad = decoder.config().pad_token().or((name == "peft").then_some(3));
        let batch = expected.batch(pad);
        for checkpointing in [false, true] {
            let options = ScoreOptions { checkpointing, ..ScoreOptions::default() };
            let scored = decoder.score(&batch, &options).unwrap();
            close(name, &scored.values().unwrap(), &expected.values, 1e-5);
            let trainable = decoder.trainable();
            let mut gradients = Gradients::new(trainable.iter().map(|(name, var)| (name.as_str(), var))).unwrap();
            scored.backward(&expected.weights, &mut gradients).unwrap();
            for (parameter, theirs) in &expected.gradients {
                let (_, var) = trainable.iter().find(|(known, _)| known == parameter).unwrap();
                close(&format!("{name}: {parameter}"), gradients.get(var).unwrap(), theirs, 1e-4);
            }
        }
    }
}

#[test]
fn completions_that_share_a_prompt_are_read_as_alone() {
    let expected = Expected::read("reward");
    let decoder = load(&case("reward"));
    let (prompt, rest) = expected.ids[0].split_at(2);
    let [short, long] = [&rest[..3], rest];
    let mut shared = PackedBatch::builder();
    shared.push_pooled(prompt, &[short, long], Some(3)).unwrap();
    let mut alone = PackedBatch::builder();
    alone.push_pooled(prompt, &[short], Some(3)).unwrap();
    alone.push_pooled(prompt, &[long], Some(3)).unwrap();
    let read = |batch: PackedBatch| decoder.score(&batch, &ScoreOptions::default()).unwrap().values().unwrap();
    close("shared", &read(shared.build().unwrap()), &read(alone.build().unwrap()), 1e-6);
}

#[test]
fn a_saved_model_is_the_same() {
    let temp = tempfile::tempdir().unwrap();
    for (name, _) in CASES {
        let expected = Expected::read(name);
        let (before, dir) = (load(&case(name)), temp.path().join(name));
        match before.lora() {
            None => before.save(&dir, &SaveOptions::default()).unwrap(),
            Some(_) => {
                let base_model = smpo_fixtures::golden("model", "qwen2").display().to_string();
                before.save_adapter(&dir, &AdapterSaveOptions { base_model, ..AdapterSaveOptions::default() }).unwrap();
            }
        }
        let after = load(&dir);
        assert_eq!(after.config().labels(), before.config().labels(), "{name}");
        assert_eq!(values(&before, &expected), values(&after, &expected), "{name}");
    }
}

#[test]
fn heads_of_another_kind_are_refused_by_name() {
    let refused = |result: smpo_model::Result<()>| result.unwrap_err().to_string();
    let reward = load(&case("reward"));
    let error = refused(reward.expect_language_model(&case("reward")));
    assert!(error.contains("expected a language model, got a reward model"), "{error}");
    assert!(reward.pack().unwrap_err().to_string().contains("expected a language model"));
    let policy = smpo_fixtures::golden("model", "qwen2");
    let language = load(&policy);
    let error = refused(language.expect_labels(&policy).map(drop));
    assert!(error.contains("expected a reward model or a classifier"), "{error}");
    // an adapter of a reward model is none of a policy
    let error = refused(Decoder::load(&policy).unwrap().load_adapter(case("peft")));
    assert!(error.contains("expected one of a language model, got one of a reward model"), "{error}");
    let mut granite = load(&smpo_fixtures::golden("model", "granite"));
    let error = refused(granite.label_sequences(&Labels::reward(), 0));
    assert!(error.contains("expected one of a family that has such a class") && error.contains("Llama"), "{error}");
    let mut classes = load(&case("classes"));
    let error = refused(classes.label_sequences(&Labels::reward(), 0));
    assert!(error.contains("expected one with 1 of them"), "{error}");
}

#[test]
fn a_head_of_a_wrong_shape_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(case("classes").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["id2label"] = serde_json::json!({"0": "yes", "1": "no"});
    config["label2id"] = serde_json::json!({"yes": 0, "no": 1});
    std::fs::write(temp.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(case("classes").join("model.safetensors"), temp.path().join("model.safetensors")).unwrap();
    let error = Decoder::load(temp.path()).unwrap_err().to_string();
    assert!(error.contains("`score.weight`: expected shape [2, 16], got [3, 16]"), "{error}");
}
