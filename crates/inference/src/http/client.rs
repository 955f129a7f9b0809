//! The client: one request with its retries.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use smpo_tokenizer::ChatTokenizer;

use super::answer::{Unusable, answer};
use super::body::{Input, body, seed};
use super::config::HttpConfig;
use super::connection::{Answered, Attempts, Connection, Failure, Next, header};
use super::fields::Refusals;
use super::refusal::Refusal;
use crate::prompt::render;
use crate::{Completion, EngineInfo, Generator, InferenceError, Request, Served};

/// A connection to a server. Clones share the connection pool, the fields that the server refused, and the pauses that
/// it requested.
///
/// Not for use from inside an asynchronous runtime: [`Generator::generate`] blocks.
#[derive(Debug, Clone)]
pub struct HttpGenerator {
    shared: Arc<Shared>,
}

struct Shared {
    connection: Connection,
    /// Renders prompts for `/completions`; without it conversations go to `/chat/completions`.
    tokenizer: Option<ChatTokenizer>,
    /// The model's terminators, id and text, once they are known.
    terminators: OnceLock<Vec<(u32, String)>>,
    refusals: Mutex<Refusals>,
    models: Mutex<BTreeSet<String>>,
    fingerprints: Mutex<BTreeSet<String>>,
    asked_version: AtomicBool,
    /// Requests in a row that failed with log-probs and succeeded without.
    failed_on_logprobs: AtomicU32,
}

/// Leaves out the configured address, which may hold credentials.
impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connection { address, secrets, .. } = &self.connection;
        formatter.debug_struct("Shared").field("url", &address.server).field("headers", secrets).finish_non_exhaustive()
    }
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
        let path = if tokenizer.is_some() { "completions" } else { "chat/completions" };
        let connection = Connection::open(config, path)?;
        let terminators = OnceLock::new();
        if let Some(tokenizer) = &tokenizer {
            let entries = tokenizer.terminators().entries().iter();
            let known = entries.filter_map(|entry| Some((entry.id?, entry.token.clone().unwrap_or_default())));
            terminators.get_or_init(|| known.collect());
        }
        let shared = Shared {
            connection,
            tokenizer,
            terminators,
            refusals: Mutex::default(),
            models: Mutex::default(),
            fingerprints: Mutex::default(),
            asked_version: AtomicBool::new(false),
            failed_on_logprobs: AtomicU32::new(0),
        };
        Ok(HttpGenerator { shared: Arc::new(shared) })
    }

    /// Source of the template with which prompts are rendered locally; `None` where the server renders them.
    pub fn template_source(&self) -> Option<&str> {
        self.shared.tokenizer.as_ref().map(|tokenizer| tokenizer.template().source())
    }

    /// Makes the model's terminators known, id and text, so that a reported end can be weighed against token ids. The
    /// first call counts, and a tokenizer given to [`HttpGenerator::completing`] is one.
    pub fn know_terminators(&self, terminators: Vec<(u32, String)>) {
        self.shared.terminators.get_or_init(|| terminators);
    }

    /// The name that is requested of the server.
    pub fn model(&self) -> &str {
        &self.shared.connection.config.model
    }

    /// True for a connection to the same address, as the same user.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.shared.connection.address.endpoint == other.shared.connection.address.endpoint
    }

    /// The server's part in the completions so far.
    pub fn served(&self) -> Served {
        Served {
            models: lock(&self.shared.models).clone(),
            fingerprints: lock(&self.shared.fingerprints).clone(),
            own_defaults: lock(&self.shared.refusals).own_defaults(),
        }
    }

    /// As many clones as requests may be in flight ([`HttpConfig::concurrency`]), for [`crate::generate_each`].
    pub fn instances(&self) -> Vec<Self> {
        vec![self.clone(); self.shared.connection.config.concurrency]
    }
}

impl Generator for HttpGenerator {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        request.validate()?;
        self.shared.complete(request)
    }

    fn engine(&self) -> EngineInfo {
        let device = self.shared.connection.address.server.clone();
        EngineInfo { name: Self::ENGINE.into(), version: String::new(), dtype: None, device }
    }
}

impl Shared {
    fn complete(&self, request: &Request) -> Result<Completion, InferenceError> {
        let rendered = self.tokenizer.as_ref().map(|tokenizer| render(tokenizer, request)).transpose()?;
        let input = match &rendered {
            None => Input::Chat,
            Some((text, ids)) => Input::Prompt { text, ids },
        };
        let mut attempts = Attempts::new();
        let mut without_logprobs = false;
        // Refusals are everybody's once the request has succeeded without what was refused: an error may name fields
        // for other reasons.
        let mut learned = Refusals::default();
        loop {
            self.connection.ready();
            let failure = match self.attempt(request, &input, without_logprobs, &mut learned) {
                Ok(completion) => {
                    lock(&self.refusals).join(learned);
                    self.remember_logprobs(without_logprobs);
                    self.look_for_version();
                    return Ok(completion);
                }
                Err(failure) => failure,
            };
            if failure.next == Next::Changed || self.try_without_logprobs(&failure, &attempts, &mut without_logprobs) {
                continue;
            }
            attempts.failed += 1;
            if !self.connection.wait(&failure, &attempts, u64::from(seed(request))) {
                return Err(self.error(request, &failure, &attempts));
            }
        }
    }

