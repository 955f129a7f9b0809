//! A connection to a server: address, credentials, time limits, pauses; the requests are others'.

use std::error::Error;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use serde_json::{Map, Value};

use super::address::Address;
use super::config::HttpConfig;
use super::refusal::Refusal;
use super::retry::{Gate, backoff, is_transient, retry_after};
use super::secrets::Secrets;
use super::version::{PAGES, of_page};
use crate::InferenceError;

/// Maximum length of a response body, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// A server that has never answered is given up after this time: it is not there, or elsewhere.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// For establishing a connection.
const CONNECT: Duration = Duration::from_secs(8);
/// For a page that need not be there.
const PAGE: Duration = Duration::from_secs(2);
/// Redirects that are followed.
const REDIRECTS: usize = 5;

/// A connection to one endpoint of a server.
pub(super) struct Connection {
    pub config: HttpConfig,
    pub address: Address,
    pub secrets: Secrets,
    client: Client,
    gate: Gate,
    /// It has answered something.
    answered: AtomicBool,
    /// It has stopped answering for longer than all retries of a request.
    down: AtomicBool,
}

/// A response, whatever its status.
pub(super) struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

/// One failed attempt.
pub(super) struct Failure {
    /// HTTP status, where there was a response.
    pub status: Option<u16>,
    pub message: String,
    pub next: Next,
}

/// The remedy of a failure.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Next {
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

/// The state of one request over its attempts.
pub(super) struct Attempts {
    /// Failed ones, those with a changed body left out.
    pub failed: u32,
    started: Instant,
}

impl Attempts {
    pub fn new() -> Self {
        Attempts { failed: 0, started: Instant::now() }
    }
}

/// The error of a field of the configuration.
fn invalid(field: &str, expected: &str, got: &str) -> InferenceError {
    InferenceError::Server { url: String::new(), message: format!("{field} must be {expected}, got {got}") }
}

