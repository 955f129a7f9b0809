//! The calls of MLflow's REST interface that a run needs (mlflow.org/docs/latest/rest-api.html).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::blocking::{Body, Client as Http, RequestBuilder};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use smpo_files::FileError;

use crate::error::TrackingError;
use crate::settings::{Credentials, Experiment, Settings};

/// Time that a call may take, beside that of an artefact's bytes.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes per second below which a connection counts as stalled.
const SLOWEST: u64 = 50_000;

/// Maximum bytes of an answer that are read.
const LONGEST: u64 = 1 << 20;

/// State of a run on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Training.
    Running,
    /// Finished.
    Finished,
    /// Interrupted by the user.
    Killed,
    /// Ended by an error.
    Failed,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Running => "RUNNING",
            Status::Finished => "FINISHED",
            Status::Killed => "KILLED",
            Status::Failed => "FAILED",
        }
    }
}

/// A run on the server.
pub(crate) struct RemoteRun {
    pub experiment_id: String,
    pub run_id: String,
    /// Location of its artefacts.
    pub artifacts: String,
}

/// A connection to a server.
pub(crate) struct Client {
    http: Http,
    server: String,
    credentials: Credentials,
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, TrackingError> {
        let server = settings.server.clone();
        let unusable =
            |error: reqwest::Error| TrackingError::Unreachable { server: server.clone(), problem: causes(&error) };
        let http = || Http::builder().connect_timeout(PATIENCE).timeout(None);
        let http = match http().build() {
            // A machine without CA certificates, which HTTP does not need.
            Err(_) if server.starts_with("http://") => http().tls_certs_only([]).build(),
            built => built,
        };
        let http = http.map_err(unusable)?;
        Ok(Client { http, server: settings.server.clone(), credentials: settings.credentials.clone() })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The id of an experiment, which is created where it does not exist.
    pub(crate) fn experiment(&self, experiment: &Experiment) -> Result<String, TrackingError> {
        let name = match experiment {
            Experiment::Id(id) => return Ok(id.clone()),
            Experiment::Name(name) => name,
        };
        let by_name = || {
            let path = "experiments/get-by-name";
            self.field(path, self.get(path, &[("experiment_name", name)])?, "experiment_id", |answer| {
                &answer["experiment"]["experiment_id"]
            })
        };
        match by_name() {
            Err(error) if error.is("RESOURCE_DOES_NOT_EXIST") => {
                let path = "experiments/create";
                match self.post(path, &json!({ "name": name })) {
                    // Another run of this name was faster.
                    Err(error) if error.is("RESOURCE_ALREADY_EXISTS") => by_name(),
                    answer => self.field(path, answer?, "experiment_id", |answer| &answer["experiment_id"]),
                }
            }
            found => found,
        }
    }

    pub(crate) fn create_run(&self, experiment_id: &str, name: &str) -> Result<RemoteRun, TrackingError> {
        let tags = json!([
            {"key": "mlflow.runName", "value": name},
            {"key": "mlflow.source.name", "value": "smpo"},
            {"key": "mlflow.source.type", "value": "LOCAL"},
        ]);
        let body = json!({"experiment_id": experiment_id, "run_name": name, "start_time": now(), "tags": tags});
        self.remote("runs/create", self.post("runs/create", &body)?)
    }

    pub(crate) fn run(&self, run_id: &str) -> Result<RemoteRun, TrackingError> {
        self.remote("runs/get", self.get("runs/get", &[("run_id", run_id)])?)
    }

    fn remote(&self, path: &str, answer: Value) -> Result<RemoteRun, TrackingError> {
        let info =
            |field: &'static str| self.field(path, answer.clone(), field, |answer| &answer["run"]["info"][field]);
        Ok(RemoteRun {
            experiment_id: info("experiment_id")?,
            run_id: info("run_id")?,
            artifacts: info("artifact_uri").unwrap_or_default(),
        })
    }

    pub(crate) fn log(&self, run_id: &str, kind: &str, entries: &[Value]) -> Result<(), TrackingError> {
        self.post("runs/log-batch", &json!({"run_id": run_id, kind: entries})).map(drop)
    }

    pub(crate) fn set_status(&self, run_id: &str, status: Status) -> Result<(), TrackingError> {
        let mut body = json!({"run_id": run_id, "status": status.name()});
        if status != Status::Running {
            body["end_time"] = now().into();
        }
        self.post("runs/update", &body).map(drop)
    }

    /// Sends a file to where the server keeps artefacts; `place` are the parts of its path there.
    pub(crate) fn upload(&self, place: &[&str], path: &Path) -> Result<(), TrackingError> {
        let read = FileError::at(path, "read");
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = opened.map_err(read)?;
        let shown = format!("mlflow-artifacts/artifacts/{}", place.join("/"));
        let mut url = self.url("mlflow-artifacts/artifacts")?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(place);
        }
        let patience = PATIENCE + Duration::from_secs(length / SLOWEST);
        let request = self.http.request(Method::PUT, url).timeout(patience).body(Body::sized(file, length));
        self.send(&shown, request).map(drop)
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, TrackingError> {
        let mut url = self.url(&format!("mlflow/{path}"))?;
        url.query_pairs_mut().extend_pairs(query);
        self.send(path, self.http.request(Method::GET, url).timeout(PATIENCE))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, TrackingError> {
        let url = self.url(&format!("mlflow/{path}"))?;
        self.send(path, self.http.request(Method::POST, url).timeout(PATIENCE).json(body))
    }

    fn url(&self, path: &str) -> Result<Url, TrackingError> {
        let unusable = |error: &dyn std::fmt::Display| self.unreachable(error.to_string());
        Url::parse(&format!("{}/api/2.0/{path}", self.server)).map_err(|error| unusable(&error))
    }

    fn unreachable(&self, problem: String) -> TrackingError {
        TrackingError::Unreachable { server: self.server.clone(), problem }
    }

    fn send(&self, path: &str, request: RequestBuilder) -> Result<Value, TrackingError> {
        let request = match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer_auth(token),
            Credentials::Basic { user, password } => request.basic_auth(user, password.as_deref()),
        };
        let response = request.send().map_err(|error| self.unreachable(causes(&error.without_url())))?;
        let status = response.status();
        let mut text = Vec::new();
        response.take(LONGEST).read_to_end(&mut text).map_err(|error| self.unreachable(error.to_string()))?;
        let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let shortened = |text: &str| shortened(&self.credentials.redact(text));
        let said = |field: &str| answer[field].as_str().map(shortened).unwrap_or_default();
        let message = match said("message") {
            empty if empty.is_empty() => shortened(String::from_utf8_lossy(&text).trim()),
            message => message,
        };
        let (server, path, status) = (self.server.clone(), path.to_owned(), status.as_u16());
        Err(TrackingError::Refused { server, path, status, code: said("error_code"), message })
    }

    /// A text of an answer.
    fn field(
        &self,
        path: &str,
        answer: Value,
        field: &'static str,
        find: impl Fn(&Value) -> &Value,
    ) -> Result<String, TrackingError> {
        let missing = || TrackingError::Answer { server: self.server.clone(), path: path.to_owned(), field };
        find(&answer).as_str().map(str::to_owned).ok_or_else(missing)
    }
}

/// A server's text on one line, cut.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 300;
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if text.chars().count() > SHOWN { line + "…" } else { line }
}

/// An error of a connection with its causes, which say more than it does.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
