//! The four transforms of modified SMPO, in the order in which they act on ℓ, and the anchor of terminators.
//!
//! 1. [`eos_term`] on rejected, 2. [`winsorize`] rejected from below, 3. floor rejected, 4. winsorize chosen from
//!    above.
//!
//! The pair loss sees transformed ℓ; a cross-entropy part never does. Bounds are detached, and a clipped token
//! has zero gradient in the pair loss. With a reference, its ℓ go through the same transforms under the same bounds:
//! a log-ratio then compares like with like, and a policy that equals its reference has the log-ratio 0 throughout.
//!
//! The anchor is no transform: it adds cross-entropy on terminators, whose weight no margin and no bound takes away.

pub mod eos_term;
pub mod quantile;
pub mod winsorize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use eos_term::EosTerm;
pub use winsorize::{Bounds, WinsorScope};

use crate::batch::{Completion, Side};
use crate::error::ConfigError;
use crate::sum::sum_of;

/// The transforms that are on; by default none: the regular loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Transforms {
    /// Treatment of terminators of rejected completions.
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
    /// Tokens that the quantiles are taken over.
    pub winsor_scope: WinsorScope,
    /// Weight λ of cross-entropy on terminators, outside of the pair loss: + λ·Σ −ℓ over the terminators of both sides,
    /// per completion. 0 is off.
    #[serde(skip_serializing_if = "is_zero")]
    pub eos_anchor: f64,
}

fn is_zero(weight: &f64) -> bool {
    *weight == 0.0
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
            eos_anchor: 0.0,
        }
    }
}

impl Transforms {
    /// Modified SMPO as published: inverted EOS term, winsorizing at 0.02, floor at −2.3.
    pub fn modified() -> Self {
        Self {
            eos_term: EosTerm::Invert,
            lower_clip_percentile: Some(0.02),
            min_log_prob: Some(-2.3),
            ..Self::default()
        }
    }

    /// True if a bound is a quantile of log-probs.
    pub(crate) fn winsorizes(&self) -> bool {
        self.lower_clip_percentile.is_some() || self.upper_clip_percentile.is_some()
    }

    /// Keys that switch a transform on.
    pub(crate) fn active_keys(&self) -> impl Iterator<Item = &'static str> {
        let switches = [
            ("eos_term", self.eos_term != EosTerm::Off),
            ("lower_clip_percentile", self.lower_clip_percentile.is_some()),
            ("min_log_prob", self.min_log_prob.is_some()),
            ("upper_clip_percentile", self.upper_clip_percentile.is_some()),
            ("eos_anchor", self.eos_anchor != 0.0),
        ];
        switches.into_iter().filter_map(|(key, on)| on.then_some(key))
    }

    /// True if any transform is on.
    pub fn is_active(&self) -> bool {
        self.active_keys().next().is_some()
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
        if !(self.eos_anchor >= 0.0 && self.eos_anchor.is_finite()) {
            let range = "finite and at least 0";
            return Err(ConfigError::OutOfRange { kind, field: "eos_anchor", range, given: self.eos_anchor });
        }
        if self.winsor_scope == WinsorScope::Window(0) {
            return Err(ConfigError::OutOfRange {
                kind,
                field: "winsor_scope",
                range: "a window of at least 1 token",
                given: 0.0,
            });
        }
        self.idle(kind)
    }

    /// Refuses settings of a transform that is off.
    fn idle(&self, kind: &'static str) -> Result<(), ConfigError> {
        let default = Self::default();
        if self.winsor_scope != default.winsor_scope && !self.winsorizes() {
            let because = "without `lower_clip_percentile` or `upper_clip_percentile`";
            return Err(ConfigError::NoEffect { kind, field: "winsor_scope", because });
        }
        if self.eos_penalty_cap != default.eos_penalty_cap && self.eos_term != EosTerm::Bounded {
            let because = "unless `eos_term` is \"bounded\"";
            return Err(ConfigError::NoEffect { kind, field: "eos_penalty_cap", because });
        }
        Ok(())
    }

    /// max(Q, floor), the bound that rejected ℓ end at.
    pub(crate) fn lower_bound(&self, bounds: &Bounds) -> f64 {
        bounds.rejected.max(self.min_log_prob.unwrap_or(f64::NEG_INFINITY))
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
                lower: self.lower_bound(bounds),
                upper: f64::INFINITY,
            },
        }
    }
}

/// All transforms of one completion, as a function of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenTransform {
    eos: EosTerm,
    cap: f64,
    lower: f64,
    upper: f64,
}

/// A token's log-prob after the transforms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Transformed {
    /// ℓ in the pair loss.
    pub(crate) value: f64,
    /// ∂value/∂ℓ: 1, −1 or 0.
    pub(crate) grad: f64,
    /// True if a bound moved it.
    pub(crate) clipped: bool,
}

impl TokenTransform {
    /// True if the EOS term treats terminators unlike other tokens.
    pub(crate) fn changes_terminators(&self) -> bool {
        self.eos != EosTerm::Off
    }

    /// True if terminators are left out.
    pub(crate) fn masks_terminators(&self) -> bool {
        self.eos == EosTerm::Mask
    }

    /// A terminator; `None` if it is masked out.
    pub(crate) fn terminator(&self, logp: f64) -> Option<Transformed> {
        self.eos.apply(logp, self.cap).map(|(value, grad)| self.bounded(value, grad))
    }

    fn bounded(&self, value: f64, grad: f64) -> Transformed {
        if self.moves(value) {
            Transformed { value: self.within(value), grad: 0.0, clipped: true }
        } else {
            Transformed { value, grad, clipped: false }
        }
    }

    /// True if a bound moves the token. One that lies on the bound stays, and keeps its gradient.
    pub(crate) fn moves(&self, value: f64) -> bool {
        value < self.lower || value > self.upper
    }

    /// A token that is no terminator.
    pub(crate) fn within(&self, value: f64) -> f64 {
        let value = if value < self.lower { self.lower } else { value };
        if value > self.upper { self.upper } else { value }
    }

    /// Σ of transformed tokens, none of them a terminator.
    pub(crate) fn plain_sum(&self, logps: &[f64]) -> f64 {
        sum_of(logps, |logp| self.within(logp))
    }

    /// Number of tokens, none of them a terminator, that a bound moves.
    pub(crate) fn clipped(&self, logps: &[f64]) -> u64 {
        logps.iter().map(|logp| u64::from(self.moves(*logp))).sum()
    }
}
