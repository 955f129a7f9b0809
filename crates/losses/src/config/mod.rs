//! The `[loss]` table: one flat table that holds a loss's own keys and those of the transforms.

mod table;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::loss::cpo::CpoConfig;
pub use crate::loss::dpo::{DpoConfig, DpoLossType};
pub use crate::loss::kto::{KlBaseline, KtoConfig};
pub use crate::loss::orpo::OrpoConfig;
pub use crate::loss::sft::SftConfig;
pub use crate::loss::simpo::SimpoConfig;
pub use crate::loss::smpo::{SmpoConfig, SmpoLossType};

use crate::error::ConfigError;
use crate::loss::{PairLoss, SftWeights};
use crate::transform::Transforms;
use table::Table;
pub(crate) use table::quoted;

/// Which loss, with its own keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Loss {
    /// Likelihood of completions.
    Sft(SftConfig),
    /// Simple margin preference optimization.
    Smpo(SmpoConfig),
    /// Direct preference optimization and variants.
    Dpo(DpoConfig),
    /// Simple preference optimization.
    Simpo(SimpoConfig),
    /// Contrastive preference optimization.
    Cpo(CpoConfig),
    /// Odds-ratio preference optimization.
    Orpo(OrpoConfig),
    /// Kahneman–Tversky optimization.
    Kto(KtoConfig),
}

impl Loss {
    /// The values of `kind`.
    pub const KINDS: [&str; 7] = ["sft", "smpo", "dpo", "simpo", "cpo", "orpo", "kto"];

    /// The value of `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sft(_) => "sft",
            Self::Smpo(_) => "smpo",
            Self::Dpo(_) => "dpo",
            Self::Simpo(_) => "simpo",
            Self::Cpo(_) => "cpo",
            Self::Orpo(_) => "orpo",
            Self::Kto(_) => "kto",
        }
    }

    /// γ as configured; `None` for a loss without a margin.
    pub fn target_margin(&self) -> Option<f64> {
        match self {
            Self::Smpo(config) => Some(config.target_margin),
            Self::Simpo(config) => Some(config.gamma),
            Self::Sft(_) | Self::Dpo(_) | Self::Cpo(_) | Self::Orpo(_) | Self::Kto(_) => None,
        }
    }

    /// The loss with each schedule fixed at its value at optimizer step `step` (from 0) of `steps`.
    pub(crate) fn at_step(&self, step: u64, steps: u64) -> Self {
        match self {
            Self::Smpo(config) => Self::Smpo(config.with_target_margin(config.margin_at(step, steps))),
            other => other.clone(),
        }
    }

    /// The loss with the constant margin `margin`; `None` for a loss without one.
    pub(crate) fn with_target_margin(&self, margin: f64) -> Option<Self> {
        match self {
            Self::Smpo(config) => Some(Self::Smpo(config.with_target_margin(margin))),
            Self::Simpo(config) => Some(Self::Simpo(SimpoConfig { gamma: margin, ..config.clone() })),
            Self::Sft(_) | Self::Dpo(_) | Self::Cpo(_) | Self::Orpo(_) | Self::Kto(_) => None,
        }
    }

    /// Whether completions must come with the reference model's log-probs.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Dpo(config) => !config.reference_free,
            Self::Kto(_) => true,
            Self::Sft(_) | Self::Smpo(_) | Self::Simpo(_) | Self::Cpo(_) | Self::Orpo(_) => false,
        }
    }

    /// Whether KTO's KL baseline must be given ([`Batch::mismatched`](crate::Batch)).
    pub fn needs_mismatched(&self) -> bool {
        matches!(self, Self::Kto(config) if config.kl_baseline == KlBaseline::Mismatched)
    }

    /// Whether every example must have both sides.
    pub fn is_paired(&self) -> bool {
        self.pair_loss().is_some()
    }

    pub(crate) fn pair_loss(&self) -> Option<&dyn PairLoss> {
        match self {
            Self::Smpo(config) => Some(config),
            Self::Dpo(config) => Some(config),
            Self::Simpo(config) => Some(config),
            Self::Cpo(config) => Some(config),
            Self::Orpo(config) => Some(config),
            Self::Sft(_) | Self::Kto(_) => None,
        }
    }

    pub(crate) fn sft_weights(&self) -> SftWeights {
        match self {
            Self::Sft(config) => config.sft_weights(),
            Self::Smpo(config) => config.sft_weights(),
            Self::Dpo(config) => config.sft_weights(),
            Self::Simpo(config) => config.sft_weights(),
            Self::Cpo(config) => config.sft_weights(),
            Self::Orpo(config) => config.sft_weights(),
            Self::Kto(_) => SftWeights::default(),
        }
    }
}

