//! Models on OpenAI-compatible servers.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::http::Server;
use smpo_results::{FinishReason, Sample};
use tokenizers::Tokenizer;

use crate::{check_complete, demo_base, eval, manifest, metrics, samples, suite};

/// Answer of the demo's model in a server's format.
pub(crate) struct Replies {
    pub(crate) by_question: HashMap<String, Value>,
}

impl Replies {
    pub(crate) fn sample(dir: &Path, suite: &Path) -> Self {
        let out = dir.join("source");
        eval(demo_base(), suite, &out).args(["--engine", "native"]).assert().success();
        let tokenizer = Tokenizer::from_file(demo_base().join("tokenizer.json")).unwrap();
        let reply = |sample: Sample| {
            let (ids, logps) = (sample.token_ids.unwrap(), sample.logps.unwrap());
            let tokens: Vec<Value> = ids
                .iter()
                .zip(logps)
                .map(|(id, logp)| json!({"token": tokenizer.decode(&[*id], false).unwrap(), "logprob": logp}))
                .collect();
            let finish = if sample.finish_reason == FinishReason::Eos { "stop" } else { "length" };
            let choice = json!({"message": {"content": sample.completion}, "text": sample.completion,
                                "finish_reason": finish, "logprobs": {"content": tokens}});
            (
                sample.messages[0].content.clone(),
                json!({"choices": [choice], "usage": {"completion_tokens": ids.len()}}),
            )
        };
        Replies { by_question: samples(&out).into_iter().map(reply).collect() }
    }

    /// The same texts with log-probs of another model: times `factor`, less `shift`.
    pub(crate) fn changed(&self, factor: f64, shift: f64) -> Self {
        let mut changed = Replies { by_question: self.by_question.clone() };
        for reply in changed.by_question.values_mut() {
            for token in reply["choices"][0]["logprobs"]["content"].as_array_mut().unwrap() {
                token["logprob"] = (token["logprob"].as_f64().unwrap() * factor - shift).into();
            }
        }
        changed
    }

    /// The reply to a chat, or to a prompt as text; ids are refused, as mistralrs-server does.
    pub(crate) fn answer(&self, body: &Value) -> (&'static str, String) {
        if body["prompt"].is_array() {
            return ("422 Unprocessable Entity", "prompt: invalid type: sequence, expected a string".into());
        }
        let asked = body["messages"][0]["content"].as_str().or(body["prompt"].as_str()).unwrap();
        let (_, reply) = self
            .by_question
            .iter()
            .find(|(question, _)| asked == *question || asked.contains(&format!("user\n{question}<")))
            .unwrap();
        ("200 OK", reply.to_string())
    }
}

fn served(server: &Server, suite: &Path, out: &Path) -> Command {
    let mut command = eval(&server.url, suite, out);
    command.args(["--model", "tiny"]);
    command
}

#[test]
fn a_server_is_checked_against_local_weights_through_either_api() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let replies = Replies::sample(dir.path(), &suite);
    let server = Server::start(move |_, body| replies.answer(body));
    for api in ["chat", "completions"] {
        let out = dir.path().join(api);
        let mut command = served(&server, &suite, &out);
        command.args(["--api", api]).arg("--weights").arg(demo_base());
        command.env("OPENAI_API_KEY", "sk-secret-of-the-test").assert().success();
        check_complete(&out, 6, 1e-4);
        assert_eq!(manifest(&out).versions["api"].contains("chat"), api == "chat");
        for file in ["run.json", "samples.jsonl", "metrics.json", "measurements.jsonl"] {
            assert!(!fs::read_to_string(out.join(file)).unwrap().contains("sk-secret"), "{file}");
        }
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.head.contains("Bearer sk-secret-of-the-test")));
    assert!(seen.iter().any(|seen| seen.head.starts_with("POST /v1/completions") && seen.body["prompt"].is_string()));
}

