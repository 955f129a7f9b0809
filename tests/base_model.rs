//! The shipped base model under three implementations: PyTorch (golden file), the project's own decoder, mistral.rs.

use std::path::PathBuf;

use serde::Deserialize;
use smpo_chat::Message;
use smpo_data::Record;
use smpo_fixtures::{demo, repository};
use smpo_model::{Decoder, PackedBatch};
use smpo_native::{NativeOptions, TokenPrompt, complete};
use smpo_sampling::{Noise, Recorder, Sampler};
use smpo_tokenizer::ChatTokenizer;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    reference: String,
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
    /// log p of each completion token, in nats.
    logps: Vec<f32>,
    /// log p of every token of the vocabulary after the prompt, in nats.
    first_row: Vec<f32>,
    greedy: Vec<u32>,
}

fn base() -> PathBuf {
    demo("base")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(repository().join("tests/golden/base_model.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.cases.len(), 6);
    golden.cases
}

fn user(content: &str) -> Vec<Message> {
    vec![Message::user(content)]
}

fn assert_close(what: &str, ours: &[f32], pytorch: &[f32], tolerance: f64) {
    smpo_fixtures::assert_close(what, ours, pytorch, |pytorch| tolerance * (1.0 + pytorch.abs()));
}

#[test]
fn the_tokenizer_reads_conversations_as_transformers_does() {
    let tokenizer = ChatTokenizer::from_model_dir(base()).unwrap();
    for case in cases() {
        let completion = [Message::assistant(case.reference.clone())];
        let ids = tokenizer.encode_completion(&user(&case.prompt), &completion).unwrap();
        assert_eq!(ids.prompt_ids, case.prompt_ids, "{}", case.prompt);
        assert_eq!(ids.completion_ids, case.completion_ids, "{}", case.reference);
    }
}

#[test]
fn the_decoder_computes_what_pytorch_computes() {
    let decoder = Decoder::load(base()).unwrap();
    for case in cases() {
        let packed =
            PackedBatch::from_sequences([(case.prompt_ids.as_slice(), case.completion_ids.as_slice())]).unwrap();
        let logps = decoder.log_probs(&packed).unwrap().to_vec1::<f32>().unwrap();
        assert_close("token", &logps, &case.logps, 1e-5);

        // Every token of the vocabulary as a completion of its own: the whole row of logits, up to its constant.
        let vocabulary: Vec<[u32; 1]> = (0..case.first_row.len() as u32).map(|id| [id]).collect();
        let mut builder = PackedBatch::builder();
        let completions: Vec<&[u32]> = vocabulary.iter().map(|id| id.as_slice()).collect();
        builder.push_shared(&case.prompt_ids, &completions).unwrap();
        let row = decoder.log_probs(&builder.build().unwrap()).unwrap().to_vec1::<f32>().unwrap();
        assert_close("vocabulary entry", &row, &case.first_row, 1e-5);
    }
}

#[test]
fn the_decoder_continues_greedily_as_transformers_does() {
    let decoder = Decoder::load(base()).unwrap();
    let cases = cases();
    let greedy = |case: &Case| TokenPrompt {
        ids: case.prompt_ids.clone(),
        recorder: Recorder::new(Sampler::greedy(), Noise::new(0, "", 0), &[2], 48),
    };
    let ours = complete(&decoder.pack().unwrap(), cases.iter().map(greedy), NativeOptions::default()).unwrap();
    for (case, ours) in cases.iter().zip(ours) {
        assert_eq!(ours.unwrap().token_ids, case.greedy, "{}", case.prompt);
    }
}

#[cfg(feature = "mistralrs")]
#[test]
fn mistral_rs_continues_greedily_as_the_decoder_does() {
    use smpo_inference::{Generator, MistralConfig, MistralEngine, Request};

    let mut engine = MistralEngine::load(base(), &MistralConfig::default()).unwrap();
    for case in cases() {
        let request = Request {
            prompt_id: case.prompt.clone(),
            sample: 0,
            messages: user(&case.prompt),
            sampler: Sampler::greedy(),
            max_tokens: 48,
            seed: 0,
            extra_body: Default::default(),
        };
        let completion = engine.generate(&request).unwrap();
        assert_eq!(completion.token_ids.as_deref(), Some(case.greedy.as_slice()), "{}", case.prompt);
    }
}

#[test]
fn every_completion_of_the_demo_data_ends_in_exactly_one_terminator() {
    let tokenizer = ChatTokenizer::from_model_dir(base()).unwrap();
    let check = |completion: &[u32], id: &str| {
        let terminators = completion.iter().filter(|token| tokenizer.is_terminator(**token)).count();
        assert_eq!(terminators, 1, "{id}");
        assert!(tokenizer.is_terminator(completion[completion.len() - 1]), "{id}");
    };
    let read = |name: &str| smpo_data::read_pairs(demo(name)).unwrap();
    let pairs: Vec<_> = read("preferences.jsonl").into_iter().chain(read("held_out.jsonl")).collect();
    assert_eq!(pairs.len(), 1360);
    for pair in &pairs {
        let ids = tokenizer.encode_completions(&pair.prompt, &[&pair.chosen, &pair.rejected]).unwrap();
        ids.completion_ids.iter().for_each(|completion| check(completion, &pair.id));
    }
    let examples = smpo_data::records(demo("sft.jsonl.gz")).unwrap();
    for row in examples.step_by(20) {
        let Record::Example(example) = row.unwrap().record else { panic!("expected instruction examples") };
        let ids = tokenizer.encode_completion(&example.prompt, &example.completion).unwrap();
        check(&ids.completion_ids, &example.id);
    }
}
