//! One decoding step of one completion: check the logits, draw the token, record the log-probs.

use crate::draw::{Noise, draw, log_normalizer};
use crate::sampler::Sampler;

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The token id.
    pub token: u32,
    /// True if it is a terminator.
    pub terminates: bool,
}

/// A token that a device drew from its logits with the recorder's settings, and what is recorded of those logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The token id; `None` if every token is impossible.
    pub token: Option<u32>,
    /// Its logit.
    pub logit: f32,
    /// `ln Σ exp` of all logits.
    pub log_sum: f64,
    /// `ln Σ exp` of the terminators' logits; −∞ without one.
    pub terminator_log_sum: f64,
    /// The first token whose logit is NaN or +∞, and that logit.
    pub broken: Option<(u32, f32)>,
    /// `V`.
    pub vocabulary: usize,
}

/// The token ids of a completion with their log-probs; the three vectors have one entry per token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// Generated tokens, terminator included.
    pub token_ids: Vec<u32>,
    /// Log-prob of each, in nats, under the model's own distribution: temperature 1, no filter.
    pub logps: Vec<f32>,
    /// Log-prob of the whole terminator set before each token, in nats: the EOS hazard of this completion. −∞ where the
    /// model gives every terminator probability 0.
    pub terminator_logps: Vec<f32>,
}

/// Draws one completion token by token and records it.
///
/// Called with the logits (V) of each step in order, it returns the token to continue from.
#[derive(Debug, Clone)]
pub struct Recorder {
    sampler: Sampler,
    noise: Noise,
    terminators: Vec<u32>,
    cap: usize,
    recording: Recording,
}

impl Recorder {
    /// A recorder of at most `cap` tokens, with the model's full terminator set. `sampler` must be in range.
    pub fn new(sampler: Sampler, noise: Noise, terminators: &[u32], cap: usize) -> Self {
        let capacity = cap.min(4096);
        Recorder {
            sampler,
            noise,
            cap,
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
    /// [`LogitsError::NotFinite`] on NaN or +∞, [`LogitsError::NoToken`] when every token is impossible.
    pub fn step(&mut self, logits: &[f32]) -> Result<Step, LogitsError> {
        let step = self.recording.token_ids.len();
        if let Some(token) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
            return Err(LogitsError::NotFinite { step, token, value: logits[token] });
        }
        let token = draw(logits, &self.sampler, &mut self.noise, step as u64)
            .ok_or(LogitsError::NoToken { step, vocabulary: logits.len() })?;
        let normalizer = log_normalizer(logits);
        let terminating: Vec<f32> =
            self.terminators.iter().filter_map(|id| logits.get(*id as usize).copied()).collect();
        let logp = f64::from(logits[token as usize]) - normalizer;
        Ok(self.push(token, logp, log_normalizer(&terminating) - normalizer))
    }

    /// Records a token that a device drew: by [`Recorder::sampler`], from the stream of [`Recorder::key`] whose number is that of
    /// the tokens so far, as [`Recorder::step`] does.
    ///
    /// # Errors
    /// As [`Recorder::step`].
    pub fn record(&mut self, drawn: Drawn) -> Result<Step, LogitsError> {
        let step = self.recording.token_ids.len();
        if let Some((token, value)) = drawn.broken {
            return Err(LogitsError::NotFinite { step, token: token as usize, value });
        }
        let token = drawn.token.ok_or(LogitsError::NoToken { step, vocabulary: drawn.vocabulary })?;
        let logp = f64::from(drawn.logit) - drawn.log_sum;
        Ok(self.push(token, logp, drawn.terminator_log_sum - drawn.log_sum))
    }

    fn push(&mut self, token: u32, logp: f64, terminator_logp: f64) -> Step {
        self.recording.token_ids.push(token);
        self.recording.logps.push(logp as f32);
        self.recording.terminator_logps.push(terminator_logp as f32);
        Step { token, terminates: self.terminators.contains(&token) }
    }

    /// The sampler.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Key of the random stream.
    pub fn key(&self) -> [u32; 8] {
        self.noise.key()
    }

    /// The model's full terminator set.
    pub fn terminators(&self) -> &[u32] {
        &self.terminators
    }

    /// True if the last token is a terminator or the cap is reached.
    pub fn is_finished(&self) -> bool {
        let ids = &self.recording.token_ids;
        ids.len() >= self.cap || ids.last().is_some_and(|id| self.terminators.contains(id))
    }

    /// Most tokens of this completion, terminator included.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// The tokens drawn so far.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The finished record.
    pub fn into_recording(self) -> Recording {
        self.recording
    }
}

/// Logits that are no distribution.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LogitsError {
    /// A logit is NaN or +∞.
    #[error(
        "step {step}: the logit of token {token} is {value}, expected a finite number or -inf; \
         the weights or the arithmetic (dtype) are broken"
    )]
    NotFinite {
        /// Generated tokens before this one.
        step: usize,
        /// The first token concerned.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// Every token has probability 0.
    #[error("step {step}: all {vocabulary} logits are -inf; the weights or the arithmetic (dtype) are broken")]
    NoToken {
        /// Generated tokens before this one.
        step: usize,
        /// `V`.
        vocabulary: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder(sampler: Sampler, terminators: &[u32]) -> Recorder {
        Recorder::new(sampler, Noise::new(1, "p", 0), terminators, 4)
    }

    #[test]
    fn log_probs_are_natural_untempered_and_unfiltered() {
        // exp of these logits is 1, 2, 3, 4 over 10.
        let logits = [1.0f32, 2.0, 3.0, 4.0].map(f32::ln);
        let sampler = Sampler { top_k: Some(1), ..Sampler::temperature(0.3) };
        let mut recorder = recorder(sampler, &[0, 2, 99]);
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
        let mut recorder = recorder(Sampler::greedy(), &[]);
        recorder.step(&[0.0, 1.0]).expect("finite");
        assert_eq!(recorder.recording().terminator_logps, [f32::NEG_INFINITY]);
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_its_place() {
        let mut recorder = recorder(Sampler::greedy(), &[0]);
        recorder.step(&[0.0, 1.0]).expect("finite");
        for bad in [f32::NAN, f32::INFINITY] {
            let error = recorder.step(&[0.0, bad]).expect_err("broken");
            assert!(matches!(error, LogitsError::NotFinite { step: 1, token: 1, .. }), "{error}");
        }
        let error = recorder.step(&[f32::NEG_INFINITY; 3]).expect_err("empty");
        assert!(matches!(error, LogitsError::NoToken { step: 1, vocabulary: 3 }), "{error}");
        assert_eq!(recorder.recording().token_ids.len(), 1, "a refused step left a trace");
    }
}
