//! The state of a run on disk, from which it goes on bit for bit: one safetensors file, its header the rest.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use smpo_files::write_whole;
use smpo_kernels::{AdamW, Moment, Moments};

use super::{Codebook, Found};
use crate::error::{TrainError, io};

const FIRST: &str = ".first_moment";
const SECOND: &str = ".second_moment";
/// Key of the header.
const HEADER: &str = "smpo_prompts";

/// Names of the variables.
pub(super) const VALUES: &str = "codebook";
pub(super) const NOISE: &str = "noise";

/// Everything that a run has beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub schema: u32,
    /// Digest of rows and model.
    pub task: String,
    /// Steps done.
    pub step: u64,
    /// The best prompts so far.
    pub found: Vec<Found>,
}

/// A state that was read.
pub(super) struct State {
    pub header: Header,
    tensors: HashMap<String, Vec<f32>>,
    path: PathBuf,
}

/// Writes a state whole.
pub(super) fn write(path: &Path, header: &Header, codebook: &Codebook, optimizer: &AdamW) -> Result<(), TrainError> {
    let mut tensors: Vec<(String, Vec<f32>)> = Vec::new();
    for (name, variable) in [(VALUES, &codebook.values), (NOISE, &codebook.noise)] {
        tensors.push((name.into(), variable.as_tensor().flatten_all()?.to_vec1()?));
    }
    for view in optimizer.moments() {
        for (suffix, moment) in [(FIRST, view.first()?), (SECOND, view.second()?)] {
            // parameters with full moments have no others
            if let Moment::Single(values) = moment {
                tensors.push((format!("{}{suffix}", view.name()), values.into_owned()));
            }
        }
    }
    let bytes: Vec<(String, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, values)| (name, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let failed = |error: String| damaged(path, error);
    let views = bytes
        .iter()
        .map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let header = serde_json::to_string(header).map_err(std::io::Error::from).map_err(io(path, "write"))?;
    let metadata = Some(HashMap::from([(HEADER.to_owned(), header)]));
    let views = views.map_err(|error| failed(error.to_string()))?;
    let file = safetensors::serialize(views, metadata).map_err(|error| failed(error.to_string()))?;
    Ok(write_whole(path, &file)?)
}

/// Reads the state of an earlier call, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<State>, TrainError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path, "read")(error)),
    };
    let parsed = || -> Result<State, String> {
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER)).ok_or("no header")?;
        let header: Header = serde_json::from_str(header).map_err(|error| error.to_string())?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
        let mut tensors = HashMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(format!("{name}: expected F32, got {:?}", view.dtype()));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            tensors.insert(name, values.collect());
        }
        Ok(State { header, tensors, path: path.to_owned() })
    };
    parsed().map(Some).map_err(|reason| damaged(path, reason))
}

fn damaged(path: &Path, reason: String) -> TrainError {
    TrainError::Checkpoint { dir: path.to_owned(), reason }
}

impl State {
    /// Puts codebook and optimizer where they were.
    pub fn restore(&self, codebook: &Codebook, optimizer: &mut AdamW) -> Result<(), TrainError> {
        let mut moments = Vec::new();
        for (name, variable) in [(VALUES, &codebook.values), (NOISE, &codebook.noise)] {
            let take = |suffix: &str| {
                let name = format!("{name}{suffix}");
                let values = self.tensors.get(&name).filter(|values| values.len() == variable.elem_count());
                values.cloned().ok_or_else(|| damaged(&self.path, format!("{name}: missing, or of another size")))
            };
            variable.set(&Tensor::from_vec(take("")?, variable.shape(), &Device::Cpu)?)?;
            moments.push(Moments {
                name: name.into(),
                start: 0,
                first: Moment::Single(take(FIRST)?.into()),
                second: Moment::Single(take(SECOND)?.into()),
                master: None,
            });
        }
        Ok(optimizer.restore(self.header.step, moments)?)
    }
}
