//! The HTTP generator against a server on loopback that misbehaves on demand.
#![cfg(feature = "http")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_fixtures::http::{Answer, Server};
use smpo_inference::fleet::{Admission, Ending, News, Patience, Supervisor, Verdict, Worker, deal};
use smpo_inference::{
    Completion, FinishReason, Generator, HttpConfig, HttpGenerator, InferenceError, Request, Sampler, generate_each,
};
use smpo_tokenizer::ChatTokenizer;

fn ok(text: &str) -> Answer {
    let body = json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop",
                     "logprobs": {"content": [{"token": text, "logprob": -0.25}]}}],
        "usage": {"completion_tokens": 1},
    });
    Answer::reply("200 OK", body.to_string())
}

fn say(status: &'static str, body: &str) -> Answer {
    Answer::reply(status, body)
}

fn config(url: &str) -> HttpConfig {
    HttpConfig {
        base_url: url.into(),
        model: "tiny".into(),
        // Unset, so that no key of the machine the tests run on is ever sent.
        api_key_env: "SMPO_TEST_NO_SUCH_KEY".into(),
        timeout_secs: 5.0,
        retries: 3,
        failure_retries: 3,
        backoff_secs: 0.01,
        max_pause_secs: 2.0,
        ..HttpConfig::default()
    }
}

fn generator(config: HttpConfig) -> HttpGenerator {
    HttpGenerator::new(config).expect("valid")
}

fn request(prompt_id: &str) -> Request {
    Request {
        prompt_id: prompt_id.into(),
        sample: 0,
        messages: vec![Message::system("Be brief."), Message::user(prompt_id)],
        sampler: Sampler::temperature(0.7),
        max_tokens: 16,
        seed: 9,
        extra_body: Default::default(),
    }
}

#[test]
fn a_completion_arrives_untouched() {
    let server = Server::start(|_, _| ok("  two words \n"));
    let mut generator = generator(config(&server.url));
    let completion = generator.generate(&request("p")).expect("answered");
    assert_eq!((completion.text.as_str(), completion.finish), ("  two words \n", FinishReason::Eos));
    assert_eq!((completion.tokens, completion.logps), (Some(1), Some(vec![-0.25])));
    let seen = server.seen();
    assert!(seen[0].head.starts_with("POST /v1/chat/completions "), "{}", seen[0].head);
    assert!(!seen[0].head.to_ascii_lowercase().contains("authorization"), "{}", seen[0].head);
    assert_eq!(seen[0].body["messages"][1], json!({"role": "user", "content": "p"}));
    assert_eq!(generator.engine().device, server.url);
}

