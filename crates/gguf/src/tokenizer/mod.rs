//! `tokenizer.json` from the metadata, for the `tokenizers` crate.

mod byte_level;
mod merges;
mod pre_tokenizer;
mod sentence_piece;
mod unigram;
mod vocabulary;

use serde_json::{Value, json};

use crate::Metadata;
use crate::error::{GgufError, Result};

pub(crate) use vocabulary::{Role, Vocabulary};

/// Key of the tokenizer's kind.
pub(crate) const MODEL: &str = "tokenizer.ggml.model";

/// A tokenizer by its parts, as `tokenizer.json` has them.
pub(crate) struct Tokenizer {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
    /// The model's fields beside vocabulary and merges.
    pub model: Value,
    pub vocabulary: Vocabulary,
    pub pieces: Pieces,
    /// BOS and EOS are added, where the metadata does not say.
    pub adds: (bool, bool),
}

/// The second half of a tokenizer's model.
pub(crate) enum Pieces {
    /// Merges of two tokens each, the first ones first.
    Merges(Vec<(String, String)>),
    /// Log-probs of the tokens.
    Scores(Vec<f64>),
}

/// Reads a tokenizer of one kind.
type Read = fn(&Metadata) -> Result<Tokenizer>;

/// The kinds of tokenizers that are read, by `tokenizer.ggml.model`.
const KINDS: [(&str, Read); 3] = [("gpt2", byte_level::read), ("llama", sentence_piece::read), ("t5", unigram::read)];

impl Tokenizer {
    /// Reads the tokenizer.
    ///
    /// # Errors
    /// When there is none, a part of it is damaged, or its kind is not read.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let known = || KINDS.map(|(name, _)| name).join(", ");
        let Some(kind) = metadata.text(MODEL)? else {
            return Err(metadata.missing(MODEL, format!("one of {}", known())));
        };
        match KINDS.iter().find(|(name, _)| *name == kind) {
            Some((_, read)) => read(metadata),
            None => Err(GgufError::unsupported(
                metadata.path(),
                format!(
                    "a tokenizer of the kind `{kind}` (`{MODEL}`) is not read; read are {}: name a directory with the \
                     model's tokenizer.json",
                    known()
                ),
            )),
        }
    }

    /// True if an encoded text begins with BOS, and if it ends with EOS.
    pub fn added(&self, metadata: &Metadata) -> Result<(bool, bool)> {
        Ok((
            metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(self.adds.0),
            metadata.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(self.adds.1),
        ))
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self, metadata: &Metadata) -> Result<Vec<u8>> {
        let mut out = b"{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":".to_vec();
        write(&mut out, &Value::Array(self.vocabulary.added_tokens()));
        for (name, part) in [
            ("normalizer", &self.normalizer),
            ("pre_tokenizer", &self.pre_tokenizer),
            ("post_processor", &self.post_processor(metadata)?),
            ("decoder", &self.decoder),
        ] {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            write(&mut out, part);
        }
        // Vocabulary and merges are written piece by piece: as JSON values they would take a multiple of the text.
        out.extend_from_slice(b",\"model\":{");
        for (name, value) in self.model.as_object().into_iter().flatten() {
            out.extend_from_slice(format!("\"{name}\":").as_bytes());
            write(&mut out, value);
            out.push(b',');
        }
        match &self.pieces {
            Pieces::Merges(merges) => {
                out.extend_from_slice(b"\"vocab\":{");
                separated(&mut out, self.vocabulary.tokens().iter().enumerate(), |out, (id, token)| {
                    write(out, token);
                    out.extend_from_slice(format!(":{id}").as_bytes());
                });
                out.extend_from_slice(b"},\"merges\":[");
                separated(&mut out, merges, write);
            }
            Pieces::Scores(scores) => {
                out.extend_from_slice(b"\"vocab\":[");
                let pieces = self.vocabulary.tokens().iter().zip(scores);
                separated(&mut out, pieces, |out, piece| write(out, &piece));
            }
        }
        out.extend_from_slice(b"]}}\n");
        Ok(out)
    }

    /// BOS before and EOS after a text, where they are added.
    fn post_processor(&self, metadata: &Metadata) -> Result<Value> {
        let (adds_bos, adds_eos) = self.added(metadata)?;
        let token = |role: Role, added: bool| -> Result<Option<(&str, u32)>> {
            if !added {
                return Ok(None);
            }
            self.vocabulary.special(metadata, role)
        };
        let (bos, eos) = (token(Role::Bos, adds_bos)?, token(Role::Eos, adds_eos)?);
        let special = |token: &str, side: u32| json!({"SpecialToken": {"id": token, "type_id": side}});
        let side = |name: &str, number: u32| -> Vec<Value> {
            let text = json!({"Sequence": {"id": name, "type_id": number}});
            let end = |token: Option<(&str, u32)>| token.map(|(token, _)| special(token, number));
            end(bos).into_iter().chain([text]).chain(end(eos)).collect()
        };
        let named =
            |(token, id): (&str, u32)| (token.to_string(), json!({"id": token, "ids": [id], "tokens": [token]}));
        let pair = [side("A", 0), side("B", 1)].concat();
        Ok(json!({
            "type": "TemplateProcessing",
            "single": side("A", 0),
            "pair": pair,
            "special_tokens": Value::Object(bos.into_iter().chain(eos).map(named).collect()),
        }))
    }
}

/// Appends a value as JSON; writing to memory does not fail.
fn write(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}

fn separated<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Vec<u8>, T)) {
    for (number, one) in items.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        item(out, one);
    }
}
