//! MinHash with banding: rows of similar sets of shingles agree in a band (Broder 1997; Leskovec, Rajaraman and Ullman,
//! *Mining of Massive Datasets*, chapter 3).

use crate::shingles::mix;

/// Hash functions at most.
const MOST: usize = 128;
/// Least share of the pairs at the threshold that agree in some band.
const RECALL: f64 = 0.99;

/// Hash functions in bands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinHash {
    bands: usize,
    /// Hash functions of a band.
    width: usize,
    /// Multiplier and summand of each function.
    functions: Vec<(u64, u64)>,
}

impl MinHash {
    /// The widest bands, of 128 functions in all, in which at least 99 % of the pairs agree that are as similar as
    /// `threshold`: wide bands have the fewest pairs below it to look at.
    pub fn for_threshold(threshold: f64) -> Self {
        let width = (1..=MOST).rev().find(|width| recall(threshold, MOST / width, *width) >= RECALL).unwrap_or(1);
        let bands = MOST / width;
        let function = |index: usize| (mix(2 * index as u64) | 1, mix(2 * index as u64 + 1));
        MinHash { bands, width, functions: (0..bands * width).map(function).collect() }
    }

    /// Number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Functions of a band.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Share of the pairs of this Jaccard similarity that agree in some band.
    pub fn recall(&self, jaccard: f64) -> f64 {
        recall(jaccard, self.bands, self.width)
    }

    /// The hash of each band of a set, none for an empty set.
    pub(crate) fn band_hashes(&self, shingles: &[u32]) -> Vec<u32> {
        if shingles.is_empty() {
            return Vec::new();
        }
        let mut least = vec![u32::MAX; self.functions.len()];
        for &shingle in shingles {
            for (least, (multiplier, summand)) in least.iter_mut().zip(&self.functions) {
                // multiply-shift, 2-independent on 32 bits (Dietzfelbinger 1996)
                let hash = (multiplier.wrapping_mul(u64::from(shingle)).wrapping_add(*summand) >> 32) as u32;
                *least = (*least).min(hash);
            }
        }
        let of_band = |band: &[u32]| band.iter().fold(0, |hash, &value| mix(hash ^ u64::from(value))) >> 32;
        least.chunks_exact(self.width).map(|band| of_band(band) as u32).collect()
    }
}

/// 1 − (1 − Jʷ)ᵇ.
fn recall(jaccard: f64, bands: usize, width: usize) -> f64 {
    let agree = jaccard.powi(width as i32);
    1.0 - (1.0 - agree).powi(bands as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_find_almost_all_at_any_threshold() {
        for threshold in [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99] {
            let minhash = MinHash::for_threshold(threshold);
            assert!(minhash.recall(threshold) >= 0.99, "{threshold}");
            assert!(minhash.bands() * minhash.width() <= 128);
        }
        let usual = MinHash::for_threshold(0.8);
        assert_eq!((usual.bands(), usual.width()), (21, 6));
        let equal = MinHash::for_threshold(1.0);
        assert_eq!((equal.bands(), equal.width()), (1, 128));
    }

    #[test]
    fn the_share_of_equal_functions_estimates_the_similarity() {
        let minhash = MinHash { width: 1, bands: 128, ..MinHash::for_threshold(1.0) };
        let set = |from: u64, to: u64| (from..to).map(|value| (mix(value) >> 32) as u32).collect::<Vec<_>>();
        // 600 of 1000
        let (a, b) = (minhash.band_hashes(&set(0, 800)), minhash.band_hashes(&set(200, 1000)));
        let equal = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / 128.0;
        assert!((equal - 0.6).abs() < 0.13, "{equal}");
    }
}
