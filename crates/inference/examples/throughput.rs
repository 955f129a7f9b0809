//! Tokens per second through mistral.rs, start-up and harness overhead included.
//!
//! `cargo run --release -p smpo-inference --features mistralrs --example throughput -- MODEL [INSTANCES [REQUESTS [CAP]]]`
use std::ops::ControlFlow;
use std::time::Instant;

use smpo_chat::Message;
use smpo_inference::{MistralConfig, MistralEngine, Request, Sampler, generate_each};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: throughput MODEL [INSTANCES [REQUESTS [CAP]]]")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (instances, requests, cap) = (number(2)?, number(200)?, number(30)? as u32);

    let start = Instant::now();
    let mut engines = MistralEngine::load_instances(&model, &MistralConfig::default(), instances)?;
    println!("{instances} instances started in {:.3} s", start.elapsed().as_secs_f64());

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
    let prompt = engines[0].tokenizer().encode_prompt(&requests[0].messages)?.len();
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
        "{} requests of {prompt} prompt tokens: {tokens} tokens in {seconds:.2} s = {:.0} tokens/s, {:.0} per instance",
        requests.len(),
        f64::from(tokens) / seconds,
        f64::from(tokens) / seconds / instances as f64,
    );
    Ok(())
}
