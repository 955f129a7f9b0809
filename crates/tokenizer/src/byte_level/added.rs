//! Added tokens are found in a text before anything else is done to it.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{AddedToken, Tokenizer};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

/// The added tokens of a tokenizer, in the two passes that the library makes: first those that are looked for in the text
/// as it is, then, in what lies between, those that are looked for in the normalized text.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    passes: [Pass; 2],
    ids: HashSet<u32>,
    longest: usize,
}

#[derive(Debug)]
struct Pass {
    automaton: AhoCorasick,
    tokens: Vec<(u32, AddedToken)>,
}

/// Bytes `start..end` of a text: an added token, or text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub start: usize,
    pub end: usize,
    pub id: Option<u32>,
}

impl AddedTokens {
    /// `None` where a token has an option that is not supported here.
    pub fn of(tokenizer: &Tokenizer, nfc: bool) -> Option<Self> {
        let mut all: Vec<(u32, AddedToken)> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        all.sort_by_key(|(id, _)| *id);
        let unlike = |token: &AddedToken| {
            token.single_word
                || token.content.is_empty()
                // the library looks for the normalized content
                || (nfc && token.normalized && is_nfc_quick(token.content.chars()) != IsNormalized::Yes)
        };
        if all.iter().any(|(_, token)| unlike(token)) || tokenizer.get_added_vocabulary().get_encode_special_tokens() {
            return None;
        }
        let ids = all.iter().map(|(id, _)| *id).collect();
        let longest = all.iter().map(|(_, token)| token.content.len()).max().unwrap_or(0);
        let (normalized, plain) = all.into_iter().partition(|(_, token)| token.normalized);
        Some(Self { passes: [Pass::new(plain)?, Pass::new(normalized)?], ids, longest })
    }

    pub fn is_added(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// Length of the longest one, in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The pieces of a text, in order, none of them empty. `None` where tokens overlap by the white space they swallow.
    pub fn split(&self, text: &str) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        self.passes[0].split(text, 0, &mut |piece| match piece.id {
            Some(_) => {
                pieces.push(piece);
                Some(())
            }
            None => self.passes[1].split(&text[piece.start..piece.end], piece.start, &mut |piece| {
                pieces.push(piece);
                Some(())
            }),
        })?;
        Some(pieces)
    }
}

impl Pass {
    fn new(tokens: Vec<(u32, AddedToken)>) -> Option<Self> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(_, token)| &token.content))
            .ok()?;
        Some(Self { automaton, tokens })
    }

    fn split(&self, text: &str, base: usize, take: &mut dyn FnMut(Piece) -> Option<()>) -> Option<()> {
        let mut done = 0;
        let mut piece = |start: usize, end: usize, id: Option<u32>| {
            if start == end {
                return Some(());
            }
            take(Piece { start: base + start, end: base + end, id })
        };
        if !self.tokens.is_empty() {
            for found in self.automaton.find_iter(text) {
                let (mut start, mut end) = (found.start(), found.end());
                let (id, token) = &self.tokens[found.pattern().as_usize()];
                if start < done {
                    return None;
                }
                if token.lstrip {
                    start = done + text[done..start].trim_end().len();
                }
                if token.rstrip {
                    end = text.len() - text[end..].trim_start().len();
                }
                piece(done, start, None)?;
                piece(start, end, Some(*id))?;
                done = end;
            }
        }
        piece(done, text.len(), None)
    }
}
