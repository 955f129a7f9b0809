//! dtypes of stored weights.

use candle_core::DType;
use half::{bf16, f16};
use safetensors::Dtype;

/// A dtype of weights, convertible from and to float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightDtype {
    /// float32.
    #[default]
    F32,
    /// bfloat16: 8 bits of precision.
    Bf16,
    /// IEEE half precision: 11 bits of precision, magnitudes up to 65504.
    F16,
}

impl WeightDtype {
    /// Every dtype.
    pub const ALL: [WeightDtype; 3] = [WeightDtype::F32, WeightDtype::Bf16, WeightDtype::F16];

    pub(crate) fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// candle's dtype.
    pub(crate) fn candle(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    pub(crate) fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    /// Name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Size of a value, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Appends little-endian values to `values`; there is no trailing partial one (safetensors checks lengths).
    pub(crate) fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::F32 => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Self::Bf16 => values.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
            Self::F16 => values.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
        }
    }

    /// Appends the values in little-endian, rounded to nearest even.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Self::Bf16 => values.iter().for_each(|v| bytes.extend_from_slice(&bf16::from_f32(*v).to_le_bytes())),
            Self::F16 => values.iter().for_each(|v| bytes.extend_from_slice(&f16::from_f32(*v).to_le_bytes())),
        }
    }
}

/// Number of values per dtype.
#[derive(Default)]
pub(crate) struct DtypeCounts([usize; 3]);

impl DtypeCounts {
    const ORDER: [WeightDtype; 3] = [WeightDtype::F32, WeightDtype::Bf16, WeightDtype::F16];

    pub fn add(&mut self, dtype: WeightDtype, count: usize) {
        Self::ORDER.iter().zip(&mut self.0).filter(|(e, _)| **e == dtype).for_each(|(_, n)| *n += count);
    }

    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    pub fn bytes(&self) -> u64 {
        Self::ORDER.iter().zip(self.0).map(|(dtype, count)| (dtype.bytes() * count) as u64).sum()
    }

    /// dtypes with at least one value.
    pub fn commonest_first(&self) -> Vec<WeightDtype> {
        let mut found: Vec<_> = Self::ORDER.into_iter().zip(self.0).filter(|(_, count)| *count > 0).collect();
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        found.into_iter().map(|(dtype, _)| dtype).collect()
    }
}
