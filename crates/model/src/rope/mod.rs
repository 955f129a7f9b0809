//! Rotary position embeddings (arXiv 2104.09864) and their scaling to longer contexts.
//!
//! Angles are rounded to float32 where transformers rounds them, so that long positions agree with it.

mod read;

use std::f64::consts::PI;

use smpo_kernels::RotaryPairs;

pub(crate) use read::RopeContext;

/// A rotary embedding: rotated dimensions, base and scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// θ: base of the wavelengths.
    pub theta: f64,
    /// Number of rotated dimensions of a head, from the first on; even.
    pub rotary_dim: usize,
    /// Dimensions that turn together.
    pub pairs: RotaryPairs,
    /// Scaling beyond the context length of pretraining.
    pub scaling: RopeScaling,
}

/// Context scaling of a rotary embedding. Lengths are in tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// All frequencies divided by one factor.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_length / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_length / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length before scaling.
        original_length: usize,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// Divisor of interpolated frequencies.
        factor: f64,
        /// Factor on cosine and sine.
        attention_factor: f64,
        /// Rotations above which a dimension is only extrapolated.
        beta_fast: f64,
        /// Rotations below which a dimension is only interpolated.
        beta_slow: f64,
        /// True if the ramp's ends are rounded to whole dimensions.
        truncate: bool,
        /// Context length before scaling.
        original_length: usize,
    },
    /// LongRoPE (arXiv 2402.13753): one divisor per frequency, another set for long sequences.
    LongRope {
        /// Divisors for sequences up to `original_length`.
        short: Vec<f64>,
        /// Divisors for longer sequences.
        long: Vec<f64>,
        /// Factor on cosine and sine.
        attention_factor: f64,
        /// Context length before scaling.
        original_length: usize,
    },
}

impl RopeSpec {
    /// Length from which on a sequence, longer than it, turns by other frequencies.
    pub fn turns_at(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::LongRope { short, long, original_length, .. } if short != long => Some(*original_length),
            _ => None,
        }
    }

    /// Frequencies for a sequence of `length` tokens.
    pub fn frequencies(&self, length: usize) -> Frequencies {
        let wavelengths = self.wavelengths();
        let plain = || wavelengths.iter().map(|w| 1.0 / w);
        match &self.scaling {
            RopeScaling::None => Frequencies::unscaled(plain().collect()),
            RopeScaling::Linear { factor } => Frequencies::unscaled(plain().map(|f| f / *factor as f32).collect()),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let original = *original_length as f64;
                let (low_wavelength, high_wavelength) =
                    ((original / low_freq_factor) as f32, (original / high_freq_factor) as f32);
                let (factor, low, high) = (*factor as f32, *low_freq_factor as f32, *high_freq_factor as f32);
                let scaled = plain().map(|f| {
                    let wavelength = (2.0 * PI) as f32 / f;
                    if wavelength > low_wavelength {
                        f / factor
                    } else if wavelength < high_wavelength {
                        f
                    } else {
                        let smooth = (original as f32 / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                });
                Frequencies::unscaled(scaled.collect())
            }
            RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, truncate, original_length } => {
                let (low, high) = self.yarn_ramp([*beta_fast, *beta_slow], *truncate, *original_length);
                let inverse = wavelengths.iter().enumerate().map(|(i, w)| {
                    let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    let extrapolated = 1.0 - ramp;
                    (1.0 / (*factor as f32 * w)) * (1.0 - extrapolated) + (1.0 / w) * extrapolated
                });
                Frequencies { inverse: inverse.collect(), scale: *attention_factor as f32 }
            }
            RopeScaling::LongRope { short, long, attention_factor, original_length } => {
                let divisors = if length > *original_length { long } else { short };
                Frequencies {
                    inverse: wavelengths.iter().zip(divisors).map(|(w, d)| 1.0 / (*d as f32 * w)).collect(),
                    scale: *attention_factor as f32,
                }
            }
        }
    }

    /// θ^(2i/d) for i below d/2, rounded to float32 where transformers rounds.
    fn wavelengths(&self) -> Vec<f32> {
        let dim = self.rotary_dim;
        (0..dim / 2)
            .map(|i| {
                let exponent = (2 * i) as f32 / dim as f32;
                self.theta.powf(f64::from(exponent)) as f32
            })
            .collect()
    }

    /// Dimensions between which YaRN passes from extrapolation to interpolation: those with `rotations` over the original
    /// length.
    fn yarn_ramp(&self, rotations: [f64; 2], truncate: bool, original_length: usize) -> (f64, f64) {
        let dim = self.rotary_dim;
        let dimension = |rotations: f64| {
            dim as f64 * (original_length as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let [mut low, mut high] = rotations.map(dimension);
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min((dim - 1) as f64);
        if low == high {
            high += 0.001; // a ramp of no width would divide by zero
        }
        (low, high)
    }

    /// True if the frequencies depend on the length of the sequence.
    pub fn depends_on_length(&self) -> bool {
        matches!(self.scaling, RopeScaling::LongRope { .. })
    }
}

/// Frequencies of a rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Inverse frequencies in radians per token, (`rotary_dim / 2`).
    pub inverse: Vec<f32>,
    /// Factor on cosine and sine.
    pub scale: f32,
}

impl Frequencies {
    fn unscaled(inverse: Vec<f32>) -> Self {
        Self { inverse, scale: 1.0 }
    }
}
