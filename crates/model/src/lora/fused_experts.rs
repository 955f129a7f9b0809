//! Adapters of all experts of a block in one pair of tensors, as PEFT has them beside transformers 5, where the experts'
//! weights are one parameter (`target_parameters`): A (E·r, K), expert by expert, and B (O, r·E), rank by rank.

use super::peft::PREFIX;
use crate::error::Result;
use crate::layout::EXPERTS;
use crate::spec::{DecoderSpec, ExpertsSpec};
use crate::weights::WeightFile;

const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// One expert's part of a fused tensor.
#[derive(Debug, Clone)]
pub(super) struct ExpertPart {
    /// Name of the tensor in the file.
    tensor: String,
    /// Its shape.
    shape: [usize; 2],
    expert: usize,
    /// Number of experts.
    count: usize,
    /// First row of the part of B; `None` for A.
    first_output: Option<usize>,
    /// The parameter that PEFT adapts, by which patterns name it.
    pub parameter: String,
}

impl ExpertPart {
    /// Name of the fused tensor in the file.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// Shape that the fused tensor has if each part is of shape `part`.
    pub fn whole_shape(&self, part: &[usize]) -> [usize; 2] {
        match self.first_output {
            None => [self.count * part[0], part[1]],
            Some(_) => [self.shape[0], self.count * part[1]],
        }
    }

    /// The part's values out of all, row-major.
    pub fn values(&self, all: &[f32], part: &[usize]) -> Vec<f32> {
        let (rows, width) = (part[0], part[1]);
        let Some(first) = self.first_output else {
            return all[self.expert * rows * width..][..rows * width].to_vec();
        };
        let columns = self.count * width;
        let of_row = |row: usize| {
            let row = &all[(first + row) * columns..][..columns];
            (0..width).map(move |rank| row[rank * self.count + self.expert])
        };
        (0..rows).flat_map(of_row).collect()
    }
}

/// The parts of a tensor of `name`, by the names that the adapters of single experts have; none if it is no fused tensor of
/// this model's.
pub(super) fn parts(
    file: &WeightFile,
    spec: &DecoderSpec,
    name: &str,
    stored: &str,
) -> Result<Vec<(String, ExpertPart)>> {
    let Some(experts) = &spec.experts else { return Ok(Vec::new()) };
    let Some(module) = name.strip_suffix(A).or_else(|| name.strip_suffix(B)) else { return Ok(Vec::new()) };
    // PEFT wraps the wrapped parameter of the same module again: that of the inner one is the base layer of the outer.
    let block = module.strip_suffix(".base_layer").unwrap_or(module);
    let Some(block) = block.strip_suffix(EXPERTS.trim_end_matches('.')) else { return Ok(Vec::new()) };
    let [a, b] = [A, B].map(|part| format!("{}{part}", &stored[..stored.len() - A.len()]));
    let (Ok(a), Ok(b)) = (shape(file, &a), shape(file, &b)) else { return Ok(Vec::new()) };
    let (parameter, layers) = layers(spec.hidden_size, experts, a[1], b[0]);
    let is_a = name.ends_with(A);
    let mut parts = Vec::new();
    for expert in 0..experts.count {
        for (layer, first) in layers {
            let part = ExpertPart {
                tensor: stored.to_owned(),
                shape: if is_a { a } else { b },
                expert,
                count: experts.count,
                first_output: (!is_a).then_some(*first * experts.intermediate_size),
                parameter: format!("{}{EXPERTS}{parameter}", block.trim_start_matches(PREFIX)),
            };
            parts.push((format!("{block}{EXPERTS}{expert}.{layer}{}", if is_a { A } else { B }), part));
        }
    }
    Ok(parts)
}

/// Layers of an expert, each with the first of its outputs in widths of an expert.
type Layers = &'static [(&'static str, usize)];

/// The parameter with adapters of `inputs` and `outputs`, and its layers.
fn layers(hidden: usize, experts: &ExpertsSpec, inputs: usize, outputs: usize) -> (&'static str, Layers) {
    let inner = experts.intermediate_size;
    match (inputs, outputs) {
        sizes if sizes == (hidden, 2 * inner) => ("gate_up_proj", &[("gate_proj", 0), ("up_proj", 1)]),
        sizes if sizes == (inner, hidden) => ("down_proj", &[("down_proj", 0)]),
        _ => ("", &[]),
    }
}

fn shape(file: &WeightFile, name: &str) -> Result<[usize; 2]> {
    let (shape, _) = file.describe(name)?;
    match shape[..] {
        [rows, columns] => Ok([rows, columns]),
        // No adapter's.
        _ => Ok([0, 0]),
    }
}
