//! The native engine against transformers, and against itself in other company: the golden files are those of
//! mistral.rs (`crates/inference/tests/golden`), drawn by a reference sampler in Python.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Deserialize;
use smpo_chat::Message;
use smpo_inference::{
    Completion, EncodedPrompt, FinishReason, Generator, InferenceError, Request, Sampler, generate_each,
};
use smpo_kernels::emulate;
use smpo_model::{Decoder, DeviceDecoder, PackedBatch, Placement, WeightDtype};
use smpo_native::{CompleteError, NativeGenerator, NativeOptions, TokenPrompt, complete, complete_on_device};
use smpo_sampling::{LogitsError, Noise, Recorder};
use smpo_tokenizer::ChatTokenizer;

/// Nats, for a log p of about 1: float32 logits lose digits with their size.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    adapted: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt_id: String,
    messages: Vec<Message>,
    sampler: Sampler,
    sample: u32,
    seed: u64,
    cap: u32,
    token_ids: Vec<u32>,
    logps: Vec<f32>,
    terminator_logps: Vec<f32>,
    finish: FinishReason,
    text: String,
}

impl Case {
    fn request(&self) -> Request {
        Request {
            prompt_id: self.prompt_id.clone(),
            sample: self.sample,
            messages: self.messages.clone(),
            sampler: self.sampler,
            max_tokens: self.cap,
            seed: self.seed,
            extra_body: Default::default(),
        }
    }

    fn check(&self, completion: &Completion) {
        let name = format!("{} {:?} sample {}", self.prompt_id, self.sampler, self.sample);
        assert_eq!(completion.token_ids.as_deref(), Some(&self.token_ids[..]), "{name}");
        assert_eq!(completion.text, self.text, "{name}");
        assert_eq!((completion.finish, completion.cap), (self.finish, self.cap), "{name}");
        for (got, expected) in
            [(&completion.logps, &self.logps), (&completion.terminator_logps, &self.terminator_logps)]
        {
            let got = got.as_ref().expect("recorded");
            assert_eq!(got.len(), expected.len(), "{name}");
            for (step, (got, expected)) in got.iter().zip(expected).enumerate() {
                let difference = (f64::from(*got) - f64::from(*expected)).abs();
                let allowed = TOLERANCE * (1.0 + 0.1 * f64::from(expected.abs()));
                assert!(difference < allowed, "{name}, step {step}: {got} vs {expected}");
            }
        }
    }
}

fn golden_dir() -> PathBuf {
    smpo_fixtures::golden("inference", "")
}

fn golden() -> Golden {
    serde_json::from_str(&fs::read_to_string(golden_dir().join("expected.json")).expect("readable")).expect("valid")
}

fn tokenizer() -> ChatTokenizer {
    ChatTokenizer::from_model_dir(golden_dir().join("qwen2")).expect("valid")
}

fn decoder() -> Decoder {
    Decoder::load(golden_dir().join("qwen2")).expect("loads")
}

fn start(decoder: &Decoder, threads: usize, batch: usize) -> Vec<NativeGenerator> {
    NativeGenerator::start(decoder.pack().expect("packed"), tokenizer(), NativeOptions { threads, batch })
        .expect("started")
}

fn generate_all(generators: &mut [NativeGenerator], requests: &[Request]) -> Vec<Completion> {
    let mut completions = vec![None; requests.len()];
    generate_each(generators, requests, |index, completion| {
        completions[index] = Some(completion.expect("generates"));
        ControlFlow::Continue(())
    });
    completions.into_iter().map(|completion| completion.expect("answered")).collect()
}

#[test]
fn equals_transformers_token_by_token() {
    let golden = golden();
    let mut adapted = decoder();
    adapted.load_adapter(golden_dir().join("adapter")).expect("loads");
    for (decoder, cases) in [(decoder(), golden.cases), (adapted, golden.adapted)] {
        let requests: Vec<Request> = cases.iter().map(Case::request).collect();
        let completions = generate_all(&mut start(&decoder, 2, 5), &requests);
        cases.iter().zip(&completions).for_each(|(case, completion)| case.check(completion));
    }
}

#[test]
fn a_completion_is_the_same_to_the_last_bit_in_any_company() {
    let decoder = decoder();
    let samplers = [
        Sampler::temperature(0.9),
        Sampler { top_k: Some(9), top_p: Some(0.95), ..Sampler::temperature(1.2) },
        Sampler { min_p: Some(0.02), ..Sampler::temperature(1.0) },
        Sampler::greedy(),
    ];
    let mut requests: Vec<Request> = (0..60)
        .map(|index| Request {
            prompt_id: format!("p{index}"),
            sample: index % 3,
            messages: vec![Message::user("word ".repeat(1 + (index as usize * 7) % 40))],
            sampler: samplers[index as usize % samplers.len()],
            max_tokens: 1 + (index * 11) % 50,
            seed: 3,
            extra_body: Default::default(),
        })
        .collect();
    let one_by_one = generate_all(&mut start(&decoder, 1, 1), &requests);
    let lengths: std::collections::BTreeSet<_> = one_by_one.iter().map(|completion| completion.tokens).collect();
    assert!(lengths.len() > 10, "they leave the batch at different steps");
    for (threads, batch) in [(1, 7), (2, 3), (3, 64)] {
        assert_eq!(generate_all(&mut start(&decoder, threads, batch), &requests), one_by_one, "{threads} × {batch}");
    }
    requests.reverse();
    let mut backwards = generate_all(&mut start(&decoder, 2, 7), &requests);
    backwards.reverse();
    assert_eq!(backwards, one_by_one);
}

