//! The weight of a linear layer, in one of several storages.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor, Var};
use smpo_kernels::{PackedWeight, Weight};

use crate::error::{ModelError, Result};
use crate::lora::Fingerprint;
use crate::parameter::Parameter;
use crate::placement::Placement;

/// The weight of a linear layer, (out, in).
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

    /// Turns packed blocks into a variable.
    pub fn unpack(&mut self, placement: &Placement) -> Result<()> {
        if let Self::Packed(packed) = self {
            let name = packed.name.clone();
            let values = Var::from_tensor(self.dense(placement)?.as_ref())?.into_inner();
            *self = Self::Tensor(Parameter { name, tensor: values });
        }
        Ok(())
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

    /// Refuses a request to train it, if it is packed.
    pub fn refuse_training(&self, what: &str) -> Result<()> {
        match self {
            Self::Tensor(_) => Ok(()),
            Self::Packed(packed) => {
                let module = packed.name.trim_end_matches(".weight");
                let got = format!("`{module}`, which is frozen in four bits; name it in llm_int8_skip_modules");
                Err(ModelError::input(what, "modules that are not quantised", got))
            }
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
