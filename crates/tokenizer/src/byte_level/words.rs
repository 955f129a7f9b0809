//! Cache of the tokens of words.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use tokenizers::{Model, Tokenizer};

use crate::encoded::Encoded;

/// Length in bytes of the longest word that is cached; longer ones rarely repeat.
const MAX_WORD: usize = 64;
/// Tokens in the cache, some megabytes; beyond, it is cleared, and frequent words soon return.
const MAX_TOKENS: usize = 1 << 20;

/// The character that represents a byte in a byte-level vocabulary: itself where it is visible, else one from U+0100 on.
static CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    })
});

/// The tokens of words.
#[derive(Debug)]
pub(crate) struct Words {
    /// Word → the range of its tokens.
    known: HashMap<Box<str>, (u32, u32), RandomState>,
    /// Ids and lengths in bytes.
    tokens: Vec<(u32, u32)>,
    /// The word in the characters of the byte-level vocabulary.
    characters: String,
    /// Number of tokens beyond which the cache is cleared.
    limit: usize,
}

impl Default for Words {
    fn default() -> Self {
        Words::with_limit(MAX_TOKENS)
    }
}

impl Words {
    /// An empty cache of at most about `limit` tokens.
    pub fn with_limit(limit: usize) -> Self {
        Words { known: HashMap::default(), tokens: Vec::new(), characters: String::new(), limit }
    }

    /// Appends the tokens of a word that begins at byte `start`. `None` where the model does not cover its bytes: it then
    /// drops or replaces some.
    pub fn encode(&mut self, tokenizer: &Tokenizer, word: &str, start: usize, encoded: &mut Encoded) -> Option<()> {
        if let Some(&(from, to)) = self.known.get(word) {
            let mut end = start;
            for &(id, length) in &self.tokens[from as usize..to as usize] {
                end += length as usize;
                encoded.push(id, end);
            }
            return Some(());
        }
        self.characters.clear();
        self.characters.extend(word.bytes().map(|byte| CHARACTERS[usize::from(byte)]));
        let tokens = tokenizer.get_model().tokenize(&self.characters).ok()?;
        if self.tokens.len() > self.limit {
            self.known.clear();
            self.tokens.clear();
        }
        let from = self.tokens.len();
        let mut end = start;
        for token in tokens {
            let length = token.value.chars().count();
            end += length;
            encoded.push(token.id, end);
            self.tokens.push((token.id, length as u32));
        }
        let covered = end == start + word.len();
        if covered && word.len() <= MAX_WORD {
            self.known.insert(word.into(), (from as u32, self.tokens.len() as u32));
        } else {
            self.tokens.truncate(from);
        }
        covered.then_some(())
    }
}