#[test]
fn one_bad_request_harms_no_other() {
    let decoder = decoder();
    let mut generators = start(&decoder, 1, 4);
    let good = Request {
        prompt_id: "good".into(),
        sample: 0,
        messages: vec![Message::user("hi")],
        sampler: Sampler::temperature(1.0),
        max_tokens: 30,
        seed: 1,
        extra_body: Default::default(),
    };
    let expected = generators[0].generate(&good).expect("generates");
    let bad = [
        Request { max_tokens: 0, ..good.clone() },
        Request { messages: vec![], ..good.clone() },
        Request { messages: vec![Message::user("🜁".repeat(200))], ..good.clone() },
        good.clone(),
        good.clone(),
    ];
    let mut errors = Vec::new();
    generate_each(&mut generators, &bad, |_, result| {
        match result {
            Ok(completion) => assert_eq!(completion, expected),
            Err(error) => errors.push(error),
        }
        ControlFlow::Continue(())
    });
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().any(|e| matches!(e, InferenceError::PromptTooLong { limit: 512, .. })), "{errors:?}");
    // A cap that the position limit cuts.
    let close =
        Request {
            messages: vec![Message::user("🜁".repeat(120))], sampler: Sampler::greedy(), max_tokens: 64, ..good
        };
    let completion = generators[0].generate(&close).expect("generates");
    assert!((1..64).contains(&completion.cap) && completion.tokens <= Some(completion.cap), "{completion:?}");
}

