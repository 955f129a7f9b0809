//! What surrounds an engine that knows token ids only: from a conversation to ids, and from ids to a completion.

use std::path::Path;

use serde::{Deserialize, Serialize};
use smpo_chat::{ChatTemplate, Terminators};
use tokenizers::Tokenizer;

use crate::{Completion, FinishReason, InferenceError, Recording, Request};

/// One token that ends a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminator {
    /// Its id.
    pub id: u32,
    /// Its text in the vocabulary.
    pub token: String,
}

/// A model's chat template, tokenizer and terminators.
pub struct Codec {
    template: ChatTemplate,
    tokenizer: Tokenizer,
    terminators: Vec<Terminator>,
    terminator_ids: Vec<u32>,
}

/// A conversation as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Token ids, opened for the assistant's turn; at least one.
    pub ids: Vec<u32>,
    /// Tokens that may follow: what the request allows, or less where the model's position limit is nearer; at least
    /// one.
    pub cap: usize,
}

impl Codec {
    /// Reads `tokenizer`, and template and terminators from the first of the directories that has a template.
    ///
    /// # Errors
    /// [`InferenceError::Chat`], [`InferenceError::InvalidFile`].
    pub fn read(tokenizer: &Path, directories: &[&Path]) -> Result<Self, InferenceError> {
        // Template and terminators first: what they find missing needs no tokenizer.
        let mut described = Err(InferenceError::MissingFile {
            path: tokenizer.to_path_buf(),
            what: "chat template",
            remedy: "name a directory that has one".into(),
        });
        for directory in directories {
            described = described.or_else(|_| describe(directory));
        }
        let (template, mut terminators) = described?;
        let path = tokenizer;
        let tokenizer = read_tokenizer(path)?;
        terminators.resolve(|token| tokenizer.token_to_id(token), |id| tokenizer.id_to_token(id));
        if terminators.is_empty() {
            return Err(InferenceError::InvalidFile {
                path: path.to_path_buf(),
                problem: "no terminator: expected an eos_token, an eos_token_id or a turn end in the template".into(),
                remedy: "name the token that ends a turn as eos_token in tokenizer_config.json".into(),
            });
        }
        let terminator_ids = terminators.ids();
        let token = |id: u32| tokenizer.id_to_token(id).unwrap_or_default();
        let terminators = terminator_ids.iter().map(|&id| Terminator { id, token: token(id) }).collect();
        Ok(Codec { template, tokenizer, terminators, terminator_ids })
    }

    /// Every token that ends a turn of this model: `eos` means any of them.
    pub fn terminators(&self) -> &[Terminator] {
        &self.terminators
    }

    /// Their ids.
    pub fn terminator_ids(&self) -> &[u32] {
        &self.terminator_ids
    }

    /// The chat template, for hashes and records.
    pub fn template_source(&self) -> &str {
        self.template.source()
    }

    /// The conversation opened for the assistant's turn, as text and as token ids. The template writes every special
    /// token itself, so the tokenizer adds none (as transformers' `apply_chat_template`).
    ///
    /// # Errors
    /// [`InferenceError::Prompt`].
    pub fn render(&self, request: &Request) -> Result<(String, Vec<u32>), InferenceError> {
        let failed = |message: String| InferenceError::Prompt { prompt_id: request.prompt_id.clone(), message };
        let text = self.template.render(&request.messages, true).map_err(|error| failed(error.to_string()))?;
        let encoding = self.tokenizer.encode_fast(text.as_str(), false).map_err(|error| failed(error.to_string()))?;
        match encoding.get_ids() {
            [] => Err(failed("it renders to no token at all".into())),
            ids => Ok((text, ids.to_vec())),
        }
    }

    /// The token ids of [`Codec::render`].
    ///
    /// # Errors
    /// [`InferenceError::Prompt`].
    pub fn encode(&self, request: &Request) -> Result<Vec<u32>, InferenceError> {
        self.render(request).map(|(_, ids)| ids)
    }

    /// As [`Codec::encode`], with the cap under a limit of so many tokens for prompt and completion together.
    ///
    /// # Errors
    /// [`InferenceError::Prompt`], [`InferenceError::PromptTooLong`].
    pub fn prompt(&self, request: &Request, position_limit: usize) -> Result<EncodedPrompt, InferenceError> {
        let ids = self.encode(request)?;
        match position_limit.saturating_sub(ids.len()) {
            0 => Err(InferenceError::PromptTooLong {
                prompt_id: request.prompt_id.clone(),
                tokens: ids.len(),
                limit: position_limit,
            }),
            room => Ok(EncodedPrompt { cap: room.min(request.max_tokens as usize), ids }),
        }
    }

