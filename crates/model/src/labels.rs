//! Labels of a head that reads whole sequences: the classes of a classifier, or the one value of a reward model.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::fields::Fields;

/// Ending of the classes of transformers with such a head.
pub(crate) const ARCHITECTURE_END: &str = "ForSequenceClassification";

/// Labels of a head, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Names, by the row of the head.
    pub names: Vec<String>,
    /// True if a sequence may have several at once, or none.
    pub multiple: bool,
}

/// The kind of model that has them.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_reward() {
            true => f.write_str("a reward model, which gives one number for a text"),
            false => write!(f, "a classifier of {} labels", self.count()),
        }
    }
}

/// Fields of `config.json`.
const NAMES: &str = "id2label";
const IDS: &str = "label2id";
const COUNT: &str = "num_labels";
const PROBLEM: &str = "problem_type";
const MULTIPLE: &str = "multi_label_classification";

/// Most labels that are read: a head of more is no classifier of text.
const MOST: usize = 1 << 16;

impl Labels {
    /// The one value of a reward model.
    pub fn reward() -> Self {
        Self::numbered(1, false)
    }

    /// Labels under the names that transformers gives to those without.
    pub fn numbered(count: usize, multiple: bool) -> Self {
        Self { names: (0..count).map(|index| format!("LABEL_{index}")).collect(), multiple }
    }

    /// False for labels that are only numbered.
    pub fn has_names(&self) -> bool {
        self.names != Self::numbered(self.count(), self.multiple).names
    }

    /// Number of labels.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// True for the head of a reward model.
    pub fn is_reward(&self) -> bool {
        self.count() == 1 && !self.multiple
    }

    /// Those of a configuration: by their names, else by their number, else the two that transformers assumes.
    pub(crate) fn read(fields: &Fields) -> Result<Self> {
        let multiple = fields.str(PROBLEM)? == Some(MULTIPLE);
        let counted = fields.size(COUNT)?;
        if let Some(count) = counted.filter(|count| *count > MOST) {
            return Err(fields.error(COUNT, &format!("at most {MOST}"), count.to_string()));
        }
        let Some(Value::Object(named)) = fields.get(NAMES) else {
            return Ok(Self::numbered(counted.unwrap_or(2), multiple));
        };
        let expected = "a name for each index from 0 on";
        let name = |index: usize| {
            let name = named.get(&index.to_string()).and_then(Value::as_str);
            name.map(str::to_owned).ok_or_else(|| fields.error(NAMES, expected, format!("none for {index}")))
        };
        let names = (0..named.len()).map(name).collect::<Result<Vec<String>>>()?;
        match (names.len(), counted) {
            (0, _) => Err(fields.error(NAMES, expected, "none".to_owned())),
            (names, Some(count)) if names != count => {
                Err(fields.error(COUNT, &format!("{names}, the number of names in `{NAMES}`"), count.to_string()))
            }
            _ => Ok(Self { names, multiple }),
        }
    }

    /// Writes them to a configuration.
    pub(crate) fn write(&self, fields: &mut Map<String, Value>) {
        let numbered = || self.names.iter().enumerate();
        let names: Map<String, Value> = numbered().map(|(id, name)| (id.to_string(), json!(name))).collect();
        let ids: Map<String, Value> = numbered().map(|(id, name)| (name.clone(), json!(id))).collect();
        fields.insert(NAMES.into(), Value::Object(names));
        fields.insert(IDS.into(), Value::Object(ids));
        fields.insert(COUNT.into(), json!(self.count()));
        match (self.multiple, self.is_reward()) {
            (true, _) => drop(fields.insert(PROBLEM.into(), json!(MULTIPLE))),
            // as TRL leaves it
            (false, true) => drop(fields.remove(PROBLEM)),
            (false, false) => drop(fields.insert(PROBLEM.into(), json!("single_label_classification"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(value: Value) -> std::result::Result<Labels, String> {
        let Value::Object(object) = value else { unreachable!() };
        Labels::read(&Fields::new(Path::new("config.json"), &object)).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        let two = ["yes", "no"].map(str::to_owned).to_vec();
        for labels in [Labels::reward(), Labels::numbered(3, true), Labels { names: two, multiple: false }] {
            let mut fields = Map::new();
            labels.write(&mut fields);
            assert_eq!(read(Value::Object(fields)).unwrap(), labels);
        }
        assert_eq!(read(json!({})).unwrap().count(), 2);
        assert_eq!(read(json!({"num_labels": 1})).unwrap(), Labels::reward());
    }

    #[test]
    fn labels_that_contradict_each_other_are_refused() {
        let refusal = |value| read(value).unwrap_err();
        assert!(
            refusal(json!({"id2label": {"0": "a", "2": "b"}})).contains("`id2label`: expected a name for each index")
        );
        assert!(refusal(json!({"id2label": {}})).contains("got none"));
        assert!(refusal(json!({"id2label": {"0": "a"}, "num_labels": 2})).contains("`num_labels`: expected 1"));
        assert!(refusal(json!({"num_labels": 100_000})).contains("expected at most"));
        assert!(refusal(json!({"num_labels": 1_000_000_000})).contains("`num_labels`"));
    }
}
