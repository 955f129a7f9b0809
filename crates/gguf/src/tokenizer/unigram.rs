//! SentencePiece's unigram model (`t5`): the likeliest segmentation by the tokens' log-probs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::sentence_piece::{adds_blank, scores};
use super::{Pieces, Role, Tokenizer, Vocabulary};
use crate::Metadata;
use crate::error::Result;

pub(super) fn read(metadata: &Metadata) -> Result<Tokenizer> {
    let vocabulary = Vocabulary::read(metadata)?;
    let mut scores = scores(metadata, &vocabulary)?;
    scores.truncate(vocabulary.tokens().len());
    let prefix = if adds_blank(metadata)? { "always" } else { "never" };
    let blanks = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": true});
    // The default of llama.cpp.
    let unknown = Role::Unknown.id(metadata)?.unwrap_or(2);
    Ok(Tokenizer {
        normalizer: normalizer(metadata)?,
        pre_tokenizer: blanks.clone(),
        decoder: blanks,
        model: json!({"type": "Unigram", "unk_id": unknown, "byte_fallback": vocabulary.has_bytes()}),
        vocabulary,
        pieces: Pieces::Scores(scores),
        adds: (false, true),
    })
}

/// SentencePiece's compiled table of characters, and runs of blanks as one.
fn normalizer(metadata: &Metadata) -> Result<Value> {
    let mut steps = Vec::new();
    if let Some(table) = metadata.bytes("tokenizer.ggml.precompiled_charsmap")? {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(table)}));
    }
    if metadata.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false) {
        steps.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    Ok(if steps.is_empty() { Value::Null } else { json!({"type": "Sequence", "normalizers": steps}) })
}
