//! Keys of several values, for which one value may stand alone.

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// Schema of a key of several values; [`one_or_many`] reads them.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// Reads one value or a list.
pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    // Through a value, so that the error is that of one element and not that no variant matched.
    let value = serde_json::Value::deserialize(deserializer)?;
    let values = if let serde_json::Value::Array(values) = value { values } else { vec![value] };
    values.into_iter().map(|value| serde_json::from_value(value).map_err(D::Error::custom)).collect()
}
