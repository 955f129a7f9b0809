//! Several answers, each an object with its own score or rank (UltraFeedback, Nectar, NeMo RL).

use serde_json::{Map, Value};

use super::Remarks;
use super::columns::{COMPLETIONS, REWARDS};
use super::fields::Fields;

/// Columns of the answers.
const LISTS: &[&str] = &[COMPLETIONS, "answers"];
/// Keys of an answer's text or messages.
const TEXTS: &[&str] = &["completion", "response", "answer", "text", "output"];
/// Keys of its score; the higher, the better.
const SCORES: &[&str] = &["reward", "score", "overall_score"];
/// The key of its rank; the lower, the better.
const RANK: &str = "rank";

/// The answers of a row, better ones with higher rewards.
pub(super) struct Scored {
    pub answers: Vec<Value>,
    pub rewards: Vec<f64>,
    /// True where ranks gave the rewards.
    pub is_ranked: bool,
}

/// The answers of a row in which each brings its own finite score, or its rank; `None` for any other row.
pub(super) fn scored(row: &mut Fields, remarks: &mut Remarks) -> Option<Scored> {
    if REWARDS.iter().any(|name| row.get(name).is_some()) {
        return None;
    }
    let is_scored = |value: &Value| {
        let items = value.as_array().filter(|items| !items.is_empty());
        items.is_some_and(|items| items.iter().all(|item| item.as_object().is_some_and(|item| reward(item).is_some())))
    };
    let (list, items) = LISTS.iter().find_map(|&list| Some((list, row.take_if(list, is_scored)?)))?;
    let Value::Array(items) = items else { return None };
    let mut scored = Scored { answers: Vec::new(), rewards: Vec::new(), is_ranked: false };
    for item in items {
        let Value::Object(mut item) = item else { return None };
        let (key, reward) = reward(&item)?;
        item.remove(key);
        scored.is_ranked |= key == RANK;
        scored.rewards.push(reward);
        scored.answers.push(TEXTS.iter().find_map(|text| item.remove(*text))?);
        Fields::new(item).note_unread(&format!("{list}[]."), remarks);
    }
    Some(scored)
}

/// The key of an answer's score or rank, and the reward that it is.
fn reward(answer: &Map<String, Value>) -> Option<(&'static str, f64)> {
    TEXTS.iter().find(|text| answer.get(**text).is_some_and(|value| !value.is_null()))?;
    let number = |key: &'static str| Some((key, answer.get(key)?.as_f64().filter(|number| number.is_finite())?));
    SCORES.iter().find_map(|key| number(key)).or_else(|| number(RANK).map(|(key, rank)| (key, -rank)))
}
