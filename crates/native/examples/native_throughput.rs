//! Tokens per second through the native engine, harness overhead included; the same requests as
//! `crates/inference/examples/throughput.rs` sends through mistral.rs.
//!
//! `cargo run --release -p smpo-native --example native_throughput -- MODEL [THREADS [REQUESTS [CAP [BATCH]]]]`
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use smpo_chat::Message;
use smpo_inference::{Request, Sampler, generate_each};
use smpo_model::Decoder;
use smpo_native::{NativeGenerator, NativeOptions};
use smpo_tokenizer::ChatTokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: native_throughput MODEL [THREADS [REQUESTS [CAP [BATCH]]]]")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (threads, requests, cap, batch) = (number(2)?, number(200)?, number(30)? as u32, number(16)?);

    let start = Instant::now();
    let model = Path::new(&model);
    let tokenizer = ChatTokenizer::from_model_dir(model)?;
    let decoder = Decoder::load(model)?.pack()?;
    let mut engines = NativeGenerator::start(decoder, tokenizer, NativeOptions { threads, batch })?;
    println!("{threads} threads started in {:.3} s", start.elapsed().as_secs_f64());

    let requests: Vec<Request> = (0..requests)
        .map(|index| Request {
            prompt_id: format!("p{index}"),
            sample: 0,
            messages: vec![Message::user(format!("Tell me number {index} of the story."))],
            sampler: Sampler::temperature(0.8),
            max_tokens: cap,
            seed: 0,
            extra_body: Default::default(),
        })
        .collect();
    let (start, mut tokens) = (Instant::now(), 0);
    let mut failure = None;
    generate_each(&mut engines, &requests, |_, completion| match completion {
        Ok(completion) => {
            tokens += completion.tokens.unwrap_or_default();
            ControlFlow::Continue(())
        }
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} requests: {tokens} tokens in {seconds:.2} s = {:.0} tokens/s",
        requests.len(),
        f64::from(tokens) / seconds
    );
    Ok(())
}
