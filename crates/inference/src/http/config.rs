//! Configuration of the HTTP client.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An OpenAI-compatible server, retries and time limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Up to and including the version: `http://localhost:8000/v1`.
    pub base_url: String,
    /// The model's name on the server.
    pub model: String,
    /// The environment variable that holds the key; the key itself appears in no configuration, log or error. An
    /// unset variable means that no key is sent.
    pub api_key_env: String,
    /// Further headers of every request, as `name: value`; like the key, no log or error has the values.
    #[serde(skip)]
    pub headers: Vec<String>,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// For one attempt, from connecting to the last byte, in seconds.
    pub timeout_secs: f64,
    /// Attempts after the first where the server is busy: 408, 425, 429, and whatever has `Retry-After`.
    pub retries: u32,
    /// Attempts after the first where it fails: connection failures, time-outs, broken answers and 5xx.
    pub failure_retries: u32,
    /// Pause before the first retry, in seconds; it doubles with every further one.
    pub backoff_secs: f64,
    /// Maximum pause, in seconds. A server that requests a longer one ends the retries.
    pub max_pause_secs: f64,
    /// Look for the server's version on a page of its own, once it has answered.
    pub ask_version: bool,
    /// Request log-probs. Where the server refuses them, the request is repeated without.
    pub logprobs: bool,
    /// The base of the server's log-probs; mistralrs-server 0.8.1 reports base 10.
    pub logprob_base: LogprobBase,
    /// Further fields of every request's body, `{"chat_template_kwargs": {"enable_thinking": false}}` for example.
    pub extra_body: Map<String, Value>,
}

/// The base of reported logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogprobBase {
    /// Natural.
    #[default]
    E,
    /// Decimal.
    Ten,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            base_url: String::new(),
            model: String::new(),
            api_key_env: "OPENAI_API_KEY".into(),
            headers: Vec::new(),
            concurrency: 8,
            timeout_secs: 300.0,
            retries: 6,
            failure_retries: 6,
            backoff_secs: 0.5,
            max_pause_secs: 60.0,
            ask_version: false,
            logprobs: true,
            logprob_base: LogprobBase::E,
            extra_body: Map::new(),
        }
    }
}

impl HttpConfig {
    /// The first field out of range, as `(field, expected, got)`.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str, String)> {
        let seconds = |value: f64| (0.0..=1e6).contains(&value);
        if self.model.is_empty() {
            return Err(("model", "the model's name on the server", "\"\"".into()));
        }
        if self.concurrency == 0 {
            return Err(("concurrency", "at least 1", "0".into()));
        }
        if !(seconds(self.timeout_secs) && self.timeout_secs > 0.0) {
            return Err(("timeout_secs", "seconds above 0", self.timeout_secs.to_string()));
        }
        for (field, value) in [("backoff_secs", self.backoff_secs), ("max_pause_secs", self.max_pause_secs)] {
            if !seconds(value) {
                return Err((field, "seconds", value.to_string()));
            }
        }
        Ok(())
    }
}