    /// What was recorded after `prompt`, as a completion.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] when the tokenizer cannot decode it.
    pub fn completion(
        &self,
        request: &Request,
        prompt: &EncodedPrompt,
        recording: Recording,
    ) -> Result<Completion, InferenceError> {
        let ended = recording.token_ids.last().is_some_and(|id| self.terminator_ids.contains(id));
        let spoken = &recording.token_ids[..recording.token_ids.len() - usize::from(ended)];
        let text = self.decode(prompt.ids.last().copied(), spoken).map_err(|error| InferenceError::Engine {
            prompt_id: request.prompt_id.clone(),
            sample: request.sample,
            engine: "tokenizer".into(),
            message: error.to_string(),
        })?;
        Ok(Completion {
            text,
            tokens: Some(recording.token_ids.len() as u32),
            token_ids: Some(recording.token_ids),
            logps: Some(recording.logps),
            terminator_logps: Some(recording.terminator_logps),
            pieces: None,
            cap: prompt.cap as u32,
            finish: if ended { FinishReason::Eos } else { FinishReason::Length },
        })
    }

    /// The ids of a completion that a server shows as `pieces`, the text of one token each; `None` where they do not
    /// determine it (halves of characters, for one).
    pub fn token_ids(&self, pieces: &[String]) -> Option<Vec<u32>> {
        let one = |piece: &String| {
            if let Some(id) = self.tokenizer.token_to_id(piece).filter(|id| self.terminator_ids.contains(id)) {
                return Some(id);
            }
            match self.tokenizer.encode_fast(piece.as_str(), false).ok()?.get_ids() {
                [id] if self.shows_as(*id, piece) => Some(*id),
                _ => None,
            }
        };
        pieces.iter().map(one).collect::<Option<_>>().or_else(|| self.retokenised(pieces))
    }

    /// Tokenizers that mark the beginnings of words (SentencePiece) lose them in single pieces: the whole text, read
    /// again, serves where it falls into the same pieces.
    fn retokenised(&self, pieces: &[String]) -> Option<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(pieces.concat(), false).ok()?;
        let ids = encoding.get_ids();
        let same = ids.len() == pieces.len() && ids.iter().zip(pieces).all(|(id, piece)| self.shows_as(*id, piece));
        same.then(|| ids.to_vec())
    }

    fn shows_as(&self, id: u32, piece: &str) -> bool {
        let blank = |c: char| c == ' ' || c == '▁';
        let decoded = self.tokenizer.decode(&[id], false).unwrap_or_default();
        decoded.trim_start_matches(blank) == piece.trim_start_matches(blank) && !decoded.contains('\u{fffd}')
    }

    /// The text of tokens. Decoders strip the space before a text's first word; it is kept here by decoding after the
    /// prompt's last token.
    fn decode(&self, last_prompt_token: Option<u32>, ids: &[u32]) -> Result<String, tokenizers::Error> {
        let mut anchored = Vec::with_capacity(ids.len() + 1);
        anchored.extend(last_prompt_token);
        let before = self.tokenizer.decode(&anchored, false)?;
        anchored.extend_from_slice(ids);
        let whole = self.tokenizer.decode(&anchored, false)?;
        match whole.strip_prefix(&before) {
            Some(text) => Ok(text.to_owned()),
            None => self.tokenizer.decode(ids, false),
        }
    }
}

/// The tokenizer, without the truncation and padding that some files carry.
fn read_tokenizer(path: &Path) -> Result<Tokenizer, InferenceError> {
    let invalid = |error: tokenizers::Error| InferenceError::InvalidFile {
        path: path.to_path_buf(),
        problem: format!("expected a tokenizer, got {error}"),
        remedy: "save the tokenizer again with tokenizers 0.22 or earlier".into(),
    };
    let mut tokenizer = Tokenizer::from_file(path).map_err(invalid)?;
    tokenizer.with_truncation(None).map_err(invalid)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn describe(directory: &Path) -> Result<(ChatTemplate, Terminators), InferenceError> {
    let chat = |error: smpo_chat::ChatError| InferenceError::Chat(Box::new(error));
    let template = ChatTemplate::from_model_dir(directory).map_err(chat)?;
    Ok((template, Terminators::from_model_dir(directory).map_err(chat)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_the_ids_they_were() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/base");
        let codec = Codec::read(&model.join("tokenizer.json"), &[&model]).expect("valid");
        let text = "Oslo is a short city, near the beach.";
        let ids = codec.tokenizer.encode_fast(text, false).expect("encodes").get_ids().to_vec();
        let piece = |id: &u32| codec.tokenizer.decode(&[*id], false).expect("decodes");
        let mut pieces: Vec<String> = ids.iter().map(piece).collect();
        assert!(pieces.len() > 5);
        assert_eq!(codec.token_ids(&pieces), Some(ids.clone()));
        pieces.push(codec.terminators()[0].token.clone());
        assert_eq!(codec.token_ids(&pieces).expect("all known").last(), Some(&codec.terminator_ids()[0]));
        // Another cut of the same text than the tokenizer's own is its own sequence.
        assert_eq!(codec.token_ids(&["O".into(), "s".into()]).map(|ids| ids.len()), Some(2));
        for unclear in ["Oslo is", "\u{fffd}"] {
            assert_eq!(codec.token_ids(&["a".into(), unclear.into()]), None, "{unclear:?}");
        }
    }
}
