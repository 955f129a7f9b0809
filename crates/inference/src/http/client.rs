//! The client: one request with its retries.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use smpo_tokenizer::ChatTokenizer;

use super::address::Address;
use super::answer::{Unusable, answer};
use super::body::{Input, body, seed};
use super::config::HttpConfig;
use super::fields::Refusals;
use super::refusal::Refusal;
use super::retry::{Gate, backoff, is_transient, retry_after};
use super::secrets::Secrets;
use crate::prompt::render;
use crate::{Completion, EngineInfo, Generator, InferenceError, Request, Served};

/// Maximum length of a response body, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// A server that has never answered is given up after this time: it is not there, or elsewhere.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// For establishing a connection.
const CONNECT: Duration = Duration::from_secs(8);
/// Redirects that are followed.
const REDIRECTS: usize = 5;

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
    address: Address,
    client: Client,
    /// Renders prompts for `/completions`; without it conversations go to `/chat/completions`.
    tokenizer: Option<ChatTokenizer>,
    /// The model's terminators, id and text, once they are known.
    terminators: OnceLock<Vec<(u32, String)>>,
    secrets: Secrets,
    gate: Gate,
    refusals: Mutex<Refusals>,
    models: Mutex<BTreeSet<String>>,
    /// It has answered something.
    answered: AtomicBool,
    /// It has stopped answering for longer than all retries of a request.
    down: AtomicBool,
    /// Requests that failed with log-probs and succeeded without.
    failed_on_logprobs: AtomicU32,
}

/// Leaves out the configured address, which may hold credentials.
impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.address.server;
        formatter.debug_struct("Shared").field("url", url).field("headers", &self.secrets).finish_non_exhaustive()
    }
}

/// One failed attempt.
struct Failure {
    /// HTTP status, where there was a response.
    status: Option<u16>,
    message: String,
    next: Next,
}

