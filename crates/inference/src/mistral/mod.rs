//! mistral.rs as a [`Generator`].
//!
//! mistral.rs 0.8.1 is exact while one request is in flight: its log-probs then equal transformers' to about 2e-6 in
//! float32. As soon as two sequences of equal length run at once, the earlier ones' key–value caches are overwritten
//! and log-probs are off by 0.1 nats and more. So an engine here answers one request at a time, keeps no prefix cache,
//! and speed comes from several engines on several threads ([`MistralEngine::load_instances`]).
//!
//! The engine computes logits only. Prompts are rendered by the model's template and tokenised here; every
//! step's logits go through a `smpo_sampling::Recorder`, which draws the token; the engine gets a distribution with one
//! token left in it (`recording_sampler`); its own end-of-sequence logic, whose set differs from the model's, is off; and the
//! text is decoded here from the token ids. So nothing is trimmed, no stop string exists, no engine seed matters, and a
//! completion depends on nothing but the model, the prompt, the sampler and the seed.

mod checkpoint;
mod config_file;
mod engine;
mod load;
mod recording_sampler;
mod threads;

pub use engine::{MistralConfig, MistralEngine};

#[allow(unused_imports, reason = "linked to from the documentation above")]
use crate::Generator;
