//! The client: one request with its retries.

use std::error::Error;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use smpo_tokenizer::ChatTokenizer;

use super::answer::{completion, error_message, out_of_quota};
use super::body::{Input, Refusals, body, seed};
use super::config::HttpConfig;
use super::key::Key;
use super::retry::{Gate, backoff, is_transient, retry_after};
use crate::prompt::render;
use crate::{Completion, EngineInfo, Generator, InferenceError, Request};

/// Maximum length of a response body, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// A connection to a server. Clones share the connection pool, the fields that the server refused, and the pauses that
/// it requested.
///
/// Not for use from inside an asynchronous runtime: [`Generator::generate`] blocks.
#[derive(Debug, Clone)]
pub struct HttpGenerator {
    shared: Arc<Shared>,
}

struct Shared {
    config: HttpConfig,
    endpoint: Url,
    /// The base URL without user, password and query, for messages.
    shown: String,
    client: Client,
    /// Renders prompts for `/completions`; without it conversations go to `/chat/completions`.
    tokenizer: Option<ChatTokenizer>,
    key: Option<Key>,
    gate: Gate,
    refusals: Mutex<Refusals>,
}

/// Leaves out the configured address, which may hold credentials.
impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("url", &self.shown).field("key", &self.key).finish_non_exhaustive()
    }
}

/// One failed attempt.
struct Failure {
    status: Option<u16>,
    message: String,
    /// `None`: a retry cannot succeed.
    retry: Option<Retry>,
}

enum Retry {
    /// At once, with another body.
    Changed,
    /// After a pause of the client's choice.
    Later,
    /// After a pause of the server's choice.
    After(Duration),
}

impl HttpGenerator {
    /// Name of the engine in manifests.
    pub const ENGINE: &str = "openai-compatible";

    /// Through `/chat/completions`: the server renders conversations by its own template. Checks the configuration and
    /// reads the key; nothing is sent.
    ///
    /// # Errors
    /// [`InferenceError::Server`], naming the field.
    pub fn new(config: HttpConfig) -> Result<Self, InferenceError> {
        Self::connect(config, None)
    }

    /// Through `/completions`: conversations are rendered and tokenised here, so that nothing of the server's own
    /// template, default system prompt or second beginning-of-sequence token gets in between.
    ///
    /// # Errors
    /// As [`HttpGenerator::new`].
    pub fn completing(config: HttpConfig, tokenizer: ChatTokenizer) -> Result<Self, InferenceError> {
        Self::connect(config, Some(tokenizer))
    }

