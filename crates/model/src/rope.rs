//! Rotary position embeddings (arXiv 2104.09864) and the ways models stretch them.
//!
//! Angles are rounded to float32 where transformers rounds them, so that long positions agree with it.

use std::f64::consts::PI;

use crate::error::Result;
use crate::fields::Fields;

/// One rotary embedding: which dimensions turn, how fast, and how far it is stretched.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// The base wavelength.
    pub theta: f64,
    /// How many of a head's dimensions turn, from the first on; even.
    pub rotary_dim: usize,
    /// How the model was stretched beyond its first context length.
    pub scaling: RopeScaling,
}

/// Ways to stretch a rotary embedding. Lengths are in tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not stretched.
    None,
    /// All frequencies divided by one factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_length / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_length / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_length: usize,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// The divisor of interpolated frequencies.
        factor: f64,
        /// Factor on cosine and sine.
        attention_factor: f64,
        /// Rotations above which a dimension is only extrapolated.
        beta_fast: f64,
        /// Rotations below which a dimension is only interpolated.
        beta_slow: f64,
        /// Whether the ramp's ends are whole dimensions.
        truncate: bool,
        /// Context length before stretching.
        original_length: usize,
    },
    /// LongRoPE (arXiv 2402.13753): one divisor a frequency, another set for long sequences.
    LongRope {
        /// Divisors for sequences up to `original_length`.
        short: Vec<f64>,
        /// Divisors for longer sequences.
        long: Vec<f64>,
        /// Factor on cosine and sine.
        attention_factor: f64,
        /// Context length before stretching.
        original_length: usize,
    },
}

/// Where a family keeps what its rotary embedding needs, beside the rope fields themselves.
pub(crate) struct RopeContext {
    pub head_dim: usize,
    pub default_theta: f64,
    /// Phi-3 configurations call LongRoPE `su` or `yarn`.
    pub yarn_is_longrope: bool,
}

impl RopeSpec {
    /// Reads `rope_theta`, `rope_scaling`, `partial_rotary_factor` (transformers 4) or `rope_parameters` (5).
    /// When both are written, `rope_scaling` wins, as in transformers 5.
    pub(crate) fn read(fields: &Fields, context: &RopeContext) -> Result<Self> {
        let nested = match fields.object("rope_scaling")? {
            Some(scaling) => Some(scaling),
            None => fields.object("rope_parameters")?,
        };
        Self::read_from(fields, nested, context, "rope_theta")
    }

