//! One moment of a parameter, in one of several storages.

use crate::cpu::adamw::{BLOCK, MomentMut};
use crate::cpu::parallel::Shared;
use crate::options::MomentFormat;
use half::bf16;
use std::borrow::Cow;

/// The values of a moment, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment<'a> {
    /// float32.
    Single(Cow<'a, [f32]>),
    /// bfloat16.
    Bf16(Cow<'a, [bf16]>),
    /// The dynamic 8-bit type in blocks of 256.
    EightBit {
        /// One of 256 numbers for each value.
        codes: Cow<'a, [u8]>,
        /// Scale of each block.
        scales: Cow<'a, [f32]>,
    },
}

impl Moment<'_> {
    /// Zeros.
    pub(super) fn zeros(format: MomentFormat, len: usize) -> Moment<'static> {
        match format {
            MomentFormat::Single => Moment::Single(vec![0.0; len].into()),
            MomentFormat::Bf16 => Moment::Bf16(vec![bf16::ZERO; len].into()),
            MomentFormat::EightBit => {
                Moment::EightBit { codes: vec![0; len].into(), scales: vec![0.0; len.div_ceil(BLOCK)].into() }
            }
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::EightBit { codes, .. } => codes.len(),
        }
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The storage.
    pub fn format(&self) -> MomentFormat {
        match self {
            Self::Single(_) => MomentFormat::Single,
            Self::Bf16(_) => MomentFormat::Bf16,
            Self::EightBit { .. } => MomentFormat::EightBit,
        }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Moment<'static> {
        match self {
            Self::Single(values) => Moment::Single(values.into_owned().into()),
            Self::Bf16(values) => Moment::Bf16(values.into_owned().into()),
            Self::EightBit { codes, scales } => {
                Moment::EightBit { codes: codes.into_owned().into(), scales: scales.into_owned().into() }
            }
        }
    }

    /// The same values, borrowed.
    pub(super) fn borrowed(&self) -> Moment<'_> {
        match self {
            Self::Single(values) => Moment::Single(Cow::Borrowed(values)),
            Self::Bf16(values) => Moment::Bf16(Cow::Borrowed(values)),
            Self::EightBit { codes, scales } => {
                Moment::EightBit { codes: Cow::Borrowed(codes), scales: Cow::Borrowed(scales) }
            }
        }
    }

    /// True if there are `len` values, and a scale for each of their blocks.
    pub(super) fn fits(&self, len: usize) -> bool {
        let scales = match self {
            Self::EightBit { scales, .. } => scales.len() == len.div_ceil(BLOCK),
            Self::Single(_) | Self::Bf16(_) => true,
        };
        scales && self.len() == len
    }

    /// The memory, for an update.
    pub(super) fn shared(&mut self) -> MomentMut {
        match self {
            Self::Single(values) => MomentMut::Single(Shared::new(values.to_mut())),
            Self::Bf16(values) => MomentMut::Bf16(Shared::new(values.to_mut())),
            Self::EightBit { codes, scales } => {
                MomentMut::EightBit { codes: Shared::new(codes.to_mut()), scales: Shared::new(scales.to_mut()) }
            }
        }
    }
}
