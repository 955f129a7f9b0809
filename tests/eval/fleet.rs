//! Several servers of one model as workers of one run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_fixtures::http::{Answer, Server};
use smpo_results::{FinishReason, Sample};

use crate::served::Replies;
use crate::{check_complete, demo_base, eval, manifest, metrics, samples, suite};

fn fleet(servers: &[&str], suite: &Path, out: &Path) -> Command {
    let mut command = eval(servers[0], suite, out);
    command.args(&servers[1..]).args(["--model", "tiny"]);
    command
}

fn bytes(out: &Path, file: &str) -> Vec<u8> {
    fs::read(out.join(file)).unwrap()
}

/// Samples without the names of their workers.
fn anonymous(out: &Path) -> Vec<Sample> {
    samples(out).into_iter().map(|sample| Sample { worker: None, ..sample }).collect()
}

fn shares(out: &Path) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for sample in samples(out) {
        *shares.entry(sample.worker.expect("the worker is recorded")).or_default() += 1;
    }
    shares
}

/// The answer to a request for a page, such as the version.
fn no_page() -> Answer {
    Answer::reply("404 Not Found", "")
}

/// Completions that a server was asked for.
fn asked(server: &Server) -> usize {
    server.seen().iter().filter(|seen| seen.head.starts_with("POST ")).count()
}

/// A plain reply that says what it was asked.
fn echo(body: &Value) -> Answer {
    if body.is_null() {
        return no_page();
    }
    let text = format!("About {}", body["messages"][0]["content"].as_str().unwrap());
    let choice = json!({"message": {"content": text}, "finish_reason": "stop"});
    Answer::reply("200 OK", json!({"choices": [choice], "model": "tiny"}).to_string())
}

#[test]
fn of_four_servers_one_dies_one_is_slow_and_one_is_another_model() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 48);
    let replies = Arc::new(Replies::sample(dir.path(), &suite));
    let answers = |pause: u64| {
        let replies = replies.clone();
        move |_: usize, body: &Value| {
            if body.is_null() {
                return no_page();
            }
            std::thread::sleep(Duration::from_millis(pause));
            Answer::from(replies.answer(body))
        }
    };
    let one = Server::start(answers(0));
    let single = dir.path().join("single");
    fleet(&[&one.url], &suite, &single).args(["--samples", "4", "--weights"]).arg(demo_base()).assert().success();
    assert!(samples(&single).iter().all(|sample| sample.worker.is_none()), "one server needs no name");

    let (quick, slow) = (Server::start(answers(100)), Server::start(answers(400)));
    let answered = Arc::new(AtomicUsize::new(0));
    let (mortal, count) = (answers(20), answered.clone());
    // The check of eight connections takes ten requests.
    let dying =
        Server::start(move |index, body| match count.fetch_add(usize::from(!body.is_null()), Ordering::SeqCst) {
            0..14 => mortal(index, body),
            _ => Answer::BreakOff,
        });
    let foreign = replies.changed(1.0, 0.3);
    let other = Server::start(move |_, body| match body {
        Value::Null => no_page(),
        _ => Answer::from(foreign.answer(body)),
    });
    let out = dir.path().join("fleet");
    let urls = [&quick.url, &slow.url, &dying.url, &other.url].map(String::as_str);
    let run = fleet(&urls, &suite, &out).args(["--samples", "4", "--weights"]).arg(demo_base()).assert().success();
    run.stderr(contains(format!("{}: out of this run: fidelity check", other.url)).and(contains("0.300 nats")))
        .stderr(contains(format!("{}: set aside: ", dying.url)).and(contains("asked again in 5s")));

    check_complete(&out, 192, 1e-4);
    assert_eq!(anonymous(&out), samples(&single));
    assert_eq!(bytes(&out, "metrics.json"), bytes(&single, "metrics.json"));
    assert_eq!(bytes(&out, "measurements.jsonl"), bytes(&single, "measurements.jsonl"));
    let shares = shares(&out);
    assert!(!shares.contains_key(&other.url), "{shares:?}");
    assert!(shares[&dying.url] <= 4 && shares[&slow.url] < shares[&quick.url], "{shares:?}");
    let workers = manifest(&out).observed.workers;
    assert_eq!(workers.len(), 4);
    for worker in &workers {
        let off = worker.fidelity.as_ref().expect("each is checked").max;
        assert_eq!(off > 0.1, worker.name == other.url, "{off}");
        assert_eq!(worker.samples, shares.get(&worker.name).copied().unwrap_or(0));
        assert_eq!(worker.set_aside.is_empty(), [&quick.url, &slow.url].contains(&&worker.name), "{worker:?}");
    }
}

