//! Types of stored tensors.

/// A type of tensor data: values, or blocks of quantised values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GgmlType(&'static Row);

/// A row of the table of types.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Row {
    number: u32,
    name: &'static str,
    /// Values of a block.
    values: usize,
    /// Bytes of a block.
    bytes: usize,
    dequantised: bool,
}

macro_rules! types {
    ($($constant:ident = $number:literal: $values:literal values, $bytes:literal bytes, $dequantised:literal;)+) => {
        impl GgmlType {
            $(#[doc = concat!("`", stringify!($constant), "`: blocks of ", $values, " values in ", $bytes, " bytes.")]
            pub const $constant: Self = Self(&Row {
                number: $number, name: stringify!($constant), values: $values, bytes: $bytes, dequantised: $dequantised,
            });)+

            /// Every known type.
            pub const ALL: &[Self] = &[$(Self::$constant),+];
        }
    };
}

// Name = number in the file: size of a block, and true for the types that are dequantised here.
types! {
    F32 = 0: 1 values, 4 bytes, true;
    F16 = 1: 1 values, 2 bytes, true;
    Q4_0 = 2: 32 values, 18 bytes, true;
    Q4_1 = 3: 32 values, 20 bytes, true;
    Q5_0 = 6: 32 values, 22 bytes, true;
    Q5_1 = 7: 32 values, 24 bytes, true;
    Q8_0 = 8: 32 values, 34 bytes, true;
    Q8_1 = 9: 32 values, 36 bytes, true;
    Q2_K = 10: 256 values, 84 bytes, true;
    Q3_K = 11: 256 values, 110 bytes, true;
    Q4_K = 12: 256 values, 144 bytes, true;
    Q5_K = 13: 256 values, 176 bytes, true;
    Q6_K = 14: 256 values, 210 bytes, true;
    Q8_K = 15: 256 values, 292 bytes, true;
    IQ2_XXS = 16: 256 values, 66 bytes, false;
    IQ2_XS = 17: 256 values, 74 bytes, false;
    IQ3_XXS = 18: 256 values, 98 bytes, false;
    IQ1_S = 19: 256 values, 50 bytes, false;
    IQ4_NL = 20: 32 values, 18 bytes, false;
    IQ3_S = 21: 256 values, 110 bytes, false;
    IQ2_S = 22: 256 values, 82 bytes, false;
    IQ4_XS = 23: 256 values, 136 bytes, false;
    I8 = 24: 1 values, 1 bytes, false;
    I16 = 25: 1 values, 2 bytes, false;
    I32 = 26: 1 values, 4 bytes, false;
    I64 = 27: 1 values, 8 bytes, false;
    F64 = 28: 1 values, 8 bytes, false;
    IQ1_M = 29: 256 values, 56 bytes, false;
    BF16 = 30: 1 values, 2 bytes, true;
    TQ1_0 = 34: 256 values, 54 bytes, false;
    TQ2_0 = 35: 256 values, 66 bytes, false;
    MXFP4 = 39: 32 values, 17 bytes, true;
    NVFP4 = 40: 64 values, 36 bytes, false;
    Q1_0 = 41: 128 values, 18 bytes, false;
}

impl GgmlType {
    /// The type of a number in a file.
    pub fn of_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.0.number == number)
    }

    /// Number in a file.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Name, as ggml's.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Values of a block; 1 for types that are no blocks.
    pub fn block_values(self) -> usize {
        self.0.values
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.0.bytes
    }

    /// True for the types that [`crate::Tensor::dequantise`] reads.
    pub fn is_dequantised(self) -> bool {
        self.0.dequantised
    }

    /// True for blocks that share a scale.
    pub fn is_quantised(self) -> bool {
        self.0.values > 1
    }

    /// Names of the types that [`crate::Tensor::dequantise`] reads, for messages.
    pub fn dequantised_names() -> String {
        let names: Vec<_> = Self::ALL.iter().filter(|known| known.is_dequantised()).map(|known| known.name()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::GgmlType;

    #[test]
    fn a_type_is_found_by_its_number_alone() {
        for known in GgmlType::ALL {
            assert_eq!(GgmlType::of_number(known.number()), Some(*known));
        }
        assert_eq!(GgmlType::of_number(4), None);
        assert!(GgmlType::dequantised_names().starts_with("F32, F16, Q4_0"));
    }
}
