//! The HTTP generator against stand-ins of the servers in use, each with its own manners.
#![cfg(feature = "http")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smpo_chat::Message;
use smpo_fixtures::http::{Answer, Server};
use smpo_inference::{
    Completion, FinishReason, Generator, HttpConfig, HttpGenerator, InferenceError, Request, Sampler,
};

const LOOP: &str = "Wait, let me look again. ";

fn request(prompt_id: &str) -> Request {
    Request {
        prompt_id: prompt_id.into(),
        sample: 0,
        messages: vec![Message::user(prompt_id)],
        sampler: Sampler { top_p: Some(0.9), ..Sampler::temperature(0.8) },
        max_tokens: 16,
        seed: 9,
        extra_body: Default::default(),
    }
}

fn generator(url: &str) -> HttpGenerator {
    generator_with(url, |_| {})
}

fn generator_with(url: &str, change: impl FnOnce(&mut HttpConfig)) -> HttpGenerator {
    let mut config = HttpConfig {
        base_url: url.into(),
        model: "asked-for".into(),
        // Unset, so that no key of the machine the tests run on is ever sent.
        api_key_env: "SMPO_TEST_NO_SUCH_KEY".into(),
        timeout_secs: 5.0,
        retries: 2,
        failure_retries: 2,
        backoff_secs: 0.01,
        ..HttpConfig::default()
    };
    change(&mut config);
    HttpGenerator::new(config).expect("valid")
}

fn complete(generator: &HttpGenerator, prompt: &str) -> Result<Completion, InferenceError> {
    generator.clone().generate(&request(prompt))
}

fn refuse(message: &str) -> Answer {
    Answer::reply("400 Bad Request", json!({"error": {"message": message}}).to_string())
}

fn chat(choice: Value, completion_tokens: u32) -> Answer {
    let body = json!({
        "object": "chat.completion", "model": "asked-for", "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": completion_tokens},
    });
    Answer::reply("200 OK", body.to_string())
}

/// Fills what a request leaves out from a generation_config.json, and says so.
#[test]
fn vllm_gets_neutral_values_for_all_it_would_fill_in_itself() {
    let server = Server::start(|_, body| {
        let defaults = json!({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05,
                              "presence_penalty": 1.5, "repetition_detection": {"max_pattern_size": 20}});
        let used = |name: &str| body.get(name).cloned().unwrap_or(defaults[name].clone());
        let used: Vec<Value> = defaults.as_object().expect("an object").keys().map(|name| used(name)).collect();
        chat(
            json!({"message": {"content": null, "reasoning": LOOP}, "finish_reason": "repetition",
                   "stop_reason": "repetition_detected", "used": used,
                   "token_ids": used.iter().map(|_| 7).collect::<Vec<u32>>()}),
            7,
        )
    });
    let generator = generator(&server.url);
    let completion = complete(&generator, "p").expect("answered");
    assert_eq!((completion.text.as_str(), completion.reasoning.as_deref()), ("", Some(LOOP)));
    assert_eq!(completion.finish, FinishReason::Repetition);
    let sent = server.seen()[0].body.clone();
    for (field, value) in [
        ("temperature", json!(0.8)),
        ("top_p", json!(0.9)),
        ("top_k", json!(-1)),
        ("min_p", json!(0.0)),
        ("presence_penalty", json!(0.0)),
        ("frequency_penalty", json!(0.0)),
        ("repetition_penalty", json!(1.0)),
        ("repeat_penalty", json!(1.0)),
        ("repetition_detection", json!({"max_pattern_size": 0})),
        ("stream", json!(false)),
    ] {
        assert_eq!(sent[field], value, "{field}");
    }
    let served = generator.served();
    assert!(served.own_defaults.is_empty() && served.other_models("asked-for").is_empty(), "{served:?}");
}

/// Says "stop" for stop strings, and ends in ids that tell.
#[test]
fn sglang_s_stop_is_weighed_against_what_matched_and_against_ids() {
    let server = Server::start(|_, body| {
        let (matched, ids, tokens) = match body["messages"][0]["content"].as_str() {
            Some("eos") => (json!(2), vec![5, 2], 2),
            Some("string") => (json!("\n\nUser:"), vec![5, 6], 2),
            Some("cap") => (Value::Null, vec![5; 16], 16),
            _ => (Value::Null, vec![5, 6], 2),
        };
        let thought = json!({"content": "Owl.", "reasoning_content": "Hm."});
        chat(json!({"message": thought, "finish_reason": "stop", "matched_stop": matched, "token_ids": ids}), tokens)
    });
    let generator = generator(&server.url);
    generator.know_terminators(vec![(2, "</s>".into())]);
    for (prompt, finish, remarked) in [
        ("eos", FinishReason::Eos, false),
        ("string", FinishReason::Stop, false),
        ("cap", FinishReason::Length, true),
        ("odd", FinishReason::Unknown, true),
    ] {
        let completion = complete(&generator, prompt).expect("answered");
        assert_eq!((completion.finish, completion.finish_remark.is_some()), (finish, remarked), "{prompt}");
        assert_eq!(completion.reasoning.as_deref(), Some("Hm."));
    }
}

