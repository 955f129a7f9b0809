//! Single experts' tensors, written as those that have all experts of a block in one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::{Dtype, View};

use super::WeightDtype;
use crate::spec::{DecoderSpec, ExpertLayout};
use crate::stacked::{StackedPlace, stacked_place, transposed};

/// A tensor to be written whose values are known.
pub(crate) trait OutputValues: View {
    /// dtype that it is written in.
    fn output_dtype(&self) -> WeightDtype;

    /// The values in float32, row-major; none where they cannot be had. Such a tensor is written short, which the writer
    /// detects: `View` is infallible.
    fn values(&self) -> Vec<f32>;
}

/// A tensor of a directory being written: as it is in memory, or of all experts of a block.
pub(crate) enum Stacked<T> {
    Single(T),
    All(StackedTensor<T>),
}

/// A tensor of all experts of a block.
pub(crate) struct StackedTensor<T> {
    /// (E, in, out), or (E, out) of a bias.
    shape: Vec<usize>,
    dtype: WeightDtype,
    /// By expert, gate before up.
    parts: Vec<(StackedPlace, T)>,
}

/// The tensors of a model as its files have them; `spec` is that of a supported family.
pub(crate) fn stack_experts<T: OutputValues>(
    spec: Option<&DecoderSpec>,
    tensors: Vec<(String, T)>,
) -> Vec<(String, Stacked<T>)> {
    let layout = spec.and_then(|spec| spec.experts.as_ref()).map(|experts| experts.layout);
    let mut all = Vec::new();
    let mut stacked: BTreeMap<String, Vec<(StackedPlace, T)>> = BTreeMap::new();
    for (name, tensor) in tensors {
        match stacked_place(&name).filter(|_| layout == Some(ExpertLayout::Stacked)) {
            Some(place) => stacked.entry(place.whole.clone()).or_default().push((place, tensor)),
            None => all.push((name, Stacked::Single(tensor))),
        }
    }
    let wholes = stacked.into_iter().filter_map(|(name, parts)| Some((name, StackedTensor::new(parts)?)));
    all.extend(wholes.map(|(name, whole)| (name, Stacked::All(whole))));
    all
}

impl<T: OutputValues> StackedTensor<T> {
    /// Puts the parts of one tensor together, given in any order; `None` for no parts.
    fn new(mut parts: Vec<(StackedPlace, T)>) -> Option<Self> {
        parts.sort_by_key(|(place, _)| (place.expert, place.outputs.first));
        let (last, part) = parts.last()?;
        let (count, outputs, dtype) = (last.expert + 1, part.shape()[0] * last.outputs.step, part.output_dtype());
        let shape = match part.shape().get(1) {
            Some(inputs) => vec![count, *inputs, outputs],
            None => vec![count, outputs],
        };
        Some(Self { shape, dtype, parts })
    }

    /// Values of one expert, inputs before outputs; none if those of a part cannot be had.
    fn expert(&self, parts: &[(StackedPlace, T)]) -> Vec<f32> {
        let (inputs, outputs) = match self.shape[..] {
            [_, inputs, outputs] => (inputs, outputs),
            _ => (1, self.shape[1]),
        };
        let mut rows = vec![0.0; outputs * inputs];
        for (place, part) in parts {
            let values = part.values();
            if values.len() != part.shape().iter().product::<usize>() {
                return Vec::new();
            }
            for (index, row) in values.chunks_exact(inputs).enumerate() {
                rows[place.outputs.of(index) * inputs..][..inputs].copy_from_slice(row);
            }
        }
        transposed(&rows, outputs, inputs)
    }
}

impl<T: OutputValues> View for Stacked<T> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Single(tensor) => tensor.dtype(),
            Self::All(whole) => whole.dtype.safetensors(),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Single(tensor) => tensor.shape(),
            Self::All(whole) => &whole.shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let whole = match self {
            Self::Single(tensor) => return tensor.data(),
            Self::All(whole) => whole,
        };
        let mut bytes = Vec::with_capacity(self.data_len());
        for parts in whole.parts.chunk_by(|(a, _), (b, _)| a.expert == b.expert) {
            whole.dtype.encode(&whole.expert(parts), &mut bytes);
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Single(tensor) => tensor.data_len(),
            Self::All(whole) => whole.shape.iter().product::<usize>() * whole.dtype.bytes(),
        }
    }
}
