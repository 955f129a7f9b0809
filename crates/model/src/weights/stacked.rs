//! Single experts' tensors out of those that have all experts of a block in one, in floats or in MXFP4.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use smpo_kernels::{Blocks, PackedWeight};

use super::mxfp4::{BLOCK, CODES, Mxfp4};
use super::sharded::Place;
use super::{WeightDtype, WeightFile, WeightFiles};
use crate::error::{ModelError, Result, found, list};
use crate::layout::layout;
use crate::spec::{DecoderSpec, ExpertLayout};
use crate::stacked::{Outputs, stacked_place, transposed};

/// Ends of the names of a tensor in MXFP4.
const PARTS: [&str; 2] = ["_blocks", "_scales"];

/// Tensors of single experts, by name.
#[derive(Default)]
pub(super) struct Stacked {
    parts: BTreeMap<String, Part>,
    wholes: BTreeMap<String, Whole>,
    /// All outputs of the expert that was read last, row by row: gate is read before up.
    recent: Mutex<Option<Recent>>,
}

struct Recent {
    whole: String,
    expert: usize,
    values: Arc<Vec<f32>>,
}

/// A single expert's tensor.
struct Part {
    whole: String,
    expert: usize,
    outputs: Outputs,
    /// (out, in), or (out) of a bias.
    shape: Vec<usize>,
}

/// A tensor of all experts.
struct Whole {
    storage: WholeStorage,
    /// Number of experts.
    count: usize,
    /// Outputs of an expert.
    outputs: usize,
    /// Inputs of an expert; `None` of a bias.
    inputs: Option<usize>,
}

enum WholeStorage {
    /// (E, in, out), or (E, out).
    Floats(Place),
    /// (E, out, in / 32, 16) and (E, out, in / 32).
    Mxfp4 { blocks: Place, scales: Place },
}

impl Stacked {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }
}

impl Part {
    /// Number of inputs, 1 for a bias.
    fn width(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(1)
    }
}

impl Whole {
    fn place(&self) -> &Place {
        match &self.storage {
            WholeStorage::Floats(place) | WholeStorage::Mxfp4 { blocks: place, .. } => place,
        }
    }
}

impl WeightFiles {
    /// The same with experts one by one, where the family has them all in one tensor.
    ///
    /// # Errors
    /// When a tensor of experts is missing or of another shape.
    pub fn into_single_experts(mut self, spec: &DecoderSpec) -> Result<Self> {
        let Some(experts) = spec.experts.as_ref().filter(|experts| experts.layout == ExpertLayout::Stacked) else {
            return Ok(self);
        };
        if self.files().iter().any(|file| file.gguf().is_some()) {
            return Ok(self);
        }
        let mut missing = Vec::new();
        for slot in layout(spec) {
            let Some(place) = stacked_place(&slot.name) else { continue };
            if !self.stacked.wholes.contains_key(&place.whole) && !missing.contains(&place.whole) {
                let sizes = [slot.shape[0] * place.outputs.step, slot.shape.get(1).copied().unwrap_or(1)];
                match self.take_whole(&place.whole, experts.count, sizes, slot.shape.len() == 1)? {
                    Some(whole) => self.stacked.wholes.insert(place.whole.clone(), whole),
                    None => {
                        missing.push(place.whole);
                        continue;
                    }
                };
            }
            let part = Part { whole: place.whole, expert: place.expert, outputs: place.outputs, shape: slot.shape };
            self.stacked.parts.insert(slot.name, part);
        }
        if missing.is_empty() {
            return Ok(self);
        }
        let found = found(self.names());
        Err(ModelError::MissingTensors { path: self.dir().to_path_buf(), names: list(&missing), found })
    }

    /// Takes a tensor of all experts out of the others; `None` where there is none.
    fn take_whole(
        &mut self,
        name: &str,
        count: usize,
        [outputs, inputs]: [usize; 2],
        is_bias: bool,
    ) -> Result<Option<Whole>> {
        let [blocks, scales] = PARTS.map(|end| format!("{name}{end}"));
        if is_bias || self.contains(name) || !self.contains(&blocks) {
            let Some(place) = self.take(name) else { return Ok(None) };
            let shape = if is_bias { vec![count, outputs] } else { vec![count, inputs, outputs] };
            self.file(&place).expect(&place.name, &shape)?;
            let storage = WholeStorage::Floats(place);
            return Ok(Some(Whole { storage, count, outputs, inputs: (!is_bias).then_some(inputs) }));
        }
        let (Some(blocks), Some(scales)) = (self.take(&blocks), self.take(&scales)) else { return Ok(None) };
        if !inputs.is_multiple_of(BLOCK) {
            return Err(ModelError::Safetensors {
                path: self.file(&blocks).path().to_path_buf(),
                reason: format!("`{name}` in MXFP4: expected a multiple of {BLOCK} inputs, got {inputs}"),
            });
        }
        let groups = inputs / BLOCK;
        self.file(&blocks).expect_bytes(&blocks.name, &[count, outputs, groups, CODES])?;
        self.file(&scales).expect_bytes(&scales.name, &[count, outputs, groups])?;
        let storage = WholeStorage::Mxfp4 { blocks, scales };
        Ok(Some(Whole { storage, count, outputs, inputs: Some(inputs) }))
    }