impl Connection {
    /// Checks the configuration and reads the key; nothing is sent.
    pub fn open(config: HttpConfig, path: &str) -> Result<Self, InferenceError> {
        config.check().map_err(|(field, expected, got)| invalid(field, expected, &got))?;
        // The text itself is not repeated: it may hold a password.
        let address = Address::new(&config.base_url, path).ok_or_else(|| {
            invalid("base_url", "an http or https URL such as http://localhost:8000/v1", "another text")
        })?;
        let client = client(Duration::from_secs_f64(config.timeout_secs), &address.endpoint).map_err(|error| {
            let (url, cause) = (String::new(), chain(&error));
            let remedy = "CA certificates are in the package ca-certificates, or in the file that SSL_CERT_FILE names";
            InferenceError::Server { url, message: format!("no HTTPS connection is possible: {cause}; {remedy}") }
        })?;
        let secrets = Secrets::read(&config, &address.endpoint)
            .map_err(|(field, expected)| invalid(&field, expected, "other characters"))?;
        let (answered, down) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Connection { config, address, secrets, client, gate: Gate::default(), answered, down })
    }

    /// Waits while a pause that the server asked for lasts.
    pub fn ready(&self) {
        self.gate.pass();
    }

    /// One attempt: the response, or no response.
    pub fn post(&self, body: &Map<String, Value>) -> Result<Answered, Failure> {
        let started = Instant::now();
        let post = self.client.post(self.address.endpoint.clone()).headers(self.secrets.headers()).json(body);
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
        let limit = Duration::from_secs_f64(self.config.timeout_secs);
        let bytes = read(response, started + limit).map_err(|message| Failure {
            status: Some(status),
            message,
            next: Next::Later,
        })?;
        Ok(Answered { status, headers, bytes })
    }

    /// The version that a page beside the API tells, if there is one.
    pub fn version(&self) -> Option<String> {
        PAGES.iter().find_map(|(page, field)| {
            let get = self.client.get(self.address.beside(page)).headers(self.secrets.headers()).timeout(PAGE);
            let response = get.send().ok().filter(|response| response.status().is_success())?;
            of_page(&serde_json::from_slice(&read(response, Instant::now() + PAGE).ok()?).ok()?, field)
        })
    }

    /// A response of HTTP status `status` that amounts to the error `code`.
    pub fn refused(&self, (status, code): (u16, u16), headers: &HeaderMap, bytes: &[u8]) -> Failure {
        let Refusal { mut message, .. } = Refusal::of_body(bytes);
        let next = match code {
            429 if Refusal::is_out_of_quota(bytes) => Next::Stop,
            code if is_transient(code) => header(headers, &RETRY_AFTER)
                .and_then(|value| retry_after(value, SystemTime::now()))
                .map_or(Next::Later, Next::After),
            300..=399 => {
                let target = header(headers, &LOCATION).unwrap_or("an address that it does not give");
                message = format!("it has moved to {target}; give that address");
                Next::Stop
            }
            // a filter's word on this prompt alone
            403 if ["flagged", "moderation"].iter().any(|word| message.to_lowercase().contains(word)) => Next::GiveUp,
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

    /// Waits for the next attempt after a failure; false if there is to be none. `salt` keeps requests apart that failed
    /// together.
    pub fn wait(&self, failure: &Failure, attempts: &Attempts, salt: u64) -> bool {
        let Some(pause) = self.pause(failure, attempts, salt) else { return false };
        match failure.next {
            Next::After(_) => self.gate.close(pause),
            _ => std::thread::sleep(pause),
        }
        true
    }

    /// The pause before the next attempt; `None` if there is to be none.
    fn pause(&self, failure: &Failure, attempts: &Attempts, salt: u64) -> Option<Duration> {
        let config = &self.config;
        let own = || backoff(attempts.failed - 1, config.backoff_secs, config.max_pause_secs, salt);
        let pause = match failure.next {
            Next::Later | Next::Changed => own(),
            // "0", or a date that has passed by this machine's clock, is no reason to spend all attempts at once
            Next::After(pause) => pause.max(own()),
            Next::GiveUp | Next::Stop => return None,
        };
        let unreachable = failure.status.is_none();
        let late =
            unreachable && !self.answered.load(Ordering::Relaxed) && attempts.started.elapsed() + pause > FIRST_ANSWER;
        let retries = match failure.status {
            Some(408 | 425 | 429) => config.retries,
            Some(_) if matches!(failure.next, Next::After(_)) => config.retries,
            // Gone for a whole request already: the next ones look once more each.
            None if self.down.load(Ordering::Relaxed) => config.failure_retries.min(1),
            _ => config.failure_retries,
        };
        if attempts.failed > retries && unreachable {
            self.down.store(true, Ordering::Relaxed);
        }
        let longest = Duration::from_secs_f64(config.max_pause_secs);
        (attempts.failed <= retries && pause <= longest && !late).then_some(pause)
    }

    /// The pause that a server requests, if no client waits for so long.
    pub fn too_long_a_pause(&self, failure: &Failure) -> Option<Duration> {
        let longest = Duration::from_secs_f64(self.config.max_pause_secs);
        match failure.next {
            Next::After(pause) => Some(pause).filter(|pause| *pause > longest),
            _ => None,
        }
    }

    /// The message of a last failure, without secrets.
    pub fn message(&self, failure: &Failure) -> String {
        let waits = match self.too_long_a_pause(failure) {
            Some(pause) => format!("; the server requests a pause of {} s", pause.as_secs()),
            None => String::new(),
        };
        self.secrets.redact(&failure.message) + &waits
    }

    /// True if the next request would fail as this one did.
    pub fn is_fatal(&self, failure: &Failure) -> bool {
        let never_answered = failure.status.is_none() && !self.answered.load(Ordering::Relaxed);
        never_answered || failure.next == Next::Stop
    }
}

/// A client for an endpoint.
///
/// # Errors
/// For an HTTPS endpoint, a machine without CA certificates. HTTP goes without them.
fn client(timeout: Duration, endpoint: &Url) -> reqwest::Result<Client> {
    let settings = || {
        Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT.min(timeout))
            // After 301, 302 and 303 a POST goes on as a GET, without its body. Another host is not to have the keys.
            .redirect(Policy::custom(|attempt| match (attempt.status().as_u16(), attempt.previous()) {
                (307 | 308, [.., last])
                    if attempt.previous().len() <= REDIRECTS && is_same_host(last, attempt.url()) =>
                {
                    attempt.follow()
                }
                _ => attempt.stop(),
            }))
            // it would hold the query
            .referer(false)
            .user_agent(concat!("smpo/", env!("CARGO_PKG_VERSION")))
    };
    match settings().build() {
        Err(_) if endpoint.scheme() == "http" => settings().tls_certs_only([]).build(),
        built => built,
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// True for the host of `from`, at its port or by HTTPS in place of HTTP.
fn is_same_host(from: &Url, to: &Url) -> bool {
    let port = |url: &Url| (url.scheme().to_owned(), url.port_or_known_default());
    let secured = (from.scheme(), to.scheme()) == ("http", "https") && from.port().is_none() && to.port().is_none();
    from.host() == to.host() && (port(from) == port(to) || secured)
}

/// The whole body.
///
/// # Errors
/// A body that breaks off, exceeds [`MAX_ANSWER`], or is not there at `deadline`: the client's own limit is for each piece
/// of it.
fn read(response: Response, deadline: Instant) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut response = response.take(MAX_ANSWER + 1);
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = match response.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("the answer broke off: {}", chain(&error))),
        };
        bytes.extend_from_slice(&piece[..count]);
        if Instant::now() > deadline {
            return Err(format!("the answer was not whole in time, after {} bytes of it", bytes.len()));
        }
    }
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
