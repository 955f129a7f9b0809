//! Named tensors, trainable or frozen, initialized or loaded.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use smpo_kernels::{absent, is_emulating};

use crate::error::{ModelError, Result, found, list};
use crate::layout::{EMBEDDING, HEAD, Role, Slot, layout};
use crate::lora::Fingerprint;
use crate::matrix::{Matrix, PackedParameter};
use crate::placement::Placement;
use crate::shards::{Piece, cut};
use crate::spec::DecoderSpec;
use crate::storage::{FrozenMatrix, Storage};
use crate::weights::{WeightDtype, WeightFiles};

/// A tensor under its name in the weight file. A variable is trainable; anything else is frozen.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub name: String,
    pub tensor: Tensor,
}

impl Parameter {
    /// A trainable parameter.
    pub fn trainable(name: String, values: Vec<f32>, shape: &[usize], placement: &Placement) -> Result<Self> {
        let tensor = placement.variable(values, shape)?.into_inner();
        Ok(Self { name, tensor })
    }

    /// Copies the values to a placement; a variable becomes another variable.
    pub fn place(&mut self, placement: &Placement) -> Result<()> {
        let placed = placement.place(&self.tensor)?;
        self.tensor = if self.tensor.is_variable() { Var::from_tensor(&placed)?.into_inner() } else { placed };
        Ok(())
    }

    /// The variable, when trainable.
    pub fn var(&self) -> Option<Var> {
        if !self.tensor.is_variable() {
            return None;
        }
        // A variable is returned as it is: no copy, same identity, and so it cannot fail.
        Var::from_tensor(&self.tensor).ok()
    }

    /// Makes the parameter trainable or frozen; the values stay, in the placement's dtype where they are trained.
    pub fn set_trainable(&mut self, trainable: bool, placement: &Placement) -> Result<()> {
        match (self.tensor.is_variable(), trainable) {
            (true, false) => self.tensor = self.tensor.detach(),
            (false, true) => self.tensor = Var::from_tensor(&placement.place(&self.tensor)?)?.into_inner(),
            _ => {}
        }
        Ok(())
    }
}

/// Parameters of a decoder being built, by name.
pub(crate) struct Parameters(HashMap<String, Matrix>);

impl Parameters {
    /// Removes and returns a parameter. It exists: the layout is the source of both names.
    pub fn take(&mut self, name: &str) -> Result<Parameter> {
        self.take_if_there(name).ok_or_else(|| ModelError::input("parameter", name, "nothing of that name"))
    }

    /// Removes and returns a parameter if the layout has it.
    pub fn take_if_there(&mut self, name: &str) -> Option<Parameter> {
        match self.0.remove(name)? {
            Matrix::Tensor(parameter) => Some(parameter),
            // Of linear layers alone, which are taken as matrices.
            Matrix::Packed(_) => None,
        }
    }

    /// Removes and returns the weight of a linear layer.
    pub fn take_matrix(&mut self, name: &str) -> Result<Matrix> {
        self.0.remove(name).ok_or_else(|| ModelError::input("parameter", name, "nothing of that name"))
    }

    /// Reads all from a model directory, after checking that it has exactly these; all are trainable.
    pub fn load(spec: &DecoderSpec, files: &WeightFiles, placement: &Placement) -> Result<Self> {
        Self::read(spec, files, |slot| trained(slot, files, placement))
    }

    /// As [`Parameters::load`], all frozen.
    pub fn load_frozen(
        spec: &DecoderSpec,
        files: &WeightFiles,
        placement: &Placement,
        storage: &Storage,
    ) -> Result<Self> {
        Self::read(spec, files, |slot| frozen(slot, files, placement, storage))
    }

