//! Overhead of the harness over mistral.rs itself: the same prompts, one after another, through mistral.rs' own API and
//! through [`MistralEngine`], with one thread each.
//!
//! `cargo run --release -p smpo-inference --features mistralrs --example overhead -- MODEL [REQUESTS [CAP]]`
//!
//! mistral.rs' own engine thread queues every operation in rayon's global pool, which costs a small model more than all
//! the rest (`src/mistral/threads.rs`). So it is measured twice: as it is, and with its engine's thread made the one
//! worker of a pool, as the harness does. The overhead is against the latter.
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use mistralrs::core::ModelDType;
use mistralrs::{
    CustomLogitsProcessor, Model, RequestBuilder, SamplingParams, Tensor, TextMessageRole, TextModelBuilder,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use smpo_chat::Message;
use smpo_inference::{Generator, MistralConfig, MistralEngine, Request, Sampler};

thread_local! {
    static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
}

/// Changes nothing but where the engine computes.
struct OnePool;

impl CustomLogitsProcessor for OnePool {
    fn apply(&self, logits: &Tensor, _: &[u32]) -> mistralrs::Result<Tensor> {
        if rayon::current_thread_index().is_none() {
            let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            POOL.with(|slot| *slot.borrow_mut() = pool.ok());
        }
        Ok(logits.clone())
    }
}

fn prompt(index: usize) -> String {
    format!("Tell me number {index} of the story.")
}

async fn own(
    model: &Model,
    requests: usize,
    cap: usize,
    temperature: f64,
    pool: bool,
) -> Result<f64, Box<dyn std::error::Error>> {
    let mut tokens = 0;
    let started = Instant::now();
    for index in 0..requests {
        let sampling =
            SamplingParams { temperature: Some(temperature), max_len: Some(cap), ..SamplingParams::neutral() };
        let mut request =
            RequestBuilder::new().add_message(TextMessageRole::User, prompt(index)).set_sampling(sampling);
        if pool {
            request = request.add_logits_processor(Arc::new(OnePool));
        }
        tokens += model.send_chat_request(request).await?.usage.completion_tokens;
    }
    Ok(tokens as f64 / started.elapsed().as_secs_f64())
}

fn harness(model: &str, requests: usize, cap: usize, temperature: f64) -> Result<f64, Box<dyn std::error::Error>> {
    let mut engine = MistralEngine::load(model, &MistralConfig { threads: Some(1), ..MistralConfig::default() })?;
    let mut tokens = 0;
    let started = Instant::now();
    for index in 0..requests {
        let completion = engine.generate(&Request {
            prompt_id: format!("p{index}"),
            sample: 0,
            messages: vec![Message::user(prompt(index))],
            sampler: Sampler::temperature(temperature),
            max_tokens: cap as u32,
            seed: 0,
            extra_body: Default::default(),
        })?;
        tokens += completion.tokens.unwrap_or_default();
    }
    Ok(f64::from(tokens) / started.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: overhead MODEL [REQUESTS [CAP]]")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (requests, cap) = (number(500)?, number(30)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let builder = TextModelBuilder::new(&path)
        .with_force_cpu()
        .with_dtype(ModelDType::F32)
        .with_max_num_seqs(1)
        .with_prefix_cache_n(None);
    let model = runtime.block_on(builder.build())?;
    for (name, temperature) in [("temperature 0.8", 0.8), ("greedy", 0.0)] {
        // As it is, before its thread is given a pool for good; the greedy round shows the other only.
        if temperature > 0.0 {
            let speed = runtime.block_on(own(&model, requests, cap, temperature, false))?;
            println!("{name}: mistral.rs as it is {speed:.0} tokens/s");
        }
        for round in 0..3 {
            let own = runtime.block_on(own(&model, requests, cap, temperature, true))?;
            let ours = harness(&path, requests, cap, temperature)?;
            let overhead = 100.0 * (own / ours - 1.0);
            println!(
                "{name}, round {round}: mistral.rs in one pool {own:.0}, harness {ours:.0} tokens/s: {overhead:+.1} %"
            );
        }
    }
    Ok(())
}