/// Loads for a while, answers as whatever it has loaded, and fails where log-probs are wanted.
#[test]
fn llama_cpp_may_load_may_be_another_model_and_may_fail_on_log_probs() {
    let server = Server::start(|index, body| {
        if index < 2 {
            return Answer::reply("503 Service Unavailable", r#"{"error":{"message":"Loading model","code":503}}"#);
        }
        if body["logprobs"] == true {
            return Answer::reply("500 Internal Server Error", "unhandled exception");
        }
        let body = r#"{"model": "old-Q4_K_M.gguf", "choices": [{"message": {"content": "Owl."}, "finish_reason": "stop",
                       "logprobs": {"content": [{"token": "Owl", "logprob": -Infinity}]}}],
                       "usage": {"completion_tokens": "2"}}"#;
        Answer::reply("200 OK", body)
    });
    let generator = generator(&server.url);
    for prompt in ["a", "b", "c", "d"] {
        let completion = complete(&generator, prompt).expect("answered");
        assert_eq!((completion.text.as_str(), completion.tokens, completion.logps), ("Owl.", Some(2), None));
    }
    assert_eq!(generator.served().other_models("asked-for"), ["old-Q4_K_M.gguf"]);
    // Loading twice; log-probs refused to the first two requests, to the second twice, and asked for no more.
    assert_eq!(server.seen().len(), 2 + 2 + 3 + 2);
}

/// Knows OpenAI's fields alone, and puts errors into answers of status 200.
/// Checks fields before it samples and calls what it finds an internal error.
#[test]
fn llama_cpp_python_takes_no_negative_top_k_and_says_so_with_a_500() {
    let server = Server::start(|_, body| match body["top_k"].as_i64() {
        Some(negative @ ..0) => {
            let message = format!(
                "1 validation error:\n  {{'type': 'greater_than_equal', 'loc': ('body', 'top_k'), 'msg': 'Input should be \
                 greater than or equal to 0', 'input': {negative}}}"
            );
            let error = json!({"error": {"message": message, "type": "internal_server_error", "code": null}});
            Answer::reply("500 Internal Server Error", error.to_string())
        }
        _ => chat(json!({"message": {"content": "Five."}, "logprobs": null, "finish_reason": "stop"}), 3),
    });
    let generator = generator(&server.url);
    assert_eq!(complete(&generator, "p").expect("answered").text, "Five.");
    assert_eq!(complete(&generator, "q").expect("answered").finish, FinishReason::Eos);
    let sent: Vec<_> = server.seen().iter().map(|seen| seen.body["top_k"].clone()).collect();
    assert_eq!(sent, [json!(-1), json!(0), json!(0)]);
    assert!(generator.served().own_defaults.is_empty() && server.seen()[1].body["logprobs"] == true);
}

/// Several requests are refused for one reason: it is learned once.
#[test]
fn refusals_of_requests_in_flight_together_drop_nothing_twice() {
    let server = Server::start(|_, body| match body["top_k"].as_i64() {
        Some(..0) => {
            std::thread::sleep(Duration::from_millis(200));
            refuse("top_k must not be negative")
        }
        _ => chat(json!({"message": {"content": "Five."}, "finish_reason": "stop"}), 3),
    });
    let generator = generator(&server.url);
    std::thread::scope(|scope| {
        for prompt in ["p", "q", "r", "s"] {
            let generator = generator.clone();
            scope.spawn(move || complete(&generator, prompt).expect("answered"));
        }
    });
    assert!(generator.served().own_defaults.is_empty(), "{:?}", generator.served());
    assert_eq!(server.seen().iter().filter(|seen| seen.body["top_k"] == 0).count(), 4);
}

/// An error that quotes the request names every field of it, and refuses none.
#[test]
fn a_failure_that_quotes_the_request_drops_nothing() {
    let server = Server::start(|index, body| match index {
        0 => Answer::reply("500 Internal Server Error", json!({"error": {"message": body.to_string()}}).to_string()),
        _ => chat(json!({"message": {"content": "Five."}, "finish_reason": "stop"}), 3),
    });
    let generator = generator(&server.url);
    complete(&generator, "p").expect("answered");
    let seen = server.seen();
    for field in ["top_k", "min_p", "repetition_penalty", "seed"] {
        assert_eq!(seen[0].body[field], seen[1].body[field], "{field}");
    }
}