    /// As [`Parameters::load`] or [`Parameters::load_frozen`], but of every block only the part that process `rank` of
    /// `world` keeps, block by block beside the parameters, whose values are not in memory.
    pub fn load_parts(
        spec: &DecoderSpec,
        files: &WeightFiles,
        placement: &Placement,
        trained: bool,
        [rank, world]: [usize; 2],
    ) -> Result<(Self, Vec<Vec<Piece>>)> {
        let slots = layout(spec);
        let parts = cut(&slots, rank, world);
        let mut blocks: Vec<Vec<Piece>> = spec.layers.iter().map(|_| Vec::new()).collect();
        let parameters = Self::read(spec, files, |slot| {
            let Some((block, part)) = parts.get(&*slot.name) else {
                return match trained {
                    true => self::trained(slot, files, placement),
                    false => frozen(slot, files, placement, &Storage::default()),
                };
            };
            let own = part_of(slot, part, files, placement, trained)?;
            let (name, tensor) = (slot.name.clone(), absent(&slot.shape, &own, trained)?);
            blocks[*block].push(Piece { name: name.clone(), tensor: tensor.clone(), own });
            Ok(Parameter { name, tensor }.into())
        })?;
        Ok((parameters, blocks))
    }

    fn read(spec: &DecoderSpec, files: &WeightFiles, mut read: impl FnMut(&Slot) -> Result<Matrix>) -> Result<Self> {
        let slots = layout(spec);
        check_names(spec, &slots, files)?;
        check_tied_head(spec, files)?;
        let mut parameters = HashMap::with_capacity(slots.len());
        for slot in slots {
            parameters.insert(slot.name.clone(), read(&slot)?);
        }
        Ok(Self(parameters))
    }

    /// Initializes all: matrices from N(0, std²), gains as the identity, biases zero.
    pub fn draw(spec: &DecoderSpec, seed: u64, embedding_std: f64, placement: &Placement) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = HashMap::new();
        for slot in layout(spec) {
            let values = initial(&mut rng, &slot, spec, std_of(&slot, spec, embedding_std));
            let parameter = Parameter::trainable(slot.name.clone(), values, &slot.shape, placement)?;
            parameters.insert(slot.name, parameter.into());
        }
        Ok(Self(parameters))
    }

    /// As [`Parameters::draw`] with other values, all frozen and matrices in bfloat16 or packed; only a piece of a matrix is
    /// in float32 at a time, and all cores draw.
    pub fn draw_frozen(spec: &DecoderSpec, seed: u64, placement: &Placement, storage: &Storage) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = HashMap::new();
        for (index, slot) in layout(spec).into_iter().enumerate() {
            let matrix = match std_of(&slot, spec, spec.initializer_range) {
                Some(std) if slot.shape.len() == 2 => {
                    let read = |first: usize, out: &mut [f32]| {
                        draw_stretches(seed, ((index as u64) << 40) + first as u64, out, std);
                        Ok(())
                    };
                    let matrix = FrozenMatrix { slot: &slot, placement, dtype: WeightDtype::Bf16, read };
                    match storage.quantises(&slot)? {
                        Some(options) => matrix.quantised(options, None)?,
                        None => matrix.into_stored()?.into(),
                    }
                }
                std => {
                    let values = initial(&mut rng, &slot, spec, std);
                    let tensor = placement.place(&Tensor::from_vec(values, &slot.shape[..], &Device::Cpu)?)?;
                    Parameter { name: slot.name.clone(), tensor }.into()
                }
            };
            parameters.insert(slot.name, matrix);
        }
        Ok(Self(parameters))
    }
}

/// Values from N(0, std²), each stretch from a stream of its own, of which `stream` is the first.
fn draw_stretches(seed: u64, stream: u64, out: &mut [f32], std: f64) {
    const STRETCH: usize = 4096;
    out.par_chunks_mut(STRETCH).enumerate().for_each(|(index, stretch)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream + (index * STRETCH) as u64);
        stretch.copy_from_slice(&normal(&mut rng, stretch.len(), std));
    });
}

