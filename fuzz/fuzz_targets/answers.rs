//! Answers of servers: to a conversation, to a prompt of ids, and to texts to embed, after any status.

#![no_main]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};

use smpo_chat::Message;
use smpo_fixtures::golden;
use smpo_fuzz::target;
use smpo_inference::{Embedder, Generator, HttpConfig, HttpEmbedder, HttpGenerator, Request};
use smpo_sampling::Sampler;
use smpo_tokenizer::ChatTokenizer;

/// The status and body of every answer.
static ANSWER: Mutex<(u16, Vec<u8>)> = Mutex::new((200, Vec::new()));

static URL: LazyLock<String> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer(stream))));
    url
});

static TOKENIZER: LazyLock<ChatTokenizer> =
    LazyLock::new(|| ChatTokenizer::from_model_dir(golden("tokenizer", "chatml")).expect("a golden tokenizer"));

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    request.read_exact(&mut vec![0; length])?;
    let (status, body) = ANSWER.lock().expect("no panic").clone();
    write!(stream, "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

fn config() -> HttpConfig {
    HttpConfig {
        base_url: URL.clone(),
        model: "m".into(),
        retries: 1,
        failure_retries: 1,
        backoff_secs: 0.0,
        max_pause_secs: 0.0,
        timeout_secs: 10.0,
        ask_version: true,
        ..HttpConfig::default()
    }
}

target!(data, {
    let Some((choice, body)) = data.split_first() else { return };
    let choice = usize::from(choice.wrapping_sub(b'0'));
    let status = [200, 400, 422, 429, 500, 404][(choice / 3) % 6];
    *ANSWER.lock().expect("no panic") = (status, body.to_vec());
    let request = Request {
        prompt_id: "p".into(),
        sample: 0,
        messages: vec![Message::user("a")],
        sampler: Sampler { temperature: 1.0, top_k: Some(5), top_p: Some(0.9), min_p: Some(0.1) },
        max_tokens: 8,
        seed: 1,
        extra_body: Default::default(),
    };
    let generator = match choice % 3 {
        0 => HttpGenerator::new(config()),
        1 => HttpGenerator::completing(config(), TOKENIZER.clone()),
        _ => {
            let _ = HttpEmbedder::new(config()).and_then(|mut embedder| embedder.embed(&["a", "b"]));
            return;
        }
    };
    let mut generator = generator.expect("a configuration that is right");
    generator.know_terminators(vec![(1, "<|im_end|>".into())]);
    if let Ok(completion) = generator.generate(&request) {
        assert!(completion.logps.iter().flatten().all(|logp| !logp.is_nan()), "a log-prob is no number");
    }
    let _ = generator.served();
});
