//! Sampler parameters and their ranges.

use serde::{Deserialize, Serialize};

/// Temperature and filters, applied in the order of transformers: temperature, top-k, top-p (over the tokens that top-k
/// keeps), min-p. Recorded log-probs are those before any of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    /// 0 is greedy; the filters then change nothing.
    pub temperature: f64,
    /// Top-k: keep the k likeliest tokens, the smaller id first where two tie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Top-p (nucleus): keep the smallest set of likeliest tokens with cumulative probability ≥ p, in (0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Min-p: keep tokens with at least this share of the likeliest token's probability, in [0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
}

impl Sampler {
    /// Greedy decoding: the likeliest token at every step.
    pub const fn greedy() -> Self {
        Self::temperature(0.0)
    }

    /// The model's own distribution at this temperature, unfiltered.
    pub const fn temperature(temperature: f64) -> Self {
        Sampler { temperature, top_k: None, top_p: None, min_p: None }
    }

    /// True if every draw is the arg max.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first field out of range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let out = |field, expected, got: String| Err(OutOfRange { field, expected, got });
        let Sampler { temperature, top_k, top_p, min_p } = *self;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return out("sampler.temperature", "a finite number of at least 0", temperature.to_string());
        }
        if top_k == Some(0) {
            return out("sampler.top_k", "at least 1, or absent", "0".into());
        }
        if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return out("sampler.top_p", "a number in (0, 1]", p.to_string());
        }
        if let Some(p) = min_p.filter(|p| !(0.0..=1.0).contains(p)) {
            return out("sampler.min_p", "a number in [0, 1]", p.to_string());
        }
        Ok(())
    }
}

/// A parameter outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, got {got}")]
pub struct OutOfRange {
    /// Dotted name of the parameter.
    pub field: &'static str,
    /// The range.
    pub expected: &'static str,
    /// The value.
    pub got: String,
}

#[cfg(test)]
mod tests {
    use super::Sampler;

    #[test]
    fn ranges_are_checked_field_by_field() {
        let base = Sampler::temperature(0.8);
        assert_eq!(base.check(), Ok(()));
        for (sampler, field) in [
            (Sampler { temperature: -0.1, ..base }, "sampler.temperature"),
            (Sampler { temperature: f64::NAN, ..base }, "sampler.temperature"),
            (Sampler { temperature: f64::INFINITY, ..base }, "sampler.temperature"),
            (Sampler { top_k: Some(0), ..base }, "sampler.top_k"),
            (Sampler { top_p: Some(0.0), ..base }, "sampler.top_p"),
            (Sampler { top_p: Some(1.5), ..base }, "sampler.top_p"),
            (Sampler { top_p: Some(f64::NAN), ..base }, "sampler.top_p"),
            (Sampler { min_p: Some(-0.5), ..base }, "sampler.min_p"),
            (Sampler { min_p: Some(f64::NAN), ..base }, "sampler.min_p"),
        ] {
            assert_eq!(sampler.check().expect_err("out of range").field, field, "{sampler:?}");
        }
    }
}
