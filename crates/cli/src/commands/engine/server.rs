//! Connections to an OpenAI-compatible server.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use smpo_inference::http::LogprobBase;
use smpo_inference::{Generator, HttpConfig, HttpGenerator};
use smpo_tokenizer::ChatTokenizer;

use super::{Api, Base, EngineArgs};
use crate::exit::Failure;

/// Clients of the servers that the options name, each server once; and a remark on those that are given twice.
pub fn connect(args: &EngineArgs) -> Result<(Vec<HttpGenerator>, Vec<String>), Failure> {
    let urls = args.split();
    let tokenizer = tokenizer(args)?;
    let client = |url: &str, several: bool| -> Result<HttpGenerator, Failure> {
        let config = config(args, url, several)?;
        Ok(match &tokenizer {
            Some(tokenizer) => HttpGenerator::completing(config, tokenizer.clone())?,
            None => HttpGenerator::new(config)?,
        })
    };
    let mut servers: Vec<HttpGenerator> = Vec::new();
    let mut twice = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let place = |failure: Failure| match urls.len() {
            1 => failure,
            several => failure.prefixed(format_args!("URL {} of {several}: ", index + 1)),
        };
        let server = client(url, urls.len() > 1).map_err(place)?;
        if servers.iter().any(|other| other.is_same_server(&server)) {
            let name = server.engine().device;
            twice.push(format!(
                "{name} is given twice and counts once; --concurrency N sends it more requests at a time"
            ));
        } else {
            servers.push(server);
        }
    }
    if servers.len() == 1 && urls.len() > 1 {
        servers = vec![client(urls[0], false)?];
    }
    Ok((servers, twice))
}

/// The tokenizer that renders prompts here, for `--api completions`.
fn tokenizer(args: &EngineArgs) -> Result<Option<ChatTokenizer>, Failure> {
    match args.template.as_deref().or(args.weights.as_deref()).filter(|_| args.api == Api::Completions) {
        Some(directory) => Ok(Some(args.variables.apply(ChatTokenizer::from_model_dir(directory)?)?)),
        None => Ok(None),
    }
}

/// Configuration of the client of the server at `url`, one of several or the only one.
fn config(args: &EngineArgs, url: &str, several: bool) -> Result<HttpConfig, Failure> {
    let default = HttpConfig::default();
    // Where there are others, a sample goes to them instead of waiting.
    let failure_retries = if several { 0 } else { default.failure_retries };
    Ok(HttpConfig {
        base_url: url.to_owned(),
        failure_retries,
        ask_version: several,
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
        logprobs: !args.text_alone,
        ..HttpConfig::default()
    })
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

/// Fields that the evaluation itself sets and counts by, with what sets them.
const OWN_FIELDS: [(&str, &str); 8] = [
    ("model", "--model"),
    ("messages", "the prompts"),
    ("prompt", "the prompts"),
    ("stream", "the program"),
    ("n", "--samples"),
    ("max_tokens", "--cap"),
    ("max_completion_tokens", "--cap"),
    ("seed", "--seed"),
];

fn extra_body(text: &str) -> Result<Map<String, Value>, Failure> {
    let fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Failure::user(format!("--extra-body: expected a JSON object, got {text:?}: {error}")))?;
    match OWN_FIELDS.into_iter().find(|(name, _)| fields.contains_key(*name)) {
        Some((name, set_by)) => Err(Failure::user(format!(
            "--extra-body: `{name}` is set by {set_by}, and what is counted depends on it; remove it"
        ))),
        None => Ok(fields),
    }
}
