//! Weights in four bits as transformers saves them with bitsandbytes: codes in place of the weight, and beside it scales,
//! numbers and a JSON text.

use candle_core::DType;
use serde::Deserialize;
use smpo_kernels::{FourBit, FourBitType, NestedScales, PackedWeight, Scales};

use super::{WeightFile, WeightFiles};
use crate::error::{ModelError, Result};

/// Names of the parts after the weight's, the JSON text's excepted.
const PARTS: [&str; 4] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"];

/// Name of the JSON text, before the type's.
const STATE: &str = "quant_state.bitsandbytes__";

const TYPES: [FourBitType; 2] = [FourBitType::Nf4, FourBitType::Fp4];

/// Scales of four-bit blocks that share one.
const NESTED_NUMBERS: usize = 256;

/// The JSON text.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

impl WeightFiles {
    /// True if `name` is a part of a four-bit weight.
    pub fn is_four_bit_part(&self, name: &str) -> bool {
        let is_part = |part: &str| {
            PARTS.contains(&part) || part.strip_prefix(STATE).is_some_and(|kind| TYPES.iter().any(|t| t.name() == kind))
        };
        name.match_indices('.').any(|(dot, _)| is_part(&name[dot + 1..]) && self.four_bit_state(&name[..dot]).is_some())
    }

    /// Name of the JSON text of a four-bit weight; `None` for any other weight.
    pub fn four_bit_state(&self, weight: &str) -> Option<(FourBitType, String)> {
        TYPES.into_iter().map(|kind| (kind, format!("{weight}.{STATE}{}", kind.name()))).find(|(_, n)| self.contains(n))
    }

    /// A four-bit weight of that shape; `None` for any other weight.
    ///
    /// # Errors
    /// When a part is missing or does not fit.
    pub fn read_four_bit(&self, name: &str, shape: &[usize]) -> Result<Option<PackedWeight>> {
        let Some((kind, state_name)) = self.four_bit_state(name) else { return Ok(None) };
        let owner = self.owner(name)?;
        let wrong = |reason: String| ModelError::Safetensors {
            path: owner.path().to_path_buf(),
            reason: format!("four-bit weight `{name}`: {reason}"),
        };
        let text = self.raw(&state_name)?;
        let state: State = serde_json::from_slice(&text).map_err(|error| wrong(format!("`{state_name}`: {error}")))?;
        if state.quant_type != kind.name() {
            return Err(wrong(format!("expected type {}, got {}", kind.name(), state.quant_type)));
        }
        let &[rows, columns] = shape else { return Err(wrong(format!("expected a matrix, got {shape:?}"))) };
        if state.shape != shape {
            return Err(ModelError::Shape {
                path: owner.path().to_path_buf(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                got: state.shape,
            });
        }
        let rounding = match state.dtype.as_str() {
            "float32" => DType::F32,
            "bfloat16" => DType::BF16,
            "float16" => DType::F16,
            other => return Err(wrong(format!("expected float32, bfloat16 or float16, got {other}"))),
        };
        let part = |part: &str| format!("{name}.{part}");
        let floats = |name: String| -> Result<Vec<f32>> {
            let (file, stored) = self.place(&name)?;
            let (shape, _) = file.describe(stored)?;
            file.read(stored, &shape)
        };
        if floats(part("quant_map"))? != kind.numbers() {
            return Err(wrong(format!("`{}`: expected the sixteen numbers of {}", part("quant_map"), kind.name())));
        }
        let scales = match (state.nested_blocksize, state.nested_offset) {
            (Some(block), Some(offset)) => {
                let absmax = part("absmax");
                let numbers = floats(part("nested_quant_map"))?;
                if numbers.len() != NESTED_NUMBERS {
                    return Err(wrong(format!("expected {NESTED_NUMBERS} numbers of scales, got {}", numbers.len())));
                }
                let (codes, scales) = (self.raw(&absmax)?, floats(part("nested_absmax"))?);
                Scales::Nested(NestedScales { codes, numbers, scales, block, offset })
            }
            (None, None) => Scales::Single(floats(part("absmax"))?),
            _ => return Err(wrong("one of nested_blocksize and nested_offset is missing".into())),
        };
        let codes = self.raw(name)?;
        let weight = FourBit::stored((rows, columns), kind, state.blocksize, codes, scales, rounding);
        weight.map(Some).map_err(|error| wrong(error.to_string()))
    }

    /// Bytes of a four-bit weight and of its parts.
    pub fn four_bit_bytes(&self, name: &str) -> Result<usize> {
        let mut bytes = self.raw_len(name)?;
        let state = self.four_bit_state(name).map(|(_, name)| name);
        for part in PARTS.iter().map(|part| format!("{name}.{part}")).chain(state) {
            bytes += if self.contains(&part) { self.raw_len(&part)? } else { 0 };
        }
        Ok(bytes)
    }

    /// The bytes of a tensor of any dtype.
    fn raw(&self, name: &str) -> Result<Vec<u8>> {
        let (file, stored) = self.place(name)?;
        file.raw(stored)
    }

    /// Number of bytes of a tensor of any dtype.
    fn raw_len(&self, name: &str) -> Result<usize> {
        let (file, stored) = self.place(name)?;
        file.raw_len(stored)
    }
}

impl WeightFile {
    /// Bytes of a tensor of any dtype.
    fn raw_len(&self, name: &str) -> Result<usize> {
        self.raw_range(name).map(|range| range.len())
    }
}
