//! Words that were read before.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use tokenizers::{Model, Tokenizer};

use crate::encoded::Encoded;

/// Longer words are rarely seen again.
const LONGEST: usize = 64;
/// Tokens that are remembered, some megabytes; then all is forgotten, and what is frequent soon known again.
const REMEMBERED: usize = 1 << 20;

/// The character that stands for a byte in a byte-level vocabulary: itself where it is visible, else one from U+0100 on.
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
    /// The word as the model reads it.
    characters: String,
    /// Tokens after which all is forgotten.
    limit: usize,
}

impl Default for Words {
    fn default() -> Self {
        Words::remembering(REMEMBERED)
    }
}

impl Words {
    /// None yet, and at most about `limit` tokens of them.
    pub fn remembering(limit: usize) -> Self {
        Words { known: HashMap::default(), tokens: Vec::new(), characters: String::new(), limit }
    }

    /// Appends the tokens of a word that begins at byte `start`. `None` where the model does not cover its bytes, since it
    /// then drops or replaces some.
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
        if covered && word.len() <= LONGEST {
            self.known.insert(word.into(), (from as u32, self.tokens.len() as u32));
        } else {
            self.tokens.truncate(from);
        }
        covered.then_some(())
    }
}
