//! Every token that ends a turn.
//!
//! A model directory defines its end-of-turn tokens in up to four places that often disagree: the tokenizer's
//! `eos_token`, the list `eos_token_id` of generation_config.json, the one of config.json, and the text that the chat
//! template writes after an assistant's message. A turn that ends in any of them has ended.

use std::cmp::Reverse;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::files::{AddedToken, ModelFiles, json_kind, malformed};
use crate::{ChatError, ChatTemplate};

/// Origin of a terminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminatorSource {
    /// The text that the chat template writes after an assistant's message.
    TurnEnd,
    /// `eos_token` of tokenizer_config.json or special_tokens_map.json.
    Tokenizer,
    /// `eos_token_id` of generation_config.json.
    GenerationConfig,
    /// `eos_token_id` of config.json.
    Config,
}

/// One token that ends a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminator {
    /// Its id; `None` when only a vocabulary look-up can tell.
    pub id: Option<u32>,
    /// Its text; `None` when only a vocabulary look-up can tell.
    pub token: Option<String>,
    /// Every place that defines it.
    pub sources: Vec<TerminatorSource>,
}

/// The set of terminators of a model, the one that ends its turns first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminators {
    entries: Vec<Terminator>,
    /// Ids that a configuration lists and no table of added tokens has.
    #[serde(skip)]
    ordinary: Vec<OrdinaryEnd>,
}

/// An `eos_token_id` of a configuration file that is an ordinary word of the vocabulary, as a stale one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrdinaryEnd {
    /// The id.
    pub id: u32,
    /// The file that lists it.
    pub file: &'static str,
    /// True if it ends turns all the same: no other file names an end.
    pub counts: bool,
}

impl std::fmt::Display for OrdinaryEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let effect = if self.counts { "answers end before it" } else { "it is left out, as in transformers" };
        let OrdinaryEnd { id, file, .. } = self;
        write!(
            f,
            "`eos_token_id` {id} of {file} is an ordinary word or beyond the vocabulary, probably left from another \
             model; {effect}"
        )
    }
}

impl Terminators {
    /// All terminators of a model directory. A directory without a chat template, or with one that fails, has no turn
    /// end; the other sources still count. The set is empty if no source defines a terminator.
    ///
    /// # Errors
    /// If a file is unreadable or `eos_token_id` is neither an id nor a list of ids.
    pub fn from_model_dir(dir: impl AsRef<Path>) -> Result<Self, ChatError> {
        let files = ModelFiles::read(dir.as_ref())?;
        Self::from_files(&files, ChatTemplate::from_files(&files).ok().as_ref())
    }

    /// All terminators of a directory under another template than its own.
    ///
    /// # Errors
    /// As [`Terminators::from_model_dir`].
    pub fn for_template(dir: impl AsRef<Path>, template: &ChatTemplate) -> Result<Self, ChatError> {
        Self::from_files(&ModelFiles::read(dir.as_ref())?, Some(template))
    }

    fn from_files(files: &ModelFiles, template: Option<&ChatTemplate>) -> Result<Self, ChatError> {
        let mut set = Self::default();
        if let Some(token) = template.and_then(|template| turn_end(template, &files.added_tokens)) {
            set.add(Some(token.id), Some(token.content.clone()), TerminatorSource::TurnEnd);
        }
        if let Some(token) = files.special_token("eos_token") {
            let id = files.added_tokens.iter().find(|added| added.content == token).map(|added| added.id);
            set.add(id, Some(token), TerminatorSource::Tokenizer);
        }
        let named_elsewhere = files.generation_config.get("eos_token_id").is_some_and(|ids| !ids.is_null())
            && !files.added_tokens.is_empty();
        let text = files.config.get("text_config").and_then(Value::as_object);
        for (name, source, map) in [
            ("generation_config.json", TerminatorSource::GenerationConfig, Some(&files.generation_config)),
            ("config.json", TerminatorSource::Config, Some(&files.config)),
            ("config.json", TerminatorSource::Config, text),
        ] {
            let Some(map) = map else { continue };
            for id in eos_ids(map, &files.dir.join(name))? {
                let token = files.added_tokens.iter().find(|added| added.id == id);
                // A stale default, an ordinary word by now; transformers does not ask config.json here either.
                let left_out =
                    source == TerminatorSource::Config && token.is_none() && named_elsewhere && !set.contains(id);
                if token.is_none() && !files.added_tokens.is_empty() && !set.contains(id) {
                    set.ordinary.push(OrdinaryEnd { id, file: name, counts: !left_out });
                }
                if left_out {
                    continue;
                }
                set.add(Some(id), token.map(|added| added.content.clone()), source);
            }
        }
        Ok(set)
    }

