//! From token log-probs to the one number per completion that a pair loss compares.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::sum::{sum_of, sum_of_long};
use crate::vector::exp;

/// Reduction of a completion's ℓ to its score. Every reduction is linear for fixed coefficients:
/// score = Σ c_t·ℓ_t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// s, the mean.
    Mean,
    /// logp, the sum.
    Sum,
    /// ConfPO (Yoon et al. 2025, arXiv 2506.08712): the mean over tokens whose probability is below the mean probability of
    /// their completion. The choice has no gradient.
    LessConfident,
    /// LD-DPO (Liu et al. 2024, arXiv 2409.06411): the tokens past the length that both sides share count `alpha` each.
    LengthDesensitized {
        /// Weight of a token past the shared length, in [0, 1]; 1 is the plain sum.
        alpha: f64,
    },
    /// SamPO (Lu et al. 2024, arXiv 2406.10957): as many tokens of the longer side as the shorter has, drawn uniformly.
    DownSampled {
        /// Seed of the draw.
        seed: u64,
    },
}

/// The coefficients c_t of one completion, by position among its counted tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Coefficients {
    /// The same for all.
    Uniform(f64),
    /// 1 for the first `shared` tokens, `beyond` for the others.
    Leading { shared: usize, beyond: f64 },
    /// `each` where ℓ, untransformed, is below `bound`, else 0.
    Below { bound: f64, each: f64 },
    /// 1 where drawn, else 0.
    Drawn(Vec<bool>),
}

impl Coefficients {
    /// c of the k-th counted token, which has the log-prob `logp` under the policy.
    pub(crate) fn at(&self, k: usize, logp: f64) -> f64 {
        match self {
            Self::Uniform(c) => *c,
            Self::Leading { shared, beyond } => {
                if k < *shared {
                    1.0
                } else {
                    *beyond
                }
            }
            Self::Below { bound, each } => {
                if logp < *bound {
                    *each
                } else {
                    0.0
                }
            }
            Self::Drawn(drawn) => f64::from(u8::from(drawn[k])),
        }
    }
}

impl Reduction {
    /// The coefficients of a completion with counted tokens `logps` (ℓ, untransformed) whose other side has `other`.
    pub(crate) fn coefficients(&self, logps: &Counted<'_>, other: usize, step: u64) -> Coefficients {
        let tokens = logps.len();
        match *self {
            Self::Mean => Coefficients::Uniform(1.0 / tokens as f64),
            Self::Sum => Coefficients::Uniform(1.0),
            Self::LessConfident => less_confident(logps),
            Self::LengthDesensitized { alpha } => Coefficients::Leading { shared: tokens.min(other), beyond: alpha },
            Self::DownSampled { .. } if tokens <= other => Coefficients::Uniform(1.0),
            Self::DownSampled { seed } => {
                // Seeded by the pair's lengths and not by its index, so that neither the order of pairs nor the split
                // into micro-batches changes the draw.
                let mut key = [0; 32];
                for (bytes, part) in key.chunks_exact_mut(8).zip([seed, step, tokens as u64, other as u64]) {
                    bytes.copy_from_slice(&part.to_le_bytes());
                }
                let mut rng = ChaCha8Rng::from_seed(key);
                let mut drawn = vec![false; tokens];
                index::sample(&mut rng, tokens, other).into_iter().for_each(|k| drawn[k] = true);
                Coefficients::Drawn(drawn)
            }
        }
    }
}

/// The tokens of a completion that count in its score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted<'a> {
    /// ℓ of all tokens, `[T]`.
    pub logps: &'a [f64],
    /// Indices of tokens that do not count, ascending.
    pub left_out: &'a [usize],
}

impl Counted<'_> {
    pub(crate) fn len(&self) -> usize {
        self.logps.len() - self.left_out.len()
    }

    /// Σ of the sums over the runs of tokens that count.
    fn sum_of(&self, of_run: impl Fn(&[f64]) -> f64) -> f64 {
        let mut start = 0;
        let mut sum = 0.0;
        for &t in self.left_out {
            sum += of_run(&self.logps[start..t]);
            start = t + 1;
        }
        sum + of_run(&self.logps[start..])
    }
}

/// 1/n for the n tokens below the mean probability; all tokens where none is, since all are alike.
fn less_confident(counted: &Counted<'_>) -> Coefficients {
    // compared as log-probs: one exponential a token
    let bound = (counted.sum_of(|run| sum_of_long(run, exp)) / counted.len() as f64).ln();
    let below = counted.sum_of(|run| sum_of(run, |logp| if logp < bound { 1.0 } else { 0.0 }));
    if below > 0.0 {
        Coefficients::Below { bound, each: 1.0 / below }
    } else {
        Coefficients::Uniform(1.0 / counted.len() as f64)
    }
}
