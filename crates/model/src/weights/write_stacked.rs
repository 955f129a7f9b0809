//! Single experts' tensors, written as those that have all experts of a block in one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::{Dtype, View};

use super::{OutputTensor, StoredTensor, WeightDtype};
use crate::stacked::{StackedPlace, stacked_place, transposed};

/// A tensor of all experts of a block.
pub(crate) struct StackedTensor {
    /// (E, in, out), or (E, out) of a bias.
    shape: Vec<usize>,
    dtype: WeightDtype,
    /// By expert, gate before up.
    parts: Vec<(StackedPlace, StoredTensor)>,
}

/// The tensors as they are written where all experts of a block are in one.
pub(crate) fn stack_experts(tensors: Vec<(String, StoredTensor)>) -> Vec<(String, OutputTensor<'static>)> {
    let mut all = Vec::new();
    let mut stacked: BTreeMap<String, Vec<(StackedPlace, StoredTensor)>> = BTreeMap::new();
    for (name, tensor) in tensors {
        match stacked_place(&name) {
            Some(place) => stacked.entry(place.whole.clone()).or_default().push((place, tensor)),
            None => all.push((name, OutputTensor::Stored(tensor))),
        }
    }
    let wholes = stacked.into_iter().filter_map(|(name, parts)| Some((name, StackedTensor::new(parts)?)));
    all.extend(wholes.map(|(name, whole)| (name, OutputTensor::Stacked(whole))));
    all
}

impl StackedTensor {
    /// Puts the parts of one tensor together, given in any order; `None` for no parts.
    fn new(mut parts: Vec<(StackedPlace, StoredTensor)>) -> Option<Self> {
        parts.sort_by_key(|(place, _)| (place.expert, place.outputs.first));
        let (last, part) = parts.last()?;
        let (count, outputs, dtype) = (last.expert + 1, part.shape()[0] * last.outputs.step, part.output_dtype());
        let shape = match part.shape().get(1) {
            Some(inputs) => vec![count, *inputs, outputs],
            None => vec![count, outputs],
        };
        Some(Self { shape, dtype, parts })
    }

    /// Values of one expert, inputs before outputs.
    fn expert(&self, parts: &[(StackedPlace, StoredTensor)]) -> Vec<f32> {
        let (inputs, outputs) = match self.shape[..] {
            [_, inputs, outputs] => (inputs, outputs),
            _ => (1, self.shape[1]),
        };
        let mut rows = vec![0.0; outputs * inputs];
        for (place, part) in parts {
            for (index, row) in part.values().chunks_exact(inputs).enumerate() {
                rows[place.outputs.of(index) * inputs..][..inputs].copy_from_slice(row);
            }
        }
        transposed(&rows, outputs, inputs)
    }
}

impl View for StackedTensor {
    fn dtype(&self) -> Dtype {
        self.dtype.safetensors()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for parts in self.parts.chunk_by(|(a, _), (b, _)| a.expert == b.expert) {
            self.dtype.encode(&self.expert(parts), &mut bytes);
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}