    /// As [`RopeSpec::read`], with the nested object and the name of the top-level base given.
    pub(crate) fn read_from(
        fields: &Fields,
        nested: Option<Fields>,
        context: &RopeContext,
        theta_field: &'static str,
    ) -> Result<Self> {
        let parameters = fields.object("rope_parameters")?;
        let from_nested = |name: &'static str| -> Result<Option<f64>> {
            match nested {
                Some(n) => n.positive(name),
                None => Ok(None),
            }
        };
        let mut theta = from_nested("rope_theta")?.or(fields.positive(theta_field)?);
        let mut partial = from_nested("partial_rotary_factor")?.or(fields.positive("partial_rotary_factor")?);
        // `rope_scaling` won, but the base and the share may only be written in `rope_parameters`.
        if let Some(p) = parameters {
            theta = theta.or(p.positive("rope_theta")?);
            partial = partial.or(p.positive("partial_rotary_factor")?);
        }
        let theta = theta.unwrap_or(context.default_theta);
        let partial = partial.unwrap_or(1.0);
        let rotary_dim = (context.head_dim as f64 * partial) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > context.head_dim {
            return Err(fields.error(
                "partial_rotary_factor",
                &format!("a share of head_dim {} that is even and not zero", context.head_dim),
                format!("{partial}, which is {rotary_dim} dimensions"),
            ));
        }
        let scaling = match nested {
            Some(n) => RopeScaling::read(fields, &n, context, rotary_dim)?,
            None => RopeScaling::None,
        };
        Ok(Self { theta, rotary_dim, scaling })
    }

    /// Inverse frequencies (`rotary_dim / 2`, radians a token) and the factor on cosine and sine,
    /// for a sequence of `length` tokens.
    pub fn frequencies(&self, length: usize) -> Frequencies {
        let dim = self.rotary_dim;
        let half = dim / 2;
        // θ^(2i/d), rounded to float32 where transformers rounds.
        let wavelengths: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = (2 * i) as f32 / dim as f32;
                self.theta.powf(f64::from(exponent)) as f32
            })
            .collect();
        let plain = || wavelengths.iter().map(|w| 1.0 / w);
        match &self.scaling {
            RopeScaling::None => Frequencies::unscaled(plain().collect()),
            RopeScaling::Linear { factor } => Frequencies::unscaled(plain().map(|f| f / *factor as f32).collect()),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let original = *original_length as f64;
                let (low_wavelength, high_wavelength) =
                    ((original / low_freq_factor) as f32, (original / high_freq_factor) as f32);
                let (factor, low, high) = (*factor as f32, *low_freq_factor as f32, *high_freq_factor as f32);
                let stretched = plain().map(|f| {
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
                Frequencies::unscaled(stretched.collect())
            }
            RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, truncate, original_length } => {
                // The dimension that turns `rotations` times over the original length.
                let dimension = |rotations: f64| {
                    dim as f64 * (*original_length as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                low = low.max(0.0);
                high = high.min((dim - 1) as f64);
                if low == high {
                    high += 0.001; // a ramp of no width would divide by zero
                }
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

    /// Whether the frequencies depend on how long the sequence is.
    pub fn depends_on_length(&self) -> bool {
        matches!(self.scaling, RopeScaling::LongRope { .. })
    }
}

/// What a rotary embedding turns by.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Radians a token, one per pair of dimensions.
    pub inverse: Vec<f32>,
    /// Factor on cosine and sine.
    pub scale: f32,
}

impl Frequencies {
    fn unscaled(inverse: Vec<f32>) -> Self {
        Self { inverse, scale: 1.0 }
    }
}

impl RopeScaling {
    fn read(fields: &Fields, nested: &Fields, context: &RopeContext, rotary_dim: usize) -> Result<Self> {
        let kind = match nested.str("rope_type")? {
            Some(kind) => kind,
            None => nested.str("type")?.unwrap_or("default"),
        };
        let kind = match kind {
            "su" | "yarn" if context.yarn_is_longrope => "longrope",
            other => other,
        };
        let factor = || -> Result<f64> {
            nested.positive("factor")?.ok_or_else(|| nested.missing("factor", "a number above zero"))
        };
        // The top level wins over the nested object, as in transformers (Phi-3 writes it there).
        let original_length = || -> Result<usize> {
            let found = fields
                .size("original_max_position_embeddings")?
                .or(nested.size("original_max_position_embeddings")?)
                .or(fields.size("max_position_embeddings")?);
            found.ok_or_else(|| nested.missing("original_max_position_embeddings", "a number of tokens"))
        };
        // Without a factor, the stretch is how much longer the context became.
        let stretch = |original: usize| -> Result<f64> {
            match nested.positive("factor")? {
                Some(factor) => Ok(factor),
                None => Ok(fields.required_size("max_position_embeddings")? as f64 / original as f64),
            }
        };
        match kind {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: factor()? }),
            "llama3" => {
                let number = |name: &'static str| -> Result<f64> {
                    nested.positive(name)?.ok_or_else(|| nested.missing(name, "a number above zero"))
                };
                let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
                if high <= low {
                    return Err(nested.error(
                        "high_freq_factor",
                        &format!("more than low_freq_factor {low}"),
                        high.to_string(),
                    ));
                }
                Ok(Self::Llama3 {
                    factor: factor()?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_length: original_length()?,
                })
            }
            "yarn" => {
                let original_length = original_length()?;
                let factor = stretch(original_length)?;
                let magnitude = |m: f64| {
                    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
                };
                let attention_factor = match nested.positive("attention_factor")? {
                    Some(given) => given,
                    None => match (nested.number("mscale")?, nested.number("mscale_all_dim")?) {
                        (Some(m), Some(all)) if m != 0.0 && all != 0.0 => magnitude(m) / magnitude(all),
                        _ => magnitude(1.0),
                    },
                };
                Ok(Self::Yarn {
                    factor,
                    attention_factor,
                    beta_fast: nested.positive("beta_fast")?.unwrap_or(32.0),
                    beta_slow: nested.positive("beta_slow")?.unwrap_or(1.0),
                    truncate: nested.bool("truncate")?.unwrap_or(true),
                    original_length,
                })
            }
            "longrope" => {
                let original_length = original_length()?;
                let divisors = |name: &'static str| -> Result<Vec<f64>> {
                    let expected = format!("{} numbers above zero", rotary_dim / 2);
                    let values = nested.numbers(name)?.ok_or_else(|| nested.missing(name, &expected))?;
                    if values.len() != rotary_dim / 2 || values.iter().any(|v| *v <= 0.0) {
                        return Err(nested.error(name, &expected, format!("{} numbers", values.len())));
                    }
                    Ok(values)
                };
                let factor = stretch(original_length)?;
                let attention_factor = match nested.positive("attention_factor")? {
                    Some(given) => given,
                    None if factor <= 1.0 => 1.0,
                    None => (1.0 + factor.ln() / (original_length as f64).ln()).sqrt(),
                };
                Ok(Self::LongRope {
                    short: divisors("short_factor")?,
                    long: divisors("long_factor")?,
                    attention_factor,
                    original_length,
                })
            }
            other => Err(fields.unsupported(format!("rope scaling `{other}`"))),
        }
    }
}