    /// Fills the ids and texts that the added-token tables did not have, from a tokenizer's vocabulary, and joins
    /// entries that turn out to be one token. Entries missing in the vocabulary are dropped and returned.
    pub fn resolve(
        &mut self,
        id_of: impl Fn(&str) -> Option<u32>,
        token_of: impl Fn(u32) -> Option<String>,
    ) -> Vec<Terminator> {
        let mut unknown = Vec::new();
        let mut resolved = Self { ordinary: std::mem::take(&mut self.ordinary), ..Self::default() };
        for entry in std::mem::take(&mut self.entries) {
            let id = entry.id.or_else(|| entry.token.as_deref().and_then(&id_of));
            let token = id.and_then(&token_of).or_else(|| entry.token.clone());
            match (id, token) {
                (Some(id), Some(token)) => {
                    for source in entry.sources {
                        resolved.add(Some(id), Some(token.clone()), source);
                    }
                }
                _ => unknown.push(entry),
            }
        }
        *self = resolved;
        unknown
    }

    fn add(&mut self, id: Option<u32>, token: Option<String>, source: TerminatorSource) {
        let same =
            |entry: &&mut Terminator| (id.is_some() && entry.id == id) || (token.is_some() && entry.token == token);
        match self.entries.iter_mut().find(same) {
            Some(entry) => {
                entry.id = entry.id.or(id);
                if entry.token.is_none() {
                    entry.token = token;
                }
                if !entry.sources.contains(&source) {
                    entry.sources.push(source);
                }
            }
            None => self.entries.push(Terminator { id, token, sources: vec![source] }),
        }
    }

    /// Every entry, the primary one first.
    pub fn entries(&self) -> &[Terminator] {
        &self.entries
    }

    /// Ids in configuration files that are ordinary words: warn of them.
    pub fn ordinary(&self) -> &[OrdinaryEnd] {
        &self.ordinary
    }

    /// The token that ends this model's turns: the template's turn end, else the tokenizer's EOS, else the first
    /// id that a configuration lists.
    pub fn primary(&self) -> Option<&Terminator> {
        self.entries.first()
    }

    /// The known ids, the primary one first.
    pub fn ids(&self) -> Vec<u32> {
        self.entries.iter().filter_map(|entry| entry.id).collect()
    }

    /// The known texts, the primary one first.
    pub fn tokens(&self) -> Vec<&str> {
        self.entries.iter().filter_map(|entry| entry.token.as_deref()).collect()
    }

    /// True if an id ends a turn.
    pub fn contains(&self, id: u32) -> bool {
        self.entries.iter().any(|entry| entry.id == Some(id))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first terminator in a text, as the bytes it covers; the longest if several begin at one place.
    pub fn find(&self, text: &str) -> Option<std::ops::Range<usize>> {
        self.tokens()
            .into_iter()
            .filter(|token| !token.is_empty())
            .filter_map(|token| text.find(token).map(|start| start..start + token.len()))
            .min_by_key(|range| (range.start, Reverse(range.end)))
    }
}

/// The token that ends an assistant's turn: the last special one that the template writes after the message whether or
/// not another turn follows (`<|END_RESPONSE|><|END_OF_TURN_TOKEN|>` ends with the second; what Phi-3 adds at the end of
/// the conversation is no turn end). Where nothing is common to both, the first one after the last message. Added tokens
/// that are not marked special count where no special one is there.
fn turn_end<'a>(template: &ChatTemplate, added: &'a [AddedToken]) -> Option<&'a AddedToken> {
    let found = |text: &str, special: bool| -> Vec<(usize, &'a AddedToken)> {
        let named = added.iter().filter(|token| token.special == special && !token.content.trim().is_empty());
        named
            .flat_map(|token| text.match_indices(&token.content).map(|(at, _)| (at, token)).collect::<Vec<_>>())
            .collect()
    };
    let longest = |(at, token): &(usize, &AddedToken)| (*at, Reverse(token.content.len()));
    let closing = template.turn_closing().unwrap_or_default();
    let suffix = template.turn_suffix()?;
    [true, false].into_iter().find_map(|special| {
        let last = found(&closing, special)
            .into_iter()
            .max_by_key(|(at, token)| (at + token.content.len(), token.content.len()));
        let first = || found(&suffix, special).into_iter().min_by_key(longest);
        last.or_else(first).map(|(_, token)| token)
    })
}

fn eos_ids(map: &Map<String, Value>, path: &Path) -> Result<Vec<u32>, ChatError> {
    const EXPECTED: &str = "`eos_token_id` as a token id or a list of token ids";
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| malformed(path, EXPECTED, format!("{value} ({})", json_kind(value))))
    };
    match map.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().filter(|value| !value.is_null()).map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
