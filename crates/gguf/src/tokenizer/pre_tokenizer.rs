//! Pre-tokenizers by their names in llama.cpp (`tokenizer.ggml.pre`): the split of a text before byte-pair encoding.
//!
//! A name stands for the pre-tokenizer of one published tokenizer.json. Listed are those that are known exactly; under any
//! other name a text would fall into other tokens than the model was trained on, so it is refused.

use serde_json::{Value, json};

use crate::Metadata;
use crate::error::{GgufError, Result};

const KEY: &str = "tokenizer.ggml.pre";

/// The split of a text before byte-pair encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    splits: &'static [Split],
    /// GPT-2's own split comes last.
    gpt2: bool,
    /// Text is normalized to NFC before.
    pub nfc: bool,
    /// A word that is a token is that token, with no regard to merges.
    pub whole_words: bool,
    /// BOS is added, where the metadata does not say.
    pub adds_bos: bool,
}

/// A step of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    /// Matches stand by themselves.
    Regex(&'static str),
    /// Every digit stands by itself.
    Digits,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &[Split] = &[
    Split::Regex(r"\p{N}{1,3}"),
    Split::Regex(r"[一-龥぀-ゟ゠-ヿ]+"),
    Split::Regex(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
    ),
];
const DEEPSEEK_CODER: &[Split] = &[
    Split::Regex(r"[\r\n]"),
    Split::Regex(r"\s?\p{L}+"),
    Split::Regex(r"\s?\p{P}+"),
    Split::Regex(r"[一-龥ࠀ-一가-퟿]+"),
    Split::Digits,
];

/// The split of files that name none, or `default`: llama.cpp's own.
const DEFAULT: PreTokenizer = PreTokenizer {
    names: &["default"],
    splits: &[
        Split::Regex(r"[\p{P}\$\+<=>\^~\|]+"),
        Split::Regex(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"),
        Split::Regex(r"\p{N}+"),
        Split::Regex(r"[0-9][0-9][0-9]"),
    ],
    ..PLAIN
};

const PLAIN: PreTokenizer =
    PreTokenizer { names: &[], splits: &[], gpt2: false, nfc: false, whole_words: false, adds_bos: false };

const TABLE: &[PreTokenizer] = &[
    DEFAULT,
    PreTokenizer { names: &["gpt-2", "phi-2", "granite-docling"], gpt2: true, ..PLAIN },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "codeshell", "exaone"],
        splits: &[Split::Digits],
        gpt2: true,
        ..PLAIN
    },
    PreTokenizer { names: &["command-r"], splits: &[Split::Digits], gpt2: true, nfc: true, ..PLAIN },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"],
        splits: &[Split::Regex(LLAMA3)],
        whole_words: true,
        adds_bos: true,
        ..PLAIN
    },
    PreTokenizer { names: &["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], splits: &[Split::Regex(LLAMA3)], ..PLAIN },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        splits: &[Split::Regex(QWEN2)],
        nfc: true,
        ..PLAIN
    },
    PreTokenizer { names: &["qwen35"], splits: &[Split::Regex(QWEN35)], nfc: true, ..PLAIN },
    PreTokenizer { names: &["tekken"], splits: &[Split::Regex(TEKKEN)], whole_words: true, adds_bos: true, ..PLAIN },
    PreTokenizer { names: &["gpt-4o", "llama4", "kanana2"], splits: &[Split::Regex(GPT4O)], ..PLAIN },
    PreTokenizer { names: &["seed-coder"], splits: &[Split::Regex(SEED_CODER)], ..PLAIN },
    PreTokenizer { names: &["deepseek-v3"], splits: DEEPSEEK_V3, ..PLAIN },
    PreTokenizer { names: &["deepseek-coder"], splits: DEEPSEEK_CODER, ..PLAIN },
];

impl PreTokenizer {
    /// The one that the metadata names; llama.cpp's default where it names none.
    ///
    /// # Errors
    /// When its name is not in the table.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let Some(name) = metadata.text(KEY)?.filter(|name| !name.is_empty()) else { return Ok(DEFAULT) };
        TABLE.iter().find(|known| known.names.contains(&name)).copied().ok_or_else(|| {
            let known: Vec<&str> = TABLE.iter().flat_map(|known| known.names).copied().collect();
            GgufError::unsupported(
                metadata.path(),
                format!(
                    "the pre-tokenizer `{name}` (`{KEY}`) is not read; read are {}: name a directory with the model's \
                     tokenizer.json",
                    known.join(", ")
                ),
            )
        })
    }

    /// The entry `pre_tokenizer` of `tokenizer.json`.
    pub fn to_json(self) -> Value {
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": self.gpt2
        });
        if self.splits.is_empty() {
            return bytes;
        }
        let split = |split: &Split| match split {
            Split::Regex(regex) => {
                json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
            }
            Split::Digits => json!({"type": "Digits", "individual_digits": true}),
        };
        let steps: Vec<Value> = self.splits.iter().map(split).chain([bytes]).collect();
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::TABLE;

    #[test]
    fn a_name_is_listed_once() {
        let mut seen = HashSet::new();
        for name in TABLE.iter().flat_map(|known| known.names) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
