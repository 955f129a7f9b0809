//! What happens at every step of every completion, whatever computes the logits: check them, record the log-probs,
//! draw.

use crate::{InferenceError, Noise, Request, Sampler, draw, log_normalizer};

/// A drawn token, and whether it ends the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The token id.
    pub token: u32,
    /// Whether it is a terminator.
    pub terminates: bool,
}

/// The token ids of a completion with their log-probs; the three vectors have one entry per token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// Generated tokens, terminator included.
    pub token_ids: Vec<u32>,
    /// log p of each, in nats, under the model's own distribution: temperature 1, no filter.
    pub logps: Vec<f32>,
    /// log p of the whole terminator set before each token, in nats: the EOS hazard of this very completion. −∞ where
    /// the model gives every terminator probability 0.
    pub terminator_logps: Vec<f32>,
}

/// Draws one completion token by token and records it.
///
/// Feed it the logits (V) of each step in order; it answers with the token to continue from.
#[derive(Debug, Clone)]
pub struct Recorder {
    sampler: Sampler,
    noise: Noise,
    terminators: Vec<u32>,
    recording: Recording,
}

impl Recorder {
    /// A recorder for `request`, with the model's full terminator set.
    pub fn new(request: &Request, terminators: &[u32]) -> Self {
        let capacity = (request.max_tokens as usize).min(4096);
        Recorder {
            sampler: request.sampler,
            noise: Noise::new(request.seed, &request.prompt_id, request.sample),
            terminators: terminators.to_vec(),
            recording: Recording {
                token_ids: Vec::with_capacity(capacity),
                logps: Vec::with_capacity(capacity),
                terminator_logps: Vec::with_capacity(capacity),
            },
        }
    }

    /// Draws the next token from `logits` (V).
    ///
    /// # Errors
    /// [`InferenceError::BrokenLogits`] on NaN or +∞, [`InferenceError::NoToken`] when every token is impossible.
    pub fn step(&mut self, logits: &[f32]) -> Result<Step, InferenceError> {
        let step = self.recording.token_ids.len();
        if let Some(token) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
            return Err(InferenceError::BrokenLogits { step, token, value: logits[token] });
        }
        let token = draw(logits, &self.sampler, &mut self.noise, step as u64)
            .ok_or(InferenceError::NoToken { step, vocabulary: logits.len() })?;
        let normalizer = log_normalizer(logits);
        let terminating: Vec<f32> =
            self.terminators.iter().filter_map(|id| logits.get(*id as usize).copied()).collect();
        self.recording.token_ids.push(token);
        self.recording.logps.push((f64::from(logits[token as usize]) - normalizer) as f32);
        self.recording.terminator_logps.push((log_normalizer(&terminating) - normalizer) as f32);
        Ok(Step { token, terminates: self.terminators.contains(&token) })
    }

    /// What has been drawn so far.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Takes what was drawn.
    pub fn into_recording(self) -> Recording {
        self.recording
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smpo_chat::Message;

    fn request(sampler: Sampler) -> Request {
        Request {
            prompt_id: "p".into(),
            sample: 0,
            messages: vec![Message { role: "user".into(), content: "hi".into() }],
            sampler,
            max_tokens: 4,
            seed: 1,
        }
    }

    #[test]
    fn log_probs_are_natural_untempered_and_unfiltered() {
        // exp of these logits is 1, 2, 3, 4 over 10.
        let logits = [1.0f32, 2.0, 3.0, 4.0].map(f32::ln);
        let sampler = Sampler { top_k: Some(1), ..Sampler::temperature(0.3) };
        let mut recorder = Recorder::new(&request(sampler), &[0, 2, 99]);
        let step = recorder.step(&logits).expect("finite");
        assert_eq!(step, Step { token: 3, terminates: false });
        let recording = recorder.recording();
        assert!((recording.logps[0] - 0.4f32.ln()).abs() < 1e-6);
        // Tokens 0 and 2 hold 1 + 3 of 10; 99 is beyond the vocabulary and holds nothing.
        assert!((recording.terminator_logps[0] - 0.4f32.ln()).abs() < 1e-6);
        let last = recorder.step(&[0.0, 0.0, 5.0, 0.0]).expect("finite");
        assert!(last.terminates);
        assert_eq!(recorder.into_recording().token_ids, [3, 2]);
    }

    #[test]
    fn no_terminator_has_no_hazard() {
        let mut recorder = Recorder::new(&request(Sampler::greedy()), &[]);
        recorder.step(&[0.0, 1.0]).expect("finite");
        assert_eq!(recorder.recording().terminator_logps, [f32::NEG_INFINITY]);
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_its_place() {
        let mut recorder = Recorder::new(&request(Sampler::greedy()), &[0]);
        recorder.step(&[0.0, 1.0]).expect("finite");
        for bad in [f32::NAN, f32::INFINITY] {
            let error = recorder.step(&[0.0, bad]).expect_err("broken");
            assert!(matches!(error, InferenceError::BrokenLogits { step: 1, token: 1, .. }), "{error}");
        }
        let error = recorder.step(&[f32::NEG_INFINITY; 3]).expect_err("empty");
        assert!(matches!(error, InferenceError::NoToken { step: 1, vocabulary: 3 }), "{error}");
        assert_eq!(recorder.recording().token_ids.len(), 1, "a refused step left a trace");
    }
}
