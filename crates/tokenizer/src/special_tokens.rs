//! The special tokens of a tokenizer: by id, and as text that a message may spell out.

use std::collections::HashSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Tokenizer;

use crate::TokenizerError;

/// Special tokens by id and by text. Some tokenizers have a thousand, so texts are searched by one automaton.
#[derive(Debug, Clone)]
pub(crate) struct SpecialTokens {
    ids: HashSet<u32>,
    automaton: AhoCorasick,
    texts: Arc<[String]>,
}

impl SpecialTokens {
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let (ids, texts): (HashSet<u32>, Vec<String>) = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (id, token.content))
            .unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&texts)
            .map_err(|error| TokenizerError::Tokenizer(error.to_string()))?;
        Ok(Self { ids, automaton, texts: texts.into() })
    }

    pub fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// The first special token that `text` spells out; the longest where several begin at one byte.
    pub fn find(&self, text: &str) -> Option<&str> {
        let found = self.automaton.find(text)?;
        Some(&self.texts[found.pattern().as_usize()])
    }
}