/// The remedy of a failure.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// The same request at once, with another body.
    Changed,
    /// The same request after a pause of the client's choice.
    Later,
    /// The same request after a pause of the server's choice.
    After(Duration),
    /// Another request: this one cannot succeed.
    GiveUp,
    /// None: no request will succeed.
    Stop,
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
        let path = if tokenizer.is_some() { "completions" } else { "chat/completions" };
        // The text itself is not repeated: it may hold a password.
        let address = Address::new(&config.base_url, path).ok_or_else(|| {
            invalid("base_url", "an http or https URL such as http://localhost:8000/v1", "another text")
        })?;
        let timeout = Duration::from_secs_f64(config.timeout_secs);
        let client = Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT.min(timeout))
            // After 301, 302 and 303 a POST goes on as a GET, without its body.
            .redirect(Policy::custom(|attempt| match attempt.status().as_u16() {
                307 | 308 if attempt.previous().len() <= REDIRECTS => attempt.follow(),
                _ => attempt.stop(),
            }))
            .user_agent(concat!("smpo/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| invalid("the HTTP client", "ready", &chain(&error)))?;
        let secrets =
            Secrets::read(&config).map_err(|(field, expected)| invalid(&field, expected, "other characters"))?;
        let terminators = OnceLock::new();
        if let Some(tokenizer) = &tokenizer {
            let entries = tokenizer.terminators().entries().iter();
            let known = entries.filter_map(|entry| Some((entry.id?, entry.token.clone().unwrap_or_default())));
            terminators.get_or_init(|| known.collect());
        }
        let shared = Shared {
            config,
            address,
            client,
            tokenizer,
            terminators,
            secrets,
            gate: Gate::default(),
            refusals: Mutex::default(),
            models: Mutex::default(),
            answered: AtomicBool::new(false),
            down: AtomicBool::new(false),
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
        &self.shared.config.model
    }

    /// The server's part in the completions so far.
    pub fn served(&self) -> Served {
        Served { models: lock(&self.shared.models).clone(), own_defaults: lock(&self.shared.refusals).own_defaults() }
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
        let device = self.shared.address.server.clone();
        EngineInfo { name: Self::ENGINE.into(), version: String::new(), dtype: None, device }
    }
}

/// The state of one request over its attempts.
struct Attempts {
    /// Failed ones, those with a changed body left out.
    failed: u32,
    started: Instant,
    /// Log-probs are left out of this request, since it failed with them.
    without_logprobs: bool,
}

impl Shared {
    fn complete(&self, request: &Request) -> Result<Completion, InferenceError> {
        let rendered = self.tokenizer.as_ref().map(|tokenizer| render(tokenizer, request)).transpose()?;
        let input = match &rendered {
            None => Input::Chat,
            Some((text, ids)) => Input::Prompt { text, ids },
        };
        let mut attempts = Attempts { failed: 0, started: Instant::now(), without_logprobs: false };
        loop {
            self.gate.pass();
            let failure = match self.attempt(request, &input, &attempts) {
                Ok(completion) => {
                    self.remember_logprobs(&attempts);
                    return Ok(completion);
                }
                Err(failure) => failure,
            };
            if failure.next == Next::Changed || self.try_without_logprobs(&failure, &mut attempts) {
                continue;
            }
            attempts.failed += 1;
            let Some(pause) = self.pause(request, &failure, &attempts) else {
                return Err(self.error(request, failure, &attempts));
            };
            match failure.next {
                Next::After(_) => self.gate.close(pause),
                _ => std::thread::sleep(pause),
            }
        }
    }

    /// The pause before the next attempt; `None` if there is to be none.
    fn pause(&self, request: &Request, failure: &Failure, attempts: &Attempts) -> Option<Duration> {
        let config = &self.config;
        let pause = match failure.next {
            Next::Later | Next::Changed => {
                backoff(attempts.failed - 1, config.backoff_secs, config.max_pause_secs, u64::from(seed(request)))
            }
            Next::After(pause) => pause,
            Next::GiveUp | Next::Stop => return None,
        };
        let unreachable = failure.status.is_none();
        let late =
            unreachable && !self.answered.load(Ordering::Relaxed) && attempts.started.elapsed() + pause > FIRST_ANSWER;
        // Gone for a whole request already: the next ones look once more each.
        let retries =
            if unreachable && self.down.load(Ordering::Relaxed) { config.retries.min(1) } else { config.retries };
        if attempts.failed > retries && unreachable {
            self.down.store(true, Ordering::Relaxed);
        }
        let longest = Duration::from_secs_f64(config.max_pause_secs);
        (attempts.failed <= retries && pause <= longest && !late).then_some(pause)
    }

    /// Log-probs are this program's wish: a request on which a server fails is asked once without.
    fn try_without_logprobs(&self, failure: &Failure, attempts: &mut Attempts) -> bool {
        let sent = self.config.logprobs
            && !attempts.without_logprobs
            && !self.config.extra_body.contains_key("logprobs")
            && !lock(&self.refusals).drops("logprobs");
        let other = sent && failure.status == Some(500);
        attempts.without_logprobs |= other;
        other
    }

    /// A server that twice failed on log-probs alone is not asked for them again; a single time may be chance.
    fn remember_logprobs(&self, attempts: &Attempts) {
        if attempts.without_logprobs && self.failed_on_logprobs.fetch_add(1, Ordering::Relaxed) > 0 {
            lock(&self.refusals).join(Refusals::default().without_logprobs());
        }
    }

    fn error(&self, request: &Request, failure: Failure, attempts: &Attempts) -> InferenceError {
        let longest = Duration::from_secs_f64(self.config.max_pause_secs);
        let waits = match failure.next {
            Next::After(pause) if pause > longest => format!("; the server requests a pause of {} s", pause.as_secs()),
            _ => String::new(),
        };
        let never_answered = failure.status.is_none() && !self.answered.load(Ordering::Relaxed);
        InferenceError::Http {
            prompt_id: request.prompt_id.clone(),
            sample: request.sample,
            url: self.address.shown.clone(),
            status: failure.status,
            attempts: attempts.failed,
            message: self.secrets.redact(&failure.message) + &waits,
            fatal: never_answered || failure.next == Next::Stop,
        }
    }

    fn attempt(&self, request: &Request, input: &Input<'_>, attempts: &Attempts) -> Result<Completion, Failure> {
        let known = lock(&self.refusals).clone();
        let refusals = if attempts.without_logprobs { known.clone().without_logprobs() } else { known.clone() };
        let body = body(&self.config, request, input, &refusals);
        let post = self.client.post(self.address.endpoint.clone()).headers(self.secrets.headers()).json(&body);
        let response = post.send().map_err(|error| {
            // A server that broke off or took too long is there.
            self.answered.fetch_or(!error.is_connect(), Ordering::Relaxed);
            let message = chain(&error.without_url()) + &self.address.via_proxy();
            Failure { status: None, message, next: Next::Later }
        })?;
        self.answered.store(true, Ordering::Relaxed);
        self.down.store(false, Ordering::Relaxed);
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = read(response).map_err(|message| Failure { status: Some(status), message, next: Next::Later })?;
        if !(200..300).contains(&status) {
            return Err(self.refused(request, &known, (status, status), &headers, &bytes));
        }
        let terminators = self.terminators.get().map_or(&[][..], Vec::as_slice);
        let kind = header(&headers, &CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let unusable = match answer(&bytes, kind, &self.config, request, terminators) {
            Ok(answer) => {
                lock(&self.models).extend(answer.model);
                return Ok(answer.completion);
            }
            Err(unusable) => unusable,
        };
        Err(match unusable {
            Unusable::Refused(refusal) => {
                let meant = refusal.status;
                let code = meant.map(|code| format!(" (code {code})")).unwrap_or_default();
                let refused = self.refused(request, &known, (status, meant.unwrap_or(500)), &headers, &bytes);
                Failure { message: refusal.message + &code, ..refused }
            }
            Unusable::Broken(message) => Failure { status: Some(status), message, next: Next::Later },
            Unusable::NoJson(message) => {
                let message = message + &self.address.missing_version();
                Failure { status: Some(status), message, next: Next::Stop }
            }
        })
    }

    /// A response of HTTP status `status` that amounts to the error `code`, to a request under the refusals `known`.
    fn refused(
        &self,
        request: &Request,
        known: &Refusals,
        (status, code): (u16, u16),
        headers: &HeaderMap,
        bytes: &[u8],
    ) -> Failure {
        let Refusal { mut message, .. } = Refusal::of_body(bytes);
        let next = match code {
            400 | 422 => self.learn(request, known, bytes).unwrap_or(Next::GiveUp),
            // llama-cpp-python answers so to a field out of its range
            500 if is_validation(bytes) => self.learn(request, known, bytes).unwrap_or(Next::Later),
            429 if Refusal::is_out_of_quota(bytes) => Next::Stop,
            code if is_transient(code) => header(headers, &RETRY_AFTER)
                .and_then(|value| retry_after(value, SystemTime::now()))
                .map_or(Next::Later, Next::After),
            300..400 => {
                let target = header(headers, &LOCATION).unwrap_or("an address that it does not give");
                message = format!("it has moved to {target}; give that address");
                Next::Stop
            }
            401 | 403 if self.secrets.is_anonymous() => {
                message += &format!("; no key was sent: {} is not set", self.config.api_key_env);
                Next::Stop
            }
            404 | 405 => {
                message += &self.address.missing_version();
                Next::Stop
            }
            401 | 402 | 403 | 410 | 501 => Next::Stop,
            _ => Next::GiveUp,
        };
        Failure { status: Some(status), message, next }
    }

    /// Learns from the refusal of a request under the refusals `sent` which fields to leave out; `None` where it names none.
    fn learn(&self, request: &Request, sent: &Refusals, bytes: &[u8]) -> Option<Next> {
        let text = String::from_utf8_lossy(bytes);
        let mut known = lock(&self.refusals);
        // Another request in flight has learned since: this refusal may be of what is no longer sent.
        if *known == *sent {
            let learned = known.learn(&text, &request.sampler, &self.config.extra_body)?;
            known.join(learned);
        }
        Some(Next::Changed)
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

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
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
