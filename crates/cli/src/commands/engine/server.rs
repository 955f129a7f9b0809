//! Connections to an OpenAI-compatible server.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use smpo_inference::http::LogprobBase;
use smpo_inference::{HttpConfig, HttpGenerator};
use smpo_tokenizer::ChatTokenizer;

use super::{Api, Base, EngineArgs};
use crate::exit::Failure;

/// A client of the server that the options name.
pub fn connect(args: &EngineArgs) -> Result<HttpGenerator, Failure> {
    let default = HttpConfig::default();
    let config = HttpConfig {
        base_url: args.source.clone(),
        model: args.model.clone().unwrap_or_default(),
        api_key_env: args.api_key_env.clone().unwrap_or(default.api_key_env),
        headers: args.header.clone(),
        concurrency: args.concurrency.unwrap_or(default.concurrency),
        timeout_secs: args.timeout_secs.unwrap_or(default.timeout_secs),
        logprob_base: match args.logprob_base {
            Base::E => LogprobBase::E,
            Base::Ten => LogprobBase::Ten,
        },
        extra_body: extra_fields(args)?,
        ..HttpConfig::default()
    };
    match args.template.as_deref().or(args.weights.as_deref()).filter(|_| args.api == Api::Completions) {
        Some(directory) => {
            let tokenizer = args.variables.apply(ChatTokenizer::from_model_dir(directory)?)?;
            Ok(HttpGenerator::completing(config, tokenizer)?)
        }
        None => Ok(HttpGenerator::new(config)?),
    }
}

/// Settings of the requests, for `run.json`.
pub fn settings(args: &EngineArgs) -> BTreeMap<String, String> {
    let api = match args.api {
        Api::Chat => "chat/completions",
        Api::Completions => "completions",
    };
    let mut settings = BTreeMap::from([("api".to_owned(), api.to_owned())]);
    settings.extend(args.model.clone().map(|model| ("served_model".to_owned(), model)));
    settings.extend(args.extra_body.clone().map(|body| ("extra_body".to_owned(), body)));
    settings
}

/// Fields of a request beside the usual ones: `--extra-body`, and template variables for the server's own template.
fn extra_fields(args: &EngineArgs) -> Result<Map<String, Value>, Failure> {
    let mut fields = args.extra_body.as_deref().map(extra_body).transpose()?.unwrap_or_default();
    let variables = args.variables.map();
    if args.api == Api::Chat && !variables.is_empty() {
        fields.insert("chat_template_kwargs".to_owned(), Value::Object(variables));
    }
    Ok(fields)
}

fn extra_body(text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::user(format!("--extra-body: expected a JSON object, got {text:?}: {error}")))
}
