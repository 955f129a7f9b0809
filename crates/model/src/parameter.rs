//! Named tensors, trainable or frozen, initialized or loaded.

use std::collections::HashMap;

use candle_core::{Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{ModelError, Result, list};
use crate::layout::{EMBEDDING, HEAD, Role, Slot, layout};
use crate::placement::Placement;
use crate::spec::DecoderSpec;
use crate::weights::WeightFiles;

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

    /// Makes the parameter trainable or frozen; the values stay.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        match (self.tensor.is_variable(), trainable) {
            (true, false) => self.tensor = self.tensor.detach(),
            (false, true) => self.tensor = Var::from_tensor(&self.tensor)?.into_inner(),
            _ => {}
        }
        Ok(())
    }
}

/// Parameters of a decoder being built, by name.
pub(crate) struct Parameters(HashMap<String, Parameter>);

impl Parameters {
    /// Removes and returns a parameter. It exists: the layout is the source of both names.
    pub fn take(&mut self, name: &str) -> Result<Parameter> {
        self.0.remove(name).ok_or_else(|| ModelError::input("parameter", name, "nothing of that name"))
    }

    /// Removes and returns a parameter if the layout has it.
    pub fn take_if_there(&mut self, name: &str) -> Option<Parameter> {
        self.0.remove(name)
    }

    /// Reads all from a model directory, after checking that it has exactly these.
    pub fn load(spec: &DecoderSpec, files: &WeightFiles, placement: &Placement) -> Result<Self> {
        let slots = layout(spec);
        check_names(spec, &slots, files)?;
        check_tied_head(spec, files)?;
        let mut parameters = HashMap::with_capacity(slots.len());
        for slot in slots {
            let values = files.read(&slot.name, &slot.shape)?;
            let parameter = Parameter::trainable(slot.name.clone(), values, &slot.shape, placement)?;
            parameters.insert(slot.name, parameter);
        }
        Ok(Self(parameters))
    }

    /// Initializes all: matrices from N(0, std²), gains as the identity, biases zero.
    pub fn draw(spec: &DecoderSpec, seed: u64, embedding_std: f64, placement: &Placement) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = HashMap::new();
        for Slot { name, shape, role } in layout(spec) {
            let count = shape.iter().product();
            let values = match role {
                Role::Embedding => normal(&mut rng, count, embedding_std),
                Role::Weight => normal(&mut rng, count, spec.initializer_range),
                Role::Bias => vec![0.0; count],
                Role::Norm if spec.norm_plus_one => vec![0.0; count],
                Role::Norm => vec![1.0; count],
            };
            let parameter = Parameter::trainable(name.clone(), values, &shape, placement)?;
            parameters.insert(name, parameter);
        }
        Ok(Self(parameters))
    }
}

/// Refuses missing and unexpected tensors, all at once and by name.
pub(crate) fn check_names(spec: &DecoderSpec, slots: &[Slot], files: &WeightFiles) -> Result<()> {
    let missing: Vec<&str> = slots.iter().map(|s| s.name.as_str()).filter(|n| !files.contains(n)).collect();
    if !missing.is_empty() {
        return Err(ModelError::MissingTensors { path: files.dir().to_path_buf(), names: list(&missing) });
    }
    let head = format!("{HEAD}.weight");
    let expected: std::collections::HashSet<&str> = slots.iter().map(|s| s.name.as_str()).collect();
    let extra: Vec<&str> = files
        .names()
        .filter(|n| !expected.contains(n))
        .filter(|n| !(spec.tied && *n == head))
        .filter(|n| !is_rotary_buffer(n))
        .collect();
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
        if files.read(&head, &shape)? != files.read(EMBEDDING, &shape)? {
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