#[test]
fn a_server_that_is_another_model_stops_the_run_with_the_figure() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let replies = Replies::sample(dir.path(), &suite);
    let contaminated = replies.changed(1.0, 0.2);
    let server = Server::start(move |_, body| contaminated.answer(body));
    let out = dir.path().join("contaminated");
    let run = served(&server, &suite, &out).arg("--weights").arg(demo_base()).assert().code(4);
    run.stderr(contains("0.200 nats"));
    assert!(!out.join("metrics.json").exists());
    // On demand it is measured all the same.
    let mut command = served(&server, &suite, &out);
    command.arg("--weights").arg(demo_base()).arg("--no-fidelity-check").assert().success();

    // every other token is off by a little, as after rounding
    let mut rounded = replies.changed(1.0, 0.0);
    for reply in rounded.by_question.values_mut() {
        for token in reply["choices"][0]["logprobs"]["content"].as_array_mut().unwrap().iter_mut().step_by(2) {
            token["logprob"] = (token["logprob"].as_f64().unwrap() - 0.15).into();
        }
    }
    let server = Server::start(move |_, body| rounded.answer(body));
    let out = dir.path().join("rounded");
    let mut command = served(&server, &suite, &out);
    command.arg("--weights").arg(demo_base()).assert().code(4).stderr(contains("--fidelity-tolerance 0.8"));
    let mut command = served(&server, &suite, &out);
    command.arg("--weights").arg(demo_base()).args(["--fidelity-tolerance", "0.8"]).assert().success();

    let decimal = replies.changed(std::f64::consts::LN_10.recip(), 0.0);
    let server = Server::start(move |_, body| decimal.answer(body));
    let out = dir.path().join("decimal");
    let mut command = served(&server, &suite, &out);
    command.arg("--weights").arg(demo_base()).assert().code(4).stderr(contains("--logprob-base ten"));
    let mut command = served(&server, &suite, &out);
    command.arg("--weights").arg(demo_base()).args(["--logprob-base", "ten"]).assert().success();
    check_complete(&out, 6, 1e-4);
}

#[test]
fn requests_go_one_by_one_where_batching_cannot_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 12);
    let slow = |_: usize, _: &Value| {
        std::thread::sleep(Duration::from_millis(30));
        ("200 OK", json!({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}).to_string())
    };
    let server = Server::start(slow);
    served(&server, &suite, &dir.path().join("one")).assert().success().stderr(contains("--concurrency N allows more"));
    assert_eq!(server.max_in_flight(), 1);
    // Weights alone do not help where the server gives no log-probs.
    let mut command = served(&server, &suite, &dir.path().join("unchecked"));
    command.arg("--weights").arg(demo_base()).assert().success().stderr(contains("fidelity not checked"));
    let server = Server::start(slow);
    served(&server, &suite, &dir.path().join("four")).args(["--concurrency", "4"]).assert().success();
    assert_eq!(server.max_in_flight(), 4);
}

#[test]
fn ctrl_c_loses_nothing_and_nothing_is_sampled_twice() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 24);
    let server = Server::start(|_, body| {
        std::thread::sleep(Duration::from_millis(60));
        let text = format!("About {}", body["messages"][0]["content"].as_str().unwrap());
        ("200 OK", json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).to_string())
    });
    let whole = dir.path().join("whole");
    served(&server, &suite, &whole).args(["--concurrency", "8"]).assert().success();
    server.seen().clear();

    let out = dir.path().join("out");
    let mut child = Process::new(env!("CARGO_BIN_EXE_smpo"))
        .env_remove("OPENAI_API_KEY")
        .args(["eval", &server.url, "--model", "tiny", "--suite"])
        .arg(&suite)
        .arg("--out")
        .arg(&out)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while server.seen().len() < 6 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Process::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept = samples(&out).len();
    assert!((5..24).contains(&kept), "{kept}");
    assert!(!out.join("metrics.json").exists());
    assert_eq!(server.seen().len(), kept, "what was in flight was kept");

    served(&server, &suite, &out).assert().success();
    let questions: Vec<String> = server.seen().iter().map(|seen| seen.body["messages"].to_string()).collect();
    assert_eq!(questions.len(), 24, "nothing was sampled twice");
    let bytes = |out: &Path| fs::read(out.join("samples.jsonl")).unwrap();
    assert_eq!(bytes(&out), bytes(&whole));
}

#[test]
fn failed_samples_are_recorded_and_tried_again_alone() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 12);
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = healthy.clone();
    let server = Server::start(move |_, body| {
        let asked = body["messages"][0]["content"].as_str().unwrap().len();
        if asked.is_multiple_of(3) && !switch.load(Ordering::SeqCst) {
            return ("400 Bad Request", json!({"error": {"message": "prompt is cursed"}}).to_string());
        }
        ("200 OK", json!({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}).to_string())
    });
    let out = dir.path().join("out");
    let run = served(&server, &suite, &out).assert().success();
    run.stderr(contains("the same command retries them"));
    let failed: Vec<Sample> = samples(&out).into_iter().filter(|s| s.finish_reason == FinishReason::Error).collect();
    assert!((1..12).contains(&failed.len()), "{}", failed.len());
    assert!(
        failed.iter().all(|sample| sample.error.as_deref().is_some_and(|error| error.contains("prompt is cursed")))
    );
    let rate = metrics(&out).get("error_rate", "all").unwrap().value;
    assert!((rate - failed.len() as f64 / 12.0).abs() < 1e-12);

    healthy.store(true, Ordering::SeqCst);
    server.seen().clear();
    served(&server, &suite, &out).assert().success();
    assert_eq!(server.seen().len(), failed.len());
    assert_eq!(metrics(&out).get("error_rate", "all").unwrap().value, 0.0);
}

