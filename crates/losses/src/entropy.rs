//! Numbers of the policy's whole distribution at a token, beside the log-prob of the token itself.

/// The number that a loss needs; a model's head computes it in the sweep that it makes anyway. It has no gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenEntropy {
    /// −log Σ_v p_v², the collision (Rényi) entropy of order 2.
    Collision,
    /// The Shannon entropy of the 20 likeliest tokens among themselves.
    Top,
}

impl TokenEntropy {
    /// Its name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Collision => "collision_entropy",
            Self::Top => "top_entropy",
        }
    }
}
