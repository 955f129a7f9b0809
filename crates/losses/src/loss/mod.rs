//! The losses: one file each, one line each in the table below.

pub mod classification;
pub mod cpo;
pub mod distill;
pub mod dpo;
pub mod gpo;
pub mod kto;
pub mod lmpo;
pub mod npo;
pub mod orpo;
pub mod repo;
pub mod reward;
pub mod sft;
pub mod simper;
pub mod simpo;
pub mod slime;
pub mod smpo;
pub mod unlikelihood;

use serde::{Serialize, Serializer};

use crate::catalog::{LossEntry, PublishedRates, losses};
use crate::divergence::Distance;
use crate::entropy::TokenEntropy;
use crate::error::ConfigError;
use crate::factors::Factors;
use crate::function::{Direction, LossFunction, Pairing, SftWeights, TokenLoss};
use crate::likelihood::Likelihood;
use crate::pooled::PooledLoss;

losses! {
    /// Supervised fine-tuning: likelihood of completions.
    Sft(sft::SftConfig),
    /// Distillation from a teacher of the same tokenizer.
    Distill(distill::DistillConfig),
    /// Simple margin preference optimization.
    Smpo(smpo::SmpoConfig),
    /// Direct preference optimization and variants.
    Dpo(dpo::DpoConfig),
    /// Simple preference optimization.
    Simpo(simpo::SimpoConfig),
    /// Contrastive preference optimization.
    Cpo(cpo::CpoConfig),
    /// Length-controlled margin-based preference optimization.
    Lmpo(lmpo::LmpoConfig),
    /// Odds-ratio preference optimization.
    Orpo(orpo::OrpoConfig),
    /// Kahneman–Tversky optimization.
    Kto(kto::KtoConfig),
    /// Group preference optimization: offline GRPO.
    Gpo(gpo::GpoConfig),
    /// Inverse perplexities.
    Simper(simper::SimperConfig),
    /// A hinge on mean log-probs.
    Repo(repo::RepoConfig),
    /// Negative preference optimization.
    Npo(npo::NpoConfig),
    /// Unlikelihood of rejected tokens.
    Unlikelihood(unlikelihood::UnlikelihoodConfig),
    /// A margin with a soft floor under rejected tokens.
    Slime(slime::SlimeConfig),
    /// Reward models.
    Reward(reward::RewardConfig),
    /// Classifiers of texts.
    Classification(classification::ClassificationConfig),
}

impl Loss {
    /// The divergence from a teacher with its weight, beside the part that is a function of log-probs.
    pub fn distance(&self) -> Option<(Distance, f64)> {
        match self {
            Self::Distill(config) => Some((config.distance(), config.alpha)),
            _ => None,
        }
    }

    /// The loss of values of whole sequences, if it is one; `None` for a function of log-probs.
    pub fn pooled(&self) -> Option<&dyn PooledLoss> {
        match self.pairing() {
            Pairing::Pooled(loss) => Some(loss),
            Pairing::Pairwise(_) | Pairing::Unpaired(_) | Pairing::Groupwise(_) | Pairing::SftOnly => None,
        }
    }

    /// True if the loss of a pair depends on the other pairs of its step.
    pub fn compares_pairs(&self) -> bool {
        matches!(self.pairing(), Pairing::Pairwise(loss) if loss.compares_pairs())
    }

    /// True if [`Batch::mismatched`](crate::Batch) must be given.
    pub fn needs_mismatched(&self) -> bool {
        matches!(self.pairing(), Pairing::Unpaired(loss) if loss.needs_mismatched())
    }
}