/// Initial values of a tensor; `std` is the standard deviation of random ones.
fn initial(rng: &mut ChaCha8Rng, slot: &Slot, spec: &DecoderSpec, std: Option<f64>) -> Vec<f32> {
    let count = slot.shape.iter().product();
    match (slot.role, std) {
        (_, Some(std)) => normal(rng, count, std),
        // As transformers draws it: rates between 0.01 and 16.
        (Role::Rate, None) => (0..count).map(|_| (rng.random_range(0.01..16.0f64)).ln() as f32).collect(),
        (_, None) => vec![constant(slot, spec); count],
    }
}

/// Standard deviation of random values; `None` for biases, gains and rates.
fn std_of(slot: &Slot, spec: &DecoderSpec, embedding_std: f64) -> Option<f64> {
    match slot.role {
        Role::Embedding => Some(embedding_std),
        Role::Weight | Role::Router | Role::Sinks | Role::Convolution => Some(spec.initializer_range),
        Role::Bias | Role::Norm | Role::Rate | Role::Unit => None,
    }
}

/// Initial value of biases and gains.
fn constant(slot: &Slot, spec: &DecoderSpec) -> f32 {
    match slot.role {
        Role::Norm if spec.norm_plus_one => 0.0,
        Role::Norm | Role::Unit => 1.0,
        _ => 0.0,
    }
}

/// A trainable parameter of a model directory.
fn trained(slot: &Slot, files: &WeightFiles, placement: &Placement) -> Result<Matrix> {
    let values = files.read(&slot.name, &slot.shape)?;
    Ok(Parameter::trainable(slot.name.clone(), values, &slot.shape, placement)?.into())
}

/// A frozen parameter of a model directory.
fn frozen(slot: &Slot, files: &WeightFiles, placement: &Placement, storage: &Storage) -> Result<Matrix> {
    match slot.role {
        Role::Embedding | Role::Weight | Role::Router => frozen_matrix(slot, files, placement, storage),
        Role::Bias | Role::Norm | Role::Sinks | Role::Convolution | Role::Rate | Role::Unit => {
            let values = Tensor::from_vec(files.read(&slot.name, &slot.shape)?, &slot.shape[..], &Device::Cpu)?;
            Ok(Parameter { name: slot.name.clone(), tensor: placement.place(&values)? }.into())
        }
    }
}

/// A part of a parameter of a model directory, flat: nothing else of it is read.
fn part_of(
    slot: &Slot,
    part: &Range<usize>,
    files: &WeightFiles,
    placement: &Placement,
    trained: bool,
) -> Result<Tensor> {
    if files.is_packed(&slot.name) {
        let got = format!("packed blocks in `{}`; give the model they were made from", slot.name);
        return Err(ModelError::input("weights in parts (zero_stage = 3)", "float32, bfloat16 or float16", got));
    }
    files.expect(&slot.name, &slot.shape)?;
    let dtype = match slot.role {
        Role::Weight | Role::Router if !trained => files.exact_dtype(&slot.name)?,
        _ => WeightDtype::F32,
    };
    let read = |first: usize, out: &mut [f32]| {
        let first = part.start + first;
        out.copy_from_slice(&files.read_part(&slot.name, first..first + out.len())?);
        Ok(())
    };
    let flat = Slot { shape: vec![part.len()], ..slot.clone() };
    Ok(FrozenMatrix { slot: &flat, placement, dtype, read }.into_stored()?.tensor)
}

