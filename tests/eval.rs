//! `smpo eval` as a user meets it: every kind of model, both engines, servers that behave and servers that do not.

#[cfg(feature = "mistralrs")]
#[path = "../crates/inference/tests/gguf_file/mod.rs"]
mod gguf_file;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::http::Server;
use smpo_fixtures::{demo, golden};
use smpo_results::{FinishReason, MetricsFile, RunManifest, Sample, read_json, read_jsonl};
use tokenizers::Tokenizer;

fn demo_base() -> PathBuf {
    demo("base")
}

/// A suite of some of the demo's prompts, spread over its slices, gold answers and all.
fn suite(dir: &Path, prompts: usize) -> PathBuf {
    let text = fs::read_to_string(demo("ood.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let some: Vec<&str> = lines.iter().step_by(lines.len() / prompts).take(prompts).copied().collect();
    fs::write(dir.join("prompts.jsonl"), some.join("\n")).unwrap();
    let slice = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["slice"].as_str().unwrap().to_owned();
    let mut slices: Vec<String> = some.iter().map(slice).collect();
    slices.sort();
    slices.dedup();
    let suite = format!(
        "name = \"some\"\nprompts = \"prompts.jsonl\"\nslices = {slices:?}\ncap = 40\nseed = 3\n\
         [sampler]\ntemperature = 1.0\n"
    );
    fs::write(dir.join("some.toml"), suite).unwrap();
    dir.join("some.toml")
}

/// `smpo eval MODEL --suite SUITE --out OUT`, without any key of the machine the tests run on.
fn eval(model: impl AsRef<std::ffi::OsStr>, suite: &Path, out: &Path) -> Command {
    let mut command = Command::cargo_bin("smpo").unwrap();
    command.env_remove("OPENAI_API_KEY").arg("eval").arg(model);
    command.arg("--suite").arg(suite).arg("--out").arg(out);
    command
}

fn samples(out: &Path) -> Vec<Sample> {
    read_jsonl(&out.join("samples.jsonl"), "sample").unwrap()
}

fn manifest(out: &Path) -> RunManifest {
    read_json(&out.join("run.json"), "run manifest").unwrap()
}

fn metrics(out: &Path) -> MetricsFile {
    read_json(&out.join("metrics.json"), "metrics file").unwrap()
}

/// Checks what every evaluation with this program's own forward pass has.
fn check_complete(out: &Path, prompts: usize, tolerance: f64) {
    let fidelity = manifest(out).fidelity_max_abs_nats.expect("the engine was checked");
    assert!(fidelity < tolerance, "{fidelity}");
    assert_eq!(samples(out).len(), prompts);
    for metric in ["eos_rate", "loop_rate", "error_rate", "eos_logp_gold", "eos_rank_gold"] {
        assert!(metrics(out).get(metric, "all").is_some(), "{metric}");
    }
}

#[test]
fn a_directory_through_either_engine_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 12);
    let native = dir.path().join("native");
    eval(demo_base(), &suite, &native).args(["--engine", "native", "--batch", "5"]).assert().success();
    check_complete(&native, 12, 1e-4);
    let again = dir.path().join("again");
    eval(demo_base(), &suite, &again).args(["--engine", "native", "--batch", "1", "--threads", "1"]).assert().success();
    let bytes = |out: &Path| fs::read(out.join("samples.jsonl")).unwrap();
    assert_eq!(bytes(&again), bytes(&native), "batches and threads change no byte");
    if cfg!(feature = "mistralrs") {
        let out = dir.path().join("mistralrs");
        eval(demo_base(), &suite, &out).args(["--instances", "2"]).assert().success().stdout(contains("eos_rate"));
        check_complete(&out, 12, 1e-4);
        let ids = |out: &Path| samples(out).into_iter().map(|sample| sample.token_ids).collect::<Vec<_>>();
        assert_eq!(ids(&out), ids(&native));
        assert_eq!(manifest(&out).terminators, manifest(&native).terminators);
        assert_eq!(manifest(&out).template_sha256, manifest(&native).template_sha256);
    }
}

#[test]
fn an_adapter_is_checked_and_measured_on_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let engines: &[&str] = if cfg!(feature = "mistralrs") { &["native", "mistralrs"] } else { &["native"] };
    let mut ids = Vec::new();
    for engine in engines {
        let out = dir.path().join(engine);
        eval(golden("inference", "adapter"), &suite, &out).args(["--engine", engine]).assert().success();
        check_complete(&out, 6, 1e-3);
        ids.push(samples(&out).into_iter().map(|sample| sample.token_ids).collect::<Vec<_>>());
    }
    let base = dir.path().join("base");
    eval(golden("inference", "qwen2"), &suite, &base).args(["--engine", "native"]).assert().success();
    ids.dedup();
    assert_eq!(ids.len(), 1, "both engines sample the same");
    assert_ne!(ids[0], samples(&base).into_iter().map(|sample| sample.token_ids).collect::<Vec<_>>());
}

