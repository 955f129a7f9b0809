//! The `[loss]` table: one flat table that holds a loss's own keys and those of the transforms.

pub(crate) mod flat;
mod schedule;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::catalog::LossEntry;
use crate::error::ConfigError;
use crate::function::Pairing;
use crate::loss::{LOSSES, Loss};
use crate::transform::Transforms;
pub(crate) use flat::quoted;
use flat::{FlatError, FlatTable};
pub use schedule::{Course, Schedule};

/// The `[loss]` table. Reading it refuses unknown keys by name; [`validate`](Self::validate), which
/// [`Objective::new`](crate::Objective::new) calls, checks the ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct LossConfig {
    /// The loss.
    pub loss: Loss,
    /// The transforms that the pair loss sees ℓ through.
    pub transforms: Transforms,
    /// Numbers of either that change over training, by key; the number itself is the schedule's end.
    pub schedules: BTreeMap<String, Schedule>,
}

/// One flat table. Losses that compare no log-probs have no transforms in their schema: they have no effect there.
impl Serialize for LossConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = self.numbers().map_err(serde::ser::Error::custom)?;
        for (key, schedule) in &self.schedules {
            table.insert(key.clone(), serde_json::to_value(schedule).map_err(serde::ser::Error::custom)?);
        }
        table.serialize(serializer)
    }
}

impl From<Loss> for LossConfig {
    fn from(loss: Loss) -> Self {
        Self { loss, transforms: Transforms::default(), schedules: BTreeMap::new() }
    }
}

impl LossConfig {
    /// The same loss under other transforms.
    pub fn with_transforms(self, transforms: Transforms) -> Self {
        Self { transforms, ..self }
    }

    fn takes_transforms(&self) -> bool {
        self.loss.pairing().takes_transforms()
    }

    /// The flat table without schedules.
    fn numbers(&self) -> serde_json::Result<Map<String, Value>> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten)]
            loss: &'a Loss,
            #[serde(flatten)]
            transforms: Option<&'a Transforms>,
        }
        let idle = !self.takes_transforms() && self.transforms == Transforms::default();
        let flat = Flat { loss: &self.loss, transforms: (!idle).then_some(&self.transforms) };
        Ok(serde_json::to_value(flat)?.as_object().cloned().unwrap_or_default())
    }

    /// The configuration at optimizer step `step` (from 0) of `steps`: each number at its place in its schedule.
    ///
    /// # Errors
    ///
    /// When a schedule is of a key that is no number.
    pub fn at_step(&self, step: u64, steps: u64) -> Result<Self, ConfigError> {
        let fixed = Self { loss: self.loss.at_step(step, steps), ..self.clone() };
        if self.schedules.is_empty() {
            return Ok(fixed);
        }
        let unfit =
            |error: serde_json::Error| ConfigError::Schedule { kind: self.loss.kind(), message: error.to_string() };
        let mut table = fixed.numbers().map_err(unfit)?;
        for (key, schedule) in &self.schedules {
            table.insert(key.clone(), Value::from(schedule.at(step, steps)));
        }
        serde_json::from_value(Value::Object(table)).map_err(unfit)
    }

    /// Checks every range, at both ends of every schedule.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range, or has no effect beside the others.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, schedule) in &self.schedules {
            schedule.validate(self.loss.kind(), key)?;
        }
        if !self.schedules.is_empty() {
            self.at_step(0, 2)?.validate()?;
        }
        self.loss.validate()?;
        self.transforms.validate(self.loss.kind())?;
        if !self.takes_transforms()
            && let Some(field) = self.transforms.active_keys().next()
        {
            let because = match self.loss.pairing() {
                Pairing::Pooled(_) => "on a head of labels: it gives no log-probs",
                _ => "without a pair loss: cross-entropy never sees transformed log-probs",
            };
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
            let shared = Some(&transforms).filter(|_| entry.takes_transforms());
            let schedule = generator.subschema_for::<Schedule>();
            for schema in [Some(&own), shared].into_iter().flatten() {
                if let (Some(all), Some(more)) =
                    (properties.as_object_mut(), schema.get("properties").and_then(|p| p.as_object()))
                {
                    all.extend(more.iter().map(|(key, property)| (key.clone(), or_schedule(property, &schedule))));
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

/// The schema of a number, or of a schedule of it.
fn or_schedule(property: &Value, schedule: &Schema) -> Value {
    let is_number = |name: &Value| name == "number";
    let takes_number = match &property["type"] {
        Value::Array(names) => names.iter().any(is_number),
        name => is_number(name),
    };
    let Some(property) = property.as_object().filter(|_| takes_number) else { return property.clone() };
    let mut outer = property.clone();
    let mut number = Map::new();
    for key in ["type", "format", "minimum", "maximum"] {
        if let Some(value) = outer.remove(key) {
            number.insert(key.to_owned(), value);
        }
    }
    outer.insert("anyOf".to_owned(), serde_json::json!([number, schedule]));
    Value::Object(outer)
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = FlatTable::deserialize(deserializer)?;
        read(&mut table).map_err(D::Error::custom)
    }
}

fn read(table: &mut FlatTable) -> Result<LossConfig, FlatError> {
    let entry = table.take_kind(LOSSES)?;
    let schedules = table.take_schedules()?;
    let transforms = table.take()?;
    let loss = (entry.read)(table)?;
    table.finish(entry.kind)?;
    Ok(LossConfig { loss, transforms, schedules })
}