/// A frozen matrix of a model directory.
fn frozen_matrix(slot: &Slot, files: &WeightFiles, placement: &Placement, storage: &Storage) -> Result<Matrix> {
    let quantised = storage.quantises(slot)?;
    if *storage == Storage::Dequantised && files.is_packed(&slot.name) {
        let values = Tensor::from_vec(files.read(&slot.name, &slot.shape)?, &slot.shape[..], &Device::Cpu)?;
        return Ok(Parameter { name: slot.name.clone(), tensor: placement.place(&values)? }.into());
    }
    if slot.role == Role::Weight
        && let Some(weight) = files.read_four_bit(&slot.name, &slot.shape)?
    {
        return Ok(PackedParameter::as_stored(slot, weight)?.into());
    }
    // MXFP4 is four bits already.
    if (quantised.is_none() || files.is_mxfp4(&slot.name))
        && keeps_blocks(placement)
        && let Some(weight) = files.read_blocks(&slot.name, &slot.shape)?
    {
        return Ok(PackedParameter::as_stored(slot, weight)?.into());
    }
    files.expect(&slot.name, &slot.shape)?;
    let dtype = files.exact_dtype(&slot.name)?;
    let read = |first: usize, out: &mut [f32]| {
        out.copy_from_slice(&files.read_part(&slot.name, first..first + out.len())?);
        Ok(())
    };
    let matrix = FrozenMatrix { slot, placement, dtype, read };
    match quantised {
        Some(options) => {
            let (rows, columns) = (slot.shape[0], slot.shape[1]);
            let row = |index: usize| files.read_part(&slot.name, index * columns..(index + 1) * columns);
            matrix.quantised(options, Some(Fingerprint::new(rows, row)?))
        }
        None => Ok(matrix.into_stored()?.into()),
    }
}

/// True where products read the blocks of a GGUF file: devices have no kernel for them.
fn keeps_blocks(placement: &Placement) -> bool {
    placement.is_host() && !is_emulating()
}

/// Refuses missing and unexpected tensors, all at once and by name.
pub(crate) fn check_names(spec: &DecoderSpec, slots: &[Slot], files: &WeightFiles) -> Result<()> {
    let missing: Vec<&str> = slots.iter().map(|s| s.name.as_str()).filter(|n| !files.contains(n)).collect();
    let head = format!("{HEAD}.weight");
    let expected: std::collections::HashSet<&str> = slots.iter().map(|s| s.name.as_str()).collect();
    let extra: Vec<&str> = files
        .names()
        .filter(|n| !expected.contains(n))
        .filter(|n| !(spec.tied && *n == head))
        .filter(|n| !is_rotary_buffer(n))
        .filter(|n| !files.is_four_bit_part(n))
        .collect();
    if !missing.is_empty() {
        let found = found(extra);
        return Err(ModelError::MissingTensors { path: files.dir().to_path_buf(), names: list(&missing), found });
    }
    if !extra.is_empty() {
        return Err(ModelError::ExtraTensors { path: files.dir().to_path_buf(), names: list(&extra) });
    }
    Ok(())
}

/// True for a buffer of old exports, which the configuration implies.
pub(crate) fn is_rotary_buffer(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// Refuses a stored tied head that is not the embedding.
pub(crate) fn check_tied_head(spec: &DecoderSpec, files: &WeightFiles) -> Result<()> {
    let head = format!("{HEAD}.weight");
    if let Some(file) = files.file_of(&head).filter(|_| spec.tied) {
        let shape = [spec.vocab_size, spec.hidden_size];
        files.expect(&head, &shape)?;
        files.expect(EMBEDDING, &shape)?;
        let differs = |row: usize| -> Result<bool> {
            let row = row * spec.hidden_size..(row + 1) * spec.hidden_size;
            Ok(files.read_part(&head, row.clone())? != files.read_part(EMBEDDING, row)?)
        };
        let mut row = 0;
        while row < spec.vocab_size && !differs(row)? {
            row += 1;
        }
        if row < spec.vocab_size {
            return Err(ModelError::TiedHeadDiffers {
                path: file.path().to_path_buf(),
                head,
                embedding: EMBEDDING.into(),
            });
        }
    }
    Ok(())
}

/// Draws from N(0, std²) by Box and Muller's transform, which gives two at a time.
pub(crate) fn normal(rng: &mut ChaCha8Rng, count: usize, std: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}