/// The `[loss]` table. Reading it refuses unknown keys by name; [`validate`](Self::validate), which
/// [`Objective::new`](crate::Objective::new) calls, checks the ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct LossConfig {
    /// The loss.
    pub loss: Loss,
    /// The transforms that the pair loss sees ℓ through.
    pub transforms: Transforms,
}

/// One flat table; the transforms mean nothing to SFT, whose schema has none.
impl Serialize for LossConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten)]
            loss: &'a Loss,
            #[serde(flatten)]
            transforms: Option<&'a Transforms>,
        }
        let said = !matches!(self.loss, Loss::Sft(_)) || self.transforms != Transforms::default();
        Flat { loss: &self.loss, transforms: said.then_some(&self.transforms) }.serialize(serializer)
    }
}

impl From<Loss> for LossConfig {
    fn from(loss: Loss) -> Self {
        Self { loss, transforms: Transforms::default() }
    }
}

impl LossConfig {
    /// Regular SMPO with its defaults.
    pub fn smpo() -> Self {
        Loss::Smpo(SmpoConfig::default()).into()
    }

    /// The same loss under other transforms.
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    /// Checks every range.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range, or that means nothing beside the others.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match &self.loss {
            Loss::Sft(_) => {}
            Loss::Smpo(config) => config.validate()?,
            Loss::Dpo(config) => config.validate()?,
            Loss::Simpo(config) => config.validate()?,
            Loss::Cpo(config) => config.validate()?,
            Loss::Orpo(config) => config.validate()?,
            Loss::Kto(config) => config.validate()?,
        }
        self.transforms.validate(self.loss.kind())?;
        if matches!(self.loss, Loss::Sft(_)) {
            let switches = [
                ("eos_term", self.transforms.eos_term != crate::EosTerm::Off),
                ("lower_clip_percentile", self.transforms.lower_clip_percentile.is_some()),
                ("min_log_prob", self.transforms.min_log_prob.is_some()),
                ("upper_clip_percentile", self.transforms.upper_clip_percentile.is_some()),
            ];
            if let Some((field, _)) = switches.into_iter().find(|(_, on)| *on) {
                let because = "without a pair loss: cross-entropy never sees transformed log-probs";
                return Err(ConfigError::NoEffect { kind: "sft", field, because });
            }
        }
        Ok(())
    }
}

/// One object a kind, each with the loss's own keys and those of the transforms.
impl JsonSchema for LossConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Loss".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let transforms = Transforms::json_schema(generator);
        let mut table = |kind: &str| {
            let own = match kind {
                "sft" => SftConfig::json_schema(generator),
                "smpo" => SmpoConfig::json_schema(generator),
                "dpo" => DpoConfig::json_schema(generator),
                "simpo" => SimpoConfig::json_schema(generator),
                "cpo" => CpoConfig::json_schema(generator),
                "orpo" => OrpoConfig::json_schema(generator),
                _ => KtoConfig::json_schema(generator),
            };
            let mut properties = serde_json::json!({"kind": {"const": kind}});
            // cross-entropy never sees transformed log-probs
            let shared = Some(&transforms).filter(|_| kind != "sft");
            for schema in [Some(&own), shared].into_iter().flatten() {
                if let (Some(all), Some(more)) =
                    (properties.as_object_mut(), schema.get("properties").and_then(|p| p.as_object()))
                {
                    all.extend(more.clone());
                }
            }
            serde_json::json!({
                "type": "object",
                "title": kind,
                "description": own.get("description"),
                "properties": properties,
                "required": ["kind"],
                "additionalProperties": false
            })
        };
        let tables: Vec<serde_json::Value> = Loss::KINDS.into_iter().map(&mut table).collect();
        json_schema!({ "oneOf": tables })
    }
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        let kind = table.take_kind(&Loss::KINDS).map_err(D::Error::custom)?;
        let read = |table: &mut Table| -> Result<Self, table::TableError> {
            let transforms = table.take()?;
            let loss = match kind {
                "sft" => Loss::Sft(table.take()?),
                "smpo" => Loss::Smpo(table.take()?),
                "dpo" => Loss::Dpo(table.take()?),
                "simpo" => Loss::Simpo(table.take()?),
                "cpo" => Loss::Cpo(table.take()?),
                "orpo" => Loss::Orpo(table.take()?),
                _ => Loss::Kto(table.take()?),
            };
            table.finish(kind)?;
            Ok(Self { loss, transforms })
        };
        read(&mut table).map_err(D::Error::custom)
    }
}
