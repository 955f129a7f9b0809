//! Four-bit blocks as bitsandbytes has them (QLoRA, arXiv 2305.14314): 64 values in a row share a scale, their greatest
//! magnitude, and each is one of sixteen numbers. With double quantisation the scales are 8-bit numbers themselves.

use super::{DynamicMap, PackedWeight};
use crate::error::{KernelError, Result};
use candle_core::DType;
use half::{bf16, f16};

const OP: &str = "four_bit";

/// Scales of one block of double quantisation.
const NESTED_BLOCK: usize = 256;

/// Values quantised at a time.
const PIECE: usize = 1 << 16;

/// The sixteen numbers of a four-bit type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FourBitType {
    /// Quantiles of a normal distribution.
    Nf4,
    /// Sign, two bits of exponent, one of fraction.
    Fp4,
}

impl FourBitType {
    /// The number of each code.
    pub const fn numbers(self) -> [f32; 16] {
        match self {
            Self::Nf4 => [
                -1.0,
                -0.696_192_8,
                -0.525_073_05,
                -0.394_917_5,
                -0.284_441_38,
                -0.184_773_43,
                -0.091_050_036,
                0.0,
                0.079_580_3,
                0.160_930_2,
                0.246_112_3,
                0.337_915_24,
                0.440_709_83,
                0.562_617,
                0.722_956_84,
                1.0,
            ],
            Self::Fp4 => [
                0.0,
                0.005_208_333_5,
                0.666_666_7,
                1.0,
                0.333_333_34,
                0.5,
                0.166_666_67,
                0.25,
                -0.0,
                -0.005_208_333_5,
                -0.666_666_7,
                -1.0,
                -0.333_333_34,
                -0.5,
                -0.166_666_67,
                -0.25,
            ],
        }
    }

    /// The codes in ascending order of their numbers; of FP4's two zeros the positive one first.
    const fn ascending(self) -> [u8; 16] {
        match self {
            Self::Nf4 => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            Self::Fp4 => [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
        }
    }

    /// Name in bitsandbytes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        }
    }
}

/// Scales of blocks in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct NestedScales {
    /// One of 256 numbers for each block.
    pub codes: Vec<u8>,
    /// The 256 numbers.
    pub numbers: Vec<f32>,
    /// The scale of each `block` of scales.
    pub scales: Vec<f32>,
    /// Scales that share one.
    pub block: usize,
    /// Added to every scale.
    pub offset: f32,
}

/// Scales of blocks.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// float32.
    Single(Vec<f32>),
    /// Quantised themselves.
    Nested(NestedScales),
}

impl Scales {
    /// Scale of a block.
    #[inline]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Single(scales) => scales[block],
            Self::Nested(nested) => {
                let number = nested.numbers[nested.codes[block] as usize];
                number * nested.scales[block / nested.block] + nested.offset
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Single(scales) => scales.len(),
            Self::Nested(nested) => nested.codes.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Single(scales) => size_of_val(&scales[..]),
            Self::Nested(nested) => nested.codes.len() + size_of_val(&nested.scales[..]),
        }
    }

    /// Double quantisation of scales, as bitsandbytes' CPU build does it to the last bit.
    fn nested(scales: &[f32]) -> Self {
        let offset = mean(scales);
        let map = DynamicMap::signed();
        let mut nested = NestedScales {
            codes: Vec::with_capacity(scales.len()),
            numbers: map.values().to_vec(),
            scales: Vec::with_capacity(scales.len().div_ceil(NESTED_BLOCK)),
            block: NESTED_BLOCK,
            offset,
        };
        for block in scales.chunks(NESTED_BLOCK) {
            let centred: Vec<f32> = block.iter().map(|scale| scale - offset).collect();
            let greatest = centred.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
            nested.scales.push(greatest);
            let inverse = 1.0 / greatest;
            let code = |value: &f32| if greatest == 0.0 { 0 } else { map.nearest_on_grid(value * inverse) };
            nested.codes.extend(centred.iter().map(code));
        }
        Self::Nested(nested)
    }
}

/// The blocks of a weight.
#[derive(Clone, Debug)]
pub struct FourBit {
    kind: FourBitType,
    block: usize,
    /// Two values a byte, the first in its upper half; row-major without regard to rows.
    codes: Vec<u8>,
    scales: Scales,
    /// Values are rounded to it.
    rounding: DType,
}

