//! A flat table that several structs read their own keys from.
//!
//! serde's `flatten` and `deny_unknown_fields` exclude each other, and its message for an unknown key would list the
//! keys of one struct only. Here every struct takes the keys of its own fields; a key left at the end is unknown.

use std::collections::BTreeMap;

use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::Schedule;
use crate::catalog::LossEntry;

/// A value of any config format.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Table(BTreeMap<String, Value>),
    Null(()),
}

/// A table that does not fit, in words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlatError {
    #[error("`kind` is missing: expected one of {0}")]
    NoKind(String),
    #[error("unknown loss `{given}`: expected one of {known}{suggestion}")]
    UnknownKind { given: String, known: String, suggestion: String },
    #[error("loss `{kind}`: unknown key `{given}`{suggestion} (its keys: {known})")]
    UnknownKey { kind: &'static str, given: String, known: String, suggestion: String },
    #[error("{0}")]
    Value(String),
}

/// A table that is being read.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct FlatTable {
    rest: BTreeMap<String, Value>,
    #[serde(skip)]
    known: Vec<&'static str>,
}

impl FlatTable {
    /// Takes `kind` out, and finds its loss.
    pub(crate) fn take_kind(&mut self, losses: &'static [LossEntry]) -> Result<&'static LossEntry, FlatError> {
        let kinds: Vec<&str> = losses.iter().map(|entry| entry.kind).collect();
        let known = quoted(&kinds);
        let given = match self.rest.remove("kind") {
            None => return Err(FlatError::NoKind(known)),
            Some(Value::Text(given)) => given,
            Some(other) => {
                return Err(FlatError::Value(format!("`kind`: expected a string, one of {known}, got {other:?}")));
            }
        };
        losses.iter().find(|entry| entry.kind == given).ok_or_else(|| {
            let suggestion = smpo_suggest::did_you_mean(&given, kinds);
            FlatError::UnknownKind { given, known, suggestion }
        })
    }

    /// Takes the keys of `T` out.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> Result<T, FlatError> {
        T::deserialize(TakeStruct(self)).map_err(|error| FlatError::Value(error.to_string()))
    }

    /// Reads tables with `from` and `to` as schedules, and leaves their ends in their places.
    pub(crate) fn take_schedules(&mut self) -> Result<BTreeMap<String, Schedule>, FlatError> {
        let mut schedules = BTreeMap::new();
        for (key, value) in &mut self.rest {
            let Value::Table(entries) = &*value else { continue };
            if !entries.contains_key("from") && !entries.contains_key("to") {
                continue;
            }
            let schedule = Schedule::deserialize(value.clone())
                .map_err(|error| FlatError::Value(format!("`{key}`: a schedule: {error}")))?;
            *value = Value::Float(schedule.to);
            schedules.insert(key.clone(), schedule);
        }
        Ok(schedules)
    }

    /// Refuses keys that no struct took.
    pub(crate) fn finish(&self, kind: &'static str) -> Result<(), FlatError> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(given) => Err(FlatError::UnknownKey {
                kind,
                given: given.clone(),
                known: quoted(&self.known),
                suggestion: smpo_suggest::did_you_mean(given, self.known.iter().copied()),
            }),
        }
    }
}

/// Names in backquotes, with commas, for messages.
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// An enum from the name of a variant; an unknown one is answered with all names and the nearest.
pub(crate) fn from_text<T: DeserializeOwned>(name: &str) -> Result<T, ValueError> {
    T::deserialize(Value::Text(name.to_owned()))
}

/// Deserializes one struct from the keys that it has fields for.
struct TakeStruct<'a>(&'a mut FlatTable);

impl<'de> Deserializer<'de> for TakeStruct<'_> {
    type Error = ValueError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.0.known.extend(fields);
        let mine: Vec<_> = fields.iter().filter_map(|field| Some((*field, self.0.rest.remove(*field)?))).collect();
        visitor.visit_map(Entries { rest: mine.into_iter(), pending: None })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, ValueError> {
        Err(ValueError::custom("expected a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Entries of a struct; an error names the key whose value does not fit.
struct Entries {
    rest: std::vec::IntoIter<(&'static str, Value)>,
    pending: Option<(&'static str, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        self.pending = self.rest.next();
        self.pending.as_ref().map(|(key, _)| seed.deserialize((*key).into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        let Some((key, value)) = self.pending.take() else {
            return Err(ValueError::custom("expected a key before its value"));
        };
        seed.deserialize(value).map_err(|error| ValueError::custom(format_args!("`{key}`: {error}")))
    }
}

impl IntoDeserializer<'_> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(values) => visitor.visit_seq(serde::de::value::SeqDeserializer::new(values.into_iter())),
            Self::Table(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
            Self::Null(()) => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Null(()) => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Self::Text(given) if !variants.contains(&given.as_str()) => {
                let (known, suggestion) =
                    (quoted(variants), smpo_suggest::did_you_mean(&given, variants.iter().copied()));
                Err(ValueError::custom(format_args!("expected one of {known}, got `{given}`{suggestion}")))
            }
            Self::Text(variant) => variant.into_deserializer().deserialize_enum(name, variants, visitor),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
