//! Tokens with their kinds, and the special ones by their roles.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Metadata;
use crate::error::Result;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// Steers the model; found in a text as a whole.
    Control,
    /// Found in a text as a whole.
    UserDefined,
    Unused,
    Byte,
}

/// Role of a special token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Bos,
    Eos,
    /// End of turn.
    Eot,
    /// End of message, before a tool's answer.
    Eom,
    Unknown,
    Padding,
    Separator,
    Mask,
}

impl Role {
    fn key(self) -> &'static str {
        match self {
            Self::Bos => "tokenizer.ggml.bos_token_id",
            Self::Eos => "tokenizer.ggml.eos_token_id",
            Self::Eot => "tokenizer.ggml.eot_token_id",
            Self::Eom => "tokenizer.ggml.eom_token_id",
            Self::Unknown => "tokenizer.ggml.unknown_token_id",
            Self::Padding => "tokenizer.ggml.padding_token_id",
            Self::Separator => "tokenizer.ggml.seperator_token_id",
            Self::Mask => "tokenizer.ggml.mask_token_id",
        }
    }

    /// Key of transformers.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Bos => Some("bos_token"),
            Self::Eos => Some("eos_token"),
            Self::Unknown => Some("unk_token"),
            Self::Padding => Some("pad_token"),
            Self::Separator => Some("sep_token"),
            Self::Mask => Some("mask_token"),
            Self::Eot | Self::Eom => None,
        }
    }

    /// The id in the metadata; `None` where it names none.
    pub fn id(self, metadata: &Metadata) -> Result<Option<u32>> {
        let Some(id) = metadata.whole(self.key())? else { return Ok(None) };
        u32::try_from(id).map(Some).map_err(|_| metadata.error(self.key(), "a token id", id))
    }
}

/// The tokens, by id.
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<Kind>,
}

impl Vocabulary {
    /// Reads tokens and kinds.
    ///
    /// # Errors
    /// When they are missing, differ in number, or a token is there twice.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let mut tokens = metadata.texts(TOKENS)?.ok_or_else(|| metadata.missing(TOKENS, "a list of tokens"))?;
        for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
            *token = format!("[EMPTY_{id}]");
        }
        let mut kinds = match metadata.numbers(KINDS)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(numbers) => numbers.into_iter().map(kind).collect(),
        };
        if kinds.len() < tokens.len() {
            return Err(metadata.error(KINDS, format!("{}, one per token", tokens.len()), kinds.len()));
        }
        // Rows of the embedding beyond the vocabulary, which converters fill up.
        let is_filling = |(id, token): (usize, &String)| kinds[id] == Kind::Unused && *token == format!("[PAD{id}]");
        let used = tokens.iter().enumerate().rposition(|filled| !is_filling(filled)).map_or(0, |last| last + 1);
        tokens.truncate(used);
        kinds.truncate(used);
        let vocabulary = Self { tokens, kinds };
        vocabulary.check_twice(metadata)?;
        Ok(vocabulary)
    }

    /// Refuses a token that is there twice.
    pub fn check_twice(&self, metadata: &Metadata) -> Result<()> {
        let mut seen = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(first) = seen.insert(token, id) {
                let field = format!("{TOKENS}[{id}]");
                return Err(metadata.error(&field, "a token of its own", format!("that of {first}: {token:?}")));
            }
        }
        Ok(())
    }

    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Respells some tokens.
    pub fn respell(&mut self, respelled: impl Fn(&str) -> Option<String>) {
        for (token, kind) in self.tokens.iter_mut().zip(&mut self.kinds) {
            if let Some(other) = respelled(token) {
                *token = other;
                // As it is spelled now it is found in no text, only by merges.
                *kind = Kind::Normal;
            }
        }
    }

    /// True if there are tokens of single bytes.
    pub fn has_bytes(&self) -> bool {
        self.kinds.contains(&Kind::Byte)
    }

    /// Ids by token.
    pub fn ids(&self) -> HashMap<&str, usize> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect()
    }

    /// The token of a role with its id; `None` where the metadata names none, or an id beyond the vocabulary.
    pub fn special(&self, metadata: &Metadata, role: Role) -> Result<Option<(&str, u32)>> {
        let id = role.id(metadata)?;
        Ok(id.and_then(|id| Some((self.tokens.get(id as usize)?.as_str(), id))))
    }

    /// Entries of `added_tokens`: the tokens that are found in a text as a whole.
    pub fn added_tokens(&self) -> Vec<Value> {
        let added = self.tokens.iter().zip(&self.kinds).enumerate().filter_map(|(id, (token, kind))| {
            let special = match kind {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => false,
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            Some(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special
            }))
        });
        added.collect()
    }
}

fn kind(number: f64) -> Kind {
    match number as i64 {
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        _ => Kind::Normal,
    }
}
