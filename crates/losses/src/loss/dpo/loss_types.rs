//! One pair loss, or a list of them.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::DpoLossType;
use crate::config::flat;

/// One pair loss, or several that add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LossTypes {
    /// One.
    One(DpoLossType),
    /// Several, with the weights `loss_weights`.
    Many(Vec<DpoLossType>),
}

impl LossTypes {
    /// All of them.
    pub fn as_slice(&self) -> &[DpoLossType] {
        match self {
            Self::One(loss_type) => std::slice::from_ref(loss_type),
            Self::Many(loss_types) => loss_types,
        }
    }
}

impl From<DpoLossType> for LossTypes {
    fn from(loss_type: DpoLossType) -> Self {
        Self::One(loss_type)
    }
}

/// Not derived: an untagged enum would answer a misspelt name with "did not match any variant".
impl<'de> Deserialize<'de> for LossTypes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrList;

        impl<'de> Visitor<'de> for NameOrList {
            type Value = LossTypes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a loss type, or a list of names")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<LossTypes, E> {
                flat::from_text(name).map(LossTypes::One).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<LossTypes, A::Error> {
                let mut loss_types = Vec::new();
                while let Some(name) = names.next_element::<String>()? {
                    loss_types.push(flat::from_text(&name).map_err(A::Error::custom)?);
                }
                Ok(LossTypes::Many(loss_types))
            }
        }

        deserializer.deserialize_any(NameOrList)
    }
}
