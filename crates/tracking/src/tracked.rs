//! A run directory and its run on a server.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifacts;
use crate::client::{Client, RemoteRun, Status};
use crate::error::TrackingError;
use crate::metrics::Lines;
use crate::parameters::parameters;
use crate::settings::Settings;
use crate::state::State;

/// Maximum metrics and parameters of a call.
const METRICS: usize = 1000;
const PARAMETERS: usize = 100;

/// A run directory that a server follows.
pub struct Tracked {
    dir: PathBuf,
    client: Client,
    state: State,
    lines: Lines,
}

impl Tracked {
    /// Finds the run of a directory on the server, or creates it: that of `mlflow.json`, of `MLFLOW_RUN_ID`, or a new one
    /// under the directory's `name`.
    ///
    /// # Errors
    /// The server cannot be reached or refuses, or the run is no longer there.
    pub fn open(dir: &Path, settings: &Settings, name: &str) -> Result<Self, TrackingError> {
        let client = Client::new(settings)?;
        let known = State::read(dir)?.filter(|state| state.server == settings.server);
        let state = match (known, &settings.run_id) {
            (Some(state), Some(given)) if *given != state.run_id => {
                let problem = format!(
                    "expected {}, the run that {} names, got {given}; unset it, or remove that file",
                    state.run_id,
                    State::path(dir).display()
                );
                return Err(TrackingError::Setting { variable: "MLFLOW_RUN_ID", problem });
            }
            (Some(state), _) => {
                client.run(&state.run_id)?;
                state
            }
            (None, given) => {
                let RemoteRun { experiment_id, run_id, artifacts } = match given {
                    Some(run_id) => client.run(run_id)?,
                    None => {
                        let experiment = client.experiment(&settings.experiment)?;
                        client.create_run(&experiment, settings.run_name.as_deref().unwrap_or(name))?
                    }
                };
                let state = State::new(client.server(), experiment_id, run_id, artifacts);
                state.write(dir)?;
                state
            }
        };
        Ok(Tracked { dir: dir.to_owned(), client, state, lines: Lines::of(dir) })
    }

    /// Says that the run goes on with step `next`: steps from there on are taken, and sent, again.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn go_on(&mut self, next: u64) -> Result<(), TrackingError> {
        self.state.sent = self.state.sent.filter(|_| next > 0).map(|sent| sent.min(next - 1));
        self.state.write(&self.dir)
    }

    /// Sends the steps and the configuration that the server lacks; gives the last step that it has.
    ///
    /// # Errors
    /// The server cannot be reached or refuses: what was not sent is with the next call.
    pub fn send(&mut self) -> Result<Option<u64>, TrackingError> {
        self.send_parameters()?;
        let outcome = self.send_steps();
        if outcome.is_err() {
            self.lines = Lines::of(&self.dir);
        }
        outcome.map(|()| self.state.sent)
    }

    fn send_steps(&mut self) -> Result<(), TrackingError> {
        let (mut batch, mut last): (Vec<Value>, _) = (Vec::new(), self.state.sent);
        for step in self.lines.read()? {
            if self.state.sent.is_some_and(|sent| step.step <= sent) {
                continue;
            }
            if !batch.is_empty() && batch.len() + step.metrics.len() > METRICS {
                self.log_steps(&std::mem::take(&mut batch), last)?;
            }
            batch.extend(step.metrics);
            last = Some(step.step);
        }
        self.log_steps(&batch, last)
    }

    fn log_steps(&mut self, metrics: &[Value], last: Option<u64>) -> Result<(), TrackingError> {
        for part in metrics.chunks(METRICS) {
            self.client.log(&self.state.run_id, "metrics", part)?;
        }
        if last != self.state.sent {
            self.state.sent = last;
            self.state.write(&self.dir)?;
        }
        Ok(())
    }

    /// The configuration, once: parameters of a run cannot change.
    fn send_parameters(&mut self) -> Result<(), TrackingError> {
        if self.state.parameters {
            return Ok(());
        }
        let Ok(text) = std::fs::read_to_string(self.dir.join("config.toml")) else { return Ok(()) };
        for part in parameters(&text).chunks(PARAMETERS) {
            self.client.log(&self.state.run_id, "params", part)?;
        }
        self.state.parameters = true;
        self.state.write(&self.dir)
    }

    /// Sends a file or a folder as artefacts; gives their names.
    ///
    /// # Errors
    /// A file cannot be read, the server refuses, or keeps artefacts where only clients reach them.
    pub fn upload(&self, path: &Path) -> Result<Vec<String>, TrackingError> {
        let root = artifacts::root(&self.state.artifacts)?;
        let mut names = Vec::new();
        for (file, place) in artifacts::files(path)? {
            let whole: Vec<&str> = root.iter().copied().chain(place.iter().map(String::as_str)).collect();
            self.client.upload(&whole, &file)?;
            names.push(place.join("/"));
        }
        Ok(names)
    }

    /// Sets the run's state on the server.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn set_status(&self, status: Status) -> Result<(), TrackingError> {
        self.client.set_status(&self.state.run_id, status)
    }

    /// The run's id on the server.
    pub fn run_id(&self) -> &str {
        &self.state.run_id
    }

    /// Address of the run's page.
    pub fn page(&self) -> String {
        let State { server, experiment_id, run_id, .. } = &self.state;
        format!("{server}/#/experiments/{experiment_id}/runs/{run_id}")
    }
}
