//! Hashed n-grams, and where each was first seen.

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

/// Hashes with the place where each was first seen; cleared in constant time, so that one allocation serves every
/// completion.
#[derive(Debug, Default)]
pub struct FirstSeen {
    slots: Vec<Slot>,
    generation: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u64,
    generation: u32,
    place: u32,
}

impl FirstSeen {
    /// Empties it and makes room for `len` hashes.
    pub fn clear_for(&mut self, len: usize) {
        let needed = (len * 2).next_power_of_two().max(64);
        if self.slots.len() < needed || self.generation == u32::MAX {
            let size = needed.max(self.slots.len());
            self.slots.clear();
            self.slots.resize(size, Slot::default());
            self.generation = 0;
        }
        self.generation += 1;
    }

    /// The place where the hash was first seen: `place` itself when it is new. At most as many hashes may be new as
    /// [`Self::clear_for`] made room for.
    pub fn insert(&mut self, hash: u64, place: u32) -> u32 {
        let mask = self.slots.len() - 1;
        let mut index = (hash ^ hash >> 32) as usize & mask;
        // Few slots are taken by another hash; new or old is anybody's guess and no branch.
        while self.slots[index].generation == self.generation && self.slots[index].hash != hash {
            index = (index + 1) & mask;
        }
        let slot = &mut self.slots[index];
        let first = if slot.generation == self.generation { slot.place } else { place };
        *slot = Slot { hash, generation: self.generation, place: first };
        first
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

    proptest! {
        #[test]
        fn remembers_as_the_standard_map_does(texts in prop::collection::vec(prop::collection::vec(0u64..50, 0..200), 1..8)) {
            let mut seen = FirstSeen::default();
            for text in texts {
                seen.clear_for(text.len());
                let mut expected = std::collections::HashMap::new();
                for (place, hash) in (0..).zip(text) {
                    prop_assert_eq!(seen.insert(hash, place), *expected.entry(hash).or_insert(place));
                }
            }
        }
    }
}
