//! Weights of a GGUF file under Hugging Face's names, in Hugging Face's order of rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::names::{BESIDE, GgufPlace, gguf_place};
use super::{Architecture, GgmlType, GgufFile, Rows, Tensor};
use crate::config::Config;
use crate::error::{ModelError, Result, list};
use crate::layout::{Role, Slot, layout};
use crate::spec::DecoderSpec;
use crate::weights::WeightDtype;

/// The weights of a model in GGUF, by Hugging Face's names.
#[derive(Debug)]
pub struct GgufWeights {
    file: GgufFile,
    tensors: BTreeMap<String, Mapped>,
}

/// A tensor under another name.
#[derive(Debug)]
struct Mapped {
    name: String,
    shape: Vec<usize>,
    /// Heads whose rows are interleaved.
    interleaved: Option<usize>,
    /// Number that the file adds to each value.
    offset: f32,
    /// The expert, in a tensor of all.
    expert: Option<usize>,
}

impl Mapped {
    /// The first of its rows in the tensor, and their number.
    fn rows(&self, tensor: &Tensor<'_>) -> (usize, usize) {
        match (self.expert, &self.shape[..]) {
            (None, _) => (0, tensor.rows()),
            // A bias is a row.
            (Some(expert), [_]) => (expert, 1),
            (Some(expert), shape) => (expert * shape[0], shape[0]),
        }
    }
}

/// Blocks of a weight as they are stored, their rows in Hugging Face's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Type of the blocks.
    pub kind: GgmlType,
    /// Shape of the weight, (out, in); blocks lie along the rows.
    pub shape: Vec<usize>,
    /// Bytes of all blocks.
    pub bytes: Vec<u8>,
}

impl GgufWeights {
    /// Opens a file, with all its parts, and finds every tensor of the model in it.
    ///
    /// # Errors
    /// When its architecture is not supported, the header is damaged, or tensors are missing, left over, of another shape, or
    /// of a type that is not dequantised.
    pub fn open(path: &Path) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let (_, architecture) = Architecture::of(&file)?;
        let config = Config::of_gguf(&file)?;
        let slots = layout(config.spec());
        let mut tensors = BTreeMap::new();
        let mut missing = Vec::new();
        for slot in slots {
            let place = gguf_place(&slot.name, &config.spec().norms, architecture.feed_forward_norm);
            let GgufPlace { name, expert } =
                place.unwrap_or_else(|| GgufPlace { name: slot.name.clone(), expert: None });
            match file.tensor(&name) {
                None if missing.contains(&name) => {}
                None => missing.push(name),
                Some(tensor) => {
                    let experts = config.spec().experts.as_ref().filter(|_| expert.is_some());
                    check(&tensor, &slot, experts.map(|experts| experts.count))?;
                    let mapped = Mapped {
                        expert,
                        interleaved: interleaved(architecture.rows, &slot.name, config.spec()),
                        // llama.cpp stores 1 + gain.
                        offset: if slot.role == Role::Norm && config.spec().norm_plus_one { 1.0 } else { 0.0 },
                        shape: slot.shape,
                        name,
                    };
                    tensors.insert(slot.name, mapped);
                }
            }
        }
        let of_parts = |names: &[String], expected: &str, got: &str| -> ModelError {
            file.metadata().error("tensors", format!("{expected} {}", list(names)), got).into()
        };
        if !missing.is_empty() {
            return Err(of_parts(&missing, "the tensors of its architecture, with", "none of that name"));
        }
        let known: Vec<&str> = tensors.values().map(|mapped| mapped.name.as_str()).chain(BESIDE).collect();
        let extra: Vec<String> =
            file.tensors().map(|tensor| tensor.name()).filter(|name| !known.contains(name)).map(String::from).collect();
        if !extra.is_empty() {
            return Err(of_parts(&extra, "only the tensors of its architecture, without", "these as well"));
        }
        Ok(Self { file, tensors })
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Hugging Face's names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// True if there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape and type of a tensor; `None` where there is none of that name.
    pub fn describe(&self, name: &str) -> Option<(&[usize], GgmlType)> {
        let mapped = self.tensors.get(name)?;
        Some((&mapped.shape, self.file.tensor(&mapped.name)?.ggml_type()))
    }

