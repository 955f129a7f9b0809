//! Constants of AdamW, and of one of its steps.

use crate::error::{KernelError, Result};

/// Storage of the moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentFormat {
    /// float32.
    #[default]
    Single,
    /// bfloat16. The second moment is rounded at random, by step and element alone: what it gains in one step is often
    /// below its last bit, and rounded to nearest it would stand still.
    Bf16,
    /// The dynamic 8-bit type in blocks of 256 (Dettmers et al., arXiv 2110.02861); of parameters with fewer than 4,096
    /// elements float32.
    EightBit,
}

impl MomentFormat {
    /// The format for a parameter of `len` elements.
    pub fn of(self, len: usize) -> Self {
        const SMALLEST: usize = 4096;
        if self == Self::EightBit && len < SMALLEST { Self::Single } else { self }
    }

    /// Name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "float32",
            Self::Bf16 => "bfloat16",
            Self::EightBit => "8 bits",
        }
    }
}

/// Constants of the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment, β₁.
    pub beta1: f64,
    /// Decay of the second moment, β₂.
    pub beta2: f64,
    /// ε in the denominator.
    pub eps: f64,
    /// Decoupled decay λ, for the parameters that take part.
    pub weight_decay: f64,
    /// Scale all gradients down together where their norm exceeds this.
    pub max_grad_norm: Option<f64>,
    /// Storage of the moments, on the CPU; on a device they are float32.
    pub moments: MomentFormat,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: None,
            moments: MomentFormat::Single,
        }
    }
}

impl AdamWOptions {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |option, expected, got: f64| {
            Err(KernelError::Option { op: "adamw", option, expected, got: got.to_string() })
        };
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return refuse(name, "at least 0 and below 1", beta);
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return refuse("eps", "finite and above 0", self.eps);
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return refuse("weight_decay", "finite and not negative", self.weight_decay);
        }
        match self.max_grad_norm {
            Some(limit) if !(limit.is_finite() && limit > 0.0) => refuse("max_grad_norm", "finite and above 0", limit),
            _ => Ok(()),
        }
    }
}

/// The update's constants at one step, in float32.
#[derive(Clone, Copy)]
pub(crate) struct UpdateFactors {
    pub(crate) clip: f32,
    pub(crate) beta1: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta2: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub(crate) second_correction: f32,
    pub(crate) eps: f32,
    /// η / (1 − β₁ᵗ).
    pub(crate) rate: f32,
    /// 1 − η·λ.
    pub(crate) keep: f32,
    /// The step, counted from 1.
    pub(crate) step: u32,
}

impl UpdateFactors {
    /// Of step `step`, counted from 1, at `learning_rate` η, for gradients to be multiplied by `clip`; `decay` is false
    /// for a parameter without weight decay.
    pub(crate) fn new(options: AdamWOptions, step: u64, learning_rate: f64, clip: f64, decay: bool) -> Self {
        let AdamWOptions { beta1, beta2, eps, weight_decay, .. } = options;
        let decay = if decay { weight_decay } else { 0.0 };
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            clip: clip as f32,
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            second_correction: correction(beta2).sqrt().recip() as f32,
            eps: eps as f32,
            rate: (learning_rate / correction(beta1)) as f32,
            keep: (1.0 - learning_rate * decay) as f32,
            step: step as u32,
        }
    }
}
