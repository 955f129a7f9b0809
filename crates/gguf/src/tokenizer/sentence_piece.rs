//! SentencePiece's byte-pair encoding (`llama`): tokens with scores, `▁` for blanks, and bytes for unknown characters.

use serde_json::{Value, json};

use super::{Pieces, Role, Tokenizer, Vocabulary, merges};
use crate::Metadata;
use crate::error::Result;

const SCORES: &str = "tokenizer.ggml.scores";

pub(super) fn read(metadata: &Metadata) -> Result<Tokenizer> {
    let mut vocabulary = Vocabulary::read(metadata)?;
    let gemma = metadata.text("general.architecture")?.is_some_and(|name| name.starts_with("gemma"));
    if gemma {
        // Runs of blanks are spelled as blanks there, and are pieces like others.
        let blanks = |token: &str| (token.trim_matches(' ').is_empty()).then(|| "▁".repeat(token.len()));
        vocabulary.respell(blanks);
        vocabulary.check_twice(metadata)?;
    }
    let merges = match merges::listed(metadata, &vocabulary)? {
        Some(merges) => merges,
        // Gemma's merges are in the order of its tokens, of which the user-defined ones have no score.
        None if gemma => merges::implied(&vocabulary, |id| -(id as f64)),
        None => {
            let scores = scores(metadata, &vocabulary)?;
            merges::implied(&vocabulary, |id| scores[id])
        }
    };
    let prefix = adds_blank(metadata)?;
    let unknown = vocabulary.special(metadata, Role::Unknown)?.map(|(token, _)| token);
    Ok(Tokenizer {
        normalizer: normalizer(prefix),
        pre_tokenizer: Value::Null,
        decoder: decoder(prefix),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": vocabulary.has_bytes(),
            "ignore_merges": false
        }),
        vocabulary,
        pieces: Pieces::Merges(merges),
        adds: (true, false),
    })
}

/// True if a blank is put before a text.
pub(super) fn adds_blank(metadata: &Metadata) -> Result<bool> {
    Ok(metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true))
}

/// Scores of the tokens.
pub(super) fn scores(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Vec<f64>> {
    let scores = metadata.numbers(SCORES)?.ok_or_else(|| metadata.missing(SCORES, "a score per token"))?;
    let wanted = vocabulary.tokens().len();
    if scores.len() < wanted {
        return Err(metadata.error(SCORES, format!("{wanted}, one per token"), scores.len()));
    }
    match scores.iter().position(|score| !score.is_finite()) {
        Some(at) => Err(metadata.error(&format!("{SCORES}[{at}]"), "a finite number", scores[at])),
        None => Ok(scores),
    }
}

fn normalizer(prefix: bool) -> Value {
    let blanks = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    match prefix {
        true => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, blanks]}),
        false => blanks,
    }
}

fn decoder(prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}
