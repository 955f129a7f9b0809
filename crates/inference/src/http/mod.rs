//! Any OpenAI-compatible server as a [`crate::Generator`]: vLLM, SGLang, llama.cpp, mistralrs-server, OpenAI.
//!
//! One `POST {base}/chat/completions` per completion. No stop string is ever sent, so `finish_reason: "stop"` means that
//! the model ended its turn. What a server reports is passed on as it is: whether its log-probs are those of the model
//! shows when they are held against local weights ([`crate::check_fidelity`]).

mod client;
mod config;
mod key;
mod protocol;
mod retry;

pub use client::HttpGenerator;
pub use config::{HttpConfig, LogprobBase};
