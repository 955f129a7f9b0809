//! Storage of the matrices of a model that is not trained: fewer bits than float32, exactly or quantised.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use smpo_kernels::{FourBit, FourBitType, is_emulating};

use crate::error::Result;
use crate::layout::{HEAD, Role, SCORE, Slot};
use crate::lora::Fingerprint;
use crate::matrix::{Matrix, PackedParameter};
use crate::name_pattern::NamePattern;
use crate::parameter::Parameter;
use crate::placement::Placement;
use crate::weights::WeightDtype;

/// Values that share a scale, as in bitsandbytes.
const BLOCK: usize = 64;

/// Values converted at a time.
const PIECE: usize = 1 << 16;

/// Storage of matrices that are not trained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Storage {
    /// On the CPU as the files have them: 16 bits and the blocks of a GGUF file stay so, and a product widens them piece by
    /// piece, with the same results to the last bit. On a device in the device's dtype; four bits stay packed there too.
    #[default]
    AsStored,
    /// As above, but the blocks of a GGUF file and weights in four bits are dequantised when they are loaded.
    Dequantised,
    /// Linear layers quantised to four bits, the rest as above.
    FourBit(FourBitOptions),
}

/// Four-bit quantisation of linear layers, as bitsandbytes does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FourBitOptions {
    /// The sixteen numbers.
    pub kind: FourBitType,
    /// Quantise the blocks' scales too.
    pub double: bool,
    /// Modules that are not quantised, by names, their ends or patterns; the head where empty. A head of labels never is.
    pub skip: Vec<String>,
}

impl Storage {
    /// True if the module's weight is to be quantised.
    ///
    /// # Errors
    /// When a pattern is invalid.
    pub(crate) fn quantises(&self, slot: &Slot) -> Result<Option<&FourBitOptions>> {
        let Self::FourBit(options) = self else { return Ok(None) };
        if slot.role != Role::Weight {
            return Ok(None);
        }
        let module = slot.name.trim_end_matches(".weight");
        if module == SCORE {
            return Ok(None);
        }
        for text in options.skipped() {
            let pattern = NamePattern::new("llm_int8_skip_modules", text)?;
            if pattern.names_part_of(module) {
                return Ok(None);
            }
        }
        Ok(Some(options))
    }
}

impl Default for FourBitOptions {
    /// NF4 without double quantisation.
    fn default() -> Self {
        Self { kind: FourBitType::Nf4, double: false, skip: Vec::new() }
    }
}

impl FourBitOptions {
    /// Bytes of `count` values.
    pub(crate) fn bytes(&self, count: f64) -> f64 {
        let scale = if self.double { 1.0 + 4.0 / 256.0 } else { 4.0 };
        count / 2.0 + count / BLOCK as f64 * scale
    }

    fn skipped(&self) -> Vec<&str> {
        if self.skip.is_empty() { vec![HEAD] } else { self.skip.iter().map(String::as_str).collect() }
    }
}

/// A frozen matrix being built from float32 values, which `read` writes from an index on.
pub(crate) struct FrozenMatrix<'a, R> {
    pub slot: &'a Slot,
    pub placement: &'a Placement,
    /// dtype that holds the values exactly.
    pub dtype: WeightDtype,
    pub read: R,
}

impl<R: FnMut(usize, &mut [f32]) -> Result<()>> FrozenMatrix<'_, R> {
    /// Quantised; only a piece of it is ever in float32.
    pub fn quantised(mut self, options: &FourBitOptions, fingerprint: Option<Fingerprint>) -> Result<Matrix> {
        let shape = (self.slot.shape[0], self.slot.shape[1]);
        let weight = FourBit::quantise(shape, options.kind, BLOCK, options.double, &mut self.read)?;
        let own = |index: usize| {
            let mut row = vec![0.0; shape.1];
            weight.read(index * shape.1, &mut row);
            Ok(row)
        };
        let fingerprint = fingerprint.map_or_else(|| Fingerprint::new(shape.0, own), Ok)?;
        Ok(PackedParameter { name: self.slot.name.clone(), weight, fingerprint }.into())
    }

    /// In its own dtype on the CPU, in the placement's elsewhere.
    pub fn into_stored(mut self) -> Result<Parameter> {
        let shape = &self.slot.shape[..];
        let tensor = match self.dtype {
            WeightDtype::F32 => Tensor::from_vec(self.values(|value| value)?, shape, &Device::Cpu)?,
            WeightDtype::Bf16 => Tensor::from_vec(self.values(bf16::from_f32)?, shape, &Device::Cpu)?,
            WeightDtype::F16 => Tensor::from_vec(self.values(f16::from_f32)?, shape, &Device::Cpu)?,
        };
        // The emulator's kernels take one dtype, as a GPU's do.
        let stays = self.placement.is_host() && !is_emulating() && tensor.dtype() != DType::F32;
        let tensor = if stays { tensor } else { self.placement.place(&tensor)? };
        Ok(Parameter { name: self.slot.name.clone(), tensor })
    }

    fn values<T>(&mut self, narrow: impl Fn(f32) -> T) -> Result<Vec<T>> {
        let count: usize = self.slot.shape.iter().product();
        let mut values = Vec::with_capacity(count);
        let mut piece = vec![0.0; PIECE.min(count)];
        for first in (0..count).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(count - first)];
            (self.read)(first, piece)?;
            values.extend(piece.iter().map(|value| narrow(*value)));
        }
        Ok(values)
    }
}