#[test]
fn a_run_without_any_server_left_keeps_what_it_has_and_goes_on_with_others() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 24);
    let closed = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(AtomicUsize::new(0));
    let start = || {
        let (closed, counted) = (closed.clone(), counted.clone());
        Server::start(move |_, body| {
            if body.is_null() {
                return no_page();
            }
            if counted.fetch_add(1, Ordering::SeqCst) > 7 || closed.load(Ordering::SeqCst) {
                return Answer::reply(
                    "401 Unauthorized",
                    json!({"error": {"message": "the lease is over"}}).to_string(),
                );
            }
            echo(body)
        })
    };
    let (a, b) = (start(), start());
    let out = dir.path().join("out");
    let run = fleet(&[&a.url, &b.url], &suite, &out).assert().code(4);
    run.stderr(
        contains("no server or device is left").and(contains("8 of 24 samples are kept, running again resumes")),
    )
    .stderr(contains(format!("{}: it answered 401: the lease is over", a.url)));
    assert!(!out.join("metrics.json").exists());
    assert_eq!(samples(&out).len(), 8, "no failed samples: nobody is left to say that they fail");

    let fresh = [Server::start(|_, body| echo(body)), Server::start(|_, body| echo(body))];
    fleet(&[&fresh[0].url, &fresh[1].url], &suite, &out).assert().success();
    assert_eq!(asked(&fresh[0]) + asked(&fresh[1]), 16, "nothing was sampled twice");
    let workers = manifest(&out).observed.workers;
    assert_eq!(workers.len(), 4, "those of the first part are on record");
    assert_eq!(workers.iter().map(|worker| worker.samples).sum::<usize>(), 24);

    // One server that is left finishes a fleet's run too.
    fs::remove_file(out.join("metrics.json")).unwrap();
    fleet(&[&fresh[0].url], &suite, &out).assert().success();
    assert_eq!(metrics(&out).get("error_rate", "all").unwrap().value, 0.0);
}

#[test]
fn servers_that_refuse_connections_or_answer_rubbish_cost_nothing_but_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 24);
    let good = Server::start(|_, body| {
        std::thread::sleep(Duration::from_millis(20));
        echo(body)
    });
    let gone = Server::start(|_, body| echo(body));
    gone.stop();
    let rubbish = Server::start(|_, _| Answer::reply("200 OK", "<html><title>It works!</title></html>"));
    let busy = Server::start(|_, _| Answer::Reply {
        status: "429 Too Many Requests",
        headers: "Retry-After: 3600\r\n".into(),
        body: json!({"error": {"message": "slow down"}}).to_string(),
    });
    let mute = Server::start(|_, _| Answer::Hang(Duration::from_secs(20)));
    let out = dir.path().join("out");
    let started = Instant::now();
    let urls = [&good.url, &gone.url, &rubbish.url, &busy.url, &mute.url].map(String::as_str);
    let run = fleet(&urls, &suite, &out).args(["--timeout-secs", "1", "--concurrency", "4"]).assert().success();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    run.stderr(contains(format!("{}: set aside: it gave no answer", gone.url)))
        .stderr(contains(format!("{}: out of this run: it answered 200: expected a completion as JSON", rubbish.url)))
        .stderr(
            contains(format!("{}: set aside: it answered 429: slow down", busy.url))
                .and(contains("asked again in 60m")),
        )
        .stderr(contains(format!("{}: set aside: it gave no answer", mute.url)));
    let samples = samples(&out);
    assert!(samples.iter().all(|one| one.finish_reason == FinishReason::Eos && one.worker.as_ref() == Some(&good.url)));
    assert_eq!(samples.len(), 24);
}

