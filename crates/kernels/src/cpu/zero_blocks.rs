//! Blocks of zeros, which are not written again.
//!
//! The operating system allocates a page of a fresh buffer when it is first written. Most rows of an embedding of
//! 151,936 tokens have no gradient in a whole run, so their gradients and moments stay zero; without a write they take
//! no memory. Reading allocates none.

/// Elements tested together.
pub(crate) const BLOCK: usize = 256;

/// True if all are zero, of either sign.
pub(crate) fn all_zero(values: &[f32]) -> bool {
    // All bits but the sign's; without a branch, so that it vectorises.
    values.iter().fold(0, |bits, value| bits | (value.to_bits() << 1)) == 0
}

/// Zeroes all, without a write to blocks that are zero already.
pub(crate) fn clear(values: &mut [f32]) {
    for block in values.chunks_mut(BLOCK) {
        if !all_zero(block) {
            block.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_either_sign_are_zero_and_nothing_else_is() {
        assert!(all_zero(&[0.0, -0.0, 0.0]));
        for value in [f32::from_bits(1), -1.0, f32::NAN, f32::INFINITY] {
            let mut values = vec![0.0; 2 * BLOCK + 3];
            values[2 * BLOCK + 1] = value;
            assert!(!all_zero(&values));
            clear(&mut values);
            assert!(all_zero(&values));
        }
    }
}
