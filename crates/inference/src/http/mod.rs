//! Any OpenAI-compatible server as a [`crate::Generator`]: vLLM, SGLang, llama.cpp, mistralrs-server, OpenAI.
//!
//! One `POST` per completion: to `{base}/chat/completions` ([`HttpGenerator::new`]), or with the prompt rendered here to
//! `{base}/completions` ([`HttpGenerator::completing`]). No stop string is ever sent, so `finish_reason: "stop"` means that
//! the model ended its turn. A server's log-probs are passed on unchanged; [`crate::check_fidelity`] compares them with
//! those of local weights.

mod answer;
mod body;
mod client;
mod config;
mod key;
mod retry;

pub use client::HttpGenerator;
pub use config::{HttpConfig, LogprobBase};
