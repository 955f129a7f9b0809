//! Fast path to the ids of the `tokenizers` crate, for byte-level tokenizers (GPT-2, Llama 3, Qwen, DeepSeek, Mistral
//! Nemo, Phi-4…).
//!
//! `tokenizers` carries the alignment of every byte through each stage, runs a backtracking regex, and merges every
//! word anew. Here a text is cut by an automaton for the same pattern, and each distinct word is encoded by the library's
//! own model once and then cached, so the merges are the library's. Patterns and normalizers that are not known to agree,
//! and texts that the normalizer may change, go through the library. `tests.rs` compares both.

mod added;
mod pattern;
mod words;

use std::sync::{Arc, Mutex, PoisonError};

use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{ModelWrapper, Tokenizer};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use crate::encoded::Encoded;
use added::AddedTokens;
use pattern::{Cuts, Pattern, Scratch};
use words::Words;

/// The stages of one tokenizer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ByteLevel {
    added: Arc<AddedTokens>,
    patterns: Arc<[Pattern]>,
    /// True if texts have to be in NFC.
    nfc: bool,
    /// One word cache per active thread; taken for a text and put back.
    memories: Arc<Mutex<Vec<Memory>>>,
}

#[derive(Debug)]
struct Memory {
    words: Words,
    scratch: Vec<Scratch>,
}

impl ByteLevel {
    /// The fast path for a tokenizer; `None` where a part of it is not supported.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        if model.dropout.is_some_and(|dropout| dropout > 0.0) {
            return None;
        }
        let nfc = is_nfc(tokenizer.get_normalizer())?;
        let patterns = patterns(tokenizer.get_pre_tokenizer()?)?;
        let added = AddedTokens::of(tokenizer, nfc)?;
        Some(Self {
            added: Arc::new(added),
            patterns: patterns.into(),
            nfc,
            memories: Arc::new(Mutex::new(Vec::new())),
        })
    }

    /// Ids and byte offsets of texts, equal to the library's without its own special tokens; `None` where the library has
    /// to encode them. A common prefix of the texts is tokenised once.
    pub fn encode(&self, tokenizer: &Tokenizer, texts: &[&str]) -> Option<Vec<Encoded>> {
        if self.nfc && !texts.iter().all(|text| is_in_nfc(text)) {
            return None;
        }
        let mut memory = self.memories.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(|| Memory {
            words: Words::default(),
            scratch: self.patterns.iter().map(Pattern::scratch).collect(),
        });
        let mut done: Vec<Encoded> = Vec::with_capacity(texts.len());
        let mut complete = true;
        for text in texts {
            let mut encoded = match done.first() {
                Some(first) => first.up_to(self.shared(texts[0], text, first)),
                None => Encoded::with_capacity(text.len() / 3),
            };
            complete = self.go_on(tokenizer, text, &mut encoded, &mut memory).is_some();
            if !complete {
                break;
            }
            done.push(encoded);
        }
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        complete.then_some(done)
    }

    /// Number of tokens of `first` that `text` shares: up to and including an added token so far before the texts differ
    /// that no other added token could have been matched there.
    fn shared(&self, first_text: &str, text: &str, first: &Encoded) -> usize {
        let same = first_text.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        let safe = |at: &usize| self.added.is_added(first.ids[*at]) && first.ends[*at] + self.added.longest() <= same;
        (0..first.ids.len()).rev().find(safe).map_or(0, |at| at + 1)
    }

    /// Encodes the text after the tokens in `encoded`.
    fn go_on(&self, tokenizer: &Tokenizer, text: &str, encoded: &mut Encoded, memory: &mut Memory) -> Option<()> {
        let Memory { words, scratch } = memory;
        let begun = encoded.ends.last().copied().unwrap_or(0);
        for piece in self.added.split(&text[begun..])? {
            let (start, end) = (begun + piece.start, begun + piece.end);
            match piece.id {
                Some(id) => encoded.push(id, end),
                None => {
                    let mut cuts = Cuts { patterns: &self.patterns, scratch, text };
                    cuts.each(0, start, end, &mut |start, end| {
                        words.encode(tokenizer, &text[start..end], start, encoded)
                    })?;
                }
            }
        }
        Some(())
    }
}

/// True for NFC, false for no normalizer; `None` for any other.
fn is_nfc(normalizer: Option<&NormalizerWrapper>) -> Option<bool> {
    match normalizer {
        None => Some(false),
        Some(NormalizerWrapper::NFC(_)) => Some(true),
        Some(NormalizerWrapper::Sequence(parts)) => {
            parts.as_ref().iter().try_fold(false, |nfc, part| Some(nfc | is_nfc(Some(part))?))
        }
        Some(_) => None,
    }
}

/// True if NFC leaves a text unchanged, by the library's own tables.
fn is_in_nfc(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// The patterns that cut a text into words, in order, where a byte-level stage follows them.
fn patterns(pre_tokenizer: &PreTokenizerWrapper) -> Option<Vec<Pattern>> {
    let stages = match pre_tokenizer {
        PreTokenizerWrapper::Sequence(stages) => stages.as_ref(),
        one => std::slice::from_ref(one),
    };
    let (last, splits) = stages.split_last()?;
    let PreTokenizerWrapper::ByteLevel(bytes) = last else { return None };
    if bytes.add_prefix_space {
        return None;
    }
    let mut patterns = splits.iter().map(Pattern::of).collect::<Option<Vec<_>>>()?;
    if bytes.use_regex {
        patterns.push(Pattern::gpt2()?);
    }
    Some(patterns)
}

#[cfg(test)]
mod tests;
