//! Runs of letters and digits of ASCII, eight bytes at a time.

/// The bit in which capitals differ from small letters, in every byte.
pub(super) const CASE: u64 = each(0x20);
const HIGH: u64 = each(0x80);

const fn each(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// Eight bytes from `at` on, zeros behind the end.
#[inline]
pub(super) fn eight(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    let eight = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        eight
    });
    u64::from_le_bytes(eight)
}

/// Letters that eight bytes begin with.
#[inline]
pub(super) fn letters(eight: u64) -> usize {
    first(!within(eight | CASE, b'a', b'z') | eight)
}

/// Letters and digits that eight bytes begin with.
#[inline]
pub(super) fn alphanumerics(eight: u64) -> usize {
    first(!(within(eight | CASE, b'a', b'z') | within(eight, b'0', b'9')) | eight)
}

/// The high bit of every byte whose lower seven bits are in a range: no sum carries into the next byte.
#[inline]
fn within(eight: u64, low: u8, high: u8) -> u64 {
    let seven = eight & !HIGH;
    (seven + each(0x80 - low)) & !(seven + each(0x80 - high - 1))
}

/// Bytes before the first one that has its high bit.
#[inline]
fn first(eight: u64) -> usize {
    ((eight & HIGH).trailing_zeros() / 8) as usize
}

/// The end of the letters and digits that begin at `at`.
#[inline]
pub(super) fn end_of_alphanumerics(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let count = alphanumerics(eight(bytes, at));
        at += count;
        if count < 8 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_of_every_byte_for_itself() {
        for byte in 0..=255u8 {
            for place in 0..9 {
                let mut bytes = *b"aZ09mQ7xq";
                bytes[place] = byte;
                let run = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                assert_eq!(end_of_alphanumerics(&bytes, 0), run, "{byte} {place}");
                let letters_alone = bytes.map(|byte| if byte.is_ascii_digit() { b'd' } else { byte });
                let run = letters_alone[..8].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                assert_eq!(letters(eight(&letters_alone, 0)), run, "{byte} {place}");
            }
        }
        assert_eq!((eight(b"ab", 1), eight(b"ab", 7)), (u64::from(b'b'), 0));
    }
}
