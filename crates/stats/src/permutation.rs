//! The sign-flip test of paired differences: if the arms are exchangeable within a prompt, each difference is
//! as likely to carry the other sign (Fisher 1935; Good 2005, *Permutation Tests*, ch. 3).

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::StatsError;
use crate::error::check_finite;

const DOMAIN: u64 = 0x7369_676e_666c_6970;

/// Up to this many non-zero differences all sign patterns are tried: 2¹⁶ are no more work than 65,536 draws.
const EXACT_UP_TO: usize = 16;

/// p values of "the differences are symmetric about 0".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignFlip {
    /// Against "the mean is not 0": twice the smaller tail.
    pub two_sided: f64,
    /// Against "the mean is below 0".
    pub less: f64,
    /// Against "the mean is above 0".
    pub greater: f64,
    /// All sign patterns were tried; otherwise they were drawn, and (hits + 1) / (draws + 1) keeps the test
    /// valid (Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39).
    pub exact: bool,
}

/// The sign-flip test on the mean of paired differences, one per prompt. Zero differences carry no
/// information; when all are zero every p value is 1.
pub fn sign_flip(differences: &[f64], resamples: usize, seed: u64) -> Result<SignFlip, StatsError> {
    check_finite("differences", differences)?;
    let moved: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    if moved.is_empty() {
        return Ok(SignFlip { two_sided: 1.0, less: 1.0, greater: 1.0, exact: true });
    }
    let observed: f64 = moved.iter().sum();
    // Sums of the same numbers in another grouping differ by rounding; they are the same sum.
    let slack = 1e-12 * moved.iter().map(|d| d.abs()).sum::<f64>();
    let exact = moved.len() <= EXACT_UP_TO;
    let (below, above, total) = if exact {
        let patterns = 1u64 << moved.len();
        let (below, above) = (0..patterns)
            .into_par_iter()
            .map(|pattern| tails(flipped_sum(&moved, || pattern), observed, slack))
            .reduce(|| (0, 0), add);
        (below, above, patterns as f64)
    } else {
        let generator = ChaCha8Rng::seed_from_u64(seed ^ DOMAIN);
        let (below, above) = (0..resamples)
            .into_par_iter()
            .map(|resample| {
                let mut stream = generator.clone();
                stream.set_stream(resample as u64);
                tails(flipped_sum(&moved, || stream.next_u64()), observed, slack)
            })
            .reduce(|| (0, 0), add);
        (below + 1, above + 1, resamples as f64 + 1.0)
    };
    let (less, greater) = (below as f64 / total, above as f64 / total);
    Ok(SignFlip { two_sided: (2.0 * less.min(greater)).min(1.0), less, greater, exact })
}

/// Counts (hits at or below, hits at or above): integers, so threads may add them in any order.
fn tails(sum: f64, observed: f64, slack: f64) -> (u64, u64) {
    (u64::from(sum <= observed + slack), u64::from(sum >= observed - slack))
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

/// Σ ±d, one random word of signs for each 64 differences: its bit k, from the lowest, negates their k-th.
fn flipped_sum(differences: &[f64], mut word: impl FnMut() -> u64) -> f64 {
    let mut sums = [0.0; 4];
    for chunk in differences.chunks(64) {
        let signs = word();
        let mut quads = chunk.chunks_exact(4);
        let mut shift = 0;
        for quad in &mut quads {
            for lane in 0..4 {
                let sign = ((signs >> (shift + lane)) & 1) << 63;
                sums[lane] += f64::from_bits(quad[lane].to_bits() ^ sign);
            }
            shift += 4;
        }
        for (lane, d) in quads.remainder().iter().enumerate() {
            let sign = ((signs >> (shift + lane)) & 1) << 63;
            sums[lane] += f64::from_bits(d.to_bits() ^ sign);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_the_words_negates_its_own_difference() {
        // 64, 4 and 2 of the 70 differences are a word's, a further quad, and what is left of it
        let differences: Vec<f64> = (1..=70).map(f64::from).collect();
        let with = |words: [u64; 2]| {
            let mut words = words.into_iter();
            flipped_sum(&differences, || words.next().expect("a word for each 64 differences"))
        };
        assert_eq!((with([0, 0]), with([u64::MAX; 2])), (2485.0, -2485.0));
        for place in 0..70 {
            let mut words = [0; 2];
            words[place / 64] = 1 << (place % 64);
            assert_eq!(with(words), 2485.0 - 2.0 * differences[place], "{place}");
        }
    }
}