/// A validator that quotes the request, and a filter that quotes the prompt, refuse this request alone.
#[test]
fn a_refusal_that_quotes_the_request_drops_nothing_for_others() {
    let server = Server::start(|_, body| {
        let text = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        let error = match text.as_str() {
            "quoted" => json!({"detail": [{"type": "value_error", "loc": ["body"], "msg": "refused", "input": body}]}),
            // a message that names a field for another reason than its own
            "named" => json!({"error": {"message": "flagged: this talks of seed and min_p"}}),
            _ => return chat(json!({"message": {"content": "Five."}, "finish_reason": "stop"}), 3),
        };
        Answer::reply("422 Unprocessable Entity", error.to_string())
    });
    let generator = generator(&server.url);
    for (prompt, requests) in [("quoted", 1), ("named", 2)] {
        let before = server.seen().len();
        complete(&generator, prompt).expect_err("refused");
        assert_eq!(server.seen().len() - before, requests, "{prompt}");
    }
    complete(&generator, "p").expect("answered");
    assert!(generator.served().own_defaults.is_empty(), "{:?}", generator.served());
    assert_eq!(server.seen().last().expect("a request").body["min_p"], 0.0);
}

#[test]
fn log_probs_refused_by_policy_are_left_out_and_other_403s_end_the_run() {
    let server = Server::start(|_, body| match (&body["logprobs"], body["messages"][0]["content"].as_str()) {
        (Value::Bool(true), _) => {
            let message = "You are not allowed to request logprobs from this model";
            Answer::reply("403 Forbidden", json!({"error": {"message": message}}).to_string())
        }
        (_, Some("harsh")) => Answer::reply("403 Forbidden", r#"{"error": {"message": "your input was flagged"}}"#),
        (_, Some("closed")) => Answer::reply("403 Forbidden", r#"{"error": {"message": "no access"}}"#),
        _ => chat(json!({"message": {"content": "Five."}, "finish_reason": "stop"}), 3),
    });
    let generator = generator(&server.url);
    assert_eq!(complete(&generator, "p").expect("answered").text, "Five.");
    assert!(!complete(&generator, "harsh").expect_err("refused").is_fatal(), "a filter speaks of one prompt");
    assert!(complete(&generator, "closed").expect_err("refused").is_fatal());
    assert_eq!(server.seen().len(), 4);
}

/// A clock that is ahead, or a server that says "at once" for ever.
#[test]
fn a_pause_of_nothing_is_not_taken_for_leave_to_hurry() {
    let server = Server::start(|index, _| match index {
        0 | 1 => Answer::Reply {
            status: "429 Too Many Requests",
            headers: "Retry-After: 0\r\n".into(),
            body: r#"{"error": {"message": "later"}}"#.into(),
        },
        _ => chat(json!({"message": {"content": "Five."}, "finish_reason": "stop"}), 3),
    });
    let start = Instant::now();
    complete(&generator_with(&server.url, |config| config.backoff_secs = 0.2), "p").expect("answered");
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

/// Keys are for the host that they were given for.
#[test]
fn a_redirect_is_followed_on_the_same_host_alone() {
    let here = Server::start(|index, body| match index {
        0 => Answer::Reply {
            status: "307 Temporary Redirect",
            headers: "Location: /v1/other\r\n".into(),
            body: String::new(),
        },
        _ => chat(json!({"message": {"content": body["model"]}, "finish_reason": "stop"}), 3),
    });
    assert_eq!(complete(&generator(&here.url), "p").expect("answered").text, "asked-for");
    let elsewhere = Server::start(|_, _| chat(json!({"message": {"content": "Five."}, "finish_reason": "stop"}), 3));
    let location = format!("Location: {}/chat/completions\r\n", elsewhere.url);
    let there = Server::start(move |_, _| Answer::Reply {
        status: "308 Permanent Redirect",
        headers: location.clone(),
        body: String::new(),
    });
    let error = complete(&generator(&there.url), "p").expect_err("moved");
    assert!(error.is_fatal() && error.to_string().contains("it has moved to"), "{error}");
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_gateway_s_refusals_are_learned_and_its_errors_shown() {
    let server = Server::start(|_, body| {
        let strange: Vec<&str> = ["top_k", "min_p", "repetition_penalty", "repeat_penalty", "repetition_detection"]
            .into_iter()
            .filter(|field| !body[field].is_null())
            .collect();
        if !strange.is_empty() {
            return refuse(&format!("Unrecognized request arguments supplied: {}", strange.join(", ")));
        }
        let error =
            |code: Value| Answer::reply("200 OK", json!({"error": {"message": "no room", "code": code}}).to_string());
        match body["messages"][0]["content"].as_str() {
            Some("full") => error(json!(502)),
            Some("forbidden") => error(json!("401")),
            Some("cut") => chat(
                json!({"message": {"content": ""}, "finish_reason": "error",
                                       "error": {"message": "upstream is gone", "code": 503}}),
                0,
            ),
            _ => chat(json!({"message": {"content": [{"type": "text", "text": "Owl."}]}, "finish_reason": "stop"}), 2),
        }
    });
    let generator = generator(&server.url);
    assert_eq!(complete(&generator, "fine").expect("answered").text, "Owl.");
    let own_defaults: Vec<String> = generator.served().own_defaults.into_iter().collect();
    assert_eq!(own_defaults, ["min_p", "repeat_penalty", "repetition_detection", "repetition_penalty", "top_k"]);
    for (prompt, attempts, message) in
        [("full", 3, "no room (code 502)"), ("forbidden", 1, "no room"), ("cut", 3, "gone")]
    {
        let error = complete(&generator, prompt).expect_err("an error");
        assert!(matches!(error, InferenceError::Http { attempts: seen, .. } if seen == attempts), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn another_kind_of_document_is_told_at_once_with_its_start() {
    for (kind, body, expected) in [
        ("text/html; charset=utf-8", "<!doctype html><title>Sign in</title>", "text/html that starts with <!doctype"),
        ("text/event-stream", "data: {\"choices\": []}\n\n", "text/event-stream that starts with data:"),
    ] {
        let server = Server::start(move |_, _| Answer::Reply {
            status: "200 OK",
            headers: format!("Content-Type: {kind}\r\n"),
            body: body.into(),
        });
        let error = complete(&generator(&server.url), "p").expect_err("no completion");
        assert!(error.is_fatal() && error.to_string().contains(expected), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn a_server_elsewhere_is_told_in_seconds_with_the_url_that_was_asked() {
    let start = Instant::now();
    let nobody = HttpConfig {
        base_url: "http://127.0.0.1:9/v1".into(),
        model: "m".into(),
        api_key_env: "SMPO_TEST_NO_SUCH_KEY".into(),
        ..HttpConfig::default()
    };
    let nobody = HttpGenerator::new(nobody).expect("valid");
    let error = complete(&nobody, "p").expect_err("nobody is there");
    assert!(error.is_fatal() && start.elapsed() < Duration::from_secs(8), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:9/v1/chat/completions"), "{error}");

    let moved = Server::start(|_, _| Answer::Reply {
        status: "301 Moved Permanently",
        headers: "Location: https://elsewhere/v1/chat/completions\r\n".into(),
        body: String::new(),
    });
    let error = complete(&generator(&moved.url), "p").expect_err("moved");
    assert!(error.is_fatal() && error.to_string().contains("moved to https://elsewhere/v1"), "{error}");

    let missing = Server::start(|_, _| Answer::reply("404 Not Found", r#"{"detail":"Not Found"}"#));
    let base = missing.url.trim_end_matches("/v1");
    let error = complete(&generator(base), "p").expect_err("no such path");
    assert!(error.is_fatal() && error.to_string().ends_with(&format!("{base}/v1 (attempt 1)")), "{error}");
}

#[test]
fn a_full_endpoint_is_taken_for_its_base_and_headers_are_sent_unseen() {
    let server =
        Server::start(|_, _| Answer::reply("401 Unauthorized", r#"{"error":{"message":"bad key-of-the-test"}}"#));
    let config = HttpConfig {
        base_url: format!("{}/chat/completions", server.url),
        model: "m".into(),
        api_key_env: "SMPO_TEST_NO_SUCH_KEY".into(),
        headers: vec!["api-key: key-of-the-test".into()],
        ..HttpConfig::default()
    };
    let generator = HttpGenerator::new(config.clone()).expect("valid");
    let error = complete(&generator, "p").expect_err("refused");
    assert!(!format!("{error} {error:?} {generator:?}").contains("key-of-the-test"), "{error}");
    let seen = server.seen();
    assert!(seen[0].head.starts_with("POST /v1/chat/completions "), "{}", seen[0].head);
    assert!(seen[0].head.contains("api-key: key-of-the-test"), "{}", seen[0].head);
    for header in ["api-key", "bad name: x", "api-key: a\u{7f}b"] {
        let bad = HttpConfig { headers: vec![header.into()], ..config.clone() };
        assert!(HttpGenerator::new(bad).expect_err("no header").to_string().contains("a header"), "{header}");
    }
}