impl FourBit {
    /// Quantises `values`, a weight (`rows`, `columns`), a piece at a time: `read` writes its elements from an index on.
    ///
    /// # Errors
    ///
    /// [`KernelError::Option`] for a block that is not a positive even number; `read`'s own.
    pub fn quantise<E: From<KernelError>>(
        (rows, columns): (usize, usize),
        kind: FourBitType,
        block: usize,
        double: bool,
        mut read: impl FnMut(usize, &mut [f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<PackedWeight, E> {
        check_block(block)?;
        let count = rows * columns;
        let quantiser = Quantiser::new(kind);
        let mut codes = Vec::with_capacity(count.div_ceil(2));
        let mut scales = Vec::with_capacity(count.div_ceil(block));
        let piece = PIECE.next_multiple_of(block);
        let mut values = vec![0.0; piece.min(count)];
        for first in (0..count).step_by(piece) {
            let values = &mut values[..piece.min(count - first)];
            read(first, values)?;
            for block_values in values.chunks(block) {
                scales.push(quantiser.block(block_values, block_values.len() == block, &mut codes));
            }
        }
        let scales = if double { Scales::nested(&scales) } else { Scales::Single(scales) };
        Ok(PackedWeight::new(rows, columns, Self { kind, block, codes, scales, rounding: DType::F32 }))
    }

    /// Takes blocks as they are stored.
    ///
    /// # Errors
    ///
    /// [`KernelError::Option`] for a block that is not a positive even number, a number of codes or scales that does not
    /// fit, a rounding that is no float, or scales that are not finite.
    pub fn stored(
        (rows, columns): (usize, usize),
        kind: FourBitType,
        block: usize,
        codes: Vec<u8>,
        scales: Scales,
        rounding: DType,
    ) -> Result<PackedWeight> {
        check_block(block)?;
        let refuse = |option, expected, got: String| Err(KernelError::Option { op: OP, option, expected, got });
        let count = rows * columns;
        if codes.len() != count.div_ceil(2) {
            return refuse("codes", "half as many bytes as values", format!("{} for {count}", codes.len()));
        }
        if scales.len() != count.div_ceil(block) {
            return refuse("scales", "one for each block", format!("{} for {}", scales.len(), count.div_ceil(block)));
        }
        if let Scales::Nested(nested) = &scales {
            let fits = nested.block > 0 && nested.scales.len() == nested.codes.len().div_ceil(nested.block);
            if !fits || nested.numbers.len() != 256 {
                let got = format!("{} numbers, {} scales", nested.numbers.len(), nested.scales.len());
                return refuse("nested scales", "256 numbers, and a scale for each block", got);
            }
        }
        if !matches!(rounding, DType::F32 | DType::BF16 | DType::F16) {
            return refuse("dtype", "float32, bfloat16 or float16", rounding.as_str().to_owned());
        }
        if let Some(block) = (0..scales.len()).find(|block| !scales.get(*block).is_finite()) {
            return refuse("scales", "finite", format!("{} in block {block}", scales.get(block)));
        }
        Ok(PackedWeight::new(rows, columns, Self { kind, block, codes, scales, rounding }))
    }

    /// The type.
    pub fn kind(&self) -> FourBitType {
        self.kind
    }

    /// Values that share a scale.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Two codes a byte, the first in its upper half.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// dtype that values are rounded to.
    pub fn rounding(&self) -> DType {
        self.rounding
    }

    /// Scales of the blocks.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.scales.bytes()
    }

    pub(super) fn read(&self, first: usize, out: &mut [f32]) {
        let numbers = self.kind.numbers();
        let mut at = first;
        let mut rest = &mut out[..];
        while !rest.is_empty() {
            let block = at / self.block;
            let here = ((block + 1) * self.block - at).min(rest.len());
            let (values, after) = rest.split_at_mut(here);
            self.read_within(&numbers, self.scales.get(block), at, values);
            at += here;
            rest = after;
        }
        match self.rounding {
            DType::BF16 => out.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32()),
            DType::F16 => out.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32()),
            _ => {}
        }
    }