    /// Asks a server that answers for its version, once.
    fn look_for_version(&self) {
        if self.connection.config.ask_version && !self.asked_version.swap(true, Ordering::Relaxed) {
            remember(&self.fingerprints, self.connection.version());
        }
    }

    /// Log-probs are this program's wish: a request on which a server fails twice, the first time perhaps by chance, is
    /// asked without.
    fn try_without_logprobs(&self, failure: &Failure, attempts: &Attempts, without_logprobs: &mut bool) -> bool {
        let config = &self.connection.config;
        let sent = config.logprobs
            && !*without_logprobs
            && !config.extra_body.contains_key("logprobs")
            && !lock(&self.refusals).drops("logprobs");
        let other = sent && failure.status == Some(500) && attempts.failed > 0;
        *without_logprobs |= other;
        other
    }

    /// A server that failed on log-probs alone in two requests on end is not asked for them again; a single one may be chance.
    fn remember_logprobs(&self, without_logprobs: bool) {
        if !without_logprobs {
            self.failed_on_logprobs.store(0, Ordering::Relaxed);
        } else if self.failed_on_logprobs.fetch_add(1, Ordering::Relaxed) > 0 {
            lock(&self.refusals).join(Refusals::default().without_logprobs());
        }
    }

    fn error(&self, request: &Request, failure: &Failure, attempts: &Attempts) -> InferenceError {
        InferenceError::Http {
            prompt_id: request.prompt_id.clone(),
            sample: request.sample,
            url: self.connection.address.shown.clone(),
            status: failure.status,
            attempts: attempts.failed,
            message: self.connection.message(failure),
            fatal: self.connection.is_fatal(failure),
            pause: self.connection.too_long_a_pause(failure),
        }
    }

    /// Everybody's refusals, and those that a request has `learned`.
    fn known(&self, learned: &Refusals) -> Refusals {
        let mut known = lock(&self.refusals).clone();
        known.join(learned.clone());
        known
    }

    /// One attempt; what its refusal names is added to `learned`.
    fn attempt(
        &self,
        request: &Request,
        input: &Input<'_>,
        without_logprobs: bool,
        learned: &mut Refusals,
    ) -> Result<Completion, Failure> {
        let known = self.known(learned);
        let refusals = if without_logprobs { known.clone().without_logprobs() } else { known.clone() };
        let config = &self.connection.config;
        let body = body(config, request, input, &refusals);
        let Answered { status, headers, bytes } = self.connection.post(&body)?;
        if !(200..300).contains(&status) {
            return Err(self.refused(request, (&known, learned), (status, status), &headers, &bytes));
        }
        let terminators = self.terminators.get().map_or(&[][..], Vec::as_slice);
        let kind = header(&headers, &CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let unusable = match answer(&bytes, kind, config, request, terminators) {
            Ok(answer) => {
                remember(&self.models, answer.model);
                remember(&self.fingerprints, answer.fingerprint);
                return Ok(answer.completion);
            }
            Err(unusable) => unusable,
        };
        Err(match unusable {
            Unusable::Refused(refusal) => {
                let meant = refusal.status;
                let shown = meant.map(|code| format!(" (code {code})")).unwrap_or_default();
                let code = meant.unwrap_or(500);
                let refused = self.refused(request, (&known, learned), (status, code), &headers, &bytes);
                Failure { message: refusal.message + &shown, ..refused }
            }
            Unusable::Broken(message) => Failure { status: Some(status), message, next: Next::Later },
            Unusable::NoJson(message) => {
                let message = message + &self.connection.address.missing_version();
                Failure { status: Some(status), message, next: Next::Stop }
            }
        })
    }

    /// A response of HTTP status `status` that amounts to the error `code`, to a request under the refusals `sent`.
    fn refused(
        &self,
        request: &Request,
        (sent, learned): (&Refusals, &mut Refusals),
        (status, code): (u16, u16),
        headers: &HeaderMap,
        bytes: &[u8],
    ) -> Failure {
        let refused = self.connection.refused((status, code), headers, bytes);
        let said = || Refusal::said(bytes, request.messages.iter().map(|message| message.content.as_str()));
        let may_name = match code {
            400 | 422 => true,
            // "You are not allowed to request logprobs from this model"
            403 => said().contains("logprobs"),
            // llama-cpp-python answers so to a field out of its range
            500 => is_validation(bytes),
            _ => false,
        };
        // Another request in flight has learned since: this refusal may be of what is no longer sent.
        let changed = may_name
            && (self.known(learned) != *sent || {
                let more = sent.learn(&said(), &request.sampler, &self.connection.config.extra_body);
                more.map(|more| learned.join(more)).is_some()
            });
        Failure { next: if changed { Next::Changed } else { refused.next }, ..refused }
    }
}

/// Adds a name that a server gave itself, unless it gives endless ones.
fn remember(names: &Mutex<BTreeSet<String>>, name: Option<String>) {
    const NAMES: usize = 32;
    let mut names = lock(names);
    if names.len() < NAMES {
        names.extend(name.filter(|name| !name.is_empty()));
    }
}

/// True for the text of a validator, which names the field that it refuses. Other errors of a server may quote the whole
/// request.
fn is_validation(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    ["validation error", "validationerror", "extra_forbidden", "unexpected keyword"]
        .iter()
        .any(|words| text.contains(words))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
