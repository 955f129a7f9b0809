//! The API key: read once, sent, and in no message.

use std::fmt;

use reqwest::header::HeaderValue;

/// An API key, left out of its own `Debug`.
#[derive(Clone)]
pub(super) struct Key(String);

impl Key {
    /// From an environment variable; `None` where it is unset or empty.
    pub fn from_env(variable: &str) -> Option<Self> {
        std::env::var(variable).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).map(Key)
    }

    /// The `Authorization` header; `None` where the key holds characters that no header may.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// `text` without the key: servers quote it in their errors.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key([key])")
    }
}
