//! Any OpenAI-compatible server as a [`crate::Generator`]: vLLM, SGLang, llama.cpp, mistralrs-server, OpenAI.
//!
//! One `POST` per completion: to `{base}/chat/completions` ([`HttpGenerator::new`]), or with the prompt rendered here to
//! `{base}/completions` ([`HttpGenerator::completing`]). Sampler fields that the suite does not set are sent as neutral
//! values, and those that a server refuses are left out from then on and reported ([`crate::Served`]). No stop string is ever sent.
//! A server's log-probs are passed on unchanged; [`crate::check_fidelity`] compares them with
//! those of local weights.
//!
//! [`HttpEmbedder`] asks the same servers for embeddings, `POST {base}/embeddings`.

mod address;
mod answer;
mod body;
mod client;
mod config;
mod connection;
mod embeddings;
mod fields;
mod json;
mod refusal;
mod retry;
mod secrets;
mod spoken;
mod version;

pub use client::HttpGenerator;
pub use config::{HttpConfig, LogprobBase};
pub use embeddings::HttpEmbedder;
