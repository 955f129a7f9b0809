//! The optimizer's moments in a checkpoint, in the storage that they have in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use smpo_kernels::{AdamW, Moment, Moments};

use crate::error::TrainError;

const FIRST: &str = ".first_moment";
const SECOND: &str = ".second_moment";
const MASTER: &str = ".master";
/// After the name of a moment in 8 bits: the scales of its blocks.
const SCALES: &str = ".scales";

/// A tensor to write.
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn view(&self) -> Result<TensorView<'_>, TrainError> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes).map_err(failed)
    }
}

fn floats(name: String, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Stored { name, dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

/// All moments as a safetensors file.
pub(crate) fn to_bytes(optimizer: &AdamW) -> Result<Vec<u8>, TrainError> {
    let mut tensors = Vec::new();
    for moments in optimizer.moments() {
        let moments = moments?;
        let shape = moments.shape;
        for (suffix, moment) in [(FIRST, moments.first), (SECOND, moments.second)] {
            let name = format!("{}{suffix}", moments.name);
            match moment {
                Moment::Single(values) => tensors.push(floats(name, shape, &values)),
                Moment::Bf16(values) => {
                    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    tensors.push(Stored { name, dtype: Dtype::BF16, shape: shape.to_vec(), bytes });
                }
                Moment::EightBit { codes, scales } => {
                    tensors.push(floats(format!("{name}{SCALES}"), &[scales.len()], &scales));
                    let bytes = codes.into_owned();
                    tensors.push(Stored { name, dtype: Dtype::U8, shape: shape.to_vec(), bytes });
                }
            }
        }
        if let Some(master) = moments.master {
            tensors.push(floats(format!("{}{MASTER}", moments.name), shape, &master));
        }
    }
    let views =
        tensors.iter().map(|stored| Ok((&stored.name[..], stored.view()?))).collect::<Result<Vec<_>, TrainError>>();
    safetensors::serialize(views?, None).map_err(failed)
}

fn failed(error: SafeTensorError) -> TrainError {
    TrainError::Checkpoint { dir: PathBuf::from("optimizer.safetensors"), reason: error.to_string() }
}

/// The moments of [`to_bytes`]'s file.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Vec<Moments>, String> {
    let stored = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let (mut first, mut second, mut masters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, view) in stored.tensors() {
        if name.ends_with(SCALES) {
            continue;
        }
        if let Some(parameter) = name.strip_suffix(FIRST) {
            first.insert(parameter.to_owned(), moment(&stored, &name, &view)?);
        } else if let Some(parameter) = name.strip_suffix(SECOND) {
            second.insert(parameter.to_owned(), moment(&stored, &name, &view)?);
        } else if let Some(parameter) = name.strip_suffix(MASTER) {
            masters.insert(parameter.to_owned(), single(&name, &view)?);
        } else {
            return Err(format!("{name}: expected a name that ends in {FIRST}, {SECOND} or {MASTER}"));
        }
    }
    if let Some(name) = second.keys().find(|name| !first.contains_key(*name)) {
        return Err(format!("{name}: its first moment is missing"));
    }
    if let Some(name) = masters.keys().find(|name| !first.contains_key(*name)) {
        return Err(format!("{name}: its moments are missing"));
    }
    first
        .into_iter()
        .map(|(name, first)| match second.remove(&name) {
            Some(second) => {
                let master = masters.remove(&name);
                Ok(Moments { name, first, second, master })
            }
            None => Err(format!("{name}: its second moment is missing")),
        })
        .collect()
}

fn moment(file: &SafeTensors<'_>, name: &str, view: &TensorView<'_>) -> Result<Moment<'static>, String> {
    match view.dtype() {
        Dtype::BF16 => {
            let values = view.data().chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]));
            Ok(Moment::Bf16(values.collect()))
        }
        Dtype::U8 => {
            let scales = format!("{name}{SCALES}");
            let view_of_scales = file.tensor(&scales).map_err(|error| format!("{scales}: {error}"))?;
            let scales = single(&scales, &view_of_scales)?;
            Ok(Moment::EightBit { codes: view.data().to_vec().into(), scales: scales.into() })
        }
        _ => Ok(Moment::Single(single(name, view)?.into())),
    }
}

fn single(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("{name}: expected F32, got {:?}", view.dtype()));
    }
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
