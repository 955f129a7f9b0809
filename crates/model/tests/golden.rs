//! Every family against PyTorch and transformers: `golden/generate.py` made the files and says what is in them.

mod reference;

use candle_core::Tensor;
use reference::{Expected, case_dir, cases, models_in, relative_difference, values};
use smpo_kernels::{AdamW, AdamWOptions, Parameter, emulate, weighted_sum};
use smpo_model::{
    Decoder, DeviceDecoder, DeviceFeed, DeviceSequence, Feed, PackedBatch, PackedDecoder, Scratch, Sequence, TokenDraw,
};

/// Largest difference allowed, relative to the largest expected value of the same tensor.
const TOLERANCE: f64 = 1e-5;

fn load(case: &str) -> (Decoder, Expected) {
    let decoder = Decoder::load(case_dir(case)).unwrap_or_else(|e| panic!("{case}: {e}"));
    (decoder, Expected::read(case))
}

fn constant(values: &[f32]) -> Tensor {
    Tensor::new(values, &candle_core::Device::Cpu).unwrap()
}

#[test]
fn hidden_states_equal_pytorch() {
    for case in cases() {
        let (decoder, expected) = load(case);
        let batch = expected.batch();
        let hidden = decoder.hidden(&batch).unwrap().to_vec2::<f32>().unwrap();
        let mut rows = hidden.into_iter();
        for (index, sequence) in expected.sequences.iter().enumerate() {
            // The last token predicts nothing and never enters the model.
            let tokens = sequence.prompt.len() + sequence.completion.len() - 1;
            let ours: Vec<f32> = rows.by_ref().take(tokens).flatten().collect();
            let theirs = &sequence.hidden[..ours.len()];
            let difference = relative_difference(&ours, theirs);
            assert!(difference < TOLERANCE, "{case}: sequence {index}: {difference:e}");
        }
    }
}

#[test]
fn log_probs_and_gradients_equal_pytorch() {
    for case in cases() {
        let (decoder, expected) = load(case);
        check_log_probs_and_gradients(case, &decoder, &expected, &expected.batch());
    }
}

/// Against arithmetic in bfloat16, whose 8 bits of precision are rounded to after every operation, forward and back.
const BFLOAT16_TOLERANCE: f64 = 0.05;
/// The same for the direction of the gradient of all parameters together.
const BFLOAT16_COSINE: f64 = 0.99;

#[test]
fn bfloat16_directories_equal_pytorch() {
    for case in models_in("bfloat16") {
        let case = format!("bfloat16/{case}");
        let (decoder, expected) = load(&case);
        let batch = expected.batch();
        // In float32 on the rounded weights nothing else is rounded.
        check_log_probs_and_gradients(&case, &decoder, &expected, &batch);
        let rounded = Expected::read_with_prefix(&case, "bf16.");
        let log_probs = decoder.log_probs(&batch).unwrap();
        let difference = relative_difference(&values(&log_probs), &rounded.log_probs());
        println!("{case}: log-probs: {difference:.1e}");
        assert!(difference < BFLOAT16_TOLERANCE, "{case}: log-probs: {difference:e}");
        let root = weighted_sum(&log_probs, &constant(&rounded.weights())).unwrap();
        let gradients = root.backward().unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (name, variable) in decoder.trainable() {
            ours.extend(values(gradients.get(&variable).unwrap()));
            theirs.extend_from_slice(&rounded.gradients[&name]);
        }
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(&ours, &theirs) / (dot(&ours, &ours) * dot(&theirs, &theirs)).sqrt();
        println!("{case}: cosine of the gradients: {cosine:.5}");
        assert!(cosine > BFLOAT16_COSINE, "{case}: cosine of the gradients: {cosine}");
    }
}