    /// Values of one block, from element `at` on.
    fn read_within(&self, numbers: &[f32; 16], scale: f32, at: usize, values: &mut [f32]) {
        let scaled = numbers.map(|number| number * scale);
        let mut values = values;
        let mut at = at;
        if at % 2 == 1
            && let Some((first, rest)) = std::mem::take(&mut values).split_first_mut()
        {
            *first = scaled[(self.codes[at / 2] & 15) as usize];
            values = rest;
            at += 1;
        }
        let (pairs, last) = values.as_chunks_mut::<2>();
        let codes = &self.codes[at / 2..];
        for (pair, code) in pairs.iter_mut().zip(codes) {
            *pair = [scaled[(code >> 4) as usize], scaled[(code & 15) as usize]];
        }
        if let ([last], Some(code)) = (last, codes.get(pairs.len())) {
            *last = scaled[(code >> 4) as usize];
        }
    }
}

fn check_block(block: usize) -> Result<()> {
    if block == 0 || block % 2 == 1 {
        let (option, expected) = ("block", "a positive even number");
        return Err(KernelError::Option { op: OP, option, expected, got: block.to_string() });
    }
    Ok(())
}

/// The nearest of sixteen numbers.
struct Quantiser {
    ascending: [u8; 16],
    midpoints: [f32; 15],
}

impl Quantiser {
    fn new(kind: FourBitType) -> Self {
        let (numbers, ascending) = (kind.numbers(), kind.ascending());
        let number = |place: usize| numbers[ascending[place] as usize];
        Self { ascending, midpoints: std::array::from_fn(|place| (number(place) + number(place + 1)) / 2.0) }
    }

    /// Appends the codes of a block and returns its scale. A last block that is not `whole` is divided by its scale,
    /// others are multiplied by the inverse, as in bitsandbytes.
    fn block(&self, values: &[f32], whole: bool, codes: &mut Vec<u8>) -> f32 {
        const SMALLEST: f32 = 1e-38;
        let greatest = values.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
        let scale = if whole { greatest } else { greatest.max(SMALLEST) };
        let inverse = 1.0 / greatest.max(SMALLEST);
        let code = |value: &f32| {
            let scaled = if whole { value * inverse } else { value / scale };
            let place = self.midpoints.iter().filter(|midpoint| **midpoint < scaled.clamp(-1.0, 1.0)).count();
            self.ascending[place]
        };
        codes.extend(values.chunks(2).map(|pair| match pair {
            [upper, lower] => code(upper) << 4 | code(lower),
            // The padding of an odd number of values is a zero.
            [upper] | [upper, ..] => code(upper) << 4 | code(&0.0),
            [] => 0,
        }));
        scale
    }
}

/// Mean in float32, its additions in the order in which PyTorch does them on a CPU: four sums of eight lanes each, in
/// steps that are added up level by level.
fn mean(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    if values.len() < LANES {
        let lanes: Vec<[f32; 1]> = values.iter().map(|value| [*value]).collect();
        return sum(&lanes)[0] / values.len() as f32;
    }
    let (vectors, rest) = values.as_chunks::<LANES>();
    let rest = rest.iter().fold(0f32, |sum, value| sum + value);
    sum(vectors).iter().fold(rest, |sum, lane| sum + lane) / values.len() as f32
}

/// Sum of vectors: those with the same index modulo four are added to one sum.
fn sum<const LANES: usize>(vectors: &[[f32; LANES]]) -> [f32; LANES] {
    const SUMS: usize = 4;
    const LEVELS: usize = 4;
    let add = |sum: &mut [f32; LANES], other: &[f32; LANES]| {
        sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
    };
    let (groups, rest) = vectors.as_chunks::<SUMS>();
    let logarithm = groups.len().max(1).next_power_of_two().ilog2() as usize;
    let power = (logarithm / LEVELS).max(4);
    let mut levels = [[[0f32; LANES]; SUMS]; LEVELS];
    for (index, group) in groups.iter().enumerate() {
        for (sum, vector) in levels[0].iter_mut().zip(group) {
            add(sum, vector);
        }
        let done = index + 1;
        for level in 1..LEVELS {
            // A level is full after as many steps as the one below it, times a power of two.
            if !done.is_multiple_of(1 << (level * power)) {
                break;
            }
            let below = std::mem::replace(&mut levels[level - 1], [[0.0; LANES]; SUMS]);
            for (sum, vector) in levels[level].iter_mut().zip(&below) {
                add(sum, vector);
            }
        }
    }
    let [mut sums, above @ ..] = levels;
    for level in &above {
        for (sum, vector) in sums.iter_mut().zip(level) {
            add(sum, vector);
        }
    }
    let [first, others @ ..] = &mut sums;
    rest.iter().for_each(|vector| add(first, vector));
    others.iter().for_each(|vector| add(first, vector));
    *first
}