    /// Shape and dtype of a single expert's tensor; `None` for any other.
    pub(super) fn describe_single(&self, name: &str) -> Result<Option<(Vec<usize>, WeightDtype)>> {
        let Some((part, whole)) = self.single(name) else { return Ok(None) };
        let dtype = match &whole.storage {
            WholeStorage::Floats(place) => self.file(place).describe(&place.name)?.1,
            // It holds every value exactly.
            WholeStorage::Mxfp4 { .. } => WeightDtype::Bf16,
        };
        Ok(Some((part.shape.clone(), dtype)))
    }

    /// The file of a single expert's tensor; `None` for any other.
    pub(super) fn file_of_single(&self, name: &str) -> Option<&WeightFile> {
        self.single(name).map(|(_, whole)| self.file(whole.place()))
    }

    /// A range of the values of a single expert's tensor, row-major; `None` for any other.
    pub(super) fn read_single(&self, name: &str, range: Range<usize>) -> Result<Option<Vec<f32>>> {
        let Some((part, whole)) = self.single(name) else { return Ok(None) };
        let all = self.expert(&part.whole, whole, part.expert)?;
        let width = part.width();
        let mut values = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let (row, column) = (at / width, at % width);
            let count = (width - column).min(range.end - at);
            let start = part.outputs.of(row) * width + column;
            values.extend_from_slice(&all[start..start + count]);
            at += count;
        }
        Ok(Some(values))
    }

    /// True for a single expert's weight in MXFP4.
    pub fn is_mxfp4(&self, name: &str) -> bool {
        self.single(name).is_some_and(|(_, whole)| matches!(whole.storage, WholeStorage::Mxfp4 { .. }))
    }

    /// A single expert's weight in MXFP4, checked to be finite; `None` for any other.
    pub(super) fn read_mxfp4(&self, name: &str) -> Result<Option<PackedWeight>> {
        let Some((part, whole)) = self.single(name) else { return Ok(None) };
        let (WholeStorage::Mxfp4 { blocks, scales }, Some(inputs)) = (&whole.storage, whole.inputs) else {
            return Ok(None);
        };
        let rows = |place: &Place, bytes: usize| -> Result<Vec<u8>> {
            let all = self.expert_bytes(place, part.expert, whole.outputs * bytes)?;
            let row = |row: usize| &all[part.outputs.of(row) * bytes..][..bytes];
            Ok((0..part.shape[0]).flat_map(row).copied().collect())
        };
        let groups = inputs / BLOCK;
        let weight = Mxfp4::new(rows(blocks, groups * CODES)?, rows(scales, groups)?).pack(part.shape[0], inputs);
        self.file(blocks).check_values(name, &weight)?;
        Ok(Some(weight))
    }

    /// Reads every value of the experts, and refuses a NaN or infinity.
    pub(super) fn check_single_values(&self) -> Result<()> {
        let mut wholes = self.stacked.wholes.iter();
        wholes.try_for_each(|(name, whole)| {
            (0..whole.count).try_for_each(|expert| self.expert(name, whole, expert).map(drop))
        })
    }

    /// Bytes of a single expert's weight in MXFP4.
    pub fn mxfp4_bytes(&self, name: &str) -> usize {
        self.single(name).map_or(0, |(part, _)| part.shape.iter().product::<usize>() / BLOCK * (CODES + 1))
    }

    fn single(&self, name: &str) -> Option<(&Part, &Whole)> {
        let part = self.stacked.parts.get(name)?;
        Some((part, self.stacked.wholes.get(&part.whole)?))
    }

    /// All outputs of an expert, (out, in) or (out).
    fn expert(&self, name: &str, whole: &Whole, expert: usize) -> Result<Arc<Vec<f32>>> {
        let mut recent = self.stacked.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = recent.as_ref().filter(|known| known.whole == name && known.expert == expert) {
            return Ok(Arc::clone(&known.values));
        }
        let values = match (&whole.storage, whole.inputs) {
            (WholeStorage::Floats(place), inputs) => {
                let count = whole.outputs * inputs.unwrap_or(1);
                let values = self.file(place).read_part(&place.name, expert * count..(expert + 1) * count)?;
                match inputs {
                    Some(inputs) => transposed(&values, inputs, whole.outputs),
                    None => values,
                }
            }
            (WholeStorage::Mxfp4 { blocks, scales }, inputs) => {
                let groups = whole.outputs * inputs.unwrap_or(1) / BLOCK;
                let codes = self.expert_bytes(blocks, expert, groups * CODES)?;
                let packed = Mxfp4::new(codes, self.expert_bytes(scales, expert, groups)?);
                let mut values = vec![0.0; groups * BLOCK];
                packed.read(0, &mut values);
                self.file(blocks).check_finite(&blocks.name, &values, expert * values.len())?;
                values
            }
        };
        let values = Arc::new(values);
        // A bias is read between the weights of gate and up.
        if whole.inputs.is_some() {
            *recent = Some(Recent { whole: name.to_owned(), expert, values: Arc::clone(&values) });
        }
        Ok(values)
    }

    /// The bytes of an expert in a tensor of bytes, `each` for every expert.
    fn expert_bytes(&self, place: &Place, expert: usize, each: usize) -> Result<Vec<u8>> {
        self.file(place).raw_part(&place.name, expert * each..(expert + 1) * each)
    }
}
