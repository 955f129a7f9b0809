//! Seeded sampling from logits, the same for every decoder and every engine.
//!
//! A [`Recorder`] takes the logits (V) of each step of one completion, draws the next token with a [`Sampler`]
//! (temperature, top-k, top-p, min-p) and records log-probs. Its random numbers come from [`Noise`], a stream that
//! depends on (seed, prompt id, sample) and the step alone: not on the engine, the batch, the order or the threads. Two
//! models sampled with one seed share it (common random numbers), so the variance of their difference shrinks.
//!
//! Units: log-probs are natural logarithms (nats) of the model's own distribution, at temperature 1 and before any
//! filter. Shapes: `V` is the vocabulary.

mod draw;
mod finish;
mod recorder;
mod sampler;
mod token_scores;

pub use draw::Noise;
pub use finish::{Evidence, Finish, FinishReason, Reported};
pub use recorder::{Drawn, LogitsError, Recorder, Recording, Step};
pub use sampler::{OutOfRange, Sampler};
pub use token_scores::TokenScores;
