//! From token log-probs to the one number per completion that a pair loss compares.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

/// Reduction of a completion's ℓ to its score. Every reduction is linear: score = Σ c_t·ℓ_t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// s, the mean.
    Mean,
    /// logp, the sum.
    Sum,
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
    /// 1 where drawn, else 0.
    Drawn(Vec<bool>),
}

impl Coefficients {
    /// c of the k-th counted token.
    pub(crate) fn at(&self, k: usize) -> f64 {
        match self {
            Self::Uniform(c) => *c,
            Self::Leading { shared, beyond } => {
                if k < *shared {
                    1.0
                } else {
                    *beyond
                }
            }
            Self::Drawn(drawn) => f64::from(u8::from(drawn[k])),
        }
    }
}

impl Reduction {
    /// The coefficients of a completion with `tokens` counted tokens whose other side has `other`.
    pub(crate) fn coefficients(&self, tokens: usize, other: usize, step: u64) -> Coefficients {
        match *self {
            Self::Mean => Coefficients::Uniform(1.0 / tokens as f64),
            Self::Sum => Coefficients::Uniform(1.0),
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