#[test]
fn a_shared_prompt_changes_nothing() {
    for case in cases() {
        let (decoder, expected) = load(case);
        let [chosen, rejected, other] = &expected.sequences[..] else { panic!("{case}: expected three sequences") };
        // two of LongRoPE's sequences need different frequencies
        let mut builder = PackedBatch::builder().turning_at(decoder.spec().turns_at());
        builder.push_shared(&chosen.prompt, &[&chosen.completion, &rejected.completion]).unwrap();
        builder.push_sequence(&other.prompt, &other.completion).unwrap();
        check_log_probs_and_gradients(case, &decoder, &expected, &builder.build().unwrap());
    }
}

fn check_log_probs_and_gradients(case: &str, decoder: &Decoder, expected: &Expected, batch: &PackedBatch) {
    let log_probs = decoder.log_probs(batch).unwrap();
    let difference = relative_difference(&values(&log_probs), &expected.log_probs());
    assert!(difference < TOLERANCE, "{case}: log-probs: {difference:e}");

    let trainable = decoder.trainable();
    let root = weighted_sum(&log_probs, &constant(&expected.weights())).unwrap();
    let gradients = root.backward().unwrap();
    assert_eq!(trainable.len(), expected.gradients.len(), "{case}: every parameter is trainable");
    for (name, variable) in &trainable {
        let ours = gradients.get(variable).unwrap_or_else(|| panic!("{case}: {name}: no gradient"));
        let ours = values(ours);
        assert!(ours.iter().all(|g| g.is_finite()), "{case}: {name}: not finite");
        assert!(ours.iter().any(|g| *g != 0.0), "{case}: {name}: all zero");
        let difference = relative_difference(&ours, &expected.gradients[name]);
        assert!(difference < TOLERANCE, "{case}: gradient of {name}: {difference:e}");
    }
}

#[test]
fn ten_adamw_steps_follow_pytorch() {
    for case in cases() {
        let (decoder, expected) = load(case);
        let batch = expected.batch();
        let parameters = decoder
            .trainable()
            .into_iter()
            .map(|(name, var)| Parameter { name, var, decay: true, full_moments: false })
            .collect();
        let options =
            AdamWOptions { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, ..AdamWOptions::default() };
        let mut optimizer = AdamW::new(parameters, options).unwrap();
        let mut gradients = optimizer.gradients().unwrap();
        for (step, theirs) in expected.adamw_losses.iter().enumerate() {
            let log_probs = decoder.log_probs(&batch).unwrap();
            let count = batch.targets().len();
            let loss = -f64::from(log_probs.sum_all().unwrap().to_scalar::<f32>().unwrap()) / count as f64;
            let difference = (loss - theirs).abs() / theirs.abs();
            assert!(difference < 1e-4, "{case}: step {step}: expected {theirs}, got {loss}");
            gradients.clear();
            let root = weighted_sum(&log_probs, &constant(&vec![-1.0 / count as f32; count])).unwrap();
            gradients.backward(&root).unwrap();
            decoder.fill_idle_experts(&mut gradients);
            optimizer.step(&gradients, 1e-2).unwrap();
        }
    }
}

/// Prompts side by side, each continued by `tokens` likeliest tokens: ids and their log-probs, in nats.
fn greedy(decoder: &PackedDecoder, prompts: &[&[u32]], tokens: usize) -> Vec<(Vec<u32>, Vec<f32>)> {
    let mut sequences: Vec<Sequence> = prompts.iter().map(|p| decoder.sequence(p.len() + tokens)).collect();
    let mut next: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
    let mut continuations = vec![(Vec::new(), Vec::new()); prompts.len()];
    let mut scratch = Scratch::default();
    for _ in 0..tokens {
        let mut feeds: Vec<Feed> =
            sequences.iter_mut().zip(&next).map(|(sequence, tokens)| Feed { sequence, tokens }).collect();
        let logits = decoder.advance(&mut feeds, &mut scratch).unwrap();
        for (index, logits) in logits.chunks_exact(decoder.spec().vocab_size).enumerate() {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let token = logits.iter().position(|z| *z == largest).unwrap() as u32;
            let total: f64 = logits.iter().map(|z| f64::from(z - largest).exp()).sum();
            continuations[index].0.push(token);
            continuations[index].1.push(-total.ln() as f32);
            next[index] = vec![token];
        }
    }
    continuations
}

