//! The element types weights are stored in.

use candle_core::DType;
use half::{bf16, f16};
use safetensors::Dtype;

/// An element type that can be read as, and written from, float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Element {
    /// 32-bit floats: nothing is lost.
    #[default]
    F32,
    /// bfloat16: 8 bits of precision.
    Bf16,
    /// IEEE half precision: 11 bits of precision, magnitudes up to 65504.
    F16,
}

impl Element {
    /// Every dtype.
    pub const ALL: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];

    pub(crate) fn from_dtype(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// candle's name for it.
    pub(crate) fn tensor_dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    /// The name in a `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Bytes an element takes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Appends little-endian elements to `values`; a trailing partial one is not there (safetensors checks lengths).
    pub(crate) fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::F32 => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Self::Bf16 => values.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
            Self::F16 => values.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
        }
    }

    /// Appends the values as little-endian elements, rounded to nearest even.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Self::Bf16 => values.iter().for_each(|v| bytes.extend_from_slice(&bf16::from_f32(*v).to_le_bytes())),
            Self::F16 => values.iter().for_each(|v| bytes.extend_from_slice(&f16::from_f32(*v).to_le_bytes())),
        }
    }
}

/// How many numbers are stored in which element type.
#[derive(Default)]
pub(crate) struct ElementCounts([usize; 3]);

impl ElementCounts {
    const ORDER: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];

    pub fn add(&mut self, element: Element, count: usize) {
        Self::ORDER.iter().zip(&mut self.0).filter(|(e, _)| **e == element).for_each(|(_, n)| *n += count);
    }

    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    pub fn bytes(&self) -> u64 {
        Self::ORDER.iter().zip(self.0).map(|(element, count)| (element.bytes() * count) as u64).sum()
    }

    /// Those that are there.
    pub fn commonest_first(&self) -> Vec<Element> {
        let mut found: Vec<_> = Self::ORDER.into_iter().zip(self.0).filter(|(_, count)| *count > 0).collect();
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        found.into_iter().map(|(element, _)| element).collect()
    }
}
