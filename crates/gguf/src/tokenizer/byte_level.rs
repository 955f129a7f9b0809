//! Byte-level byte-pair encoding (`gpt2`), with the pre-tokenizer that `tokenizer.ggml.pre` names.

use serde_json::{Value, json};

use super::pre_tokenizer::PreTokenizer;
use super::{Pieces, Tokenizer, Vocabulary, merges};
use crate::Metadata;
use crate::error::Result;

pub(super) fn read(metadata: &Metadata) -> Result<Tokenizer> {
    let pre = PreTokenizer::read(metadata)?;
    let vocabulary = Vocabulary::read(metadata)?;
    let merges = merges::listed(metadata, &vocabulary)?
        .ok_or_else(|| metadata.missing("tokenizer.ggml.merges", "the merges of byte-pair encoding"))?;
    Ok(Tokenizer {
        normalizer: if pre.nfc { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: pre.to_json(),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.whole_words
        }),
        vocabulary,
        pieces: Pieces::Merges(merges),
        adds: (pre.adds_bos, false),
    })
}