#[test]
fn greedy_continuations_equal_transformers() {
    for case in cases() {
        let (decoder, expected) = load(case);
        let prompts: Vec<&[u32]> = expected.sequences.iter().map(|s| &s.prompt[..]).collect();
        let packed = decoder.pack().unwrap();
        let together = greedy(&packed, &prompts, 8);
        for (index, sequence) in expected.sequences.iter().enumerate() {
            assert_eq!(together[index].0, sequence.greedy, "{case}: prompt {index}");
            let alone = greedy(&packed, &[&sequence.prompt], 8);
            assert_eq!(alone[0].0, sequence.greedy, "{case}: prompt {index} alone");
            // What the cache makes of each step must be what the whole sequence makes of it at once.
            let whole = PackedBatch::from_sequences([(&sequence.prompt[..], &sequence.greedy[..])]).unwrap();
            let log_probs = decoder.log_probs(&whole).unwrap().to_vec1::<f32>().unwrap();
            let difference = relative_difference(&together[index].1, &log_probs);
            assert!(difference < TOLERANCE, "{case}: prompt {index}: {difference:e}");
        }
    }
}

/// Greedy continuations on a device, with the log-prob of each token.
fn greedy_on_device(decoder: &DeviceDecoder, prompts: &[&[u32]], tokens: usize) -> Vec<(Vec<u32>, Vec<f32>)> {
    let draw =
        TokenDraw { key: [0; 8], step: 0, temperature: 0.0, top_k: None, top_p: None, min_p: None, terminators: &[] };
    let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len() + tokens).collect();
    let mut cache = decoder.cache(lengths.iter().sum()).unwrap();
    let mut sequences: Vec<DeviceSequence> = lengths.iter().map(|length| cache.sequence(*length).unwrap()).collect();
    assert!(!cache.fits(1), "all rows are taken");
    let mut next: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
    let mut continuations = vec![(Vec::new(), Vec::new()); prompts.len()];
    for _ in 0..tokens {
        let mut feeds = Vec::new();
        for (sequence, tokens) in sequences.iter_mut().zip(&next) {
            feeds.push(DeviceFeed { sequence, tokens, draw });
        }
        let drawn = decoder.step(&cache, &mut feeds).unwrap();
        for (index, drawn) in drawn.into_iter().enumerate() {
            let token = drawn.token.unwrap();
            continuations[index].0.push(token);
            continuations[index].1.push((f64::from(drawn.logit) - drawn.log_sum) as f32);
            next[index] = vec![token];
        }
    }
    sequences.drain(..).for_each(|sequence| cache.release(sequence));
    assert!(cache.fits(lengths.iter().sum()));
    continuations
}

#[test]
fn an_emulated_device_continues_as_transformers_does() {
    let mut ran = 0;
    for case in cases() {
        let (decoder, expected) = load(case);
        let spec = decoder.spec();
        if spec.lacks_kernels().is_some() || !spec.head_dim.is_multiple_of(8) {
            continue;
        }
        ran += 1;
        let stacked = decoder.clone().with_stacked_projections().unwrap();
        for (device, layout) in [(&decoder, "as loaded"), (&stacked, "stacked")] {
            let device = emulate(|| DeviceDecoder::new(device)).unwrap();
            let prompts: Vec<&[u32]> = expected.sequences.iter().map(|s| &s.prompt[..]).collect();
            let continuations = greedy_on_device(&device, &prompts, 8);
            for (index, (sequence, (tokens, logps))) in expected.sequences.iter().zip(&continuations).enumerate() {
                assert_eq!(*tokens, sequence.greedy, "{case}, {layout}: prompt {index}");
                let whole = PackedBatch::from_sequences([(&sequence.prompt[..], &sequence.greedy[..])]).unwrap();
                let log_probs = decoder.log_probs(&whole).unwrap().to_vec1::<f32>().unwrap();
                let difference = relative_difference(logps, &log_probs);
                assert!(difference < TOLERANCE, "{case}, {layout}: prompt {index}: {difference:e}");
            }
        }
    }
    assert!(ran >= 6, "{ran} of the families");
}

