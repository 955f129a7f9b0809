//! A server on loopback that answers as it is told, one connection a request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// Status after `HTTP/1.1`, and the body.
pub type Answer = (&'static str, String);

pub struct Server {
    pub url: String,
    /// Head and body of each request, in order of arrival.
    pub seen: Arc<Mutex<Vec<(String, Value)>>>,
    /// The most requests that were in flight together.
    pub most_at_once: Arc<AtomicUsize>,
}

/// Answers the n-th request with `answer(n, its body)`.
pub fn serve(answer: impl Fn(usize, &Value) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server {
        url: format!("http://{}/v1", listener.local_addr().unwrap()),
        seen: Arc::default(),
        most_at_once: Arc::default(),
    };
    let (seen, most) = (server.seen.clone(), server.most_at_once.clone());
    let (answer, at_once) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (seen, most, answer, at_once) = (seen.clone(), most.clone(), answer.clone(), at_once.clone());
            thread::spawn(move || {
                let Some((head, body)) = read(&stream) else { return };
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let index = {
                    let mut seen = seen.lock().unwrap();
                    seen.push((head, body.clone()));
                    seen.len() - 1
                };
                let (status, reply) = answer(index, &body);
                at_once.fetch_sub(1, Ordering::SeqCst);
                // A client that was interrupted is part of these tests.
                let _ = write!(
                    &stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reply}",
                    reply.len()
                );
            });
        }
    });
    server
}

fn read(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}
