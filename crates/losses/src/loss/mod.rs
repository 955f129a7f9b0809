//! The losses: one file each, one line each in the table below.

pub mod cpo;
pub mod dpo;
pub mod kto;
pub mod orpo;
pub mod sft;
pub mod simpo;
pub mod smpo;

use serde::{Serialize, Serializer};

use crate::catalog::{LossEntry, PublishedRates, losses};
use crate::error::ConfigError;
use crate::function::{Direction, LossFunction, Pairing, SftWeights};

losses! {
    /// Supervised fine-tuning: likelihood of completions.
    Sft(sft::SftConfig),
    /// Simple margin preference optimization.
    Smpo(smpo::SmpoConfig),
    /// Direct preference optimization and variants.
    Dpo(dpo::DpoConfig),
    /// Simple preference optimization.
    Simpo(simpo::SimpoConfig),
    /// Contrastive preference optimization.
    Cpo(cpo::CpoConfig),
    /// Odds-ratio preference optimization.
    Orpo(orpo::OrpoConfig),
    /// Kahneman–Tversky optimization.
    Kto(kto::KtoConfig),
}

impl Loss {
    /// True if [`Batch::mismatched`](crate::Batch) must be given.
    pub fn needs_mismatched(&self) -> bool {
        matches!(self.pairing(), Pairing::Unpaired(loss) if loss.needs_mismatched())
    }
}
