//! The `[loss]` table: one flat table that holds a loss's own keys and those of the transforms.

pub(crate) mod flat;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::catalog::LossEntry;
use crate::error::ConfigError;
use crate::function::Pairing;
use crate::loss::{LOSSES, Loss};
use crate::transform::Transforms;
pub(crate) use flat::quoted;
use flat::{FlatError, FlatTable};

/// The `[loss]` table. Reading it refuses unknown keys by name; [`validate`](Self::validate), which
/// [`Objective::new`](crate::Objective::new) calls, checks the ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct LossConfig {
    /// The loss.
    pub loss: Loss,
    /// The transforms that the pair loss sees ℓ through.
    pub transforms: Transforms,
}

/// One flat table. SFT's schema has no transforms: they have no effect there.
impl Serialize for LossConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten)]
            loss: &'a Loss,
            #[serde(flatten)]
            transforms: Option<&'a Transforms>,
        }
        let idle = self.is_sft_only() && self.transforms == Transforms::default();
        Flat { loss: &self.loss, transforms: (!idle).then_some(&self.transforms) }.serialize(serializer)
    }
}

impl From<Loss> for LossConfig {
    fn from(loss: Loss) -> Self {
        Self { loss, transforms: Transforms::default() }
    }
}

impl LossConfig {
    /// The same loss under other transforms.
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    fn is_sft_only(&self) -> bool {
        matches!(self.loss.pairing(), Pairing::SftOnly)
    }

    /// Checks every range.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range, or has no effect beside the others.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.loss.validate()?;
        self.transforms.validate(self.loss.kind())?;
        if self.is_sft_only()
            && let Some(field) = self.transforms.active_keys().next()
        {
            let because = "without a pair loss: cross-entropy never sees transformed log-probs";
            return Err(ConfigError::NoEffect { kind: self.loss.kind(), field, because });
        }
        Ok(())
    }
}

/// One object per kind, each with the loss's own keys and those of the transforms.
impl JsonSchema for LossConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Loss".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let transforms = Transforms::json_schema(generator);
        let mut table = |entry: &LossEntry| {
            let own = (entry.schema)(generator);
            let mut properties = serde_json::json!({"kind": {"const": entry.kind}});
            let shared = Some(&transforms).filter(|_| !entry.is_sft_only());
            for schema in [Some(&own), shared].into_iter().flatten() {
                if let (Some(all), Some(more)) =
                    (properties.as_object_mut(), schema.get("properties").and_then(|p| p.as_object()))
                {
                    all.extend(more.clone());
                }
            }
            serde_json::json!({
                "type": "object",
                "title": entry.kind,
                "description": own.get("description"),
                "properties": properties,
                "required": ["kind"],
                "additionalProperties": false
            })
        };
        let tables: Vec<serde_json::Value> = LOSSES.iter().map(&mut table).collect();
        json_schema!({ "oneOf": tables })
    }
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = FlatTable::deserialize(deserializer)?;
        read(&mut table).map_err(D::Error::custom)
    }
}

fn read(table: &mut FlatTable) -> Result<LossConfig, FlatError> {
    let entry = table.take_kind(LOSSES)?;
    let transforms = table.take()?;
    let loss = (entry.read)(table)?;
    table.finish(entry.kind)?;
    Ok(LossConfig { loss, transforms })
}
