//! The weight of a linear layer or the embedding, in one of several storages.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use smpo_kernels::{PackedWeight, Weight};

use crate::error::{ModelError, Result};
use crate::layout::Slot;
use crate::lora::Fingerprint;
use crate::parameter::Parameter;
use crate::placement::Placement;

/// The weight of a linear layer, (out, in), or the embedding, (`V`, `H`).
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    /// A tensor: trainable, or frozen, and then on the CPU perhaps in 16 bits.
    Tensor(Parameter),
    /// Packed blocks, frozen.
    Packed(Box<PackedParameter>),
}

/// Packed blocks under their name in the weight file.
#[derive(Debug, Clone)]
pub(crate) struct PackedParameter {
    pub name: String,
    pub weight: PackedWeight,
    /// Fingerprint of the weight before it was packed.
    pub fingerprint: Fingerprint,
}

impl PackedParameter {
    /// A weight that is packed in its file.
    pub fn as_stored(slot: &Slot, weight: PackedWeight) -> Result<Self> {
        let (rows, columns) = weight.shape();
        let fingerprint = Fingerprint::new(rows, |index| {
            let mut row = vec![0.0; columns];
            weight.read(index * columns, &mut row);
            Ok(row)
        })?;
        Ok(Self { name: slot.name.clone(), weight, fingerprint })
    }
}

impl Matrix {
    /// Name in the weight file.
    pub fn name(&self) -> &str {
        match self {
            Self::Tensor(parameter) => &parameter.name,
            Self::Packed(packed) => &packed.name,
        }
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> Result<(usize, usize)> {
        match self {
            Self::Tensor(parameter) => Ok(parameter.tensor.dims2()?),
            Self::Packed(packed) => Ok(packed.weight.shape()),
        }
    }

    /// The argument of an operation.
    pub fn weight(&self) -> Weight<'_> {
        match self {
            Self::Tensor(parameter) => Weight::Tensor(&parameter.tensor),
            Self::Packed(packed) => Weight::Packed(&packed.weight),
        }
    }

    /// The parameter, if it is a tensor.
    pub fn parameter(&self) -> Option<&Parameter> {
        match self {
            Self::Tensor(parameter) => Some(parameter),
            Self::Packed(_) => None,
        }
    }

    /// The parameter, if it is a tensor.
    pub fn parameter_mut(&mut self) -> Option<&mut Parameter> {
        match self {
            Self::Tensor(parameter) => Some(parameter),
            Self::Packed(_) => None,
        }
    }

    /// True for a tensor in float32.
    pub fn is_float32(&self) -> bool {
        self.parameter().is_some_and(|parameter| parameter.tensor.dtype() == DType::F32)
    }

    /// True if it is trained.
    pub fn is_trained(&self) -> bool {
        self.parameter().is_some_and(|parameter| parameter.tensor.is_variable())
    }

    /// The same values outside any graph.
    pub fn detached(&self) -> Self {
        match self {
            Self::Tensor(Parameter { name, tensor }) => {
                Parameter { name: name.clone(), tensor: tensor.detach() }.into()
            }
            Self::Packed(packed) => Self::Packed(packed.clone()),
        }
    }

    /// The values as a tensor of the placement's dtype: a copy, unless they lie there in it.
    pub fn dense(&self, placement: &Placement) -> Result<Cow<'_, Tensor>> {
        match self {
            Self::Tensor(parameter) if parameter.tensor.dtype() == placement.dtype.candle() => {
                Ok(Cow::Borrowed(&parameter.tensor))
            }
            Self::Tensor(parameter) => Ok(Cow::Owned(placement.place(&parameter.tensor)?)),
            Self::Packed(packed) => {
                let values = packed.weight.dequantise();
                let tensor = Tensor::from_vec(values, packed.weight.shape(), &Device::Cpu)?;
                Ok(Cow::Owned(placement.place(&tensor)?))
            }
        }
    }

    /// Turns packed blocks into a frozen tensor of the same values.
    pub fn unpack(&mut self, placement: &Placement) -> Result<()> {
        if let Self::Packed(packed) = self {
            let name = packed.name.clone();
            let tensor = self.dense(placement)?.into_owned();
            *self = Self::Tensor(Parameter { name, tensor });
        }
        Ok(())
    }

    /// True for blocks whose values are the file's own: they may be dequantised and trained.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Packed(packed) if packed.weight.four_bit().is_none())
    }

    /// The values of a row in float32.
    pub fn row(&self, index: usize) -> Result<Vec<f32>> {
        match self {
            Self::Tensor(parameter) => Ok(crate::placement::host_values(&parameter.tensor.get(index)?)?),
            Self::Packed(packed) => {
                let (_, columns) = packed.weight.shape();
                let mut values = vec![0.0; columns];
                packed.weight.read(index * columns, &mut values);
                Ok(values)
            }
        }
    }

    /// Refuses a request to train it, if it was quantised for this run or in four bits.
    pub fn refuse_training(&self, what: &str) -> Result<()> {
        match self {
            Self::Packed(packed) if !self.is_exact() => {
                let module = packed.name.trim_end_matches(".weight");
                let got = format!("`{module}`, which is frozen in four bits; name it in llm_int8_skip_modules");
                Err(ModelError::input(what, "modules that are not quantised", got))
            }
            Self::Tensor(_) | Self::Packed(_) => Ok(()),
        }
    }
}

impl From<Parameter> for Matrix {
    fn from(parameter: Parameter) -> Self {
        Self::Tensor(parameter)
    }
}

impl From<PackedParameter> for Matrix {
    fn from(packed: PackedParameter) -> Self {
        Self::Packed(Box::new(packed))
    }
}
