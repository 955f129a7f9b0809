//! Adapters of all experts of a block in one pair of tensors, as PEFT has them beside transformers 5, where the experts'
//! weights are one parameter (`target_parameters`): A (E·r, K), expert by expert, and B (O, r·E), rank by rank.

use super::peft::PREFIX;
use crate::error::Result;
use crate::layout::EXPERTS;
use crate::spec::{DecoderSpec, ExpertLayout, ExpertsSpec};
use crate::stacked::Outputs;
use crate::weights::WeightFile;

pub(super) const A: &str = ".lora_A.weight";
pub(super) const B: &str = ".lora_B.weight";

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
    /// The layer's outputs among the rows of B, which are those of all layers of the parameter.
    outputs: Outputs,
    /// The parameter that PEFT adapts, by which patterns name it.
    pub parameter: String,
}

impl ExpertPart {
    /// Name of the fused tensor in the file.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// Key of what the layer's parts have in common in all experts.
    pub fn layer(&self) -> (&str, usize) {
        (&self.tensor, self.outputs.first)
    }

    /// Shape of a fused A whose experts have `rank`.
    pub fn shape_of_a(&self, rank: usize, inputs: usize) -> [usize; 2] {
        [self.count.saturating_mul(rank), inputs]
    }

    /// Shape of a fused B whose experts have `rank`.
    pub fn shape_of_b(&self, rank: usize) -> [usize; 2] {
        [self.shape[0], self.count.saturating_mul(rank)]
    }

    /// The ranks that the layer's `outputs` outputs use in any expert: none if the file adapts the other layer of the parameter
    /// alone, all in a new adapter, whose B is zero.
    pub fn used_ranks(&self, b: &[f32], rank: usize, outputs: usize) -> Vec<usize> {
        let columns = self.count * rank;
        let used = |k: &usize| {
            let experts = |row: usize| &b[self.outputs.of(row) * columns + k * self.count..][..self.count];
            (0..outputs).any(|row| experts(row).iter().any(|value| *value != 0.0))
        };
        let some: Vec<usize> = (0..rank).filter(used).collect();
        if some.is_empty() && b.iter().all(|value| *value == 0.0) { (0..rank).collect() } else { some }
    }

    /// A of the expert, (ranks, `inputs`).
    pub fn a(&self, a: &[f32], ranks: &[usize], [rank, inputs]: [usize; 2]) -> Vec<f32> {
        let row = |k: &usize| &a[(self.expert * rank + k) * inputs..][..inputs];
        ranks.iter().flat_map(row).copied().collect()
    }

    /// B of the expert's layer, (`outputs`, ranks).
    pub fn b(&self, b: &[f32], ranks: &[usize], [rank, outputs]: [usize; 2]) -> Vec<f32> {
        let row = |row: usize| &b[self.outputs.of(row) * self.count * rank..];
        (0..outputs).flat_map(|index| ranks.iter().map(move |k| row(index)[k * self.count + self.expert])).collect()
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
        for (layer, outputs) in &layers {
            let part = ExpertPart {
                tensor: stored.to_owned(),
                shape: if is_a { a } else { b },
                expert,
                count: experts.count,
                outputs: *outputs,
                parameter: format!("{}{EXPERTS}{parameter}", block.trim_start_matches(PREFIX)),
            };
            parts.push((format!("{block}{EXPERTS}{expert}.{layer}{}", if is_a { A } else { B }), part));
        }
    }
    Ok(parts)
}

/// Layers of an expert, each with its outputs among those of a parameter.
type Layers = Vec<(&'static str, Outputs)>;

/// The parameter with adapters of `inputs` and `outputs`, and its layers.
fn layers(hidden: usize, experts: &ExpertsSpec, inputs: usize, outputs: usize) -> (&'static str, Layers) {
    let inner = experts.intermediate_size;
    let up = Outputs { first: inner, ..Outputs::ALL };
    match ((inputs, outputs), experts.layout) {
        (sizes, ExpertLayout::Apart) if sizes == (hidden, 2 * inner) => {
            ("gate_up_proj", vec![("gate_proj", Outputs::ALL), ("up_proj", up)])
        }
        (sizes, ExpertLayout::Stacked) if sizes == (hidden, 2 * inner) => {
            ("gate_up_proj", vec![("gate_proj", Outputs::GATE), ("up_proj", Outputs::UP)])
        }
        (sizes, _) if sizes == (inner, hidden) => ("down_proj", vec![("down_proj", Outputs::ALL)]),
        _ => ("", Vec::new()),
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
