//! The four transforms of modified SMPO, in the order in which they act on ℓ.
//!
//! 1. [`eos_term`] on rejected, 2. [`winsorize`] rejected from below, 3. floor rejected, 4. winsorize chosen from
//!    above.
//!
//! The pair loss sees transformed ℓ; a cross-entropy part never does. Bounds are detached, and a clipped token
//! has zero gradient in the pair loss. With a reference, its ℓ go through the same transforms under the same bounds:
//! a log-ratio then compares like with like, and a policy that equals its reference has the log-ratio 0 throughout.

pub mod eos_term;
pub mod quantile;
pub mod winsorize;

use serde::{Deserialize, Serialize};

pub use eos_term::EosTerm;
pub use winsorize::{WinsorScope, WinsorState};

use crate::batch::{Completion, Side};
use crate::error::ConfigError;

/// Which transforms are on. The default is none: the regular loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transforms {
    /// What happens to terminators of rejected completions.
    pub eos_term: EosTerm,
    /// Cap on −ℓ under `eos_term = "bounded"`, in nats.
    pub eos_penalty_cap: f64,
    /// Winsorize rejected from below at this quantile, in (0, 1); absent is off.
    #[serde(alias = "lower_trim_percentile", skip_serializing_if = "Option::is_none")]
    pub lower_clip_percentile: Option<f64>,
    /// Floor of rejected ℓ, in nats; absent is off. −2.3 is p ≈ 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_log_prob: Option<f64>,
    /// Winsorize chosen from above at this quantile, in (0, 1); absent is off.
    #[serde(alias = "upper_trim_percentile", skip_serializing_if = "Option::is_none")]
    pub upper_clip_percentile: Option<f64>,
    /// Which tokens the quantiles are taken over.
    pub winsor_scope: WinsorScope,
}

impl Default for Transforms {
    fn default() -> Self {
        Self {
            eos_term: EosTerm::Off,
            eos_penalty_cap: 2.3,
            lower_clip_percentile: None,
            min_log_prob: None,
            upper_clip_percentile: None,
            winsor_scope: WinsorScope::Microbatch,
        }
    }
}

impl Transforms {
    /// All that the published modified SMPO intends: inverted EOS term, winsorizing at 0.02, floor at −2.3.
    pub fn modified() -> Self {
        Self {
            eos_term: EosTerm::Invert,
            lower_clip_percentile: Some(0.02),
            min_log_prob: Some(-2.3),
            ..Self::default()
        }
    }

    /// Whether any transform is on.
    pub fn is_active(&self) -> bool {
        self.eos_term != EosTerm::Off
            || self.lower_clip_percentile.is_some()
            || self.min_log_prob.is_some()
            || self.upper_clip_percentile.is_some()
    }

    pub(crate) fn validate(&self, kind: &'static str) -> Result<(), ConfigError> {
        let quantiles = [
            ("lower_clip_percentile", self.lower_clip_percentile),
            ("upper_clip_percentile", self.upper_clip_percentile),
        ];
        for (field, quantile) in quantiles {
            if let Some(given) = quantile.filter(|q| !(*q > 0.0 && *q < 1.0)) {
                return Err(ConfigError::OutOfRange { kind, field, range: "a quantile in (0, 1)", given });
            }
        }
        if let Some(given) = self.min_log_prob.filter(|floor| !(*floor <= 0.0 && floor.is_finite())) {
            return Err(ConfigError::OutOfRange {
                kind,
                field: "min_log_prob",
                range: "a finite log-prob of at most 0, in nats",
                given,
            });
        }
        if !(self.eos_penalty_cap > 0.0 && self.eos_penalty_cap.is_finite()) {
            let range = "finite and greater than 0, in nats";
            return Err(ConfigError::OutOfRange { kind, field: "eos_penalty_cap", range, given: self.eos_penalty_cap });
        }
        if self.winsor_scope == WinsorScope::Window(0) {
            return Err(ConfigError::OutOfRange {
                kind,
                field: "winsor_scope",
                range: "a window of at least 1 token",
                given: 0.0,
            });
        }
        Ok(())
    }

    /// The transform of one completion, given the quantiles of its scope.
    pub(crate) fn of(&self, side: Side, completion: &Completion<'_>, bounds: &Bounds) -> TokenTransform {
        match side {
            Side::Chosen => {
                TokenTransform { eos: EosTerm::Off, cap: 0.0, lower: f64::NEG_INFINITY, upper: bounds.chosen }
            }
            Side::Rejected => TokenTransform {
                eos: self.eos_term.on(completion.is_terminator),
                cap: self.eos_penalty_cap,
                lower: bounds.rejected.max(self.min_log_prob.unwrap_or(f64::NEG_INFINITY)),
                upper: f64::INFINITY,
            },
        }
    }
}

/// The quantiles that one micro-batch is clipped at; infinite where winsorizing is off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    /// Lower bound of rejected ℓ.
    pub(crate) rejected: f64,
    /// Upper bound of chosen ℓ.
    pub(crate) chosen: f64,
}

impl Bounds {
    pub(crate) const NONE: Self = Self { rejected: f64::NEG_INFINITY, chosen: f64::INFINITY };
}

/// All transforms of one completion, as a function of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenTransform {
    eos: EosTerm,
    cap: f64,
    lower: f64,
    upper: f64,
}

/// A token after the transforms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Transformed {
    /// The ℓ that the pair loss sees.
    pub(crate) value: f64,
    /// Its derivative with respect to ℓ: 1, −1 or 0.
    pub(crate) slope: f64,
    /// Whether a bound moved it.
    pub(crate) clipped: bool,
}

impl TokenTransform {
    /// The transformed token; `None` where it is masked out.
    pub(crate) fn apply(&self, logp: f64, is_terminator: bool) -> Option<Transformed> {
        let (value, slope) = if is_terminator { self.eos.apply(logp, self.cap)? } else { (logp, 1.0) };
        Some(if value < self.lower {
            Transformed { value: self.lower, slope: 0.0, clipped: true }
        } else if value > self.upper {
            Transformed { value: self.upper, slope: 0.0, clipped: true }
        } else {
            Transformed { value, slope, clipped: false }
        })
    }

    /// How many of a completion's tokens the pair loss counts.
    pub(crate) fn counted(&self, is_terminator: &[bool]) -> usize {
        match self.eos {
            EosTerm::Mask => is_terminator.iter().filter(|terminator| !**terminator).count(),
            EosTerm::Off | EosTerm::Invert | EosTerm::Bounded => is_terminator.len(),
        }
    }
}