#[test]
#[cfg(feature = "mistralrs")]
fn what_mistralrs_would_get_wrong_runs_natively() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let adapter = dir.path().join("rslora");
    copy(&golden("inference", "adapter"), &adapter);
    let path = adapter.join("adapter_config.json");
    let config = fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["use_rslora"] = true.into();
    fs::write(&path, config.to_string()).unwrap();
    let out = dir.path().join("out");
    let run = |engine: &str| {
        let mut command = eval(&adapter, &suite, &out);
        command.args(["--engine", engine]).arg("--base").arg(golden("inference", "qwen2"));
        command
    };
    run("mistralrs").assert().code(2).stderr(contains("use_rslora").and(contains("--engine native")));
    run("native").assert().success();
    check_complete(&out, 6, 1e-3);
}

#[test]
#[cfg(feature = "mistralrs")]
fn a_gguf_file_is_checked_against_the_directory_it_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let file = dir.path().join("tiny.gguf");
    let whole = gguf_file::gguf(&golden("inference", "qwen2"));
    fs::write(&file, &whole).unwrap();
    let out = dir.path().join("out");
    let tokenizer = golden("inference", "qwen2");
    let gguf = |weights: &Path, out: &Path| {
        let mut command = eval(&file, &suite, out);
        command.arg("--base").arg(&tokenizer).arg("--weights").arg(weights);
        command
    };
    gguf(&golden("inference", "qwen2"), &out).assert().success();
    check_complete(&out, 6, 1e-3);
    assert_eq!(manifest(&out).model.name, "tiny");

    // Another model's weights: the check says so, by how much, and nothing is measured.
    let other = dir.path().join("other");
    copy(&golden("inference", "qwen2"), &other);
    scale_norm(&other.join("model.safetensors"), 1.5);
    let wrong = dir.path().join("wrong");
    gguf(&other, &wrong).assert().code(4).stderr(contains("nats").and(contains("another model's")));
    assert!(!wrong.join("metrics.json").exists());

    // Without them there is no check, and it says so.
    let alone = dir.path().join("alone");
    let run = eval(&file, &suite, &alone).arg("--base").arg(&tokenizer).assert().success();
    run.stderr(contains("no fidelity check"));
    assert_eq!(manifest(&alone).fidelity_max_abs_nats, None);

    // A tokenizer that is not there, and a file that is cut.
    eval(&file, &suite, &dir.path().join("x")).assert().code(2).stderr(contains("tokenizer.json"));
    for cut in [60, whole.len() / 2] {
        fs::write(&file, &whole[..cut]).unwrap();
        let run = eval(&file, &suite, &dir.path().join("x")).arg("--base").arg(&tokenizer).assert();
        let output = run.failure().stderr(contains("tiny.gguf")).get_output().clone();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("RUST_BACKTRACE"), "no panic reaches the user");
    }
    eval(&file, &suite, &out).args(["--engine", "native"]).assert().code(2).stderr(contains("mistral.rs"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Scales the last norm: the same tokens, other probabilities.
#[cfg(feature = "mistralrs")]
fn scale_norm(weights: &Path, factor: f32) {
    let mut bytes = fs::read(weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset =
        |index: usize| json["model.norm.weight"]["data_offsets"][index].as_u64().unwrap() as usize + 8 + header;
    for at in (offset(0)..offset(1)).step_by(4) {
        let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) * factor;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    fs::write(weights, bytes).unwrap();
}

/// What the demo's model says, as a server would say it.
struct Replies {
    by_question: HashMap<String, Value>,
}

impl Replies {
    fn sample(dir: &Path, suite: &Path) -> Self {
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

    /// The reply to a chat, or to a prompt as text; ids are refused, as mistralrs-server does.
    fn answer(&self, body: &Value) -> (&'static str, String) {
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
    let change = |factor: f64, shift: f64| {
        let mut changed = Replies { by_question: replies.by_question.clone() };
        for reply in changed.by_question.values_mut() {
            for token in reply["choices"][0]["logprobs"]["content"].as_array_mut().unwrap() {
                token["logprob"] = (token["logprob"].as_f64().unwrap() * factor - shift).into();
            }
        }
        changed
    };
    let contaminated = change(1.0, 0.2);
    let server = Server::start(move |_, body| contaminated.answer(body));
    let out = dir.path().join("contaminated");
    let run = served(&server, &suite, &out).arg("--weights").arg(demo_base()).assert().code(4);
    run.stderr(contains("0.200 nats"));
    assert!(!out.join("metrics.json").exists());
    // On demand it is measured all the same.
    let mut command = served(&server, &suite, &out);
    command.arg("--weights").arg(demo_base()).arg("--no-fidelity-check").assert().success();

    let decimal = change(std::f64::consts::LN_10.recip(), 0.0);
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
    command.arg("--weights").arg(demo_base()).assert().success().stderr(contains("not checked"));
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
    run.stderr(contains("the same command tries them again"));
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
    served(&server, &suite, &out).assert().code(4).stderr(contains("every sample").and(contains("who are you")));
    assert!(!out.join("metrics.json").exists());
    assert!(crate::samples(&out).iter().all(|sample| sample.finish_reason == FinishReason::Error));
}

#[test]
fn any_file_of_prompts_is_a_suite() {
    let dir = tempfile::tempdir().unwrap();
    for (name, line) in [
        ("plain.jsonl", r#"{"prompt": "What is six times seven?"}"#),
        ("question.jsonl", r#"{"question_id": 81, "category": "writing", "turns": ["Write a poem."]}"#),
        ("alpaca.jsonl", r#"{"instruction": "Name a fruit.", "dataset": "helpful_base"}"#),
        ("batch.jsonl", r#"{"custom_id": "r1", "body": {"messages": [{"role": "user", "content": "Hi"}]}}"#),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, line).unwrap();
        let out = dir.path().join("out").join(name);
        eval(demo_base(), &file, &out).args(["--engine", "native", "--cap", "8"]).assert().success();
        let samples = samples(&out);
        assert_eq!((samples.len(), samples[0].cap), (1, Some(8)), "{name}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_said_with_file_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let out = dir.path().join("out");
    let engines: &[&str] = if cfg!(feature = "mistralrs") { &["native", "mistralrs"] } else { &["native"] };
    for engine in engines {
        for (missing, word) in [("chat_template.jinja", "template"), ("tokenizer.json", "tokenizer.json")] {
            let model = dir.path().join(format!("{engine}-{missing}"));
            copy(&golden("inference", "qwen2"), &model);
            fs::remove_file(model.join(missing)).unwrap();
            let run = eval(&model, &suite, &out).args(["--engine", engine]).assert().code(2);
            run.stderr(contains(word));
        }
        let model = dir.path().join("no-such-model");
        let run = eval(&model, &suite, &out).args(["--engine", engine]).assert().code(2);
        run.stderr(contains("no-such-model"));
    }
    let lines = fs::read_to_string(dir.path().join("prompts.jsonl")).unwrap();
    let first = lines.lines().next().unwrap();
    for (bad, word) in [
        (format!("{lines}\n{first}"), "already taken by line 1"),
        (first.replacen(":\"closed\"", ":\"clsoed\"", 1), "did you mean `closed`"),
        ("{\"prompt\": ".into(), "prompts.jsonl:1"),
        (String::new(), "empty"),
    ] {
        fs::write(dir.path().join("prompts.jsonl"), bad).unwrap();
        eval(demo_base(), &suite, &out).assert().code(2).stderr(contains(word));
    }
}

#[test]
fn an_option_that_would_change_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let url = "http://127.0.0.1:9/v1";
    let base = demo_base();
    let base = base.to_str().unwrap();
    for (model, options, word) in [
        (base, vec!["--model", "x"], "--model"),
        (base, vec!["--api", "completions"], "--api"),
        (base, vec!["--weights", base], "--weights"),
        (base, vec!["--engine", "native", "--instances", "2"], "--instances"),
        (base, vec!["--engine", "native", "--batch", "0"], "--batch"),
        (base, vec!["--fidelity-tolerance=-1"], "--fidelity-tolerance"),
        (url, vec!["--model", "m", "--engine", "native"], "--engine"),
        (url, vec!["--model", "m", "--threads", "2"], "--threads"),
        (url, vec!["--model", "m", "--api", "completions"], "--template"),
        (url, vec!["--model", "m", "--template", base], "--api completions"),
        (url, vec!["--model", "m", "--extra-body", "[1]"], "--extra-body"),
        (url, vec![], "--model"),
    ] {
        let mut command = eval(model, &suite, &dir.path().join("out"));
        command.args(options).assert().code(2).stderr(contains(word));
    }
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
