//! Embeddings from a server: `POST {base}/embeddings`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::config::HttpConfig;
use super::connection::{Answered, Attempts, Connection, Failure, Next};
use super::json;
use super::refusal::Refusal;
use crate::InferenceError;
use crate::embedder::{Embedder, unit};

/// Texts of one request.
const TEXTS: usize = 32;
/// Numbers of a vector at most.
const MAX_DIMENSION: usize = 1 << 16;

/// A server that gives embeddings.
pub struct HttpEmbedder {
    connection: Connection,
}

impl HttpEmbedder {
    /// Checks the configuration and reads the key; nothing is sent.
    ///
    /// # Errors
    /// [`InferenceError::Server`], naming the field.
    pub fn new(config: HttpConfig) -> Result<Self, InferenceError> {
        Ok(HttpEmbedder { connection: Connection::open(config, "embeddings")? })
    }

    fn request(&self, texts: &[&str], salt: u64) -> Result<Vec<Vec<f32>>, InferenceError> {
        let config = &self.connection.config;
        let mut body: Map<String, Value> = config.extra_body.clone();
        body.insert("model".into(), config.model.clone().into());
        body.insert("input".into(), json!(texts));
        body.insert("encoding_format".into(), "float".into());
        let mut attempts = Attempts::new();
        loop {
            self.connection.ready();
            let failure = match self.attempt(&body, texts.len()) {
                Ok(vectors) => return Ok(vectors),
                Err(failure) => failure,
            };
            attempts.failed += 1;
            if !self.connection.wait(&failure, &attempts, salt) {
                let status = failure.status.map_or("no answer".to_owned(), |status| format!("status {status}"));
                let message = format!("{status}: {} (attempt {})", self.connection.message(&failure), attempts.failed);
                return Err(InferenceError::Embeddings { source_name: self.connection.address.shown.clone(), message });
            }
        }
    }

    fn attempt(&self, body: &Map<String, Value>, texts: usize) -> Result<Vec<Vec<f32>>, Failure> {
        let Answered { status, headers, bytes } = self.connection.post(body)?;
        if !(200..300).contains(&status) {
            return Err(self.connection.refused((status, status), &headers, &bytes));
        }
        if let Ok(Value::Object(body)) = json::parse(&bytes)
            && body.get("data").is_none_or(Value::is_null)
            && let Some(refusal) = Refusal::in_success(&body, None)
        {
            let refused = self.connection.refused((status, refusal.status.unwrap_or(500)), &headers, &bytes);
            return Err(Failure { message: refusal.message, ..refused });
        }
        vectors(&bytes, texts).map_err(|message| Failure { status: Some(status), message, next: Next::Later })
    }
}

/// The vectors of a response in the order of the texts.
fn vectors(bytes: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, String> {
    let body = json::parse(bytes).map_err(|error| format!("expected JSON with embeddings in `data`, got {error}"))?;
    let data = body["data"].as_array().ok_or("expected embeddings in `data`, got none")?;
    let mut vectors = vec![None; texts];
    for (position, item) in data.iter().enumerate() {
        // servers that answer in order may leave the index out
        let index = item["index"].as_u64().map_or(position, |index| index as usize);
        let place = vectors.get_mut(index).ok_or_else(|| format!("expected {texts} embeddings, got number {index}"))?;
        let numbers = item["embedding"].as_array().filter(|numbers| (1..=MAX_DIMENSION).contains(&numbers.len()));
        let vector: Option<Vec<f32>> = numbers
            .and_then(|numbers| numbers.iter().map(|number| number.as_f64().map(|number| number as f32)).collect());
        let vector = vector.and_then(unit);
        *place = Some(vector.ok_or_else(|| {
            format!("embedding {index}: expected finite numbers, not all 0, at most {MAX_DIMENSION} of them")
        })?);
    }
    let count = vectors.iter().flatten().count();
    let all: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
    let all = all.ok_or_else(|| format!("expected {texts} embeddings, got {count}"))?;
    match all.iter().all(|vector| vector.len() == all[0].len()) {
        true => Ok(all),
        false => Err("expected embeddings of one dimension, got several".into()),
    }
}

impl Embedder for HttpEmbedder {
    /// Several requests are in flight at once.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let batches: Vec<&[&str]> = texts.chunks(TEXTS).collect();
        let results = Mutex::new((0..batches.len()).map(|_| None).collect::<Vec<_>>());
        let next = AtomicUsize::new(0);
        let work = || loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(index) else { return };
            let result = self.request(batch, index as u64);
            let failed = result.is_err();
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
            if failed {
                // the others need not begin
                next.store(batches.len(), Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.connection.config.concurrency.min(batches.len()) {
                scope.spawn(work);
            }
        });
        let mut vectors = Vec::with_capacity(texts.len());
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        // the first error, whatever came after it
        let mut results: Vec<_> = results.into_iter().flatten().collect();
        if let Some(failed) = results.iter().position(Result::is_err) {
            results.swap(0, failed);
        }
        for result in results {
            vectors.extend(result?);
        }
        Ok(vectors)
    }

    fn batch(&self) -> usize {
        TEXTS * self.connection.config.concurrency
    }
}

#[cfg(test)]
mod tests {
    use super::vectors;

    #[test]
    fn vectors_come_in_the_order_of_the_texts() {
        let body = br#"{"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3.0, 4.0]}]}"#;
        assert_eq!(vectors(body, 2), Ok(vec![vec![0.6, 0.8], vec![0.0, 1.0]]));
        assert_eq!(vectors(br#"{"data": [{"embedding": [1]}]}"#, 1), Ok(vec![vec![1.0]]));
    }

    #[test]
    fn answers_without_all_vectors_are_no_answers() {
        let problem = |body: &str| vectors(body.as_bytes(), 2).unwrap_err();
        assert!(problem("<html>").contains("expected JSON"));
        assert!(problem(r#"{"object": "list"}"#).contains("got none"));
        assert_eq!(problem(r#"{"data": [{"embedding": [1]}]}"#), "expected 2 embeddings, got 1");
        assert!(problem(r#"{"data": [{"index": 7, "embedding": [1]}]}"#).contains("got number 7"));
        assert!(problem(r#"{"data": [{"embedding": [0, 0]}, {"embedding": [1]}]}"#).contains("embedding 0: expected"));
        assert!(problem(r#"{"data": [{"embedding": [1, 0]}, {"embedding": [1]}]}"#).contains("one dimension"));
        assert!(problem(r#"{"data": [{"embedding": "AAAA"}]}"#).contains("embedding 0: expected"));
    }
}