    fn connect(config: HttpConfig, tokenizer: Option<ChatTokenizer>) -> Result<Self, InferenceError> {
        let invalid = |field: &str, expected: &str, got: &str| InferenceError::Server {
            url: String::new(),
            message: format!("{field} must be {expected}, got {got}"),
        };
        config.check().map_err(|(field, expected, got)| invalid(field, expected, &got))?;
        let base = Url::parse(config.base_url.trim_end_matches('/'))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            // The text itself is not repeated: it may hold a password.
            .ok_or_else(|| {
                invalid("base_url", "an http or https URL such as http://localhost:8000/v1", "another text")
            })?;
        let mut shown = base.clone();
        // These fail on URLs that cannot have a user, and those are refused above.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        let mut endpoint = base.clone();
        let path = if tokenizer.is_some() { "completions" } else { "chat/completions" };
        endpoint.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
        let client = Client::builder()
            .timeout(Duration::from_secs_f64(config.timeout_secs))
            .user_agent(concat!("smpo/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| invalid("the HTTP client", "ready", &chain(&error)))?;
        let key = Key::from_env(&config.api_key_env);
        if key.as_ref().is_some_and(|key| key.header().is_none()) {
            return Err(invalid(&config.api_key_env, "a key of visible ASCII characters", "other characters"));
        }
        let refusals = Mutex::default();
        let shown = shown.to_string();
        let shared = Shared { config, endpoint, shown, client, tokenizer, key, gate: Gate::default(), refusals };
        Ok(HttpGenerator { shared: Arc::new(shared) })
    }

    /// Source of the template with which prompts are rendered locally; `None` where the server renders them.
    pub fn template_source(&self) -> Option<&str> {
        self.shared.tokenizer.as_ref().map(|tokenizer| tokenizer.template().source())
    }

    /// As many clones as requests may be in flight ([`HttpConfig::concurrency`]), for [`crate::generate_each`].
    pub fn instances(&self) -> Vec<Self> {
        vec![self.clone(); self.shared.config.concurrency]
    }
}

impl Generator for HttpGenerator {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        request.validate()?;
        self.shared.complete(request)
    }

    fn engine(&self) -> EngineInfo {
        EngineInfo { name: Self::ENGINE.into(), version: String::new(), dtype: None, device: self.shared.shown.clone() }
    }
}

impl Shared {
    fn complete(&self, request: &Request) -> Result<Completion, InferenceError> {
        let rendered = self.tokenizer.as_ref().map(|tokenizer| render(tokenizer, request)).transpose()?;
        let input = match &rendered {
            None => Input::Chat,
            Some((text, ids)) => Input::Prompt { text, ids },
        };
        let mut attempt = 0;
        loop {
            self.gate.pass();
            let failure = match self.attempt(request, &input) {
                Ok(completion) => return Ok(completion),
                Err(failure) => failure,
            };
            let pause = match failure.retry {
                Some(Retry::Changed) => continue,
                Some(Retry::Later) => Some(backoff(
                    attempt,
                    self.config.backoff_secs,
                    self.config.max_pause_secs,
                    u64::from(seed(request)),
                )),
                Some(Retry::After(pause)) => Some(pause),
                None => None,
            };
            let longest = Duration::from_secs_f64(self.config.max_pause_secs);
            let last = attempt == self.config.retries;
            let Some(pause) = pause.filter(|pause| !last && *pause <= longest) else {
                let waits = match pause {
                    Some(pause) if pause > longest => format!("; the server requests a pause of {} s", pause.as_secs()),
                    _ => String::new(),
                };
                return Err(InferenceError::Http {
                    prompt_id: request.prompt_id.clone(),
                    sample: request.sample,
                    url: self.shown.clone(),
                    status: failure.status,
                    attempts: attempt + 1,
                    message: self.redact(&failure.message) + &waits,
                });
            };
            match failure.retry {
                Some(Retry::After(_)) => self.gate.close(pause),
                _ => std::thread::sleep(pause),
            }
            attempt += 1;
        }
    }

    fn attempt(&self, request: &Request, input: &Input<'_>) -> Result<Completion, Failure> {
        let refusals = *self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut post = self.client.post(self.endpoint.clone()).json(&body(&self.config, request, input, refusals));
        if let Some(header) = self.key.as_ref().and_then(Key::header) {
            post = post.header(AUTHORIZATION, header);
        }
        let transient = |message: String| Failure { status: None, message, retry: Some(Retry::Later) };
        let response = post.send().map_err(|error| transient(chain(&error.without_url())))?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = read(response).map_err(|message| Failure { status: Some(status), ..transient(message) })?;
        if (200..300).contains(&status) {
            return completion(&bytes, &self.config, request)
                .map_err(|message| Failure { status: Some(status), ..transient(message) });
        }
        let message = error_message(&bytes);
        let retry = match status {
            400 | 422 => refusals.learn(&message).map(|learned| {
                let mut known = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                *known = known.and(learned);
                Retry::Changed
            }),
            429 if out_of_quota(&bytes) => None,
            status if is_transient(status) => {
                let pause = after.and_then(|value| retry_after(&value, SystemTime::now()));
                Some(pause.map_or(Retry::Later, Retry::After))
            }
            _ => None,
        };
        Err(Failure { status: Some(status), message, retry })
    }

    fn redact(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
    }
}

/// The whole body.
///
/// # Errors
/// A body that breaks off or exceeds [`MAX_ANSWER`].
fn read(response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    response
        .take(MAX_ANSWER + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the answer broke off: {}", chain(&error)))?;
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
    }
    Ok(bytes)
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
