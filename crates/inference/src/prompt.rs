//! From a request to the token ids an engine continues, and from the recorded ids to a completion.

use smpo_sampling::{FinishReason, Noise, Recorder, Recording};
use smpo_tokenizer::ChatTokenizer;

use crate::{Completion, InferenceError, Request};

/// A request's conversation as token ids, for engines that read ids only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Token ids, opened for the assistant's turn; at least one.
    pub ids: Vec<u32>,
    /// Cap on generated tokens, terminator included: the request's, or less where the model's position limit is nearer;
    /// at least one.
    pub cap: usize,
}

impl EncodedPrompt {
    /// Encodes the conversation of `request` for a model of at most `position_limit` tokens, prompt and completion
    /// together.
    ///
    /// # Errors
    /// [`InferenceError::Prompt`], [`InferenceError::PromptTooLong`].
    pub fn new(tokenizer: &ChatTokenizer, request: &Request, position_limit: usize) -> Result<Self, InferenceError> {
        let (_, ids) = render(tokenizer, request)?;
        match position_limit.saturating_sub(ids.len()) {
            0 => Err(InferenceError::PromptTooLong {
                prompt_id: request.prompt_id.clone(),
                tokens: ids.len(),
                limit: position_limit,
            }),
            room => Ok(EncodedPrompt { cap: room.min(request.max_tokens as usize), ids }),
        }
    }

    /// The recorder that draws the completion of this prompt: `request`'s sampler, its random stream, the model's full
    /// terminator set, the cap.
    pub fn recorder(&self, tokenizer: &ChatTokenizer, request: &Request) -> Recorder {
        let noise = Noise::new(request.seed, &request.prompt_id, request.sample);
        Recorder::new(request.sampler, noise, tokenizer.terminator_ids(), self.cap)
    }

    /// `recording`, drawn after this prompt, as a completion.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] when the tokenizer cannot decode it.
    pub fn completion(
        &self,
        tokenizer: &ChatTokenizer,
        request: &Request,
        recording: Recording,
    ) -> Result<Completion, InferenceError> {
        let ended = recording.token_ids.last().is_some_and(|&id| tokenizer.is_terminator(id));
        let text =
            tokenizer.decode_completion(&self.ids, &recording.token_ids).map_err(|error| InferenceError::Engine {
                prompt_id: request.prompt_id.clone(),
                sample: request.sample,
                engine: "tokenizer".into(),
                message: error.to_string(),
            })?;
        let names = tokenizer.tokenizer();
        let unknown = recording.token_ids.iter().filter(|&&id| names.id_to_token(id).is_none()).count();
        Ok(Completion {
            tokens: Some(recording.token_ids.len() as u32),
            unknown_ids: Some(unknown as u32),
            token_ids: Some(recording.token_ids),
            logps: Some(recording.logps),
            terminator_logps: Some(recording.terminator_logps),
            cap: self.cap as u32,
            finish: if ended { FinishReason::Eos } else { FinishReason::Length },
            ..Completion::new(text)
        })
    }
}

/// The conversation opened for the assistant's turn, as text and as token ids.
///
/// # Errors
/// [`InferenceError::Prompt`].
pub(crate) fn render(tokenizer: &ChatTokenizer, request: &Request) -> Result<(String, Vec<u32>), InferenceError> {
    let failed = |message: String| InferenceError::Prompt { prompt_id: request.prompt_id.clone(), message };
    let text = tokenizer.render_prompt(&request.messages).map_err(|error| failed(error.to_string()))?;
    let ids = tokenizer.encode_text(&text).map_err(|error| failed(error.to_string()))?;
    if ids.is_empty() {
        return Err(failed("it renders to no token at all".into()));
    }
    Ok((text, ids))
}
