//! From a conversation to token ids, and from token ids to text.

use smpo_chat::ChatTemplate;
use tokenizers::Tokenizer;

use crate::{InferenceError, Request};

/// The model's template and tokenizer.
pub(super) struct Codec {
    pub template: ChatTemplate,
    pub tokenizer: Tokenizer,
}

impl Codec {
    /// The rendered conversation, opened for the assistant's turn. The template writes every special token itself, so
    /// the tokenizer adds none (as transformers' `apply_chat_template`).
    pub fn encode(&self, request: &Request) -> Result<Vec<u32>, InferenceError> {
        let failed = |message: String| InferenceError::Prompt { prompt_id: request.prompt_id.clone(), message };
        let text = self.template.render(&request.messages, true).map_err(|error| failed(error.to_string()))?;
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| failed(error.to_string()))?;
        match encoding.get_ids() {
            [] => Err(failed("it renders to no token at all".into())),
            ids => Ok(ids.to_vec()),
        }
    }

    /// The text of a completion without its terminator. Decoders strip the space before a text's first word; it is
    /// kept here by decoding after the prompt's last token.
    pub fn decode(&self, last_prompt_token: u32, ids: &[u32]) -> Result<String, tokenizers::Error> {
        let mut anchored = Vec::with_capacity(ids.len() + 1);
        anchored.push(last_prompt_token);
        let before = self.tokenizer.decode(&anchored, false)?;
        anchored.extend_from_slice(ids);
        let whole = self.tokenizer.decode(&anchored, false)?;
        match whole.strip_prefix(&before) {
            Some(text) => Ok(text.to_owned()),
            None => self.tokenizer.decode(ids, false),
        }
    }
}