    /// The blocks of a weight as they are stored; `None` for values that are no blocks, and where there is no tensor of that
    /// name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn blocks(&self, name: &str) -> Result<Option<Blocks>> {
        let Some((mapped, tensor)) = self.find(name) else { return Ok(None) };
        if !tensor.ggml_type().is_quantised() || mapped.offset != 0.0 {
            return Ok(None);
        }
        let (first, rows) = mapped.rows(&tensor);
        let bytes = match mapped.interleaved {
            None => tensor.bytes_of_rows(first..first + rows)?,
            Some(heads) => {
                let stored = tensor.bytes()?;
                let row = |index| {
                    let at = stored_row(index, tensor.rows(), heads) * tensor.row_bytes();
                    &stored[at..at + tensor.row_bytes()]
                };
                (0..tensor.rows()).flat_map(row).copied().collect()
            }
        };
        Ok(Some(Blocks { kind: tensor.ggml_type(), shape: mapped.shape.clone(), bytes }))
    }

    /// A range of the values of a tensor in float32, row-major.
    ///
    /// # Errors
    /// When there is no tensor of that name, or the file cannot be read.
    pub fn read_part(&self, name: &str, part: Range<usize>) -> Result<Vec<f32>> {
        let missing = || ModelError::missing(self.file.path().to_path_buf(), format!("`{name}`"));
        let (mapped, tensor) = self.find(name).ok_or_else(missing)?;
        let mut values = Vec::new();
        match mapped.interleaved {
            // A bias is one row: its values are the rows of a weight.
            Some(heads) if mapped.shape.len() == 1 => {
                let stored = tensor.dequantise()?;
                values.extend(part.map(|index| stored[stored_row(index, stored.len(), heads)]));
            }
            Some(heads) => {
                let row = |index| stored_row(index, tensor.rows(), heads);
                read_rows(&tensor, part, &mut values, |rows, values| {
                    rows.map(row).try_for_each(|row| tensor.dequantise_rows(row..row + 1, values))
                })?;
            }
            None => {
                let before = mapped.rows(&tensor).0 * tensor.row_values();
                let part = before + part.start..before + part.end;
                read_rows(&tensor, part, &mut values, |rows, values| tensor.dequantise_rows(rows, values))?;
            }
        }
        if mapped.offset != 0.0 {
            values.iter_mut().for_each(|value| *value -= mapped.offset);
        }
        Ok(values)
    }

    /// Names of the types of its tensors, those of most values first.
    pub fn types(&self) -> Vec<&'static str> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for tensor in self.file.tensors() {
            let name = tensor.ggml_type().name();
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += tensor.values(),
                None => counts.push((name, tensor.values())),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts.into_iter().map(|(name, _)| name).collect()
    }

    /// Size of all tensors, in bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.file.tensors().map(|tensor| tensor.byte_count() as u64).sum()
    }

    fn find(&self, name: &str) -> Option<(&Mapped, Tensor<'_>)> {
        let mapped = self.tensors.get(name)?;
        Some((mapped, self.file.tensor(&mapped.name)?))
    }
}

/// Values `part` of a tensor, of which `read` appends whole rows.
fn read_rows(
    tensor: &Tensor<'_>,
    part: Range<usize>,
    values: &mut Vec<f32>,
    read: impl FnOnce(Range<usize>, &mut Vec<f32>) -> smpo_gguf::Result<()>,
) -> Result<()> {
    let width = tensor.row_values();
    let rows = part.start / width..part.end.div_ceil(width).min(tensor.rows());
    values.reserve_exact(rows.len() * width);
    let before = part.start - rows.start * width;
    read(rows, values)?;
    values.truncate(before + part.len());
    values.drain(..before);
    Ok(())
}

/// Refuses a tensor of another shape, that of `experts` experts where it has them all, or of a type that is not dequantised.
fn check(tensor: &Tensor<'_>, slot: &Slot, experts: Option<usize>) -> Result<()> {
    let shape: Vec<usize> = experts.into_iter().chain(slot.shape.iter().copied()).collect();
    if tensor.shape() != shape {
        return Err(ModelError::Shape {
            path: tensor.path().to_path_buf(),
            tensor: tensor.name().to_string(),
            expected: shape,
            got: tensor.shape().to_vec(),
        });
    }
    Ok(tensor.check_type()?)
}

/// Heads of a weight or bias whose rows are interleaved.
fn interleaved(rows: Rows, name: &str, spec: &DecoderSpec) -> Option<usize> {
    match rows {
        Rows::Interleaved if name.contains(".self_attn.q_proj.") => Some(spec.heads),
        Rows::Interleaved if name.contains(".self_attn.k_proj.") => Some(spec.kv_heads),
        _ => None,
    }
}

/// Row of the file for row `index` of `rows`: the halves of each head are interleaved there.
fn stored_row(index: usize, rows: usize, heads: usize) -> usize {
    let width = rows / heads;
    let (head, within) = (index / width, index % width);
    let (half, pair) = (within / (width / 2), within % (width / 2));
    head * width + 2 * pair + half
}

/// The dtype in which a tensor is saved unless another is wanted: its own, or bfloat16 for quantised values, whose rounding
/// is far below their own error.
pub(crate) fn saved_dtype(kind: GgmlType) -> WeightDtype {
    match kind {
        GgmlType::F32 => WeightDtype::F32,
        GgmlType::F16 => WeightDtype::F16,
        _ => WeightDtype::Bf16,
    }
}
