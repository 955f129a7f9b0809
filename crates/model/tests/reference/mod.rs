//! Reading the golden files.
#![allow(dead_code)] // each test program uses its own part

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::Tensor;
use safetensors::{Dtype, SafeTensors};
use smpo_model::{Decoder, PackedBatch};

/// Names of all float32 models under `golden/`, sorted.
pub fn cases() -> Vec<&'static str> {
    models_in("")
}

/// Names of the models in a folder of `golden/`, sorted.
pub fn models_in(folder: &str) -> Vec<&'static str> {
    let entries = std::fs::read_dir(case_dir(folder)).unwrap();
    let models = entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("config.json").exists());
    let mut names: Vec<&str> =
        models.map(|path| &*path.file_name().unwrap().to_str().unwrap().to_owned().leak()).collect();
    names.sort_unstable();
    names
}

pub fn case_dir(case: &str) -> PathBuf {
    smpo_fixtures::golden("model", case)
}

/// Results of PyTorch; `generate.py` documents each field.
pub struct Expected {
    pub sequences: Vec<Sequence>,
    pub gradients: HashMap<String, Vec<f32>>,
    pub adamw_losses: Vec<f64>,
}

pub struct Sequence {
    pub prompt: Vec<u32>,
    pub completion: Vec<u32>,
    pub hidden: Vec<f32>,
    pub log_probs: Vec<f32>,
    pub weights: Vec<f32>,
    pub greedy: Vec<u32>,
}

impl Expected {
    /// The three sequences, each by itself.
    pub fn batch(&self) -> PackedBatch {
        PackedBatch::from_sequences(self.sequences.iter().map(|s| (&s.prompt[..], &s.completion[..]))).unwrap()
    }

    pub fn log_probs(&self) -> Vec<f32> {
        self.sequences.iter().flat_map(|s| s.log_probs.clone()).collect()
    }

    pub fn weights(&self) -> Vec<f32> {
        self.sequences.iter().flat_map(|s| s.weights.clone()).collect()
    }

    pub fn read(case: &str) -> Self {
        Self::read_with_prefix(case, "")
    }

    /// Results of another computation, whose fields have a prefix.
    pub fn read_with_prefix(case: &str, prefix: &str) -> Self {
        let bytes = std::fs::read(case_dir(case).join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| -> Vec<f64> {
            let tensor = file.tensor(name).unwrap();
            let data = tensor.data();
            match tensor.dtype() {
                Dtype::F32 => data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
                Dtype::F64 => data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::I32 => data.chunks(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
                other => panic!("{name}: {other:?}"),
            }
        };
        let floats = |name: &str| numbers(name).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let ids = |name: &str| numbers(name).into_iter().map(|x| x as u32).collect::<Vec<u32>>();
        // Adapters' files leave out what does not depend on them.
        let known = |name: String| file.names().contains(&name.as_str()).then_some(name);
        let sequences = (0..3)
            .map(|i| Sequence {
                prompt: ids(&format!("s{i}.prompt")),
                completion: ids(&format!("s{i}.completion")),
                hidden: known(format!("{prefix}s{i}.hidden")).map(|n| floats(&n)).unwrap_or_default(),
                log_probs: floats(&format!("{prefix}s{i}.log_probs")),
                weights: floats(&format!("s{i}.weights")),
                greedy: known(format!("s{i}.greedy")).map(|n| ids(&n)).unwrap_or_default(),
            })
            .collect();
        let gradients = file
            .names()
            .into_iter()
            .filter_map(|name| Some((name.strip_prefix(prefix)?.strip_prefix("grad.")?.to_string(), floats(name))))
            .collect();
        Self {
            sequences,
            gradients,
            adamw_losses: known("adamw.losses".into()).map(|n| numbers(&n)).unwrap_or_default(),
        }
    }
}

/// The largest difference, relative to the largest expected magnitude; infinite when either holds a NaN.
pub fn relative_difference(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "lengths");
    if ours.iter().chain(theirs).any(|x| x.is_nan()) {
        return f64::INFINITY;
    }
    let largest = theirs.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
    let difference = ours.iter().zip(theirs).fold(0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    difference / largest
}

/// Moves every trainable variable away from where it starts: B starts at zero, and A would get no gradient.
pub fn perturb(decoder: &Decoder) {
    for (index, (_, variable)) in decoder.trainable().iter().enumerate() {
        let moved: Vec<f32> = values(variable)
            .iter()
            .enumerate()
            .map(|(i, x)| x + 0.2 * ((7 * i + 3 * index + 1) as f32).sin())
            .collect();
        variable.set(&Tensor::from_vec(moved, variable.shape(), variable.device()).unwrap()).unwrap();
    }
}

/// All values of a tensor, row-major.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
