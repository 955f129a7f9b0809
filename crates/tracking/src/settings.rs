//! Server, experiment and credentials, by the variables of MLflow's own client.

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
        let Some((scheme, rest)) = uri.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme))
        else {
            return Err(problem(format!(
                "expected http://… or https://…, got {uri:?}; `mlflow server --backend-store-uri {uri}` serves a store over HTTP"
            )));
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, rest) = match authority.rsplit_once('@') {
            Some((login, _)) => (Some(login), &rest[login.len() + 1..]),
            None => (None, rest),
        };
        let of_uri = login.map(|login| match login.split_once(':') {
            Some((user, password)) => Credentials::Basic { user: user.into(), password: Some(password.into()) },
            None => Credentials::Basic { user: login.into(), password: None },
        });
        let basic = || {
            let user = get("MLFLOW_TRACKING_USERNAME")?;
            Some(Credentials::Basic { user, password: get("MLFLOW_TRACKING_PASSWORD") })
        };
        let credentials = get("MLFLOW_TRACKING_TOKEN").map(Credentials::Bearer).or_else(basic).or(of_uri);
        let name = || get("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|| "smpo".into());
        Ok(Settings {
            server: format!("{scheme}://{}", rest.trim_end_matches('/')),
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
    fn an_address_that_is_no_server_is_refused() {
        for uri in ["", "mlruns", "file:///tmp/mlruns", "sqlite:///mlflow.db", "databricks"] {
            let given = [(URI, uri)];
            let given: &[(&str, &str)] = if uri.is_empty() { &[] } else { &given };
            let Err(error) = settings(given) else { panic!("{uri}") };
            assert!(error.to_string().starts_with("MLFLOW_TRACKING_URI: expected"), "{error}");
        }
    }
}
