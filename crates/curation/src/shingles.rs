//! Shingles: the runs of N characters of a text, as a set of 32-bit hashes.

use crate::text::Part;

/// The shingles of a row's parts, sorted. Those of its prompt, of its better and of its worse answer are told apart, so
/// that a pair is not like itself with its sides swapped. A part shorter than a shingle is one.
pub(crate) fn shingles(parts: &[Part], length: usize) -> Vec<u32> {
    let mut hashes = Vec::new();
    let mut characters = Vec::new();
    for part in parts.iter().filter(|part| !part.text.is_empty()) {
        characters.clear();
        characters.extend(part.text.chars().map(u32::from));
        let seed = mix(part.place as u64 + 1);
        let whole = length.min(characters.len());
        hashes.extend(characters.windows(whole).map(|window| hash(seed, window)));
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

fn hash(seed: u64, window: &[u32]) -> u32 {
    let hash =
        window.iter().fold(seed, |hash, &c| (hash ^ u64::from(c)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    (mix(hash) >> 32) as u32
}

/// A bijection of 64 bits in which every bit depends on all (SplitMix64; Steele et al. 2014).
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Jaccard similarity of two sorted sets: |A ∩ B| / |A ∪ B|, 0 if both are empty.
pub(crate) fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        shared += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    match a.len() + b.len() - shared {
        0 => 0.0,
        union => shared as f64 / union as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Place;

    fn of(place: Place, text: &str) -> Vec<Part> {
        vec![Part { place, text: text.into() }]
    }

    #[test]
    fn similarity_is_that_of_sets_of_runs() {
        let [a, b] = ["abcde", "abcdf"].map(|text| shingles(&of(Place::Prompt, text), 3));
        // abc, bcd, cde against abc, bcd, cdf
        assert_eq!((a.len(), jaccard(&a, &b)), (3, 0.5));
        assert_eq!((jaccard(&a, &a), jaccard(&[], &[]), jaccard(&a, &[])), (1.0, 0.0, 0.0));
        assert_eq!(shingles(&of(Place::Prompt, "ab"), 3).len(), 1);
        assert!(shingles(&of(Place::Prompt, ""), 3).is_empty());
    }

    #[test]
    fn swapped_sides_are_another_row() {
        let pair = |chosen: &str, rejected: &str| {
            let side = |place, text: &str| Part { place, text: text.into() };
            shingles(&[side(Place::Chosen, chosen), side(Place::Rejected, rejected)], 3)
        };
        assert_eq!(jaccard(&pair("yes, it is", "not at all"), &pair("not at all", "yes, it is")), 0.0);
    }
}
