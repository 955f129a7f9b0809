//! Hashed n-grams, and the position of each hash's first occurrence.

use std::hash::Hasher;

/// Folds a 64 × 64-bit product: a cheap, order-dependent, well-mixed pair hash.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (product as u64) ^ (product >> 64) as u64 ^ a.rotate_left(29)
}

/// The hashes of all n-grams of `units`, in order; none when there are fewer than `n` units.
pub fn ngrams<U: Copy + Into<u64>>(units: &[U], n: usize) -> impl Iterator<Item = u64> {
    units.windows(n.max(1)).map(|window| window.iter().fold(window.len() as u64, |hash, &unit| mix(hash, unit.into())))
}

/// The hasher of maps whose keys are hashes already.
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0, u64::from(byte));
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Positions of the first occurrence of each hash in a list; one allocation serves every completion.
#[derive(Debug, Default)]
pub struct FirstSeen {
    /// Places in the list; `u32::MAX` is none.
    slots: Vec<u32>,
}

impl FirstSeen {
    /// Empties it and makes room for `len` hashes.
    pub fn clear_for(&mut self, len: usize) {
        self.slots.clear();
        self.slots.resize((len * 4).next_power_of_two().max(64), u32::MAX);
    }

    /// The first place of the hash at `place`: `place` itself if the hash is new. Places come in ascending
    /// order, at most as many as [`Self::clear_for`] made room for.
    #[inline]
    pub fn insert(&mut self, hashes: &[u64], place: u32) -> u32 {
        let hash = hashes[place as usize];
        let mask = self.slots.len() - 1;
        let mut slot = (hash ^ hash >> 32) as usize & mask;
        loop {
            // Without a branch, which would be unpredictable: an empty slot stands for `place`, whose hash is this one.
            let first = self.slots[slot].min(place);
            if hashes[first as usize] == hash {
                self.slots[slot] = first;
                return first;
            }
            slot = (slot + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn n_grams_know_order_and_length() {
        let of = |units: &[u32], n| ngrams(units, n).collect::<Vec<_>>();
        assert_eq!(of(&[1, 2, 3], 4), Vec::<u64>::new());
        assert_eq!(of(&[1, 2, 3], 2).len(), 2);
        assert_ne!(of(&[1, 2], 2), of(&[2, 1], 2));
        assert_eq!(of(&[1, 2, 1, 2], 2)[0], of(&[1, 2, 1, 2], 2)[2]);
    }

    #[test]
    fn a_hash_is_its_own_hash_and_bytes_have_one() {
        let of = |write: fn(&mut AsIs)| {
            let mut hasher = AsIs::default();
            write(&mut hasher);
            hasher.finish()
        };
        assert_eq!(of(|hasher| hasher.write_u64(7 << 40)), 7 << 40);
        assert_ne!(of(|hasher| hasher.write(b"ab")), of(|hasher| hasher.write(b"ba")));
    }

    #[test]
    fn every_bit_of_a_pair_changes_half_of_its_hash() {
        let numbers: Vec<u64> = std::iter::successors(Some(1u64), |n| {
            Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        })
        .take(129)
        .collect();
        for bit in (0..64).map(|place| 1u64 << place) {
            for (in_first, in_second) in [(bit, 0), (0, bit)] {
                let changed = numbers
                    .windows(2)
                    .map(|pair| (mix(pair[0], pair[1]) ^ mix(pair[0] ^ in_first, pair[1] ^ in_second)).count_ones());
                let mean = f64::from(changed.sum::<u32>()) / 128.0;
                assert!((28.0..36.0).contains(&mean), "{bit:x}: {mean} of 64");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_map(texts in prop::collection::vec(prop::collection::vec(0u64..50, 0..200), 1..8)) {
            let mut seen = FirstSeen::default();
            for text in texts {
                seen.clear_for(text.len());
                let mut expected = std::collections::HashMap::new();
                for (place, hash) in (0..).zip(&text) {
                    prop_assert_eq!(seen.insert(&text, place), *expected.entry(hash).or_insert(place));
                }
            }
        }
    }
}