#[test]
fn a_prompt_rendered_here_goes_to_completions() {
    // As mistralrs-server: no ids, which it refuses once.
    let server = Server::start(|_, body| match &body["prompt"] {
        Value::Array(_) => say("422 Unprocessable Entity", "prompt: invalid type: sequence, expected a string"),
        _ => say("200 OK", r#"{"choices": [{"text": " yes", "finish_reason": "stop"}]}"#),
    });
    let model = smpo_fixtures::golden("inference", "qwen2");
    let tokenizer = ChatTokenizer::from_model_dir(&model).expect("valid");
    let text = tokenizer.render_prompt(&request("p").messages).expect("renders");
    let ids = tokenizer.encode_text(&text).expect("encodes");
    let mut generator = HttpGenerator::completing(config(&server.url), tokenizer).expect("valid");
    for prompt in ["p", "q"] {
        let completion = generator.generate(&request(prompt)).expect("answered");
        assert_eq!((completion.text.as_str(), completion.finish), (" yes", FinishReason::Eos));
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 3, "one refusal, two answers");
    assert!(seen.iter().all(|seen| seen.head.starts_with("POST /v1/completions ")), "{}", seen[0].head);
    assert_eq!((&seen[0].body["prompt"], &seen[1].body["prompt"]), (&json!(ids), &json!(text)));
    assert!(seen.iter().all(|seen| seen.body["messages"].is_null() && seen.body["logprobs"] == 1));
}

#[test]
fn what_may_pass_is_tried_again() {
    let server = Server::start(|index, _| match index {
        0 => say("500 Internal Server Error", r#"{"error":{"message":"out of memory"}}"#),
        1 => Answer::BreakOff,
        2 => say("200 OK", "{\"choices\": [{\"mess"),
        _ => ok("at last"),
    });
    assert_eq!(generator(config(&server.url)).generate(&request("p")).expect("answered").text, "at last");
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn what_does_not_pass_is_given_up_with_its_last_words() {
    let server = Server::start(|_, _| say("503 Service Unavailable", r#"{"error":{"message":"loading the model"}}"#));
    let error = generator(config(&server.url)).generate(&request("p")).expect_err("never");
    assert!(matches!(error, InferenceError::Http { status: Some(503), attempts: 4, .. }), "{error}");
    assert!(error.to_string().contains("loading the model") && error.to_string().contains(&server.url), "{error}");
}

#[test]
fn a_refusal_is_not_tried_again() {
    for status in ["401 Unauthorized", "404 Not Found", "400 Bad Request"] {
        let server = Server::start(move |_, _| say(status, r#"{"error":{"message":"no such model"}}"#));
        let error = generator(config(&server.url)).generate(&request("p")).expect_err("refused");
        assert!(matches!(error, InferenceError::Http { attempts: 1, .. }), "{error}");
        assert!(error.to_string().contains("no such model"), "{error}");
    }
    let quota = Server::start(|_, _| {
        say("429 Too Many Requests", r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#)
    });
    let error = generator(config(&quota.url)).generate(&request("p")).expect_err("refused");
    assert!(matches!(error, InferenceError::Http { status: Some(429), attempts: 1, .. }), "{error}");
}

#[test]
fn retry_after_is_kept_and_by_everybody() {
    let first = Arc::new(Mutex::new(None::<Instant>));
    let (told, early) = (first.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = early.clone();
    let server = Server::start(move |index, _| {
        let mut told = told.lock().expect("unpoisoned");
        match *told {
            None if index == 0 => {
                *told = Some(Instant::now());
                Answer::Reply {
                    status: "429 Too Many Requests",
                    headers: "Retry-After: 0.4\r\n".into(),
                    body: "{}".into(),
                }
            }
            // Requests already on their way count as asked before.
            Some(since) if (Duration::from_millis(150)..Duration::from_millis(380)).contains(&since.elapsed()) => {
                counted.fetch_add(1, Ordering::SeqCst);
                ok("early")
            }
            _ => ok("fine"),
        }
    });
    let mut one = generator(config(&server.url));
    let mut other = one.clone();
    let waiting = thread::spawn(move || one.generate(&request("p")).expect("answered"));
    // Another client of the same server comes while it is told to wait.
    while first.lock().expect("unpoisoned").is_none_or(|since| since.elapsed() < Duration::from_millis(200)) {
        thread::sleep(Duration::from_millis(5));
    }
    other.generate(&request("q")).expect("answered");
    waiting.join().expect("no panic");
    assert_eq!(early.load(Ordering::SeqCst), 0, "somebody did not wait");
}

#[test]
fn a_server_that_asks_for_too_long_is_given_up() {
    let server = Server::start(|_, _| Answer::Reply {
        status: "429 Too Many Requests",
        headers: "Retry-After: 3600\r\n".into(),
        body: "{}".into(),
    });
    let start = Instant::now();
    let error = generator(config(&server.url)).generate(&request("p")).expect_err("too long").to_string();
    assert!(error.contains("3600 s") && start.elapsed() < Duration::from_secs(2), "{error}");
}

#[test]
fn a_hang_ends_with_the_time_out() {
    let server =
        Server::start(|index, _| if index < 2 { Answer::Hang(Duration::from_secs(20)) } else { ok("woke up") });
    let start = Instant::now();
    let mut generator = generator(HttpConfig { timeout_secs: 0.3, ..config(&server.url) });
    assert_eq!(generator.generate(&request("p")).expect("answered").text, "woke up");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn nobody_listening_is_an_error_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    drop(listener);
    let error = generator(config(&url)).generate(&request("p")).expect_err("nobody");
    assert!(matches!(error, InferenceError::Http { status: None, attempts: 4, .. }), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[test]
fn log_probs_that_are_refused_are_not_asked_for_again() {
    let server = Server::start(|_, body| match (&body["logprobs"], &body["max_tokens"]) {
        (Value::Bool(true), _) => say("400 Bad Request", r#"{"error":{"message":"logprobs is not supported"}}"#),
        (_, Value::Number(_)) => say("400 Bad Request", r#"{"error":{"message":"use max_completion_tokens"}}"#),
        _ => ok("plain"),
    });
    let mut generator = generator(config(&server.url));
    for prompt in ["p", "q"] {
        assert_eq!(generator.generate(&request(prompt)).expect("answered").text, "plain");
    }
    assert_eq!(server.seen().len(), 4, "two refusals, two answers");
}

#[test]
fn concurrency_is_limited_and_used() {
    let server = Server::start(|_, _| {
        thread::sleep(Duration::from_millis(40));
        ok("x")
    });
    let generator = generator(HttpConfig { concurrency: 3, ..config(&server.url) });
    let requests: Vec<Request> = (0..18).map(|index| request(&index.to_string())).collect();
    let mut answered = 0;
    generate_each(&mut generator.instances(), &requests, |_, completion| {
        completion.expect("answered");
        answered += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((answered, server.max_in_flight()), (18, 3));
}

#[test]
fn the_key_is_sent_and_shown_nowhere() {
    // PATH stands in for a secret: tests cannot set a variable without racing each other.
    let secret = std::env::var("PATH").expect("set everywhere");
    let quoted = secret.clone();
    let server = Server::start(move |_, _| {
        say("401 Unauthorized", &json!({"error": {"message": format!("bad key {quoted}")}}).to_string())
    });
    let mut generator = generator(HttpConfig { api_key_env: "PATH".into(), ..config(&server.url) });
    let error = generator.generate(&request("p")).expect_err("refused");
    assert!(!format!("{error} {error:?} {generator:?} {:?}", generator.engine()).contains(&secret));
    assert!(error.to_string().contains("bad key [key]"), "{error}");
    let seen = server.seen();
    assert!(seen[0].head.contains(&format!("Bearer {secret}")), "{}", seen[0].head);
}

#[test]
fn credentials_in_the_address_are_not_shown() {
    let url = "http://user:secret@localhost:9/v1?token=secret";
    let generator = generator(config(url));
    assert_eq!(generator.engine().device, "http://localhost:9/v1");
    assert!(!format!("{generator:?}").contains("secret"), "{generator:?}");
}

#[test]
fn a_configuration_out_of_range_names_its_field() {
    let good = config("http://localhost:9/v1");
    for (bad, field) in [
        (HttpConfig { base_url: "localhost:9".into(), ..good.clone() }, "base_url"),
        (HttpConfig { base_url: "ftp://localhost".into(), ..good.clone() }, "base_url"),
        (HttpConfig { model: String::new(), ..good.clone() }, "model"),
        (HttpConfig { concurrency: 0, ..good.clone() }, "concurrency"),
        (HttpConfig { timeout_secs: 0.0, ..good.clone() }, "timeout_secs"),
        (HttpConfig { timeout_secs: f64::NAN, ..good.clone() }, "timeout_secs"),
        (HttpConfig { backoff_secs: -1.0, ..good.clone() }, "backoff_secs"),
        (HttpConfig { max_pause_secs: f64::INFINITY, ..good.clone() }, "max_pause_secs"),
    ] {
        let error = HttpGenerator::new(bad).expect_err("refused").to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn a_server_is_asked_for_its_version_once_if_wanted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let pages = Arc::new(Mutex::new(Vec::new()));
    let seen = pages.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).expect("a request");
            for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                let line = line.to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |value| value.parse().expect("a length"));
            }
            std::io::copy(&mut reader.take(length), &mut std::io::sink()).expect("a body");
            let body = match first.split(' ').nth(1) {
                Some("/v1/chat/completions") => r#"{"choices": [{"text": "x"}], "system_fingerprint": "b7"}"#,
                Some("/get_server_info") => r#"{"version": "0.5.3"}"#,
                _ => "",
            };
            seen.lock().expect("whole").extend(first.strip_prefix("GET ").map(str::to_owned));
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = (&stream).write_all((head + body).as_bytes());
        }
    });
    for (ask_version, expected) in [(false, vec!["b7"]), (true, vec!["b7", "version 0.5.3"])] {
        let mut generator = generator(HttpConfig { ask_version, ..config(&url) });
        for prompt in ["p", "q"] {
            generator.generate(&request(prompt)).expect("answered");
        }
        assert_eq!(generator.served().fingerprints.into_iter().collect::<Vec<_>>(), expected);
    }
    assert_eq!(pages.lock().expect("whole").len(), 2, "/version and /get_server_info, each once");
}

/// Counts results.
struct Count(usize);

impl Supervisor for Count {
    fn trial(&mut self, _: usize, _: bool) -> Admission {
        Admission::Free(usize::MAX)
    }

    fn verdict(&mut self, _: usize, _: &[(Arc<Request>, Completion)]) -> Verdict {
        Verdict::Admitted(usize::MAX)
    }

    fn finished(&mut self, _: usize, _: usize, result: Result<Completion, InferenceError>) -> ControlFlow<()> {
        self.0 += usize::from(result.is_ok());
        ControlFlow::Continue(())
    }

    fn news(&mut self, news: News) {
        panic!("{news:?}");
    }

    fn waiting(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

#[test]
fn ten_thousand_requests_go_to_four_servers_over_few_connections() {
    const REQUESTS: usize = 10_000;
    let servers: Vec<Server> = (0..4).map(|_| Server::start(|_, _| ok("x"))).collect();
    let worker = |server: &Server| {
        let connections = generator(HttpConfig { concurrency: 8, ..config(&server.url) }).instances();
        let generators = connections.into_iter().map(|one| Box::new(one) as Box<dyn Generator>).collect();
        Worker { name: server.url.clone(), generators }
    };
    let requests: Arc<[Request]> = (0..REQUESTS).map(|index| request(&index.to_string())).collect();
    let (mut count, started) = (Count(0), Instant::now());
    let ending = deal(servers.iter().map(worker).collect(), &requests, &Patience::default(), &mut count);
    assert_eq!((ending, count.0), (Ending::Complete, REQUESTS));
    let elapsed = started.elapsed();
    eprintln!("{REQUESTS} requests in {elapsed:?}, {:.0} a second", REQUESTS as f64 / elapsed.as_secs_f64());
    assert!(elapsed < Duration::from_secs(120), "{elapsed:?}");
    let most: Vec<usize> = servers.iter().map(Server::max_in_flight).collect();
    assert!(most.iter().all(|most| *most <= 8), "{most:?}");
    let shares: Vec<usize> = servers.iter().map(|server| server.seen().len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), REQUESTS);
    assert!(shares.iter().all(|share| *share > REQUESTS / 20), "{shares:?}");
}