#[test]
fn a_server_that_lies_and_one_that_fails_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let long = "a".repeat(10_000_000);
    let server = Server::start(move |index, _| {
        let text = ["fine", "nul \0 and \u{fffd}", long.as_str(), "", "more", "\u{202e}evil"][index % 6];
        let usage = [json!(1u64 << 50), json!(-3), json!(0), json!(99), json!("many"), json!(null)][index % 6].clone();
        let finish = ["stop", "length", "bored"][index % 3];
        let choice = json!({"message": {"content": text}, "finish_reason": finish,
                            "logprobs": {"content": [{"token": "x", "logprob": 17.5}]}, "token_ids": null});
        let reply = json!({"choices": [choice], "usage": {"completion_tokens": usage}});
        ("200 OK", if index == 4 { "{\"choices\": [".into() } else { reply.to_string() })
    });
    let out = dir.path().join("out");
    served(&server, &suite, &out).assert().success();
    let samples = samples(&out);
    assert_eq!(samples.len(), 6);
    assert!(samples.iter().all(|sample| sample.tokens.is_none_or(|tokens| tokens <= 40)), "no usage beyond the cap");
    assert!(samples.iter().all(|sample| sample.logps.is_none()), "a log-prob of 17 is none");
    assert!(samples.iter().any(|sample| sample.completion.len() == 10_000_000));
    assert_eq!(metrics(&out).get("loop_rate", "all").map(|rate| rate.value > 0.0), Some(true));

    let server = Server::start(|_, _| ("401 Unauthorized", json!({"error": {"message": "who are you"}}).to_string()));
    let out = dir.path().join("refused");
    served(&server, &suite, &out).assert().code(4).stderr(contains("answered 401: who are you"));
    assert!(!out.join("metrics.json").exists());
    assert!(crate::samples(&out).iter().all(|sample| sample.finish_reason == FinishReason::Error));
}

/// Long, and it needs a server that is no part of this workspace:
///
/// ```sh
/// cargo build --release --manifest-path benches/peers/mistralrs-server/Cargo.toml     # a quarter of an hour
/// SMPO_MISTRALRS_SERVER=benches/peers/mistralrs-server/target/release/mistralrs-server-peer \
///     cargo test --release --test eval -- --ignored mistralrs_server
/// ```
#[test]
#[ignore = "needs a mistralrs server; see its documentation"]
fn a_real_mistralrs_server_is_exact_with_one_request_and_found_out_with_eight() {
    let program = std::env::var("SMPO_MISTRALRS_SERVER").expect("SMPO_MISTRALRS_SERVER names the server's program");
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 24);
    let start = |sequences: &str| {
        let mut child = Process::new(&program)
            .arg(demo_base())
            .arg(sequences)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut url).unwrap();
        (child, url.trim().to_owned())
    };
    let run = |url: &str, api: &str, name: &str, concurrency: &str| {
        let mut command = eval(url, &suite, &dir.path().join(name));
        command.args(["--model", "default", "--api", api, "--logprob-base", "ten", "--concurrency", concurrency]);
        command.arg("--weights").arg(demo_base()).timeout(Duration::from_secs(120));
        command
    };
    // One request in flight: exact, through both endpoints.
    let (mut child, url) = start("1");
    for api in ["chat", "completions"] {
        let name = format!("one-{api}");
        run(&url, api, &name, "1").assert().success();
        check_complete(&dir.path().join(name), 24, 1e-4);
    }
    // Eight, although the engine is told to run one sequence at a time: caches are confused, and the check finds that
    // before anything is measured.
    let batched = run(&url, "chat", "eight", "8").assert().code(4);
    batched.stderr(contains("--concurrency 1"));
    assert!(!dir.path().join("eight/metrics.json").exists());
    child.kill().unwrap();
    child.wait().unwrap();
}