#[test]
fn a_server_comes_back_and_what_one_refuses_another_takes() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 40);
    // Away from its third request for a second; then back.
    let since = Arc::new(std::sync::Mutex::new(None::<Instant>));
    let flaky = Server::start(move |index, body| {
        if index >= 3 {
            let mut since = since.lock().unwrap();
            if since.get_or_insert_with(Instant::now).elapsed() < Duration::from_secs(1) {
                return Answer::reply("500 Internal Server Error", "");
            }
        }
        echo(body)
    });
    // Small: it takes no question of an odd length.
    let small = Server::start(|_, body| {
        std::thread::sleep(Duration::from_millis(400));
        if body["messages"][0]["content"].as_str().unwrap().len() % 2 == 1 {
            return Answer::reply("400 Bad Request", json!({"error": {"message": "too long for me"}}).to_string());
        }
        echo(body)
    });
    let out = dir.path().join("out");
    let run = fleet(&[&flaky.url, &small.url], &suite, &out).assert().success();
    run.stderr(contains(format!("{}: set aside: it answered 500", flaky.url)))
        .stderr(contains(format!("{}: it answers again and is back", flaky.url)));
    assert!(samples(&out).iter().all(|sample| sample.finish_reason == FinishReason::Eos));
    assert_eq!(shares(&out).len(), 2);
}

#[test]
fn names_that_disagree_are_told_and_no_secret_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 12);
    let named = |model: &'static str, build: &'static str| {
        Server::start(move |_, _| {
            std::thread::sleep(Duration::from_millis(10));
            let choice = json!({"message": {"content": "yes"}, "finish_reason": "stop"});
            let reply = json!({"choices": [choice], "model": model, "system_fingerprint": build});
            Answer::reply("200 OK", reply.to_string())
        })
    };
    let (a, b) = (named("tiny", "b6000"), named("tiny-old", "b5000"));
    let with_password = a.url.replace("http://", "http://user:hunter22@");
    let out = dir.path().join("out");
    let list = format!("{with_password}?token=hunter22,{}", b.url);
    let run = fleet(&[&list, &b.url], &suite, &out).assert().success();
    run.stderr(contains("different names of their models").and(contains("tiny-old")))
        .stderr(contains("different names of their versions").and(contains("b5000")))
        .stderr(contains(format!("{} is given twice and counts once", b.url)))
        .stderr(contains("hunter22").not());
    for file in ["run.json", "samples.jsonl", "metrics.json"] {
        assert!(!fs::read_to_string(out.join(file)).unwrap().contains("hunter22"), "{file}");
    }
    let workers = manifest(&out).observed.workers;
    assert_eq!(workers.iter().map(|worker| &worker.name).collect::<Vec<_>>(), [&a.url, &b.url]);
    assert_eq!(workers[1].fingerprints, ["b5000"]);
}

#[test]
fn what_is_no_fleet_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let out = dir.path().join("out");
    let base = demo_base();
    let refused = |arguments: &[&str], message: &str| {
        eval(arguments[0], &suite, &out).args(&arguments[1..]).assert().code(2).stderr(contains(message));
    };
    refused(&["http://localhost:9/v1", base.to_str().unwrap(), "--model", "m"], "several URLs");
    refused(&["http://localhost:9/v1", "localhost:10/v1", "--model", "m"], "\"localhost:10/v1\" is no URL");
    refused(&["http://localhost:9/v1", "http://", "--model", "m"], "URL 2 of 2: server: base_url");
    refused(&["http://localhost:9/v1,http://localhost:10/v1"], "--model");
    refused(&[base.to_str().unwrap(), "--device", "cpu,cpu"], "the CPU is one device");
    refused(&[base.to_str().unwrap(), "--device", "cuda:0,cuda:0"], "given twice");
    assert!(!out.exists());
}