#[test]
fn weights_that_give_no_distribution_fail_each_request_with_its_place() {
    let decoder = decoder();
    let (_, head) = decoder.trainable().into_iter().find(|(name, _)| name == "lm_head.weight").expect("untied");
    let broken = head.as_tensor().affine(f64::INFINITY, 0.0).expect("a product");
    head.set(&broken).expect("same shape");
    let mut generators = start(&decoder, 2, 2);
    let request = golden().cases[0].request();
    let mut seen = 0;
    generate_each(&mut generators, &vec![request; 9], |_, result| {
        let error = result.expect_err("no distribution");
        assert!(matches!(error, InferenceError::Logits(LogitsError::NotFinite { step: 0, .. })), "{error}");
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(seen, 9);
}

#[test]
fn prompts_given_as_token_ids_are_completed_like_requests() {
    let (cases, tokenizer, decoder) = (golden().cases, tokenizer(), decoder().pack().expect("packed"));
    let limit = decoder.spec().max_positions.expect("a limit");
    let prompts: Vec<TokenPrompt> = cases
        .iter()
        .map(|case| {
            let prompt = EncodedPrompt::new(&tokenizer, &case.request(), limit).expect("encodes");
            TokenPrompt { recorder: prompt.recorder(&tokenizer, &case.request()), ids: prompt.ids }
        })
        .collect();
    let ids = |options| -> Vec<Vec<u32>> {
        let records = complete(&decoder, prompts.clone(), options).expect("completed");
        records.into_iter().map(|record| record.expect("finite").token_ids).collect()
    };
    let expected: Vec<Vec<u32>> = cases.iter().map(|case| case.token_ids.clone()).collect();
    for (threads, batch) in [(1, 1), (2, 3), (3, 100)] {
        assert_eq!(ids(NativeOptions { threads, batch }), expected, "{threads} threads, batches of {batch}");
    }
    assert_eq!(complete(&decoder, [], NativeOptions::default()).expect("nothing to do").len(), 0);
}

#[test]
fn a_prompt_that_the_model_refuses_is_an_error() {
    let (tokenizer, decoder) = (tokenizer(), decoder().pack().expect("packed"));
    for ids in [vec![], vec![decoder.spec().vocab_size as u32]] {
        let recorder = Recorder::new(Sampler::greedy(), Noise::new(0, "p", 0), tokenizer.terminator_ids(), 4);
        let refused = complete(&decoder, [TokenPrompt { ids, recorder }], NativeOptions { threads: 2, batch: 4 });
        assert!(matches!(refused, Err(CompleteError::Model(_))), "{refused:?}");
    }
}

/// Bytes for the cache and intermediate values of an emulated device.
const MEMORY: usize = 64 << 20;

/// The cases as prompts of token ids.
fn prompts(cases: &[Case]) -> Vec<TokenPrompt> {
    let tokenizer = tokenizer();
    let prompt = |case: &Case| {
        let prompt = EncodedPrompt::new(&tokenizer, &case.request(), 512).expect("encodes");
        TokenPrompt { recorder: prompt.recorder(&tokenizer, &case.request()), ids: prompt.ids }
    };
    cases.iter().map(prompt).collect()
}

#[test]
fn an_emulated_device_draws_the_tokens_of_transformers() {
    let golden = golden();
    let mut adapted = decoder();
    adapted.load_adapter(golden_dir().join("adapter")).expect("loads");
    for (decoder, cases) in [(decoder(), golden.cases), (adapted, golden.adapted)] {
        let device = emulate(|| DeviceDecoder::new(&decoder)).expect("has kernels");
        let options = NativeOptions { threads: 2, batch: 5 };
        let start = NativeGenerator::start_on_device(device, tokenizer(), options, ("emulated".into(), MEMORY));
        let mut generators = start.expect("started");
        assert_eq!(generators.len(), 5);
        assert_eq!(generators[0].engine().device, "emulated");
        let requests: Vec<Request> = cases.iter().map(Case::request).collect();
        let completions = generate_all(&mut generators, &requests);
        cases.iter().zip(&completions).for_each(|(case, completion)| case.check(completion));
    }
}

#[test]
fn a_device_with_little_memory_has_fewer_sequences_side_by_side_and_the_same_tokens() {
    let (mut cases, decoder) = (golden().cases, decoder());
    cases.truncate(7);
    let device = emulate(|| DeviceDecoder::new(&decoder)).expect("has kernels");
    let prompts = prompts(&cases);
    let longest = prompts.iter().map(|prompt| prompt.ids.len() + prompt.recorder.cap()).max().expect("prompts");
    let expected: Vec<Vec<u32>> = cases.iter().map(|case| case.token_ids.clone()).collect();
    let options = NativeOptions { threads: 1, batch: 8 };
    // Room for one of the longest alone, and for some.
    for tokens in [longest, longest * 5 / 2] {
        let memory = device.step_bytes(8) + tokens * device.token_bytes();
        let records = complete_on_device(&device, memory, prompts.clone(), options).expect("completed");
        let ids: Vec<Vec<u32>> = records.into_iter().map(|record| record.expect("finite").token_ids).collect();
        assert_eq!(ids, expected, "{tokens} tokens");
    }
    let memory = device.step_bytes(8) + (longest - 1) * device.token_bytes();
    let error = complete_on_device(&device, memory, prompts.clone(), options).expect_err("too long").to_string();
    assert!(error.contains("the GPU's memory has room for no more keys and values"), "{error}");
    let error = complete_on_device(&device, 1, prompts, options).expect_err("no memory");
    assert!(matches!(error, CompleteError::Memory { memory: 1, .. }), "{error}");
}

#[test]
fn in_16_bits_a_device_records_what_its_forward_pass_gives() {
    let (mut cases, whole) = (golden().cases, decoder());
    cases.truncate(7);
    for dtype in [WeightDtype::Bf16, WeightDtype::F16] {
        let placement = Placement { dtype, ..Placement::default() };
        let placed = emulate(|| whole.placed(&placement)).expect("placed");
        let device = emulate(|| DeviceDecoder::new(&placed)).expect("has kernels");
        let options = NativeOptions { threads: 1, batch: 64 };
        let records = complete_on_device(&device, MEMORY, prompts(&cases), options).expect("completed");
        for (prompt, record) in prompts(&cases).iter().zip(records) {
            let record = record.expect("finite");
            let logps = emulate(|| {
                let batch = PackedBatch::from_sequences([(&prompt.ids[..], &record.token_ids[..])])?;
                placed.frozen().log_probs(&batch)
            });
            let logps = logps.expect("scored").to_vec1::<f32>().expect("float32");
            for (got, expected) in record.logps.iter().zip(logps) {
                assert!((got - expected).abs() < 0.03 * (1.0 + expected.abs()), "{dtype:?}: {got} vs {expected}");
            }
        }
    }
}

#[test]
fn a_device_refuses_what_it_cannot_run() {
    let cpu = DeviceDecoder::new(&decoder()).expect_err("no device").to_string();
    assert!(cpu.contains("expected a GPU, got the CPU"), "{cpu}");
    for (family, lacking) in [("qwen3_moe", "routed experts"), ("qwen3_5", "gated delta nets")] {
        let decoder = Decoder::load(smpo_fixtures::golden("model", family)).expect("loads");
        let error = emulate(|| DeviceDecoder::new(&decoder)).expect_err("no kernels").to_string();
        assert!(error.contains(lacking), "{error}");
    }
    // Weights that give no distribution.
    let decoder = decoder();
    let (_, head) = decoder.trainable().into_iter().find(|(name, _)| name == "lm_head.weight").expect("untied");
    head.set(&head.as_tensor().affine(f64::INFINITY, 0.0).expect("a product")).expect("same shape");
    let device = emulate(|| DeviceDecoder::new(&decoder)).expect("has kernels");
    let options = NativeOptions { threads: 1, batch: 3 };
    for record in complete_on_device(&device, MEMORY, prompts(&golden().cases), options).expect("ran") {
        assert!(matches!(record, Err(LogitsError::NotFinite { step: 0, .. })), "{record:?}");
    }
}