/// The logits (V) after each token that feeds of these lengths end with, for one sequence.
fn fed_in(decoder: &PackedDecoder, tokens: &[u32], lengths: &[usize]) -> Vec<Vec<f32>> {
    let (mut sequence, mut scratch, mut start) = (decoder.sequence(40), Scratch::default(), 0);
    let mut logits = Vec::new();
    for length in lengths {
        let tokens = &tokens[start..start + length];
        start += length;
        let mut feeds = [Feed { sequence: &mut sequence, tokens }];
        logits.push(decoder.advance(&mut feeds, &mut scratch).unwrap().to_vec());
    }
    logits
}

#[test]
fn what_a_sequence_is_given_depends_on_it_alone_to_the_last_bit() {
    for case in cases() {
        let decoder = Decoder::load(case_dir(case)).unwrap().pack().unwrap();
        let texts: Vec<Vec<u32>> = (0..11).map(|i| (0..3 + 3 * i).map(|t| (i * 7 + t * 5) % 32).collect()).collect();
        let alone: Vec<Vec<f32>> = texts.iter().map(|t| fed_in(&decoder, t, &[t.len()]).remove(0)).collect();
        // In one batch of any size and order.
        for batch in [1, 2, 7, 11] {
            for reversed in [false, true] {
                let mut order: Vec<usize> = (0..texts.len()).collect();
                if reversed {
                    order.reverse();
                }
                for some in order.chunks(batch) {
                    let mut sequences: Vec<_> = some.iter().map(|_| decoder.sequence(40)).collect();
                    let mut feeds: Vec<Feed> = sequences
                        .iter_mut()
                        .zip(some)
                        .map(|(sequence, index)| Feed { sequence, tokens: &texts[*index] })
                        .collect();
                    let mut scratch = Scratch::default();
                    let logits = decoder.advance(&mut feeds, &mut scratch).unwrap();
                    for (logits, index) in logits.chunks_exact(decoder.spec().vocab_size).zip(some) {
                        assert_eq!(logits, alone[*index], "{case}: text {index}, batches of {batch}");
                    }
                }
            }
        }
        // In pieces of any size, where length is nothing to its rope.
        if decoder.spec().turns_at().is_some() {
            continue;
        }
        let text = &texts[10];
        for pieces in [vec![1; text.len()], vec![5, 1, 20, text.len() - 26]] {
            assert_eq!(fed_in(&decoder, text, &pieces).pop(), Some(alone[10].clone()), "{case}: {pieces:?}");
        }
    }
}

#[test]
fn long_prompts_go_through_in_parts_that_change_nothing() {
    let decoder = Decoder::load(case_dir("gemma3")).unwrap().pack().unwrap();
    let text: Vec<u32> = (0..700).map(|t| t * t % 32).collect();
    let room = |tokens: &[&[u32]]| {
        let mut sequence = decoder.sequence(700);
        let mut scratch = Scratch::default();
        let mut logits = Vec::new();
        for tokens in tokens {
            let mut feeds = [Feed { sequence: &mut sequence, tokens }];
            logits = decoder.advance(&mut feeds, &mut scratch).unwrap().to_vec();
        }
        logits
    };
    assert_eq!(room(&[&text]), room(&[&text[..300], &text[300..301], &text[301..]]));
}

#[test]
fn what_cannot_be_taken_in_is_refused_before_anything_is() {
    let decoder = Decoder::load(case_dir("llama")).unwrap().pack().unwrap();
    let mut scratch = Scratch::default();
    let mut sequence = decoder.sequence(3);
    for (tokens, word) in [(&[][..], "at least one"), (&[1, 32], "32"), (&[1, 2, 3, 4], "at most 3")] {
        let mut feeds = [Feed { sequence: &mut sequence, tokens }];
        let error = decoder.advance(&mut feeds, &mut scratch).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(sequence.tokens(), 0);
    }
}
