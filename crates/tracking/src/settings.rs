//! Server, experiment and credentials, by the variables of MLflow's own client.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::error::TrackingError;

/// Server, experiment and credentials.
#[derive(Clone)]
pub struct Settings {
    /// Address without credentials and without `/` at the end.
    pub(crate) server: String,
    pub(crate) credentials: Credentials,
    /// Name of the experiment, which is created where it does not exist.
    pub(crate) experiment: Experiment,
    /// An existing run to write to.
    pub(crate) run_id: Option<String>,
    /// Name of a new run.
    pub(crate) run_name: Option<String>,
}

/// Credentials of the server.
#[derive(Clone)]
pub(crate) enum Credentials {
    None,
    Bearer(String),
    Basic { user: String, password: Option<String> },
}

impl Credentials {
    /// `text` without the secrets, which servers quote in their errors.
    pub(crate) fn redact(&self, text: &str) -> String {
        let secrets = match self {
            Credentials::None => Vec::new(),
            Credentials::Bearer(token) => vec![token.clone()],
            Credentials::Basic { user, password } => {
                let password = password.clone().unwrap_or_default();
                vec![STANDARD.encode(format!("{user}:{password}")), password]
            }
        };
        let secrets = secrets.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "[key]"))
    }
}

/// An experiment by id or by name.
#[derive(Clone)]
pub(crate) enum Experiment {
    Id(String),
    Name(String),
}

const URI: &str = "MLFLOW_TRACKING_URI";

impl Settings {
    /// The settings of the environment.
    ///
    /// # Errors
    /// [`TrackingError::Setting`] when `MLFLOW_TRACKING_URI` is not set, or names no HTTP server.
    pub fn from_env() -> Result<Self, TrackingError> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, TrackingError> {
        let problem = |problem: String| TrackingError::Setting { variable: URI, problem };
        let uri = get(URI).ok_or_else(|| problem("expected the address of an MLflow server, got nothing".into()))?;
        let is_server = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let Some(mut url) = Url::parse(&uri).ok().filter(is_server) else {
            // a store's address may hold a password
            let kind = uri.split_once(':').map_or_else(|| "a path".to_owned(), |(scheme, _)| format!("`{scheme}:…`"));
            return Err(problem(format!(
                "expected http://… or https://…, got {kind}; `mlflow server --backend-store-uri \"${URI}\"` serves a store over HTTP"
            )));
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(problem("expected an address without `?` and `#`, got one with".into()));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let of_uri = (!url.username().is_empty() || url.password().is_some())
            .then(|| Credentials::Basic { user: decoded(url.username()), password: url.password().map(decoded) });
        // these fail for addresses without a host alone
        let _ = (url.set_username(""), url.set_password(None));
        let basic = || {
            let user = get("MLFLOW_TRACKING_USERNAME")?;
            Some(Credentials::Basic { user, password: get("MLFLOW_TRACKING_PASSWORD") })
        };
        let credentials = get("MLFLOW_TRACKING_TOKEN").map(Credentials::Bearer).or_else(basic).or(of_uri);
        let name = || get("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|| "smpo".into());
        Ok(Settings {
            server: url.as_str().trim_end_matches('/').to_owned(),
            credentials: credentials.unwrap_or(Credentials::None),
            experiment: get("MLFLOW_EXPERIMENT_ID").map_or_else(|| Experiment::Name(name()), Experiment::Id),
            run_id: get("MLFLOW_RUN_ID"),
            run_name: get("MLFLOW_RUN_NAME"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, TrackingError> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        Settings::from_variables(find)
    }

    #[test]
    fn variables_are_those_of_mlflow() {
        let read =
            settings(&[(URI, "https://me:secret@ml.example:5000/base/"), ("MLFLOW_EXPERIMENT_NAME", "dpo")]).unwrap();
        assert_eq!(read.server, "https://ml.example:5000/base");
        assert!(matches!(read.experiment, Experiment::Name(name) if name == "dpo"));
        let Credentials::Basic { user, password } = read.credentials else { panic!("expected a login") };
        assert_eq!((user.as_str(), password.as_deref()), ("me", Some("secret")));
        let token =
            settings(&[(URI, "http://h"), ("MLFLOW_TRACKING_TOKEN", "t"), ("MLFLOW_EXPERIMENT_ID", "7")]).unwrap();
        assert!(
            matches!((token.credentials, token.experiment), (Credentials::Bearer(_), Experiment::Id(id)) if id == "7")
        );
    }

    #[test]
    fn logins_are_decoded_sent_and_never_shown() {
        let read = settings(&[(URI, "HTTP://me%40x.org:p%40ss@h/")]).unwrap();
        assert_eq!(read.server, "http://h");
        let Credentials::Basic { user, password } = &read.credentials else { panic!("expected a login") };
        assert_eq!((user.as_str(), password.as_deref()), ("me@x.org", Some("p@ss")));
        assert_eq!(read.credentials.redact("bad p@ss, bWVAeC5vcmc6cEBzcw=="), "bad [key], [key]");
        for uri in ["postgresql://mlf:hunter2@db/mlflow", "http//u:hunter2@h", "http://h/?token=hunter2"] {
            let Err(error) = settings(&[(URI, uri)]) else { panic!("{uri}") };
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_no_server_is_refused() {
        for uri in ["", "mlruns", "file:///tmp/mlruns", "sqlite:///mlflow.db", "databricks"] {
            let given = [(URI, uri)];
            let given: &[(&str, &str)] = if uri.is_empty() { &[] } else { &given };
            let Err(error) = settings(given) else { panic!("{uri}") };
            assert!(error.to_string().starts_with("MLFLOW_TRACKING_URI: expected"), "{error}");
        }
    }
}
