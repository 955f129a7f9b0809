//! The order in which the emulator runs warps and lanes: no result depends on it, and no barrier, commit or wait can be
//! left out of a kernel without a result that does.

use crate::comparison::Source;
use candle_core::{DType, Device, Tensor};
use smpo_kernels::decode::{CachedSequence, DeviceCache, device_draw};
use smpo_kernels::{
    AdamW, AdamWOptions, AttentionOptions, DrawnToken, EmulatedSchedule, Gradients, HeadOptions, KernelError,
    NormOptions, Parameter, Segments, Span, Tape, TokenDraw, attention, emulate_scheduled, rms_norm,
    selected_log_probs_with_terminators, weighted_sum,
};
use std::ffi::{CStr, CString};
use std::fs;

type Bits = Result<Vec<u32>, KernelError>;

fn bits(tensors: &[&Tensor]) -> Bits {
    let mut bits = vec![];
    for tensor in tensors {
        bits.extend(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

/// Attention over more than a tile of keys, and its gradients.
fn attention_in(dtype: DType) -> Bits {
    let mut source = Source::new(4);
    let spans = vec![Span::new(0..70), Span::with_prefix(70..120, 0..70)];
    let mut var = |heads: usize| candle_core::Var::from_tensor(&source.tensor(&[120, heads, 32]).to_dtype(dtype)?);
    let [q, k, v] = [var(2)?, var(1)?, var(1)?];
    let segments = Segments::new(spans)?;
    let (tape, out) = Tape::record(|| attention(&q, &k, &v, &segments, AttentionOptions::for_width(32)));
    let out = out?;
    let mut others = tape.backward(&out, &out.detach(), &mut Gradients::default())?;
    let mut all = bits(&[&out])?;
    for var in [&q, &k, &v] {
        all.extend(bits(&[&others.remove(var)?.expect("a gradient")])?);
    }
    Ok(all)
}

fn attention_bf16() -> Bits {
    attention_in(DType::BF16)
}

fn attention_f32() -> Bits {
    attention_in(DType::F32)
}

/// Rows that belong to several warps each; several sums a row, one after the other.
fn head() -> Bits {
    let mut source = Source::new(5);
    let (x, weight, targets) = (source.tensor(&[5, 16]), source.tensor(&[1100, 16]), source.ids(5, 1100));
    let options = HeadOptions { soft_cap: None, chunk: 512 };
    let scores = selected_log_probs_with_terminators(&x, &weight, &targets, &[3, 97], options)?;
    let mut all = bits(&[&scores.log_probs])?;
    all.extend(scores.terminators.iter().flat_map(|score| [score.log_prob.to_bits(), score.rank]));
    Ok(all)
}

/// A norm, and its factors' gradient.
fn norm() -> Bits {
    let mut source = Source::new(6);
    let (x, weight) = (source.var(&[40, 33]), source.var(&[33]));
    let mut gradients = Gradients::new([("weight", &weight)])?;
    let (tape, out) = Tape::record(|| rms_norm(&x, &weight, NormOptions { eps: 1e-6, unit_offset: false }));
    let out = out?;
    tape.backward(&out, &out.detach(), &mut gradients)?;
    bits(&[&out, &gradients.tensor(&weight)?.expect("a gradient")])
}

/// A sum of products and a step of the optimizer with its norm.
fn step() -> Bits {
    let mut source = Source::new(7);
    let (var, weights) = (source.var(&[20_000]), source.tensor(&[20_000]));
    let parameter = Parameter { name: "p".into(), var: var.clone(), decay: true, full_moments: false };
    let options = AdamWOptions { max_grad_norm: Some(1.0), ..AdamWOptions::default() };
    let mut adamw = AdamW::new(vec![parameter], options)?;
    let mut gradients = adamw.gradients()?;
    let (tape, sum) = Tape::record(|| weighted_sum(&var, &weights));
    let sum = sum?;
    tape.backward(&sum, &Tensor::new(1f32, &Device::Cpu)?, &mut gradients)?;
    let norm = adamw.step_scaled(&gradients, 0.01, 1.0)?.grad_norm as f32;
    let mut all = bits(&[&sum, &var])?;
    all.push(norm.to_bits());
    Ok(all)
}

/// Attention to a cache of more than one split, with more than one tile in each.
fn cached_attention() -> Bits {
    let mut source = Source::new(8);
    let cache = DeviceCache::new(&Device::Cpu, DType::BF16, 1, [1, 32], 330)?;
    let mut tensor = |shape: &[usize]| source.tensor(shape).to_dtype(DType::BF16);
    let (keys, values, queries) = (tensor(&[330, 1, 32])?, tensor(&[330, 1, 32])?, tensor(&[1, 2, 32])?);
    cache.write(0, &keys, &values, &cache.places(&(0..330).collect::<Vec<u32>>())?)?;
    let mut sequences = cache.queries(vec![CachedSequence { first_row: 0, position: 329 }])?;
    bits(&[&cache.attend(0, &queries, &mut sequences, AttentionOptions::for_width(32))?])
}

/// Draws by every filter, from more than one part of the vocabulary.
fn draw() -> Bits {
    let logits = Source::new(9).tensor(&[4, 2_100]);
    let plain = TokenDraw {
        key: [7; 8],
        step: 1,
        temperature: 1.0,
        top_k: None,
        top_p: None,
        min_p: None,
        terminators: &[5, 9],
    };
    let draws = [
        plain,
        TokenDraw { top_k: Some(40), ..plain },
        TokenDraw { top_k: Some(1500), top_p: Some(0.4), ..plain },
        TokenDraw { top_p: Some(0.7), min_p: Some(0.1), ..plain },
    ];
    let drawn = device_draw(&logits, None, &draws)?;
    let bits = |drawn: DrawnToken| {
        let sums = [drawn.log_sum, drawn.terminator_log_sum].map(|sum| (sum as f32).to_bits());
        [drawn.token.unwrap_or(u32::MAX), drawn.logit.to_bits(), sums[0], sums[1]]
    };
    Ok(drawn.into_iter().flat_map(bits).collect())
}

/// A run, and the files whose barriers, commits and waits it reaches, all of them.
type Case = (&'static str, fn() -> Bits, &'static [&'static str]);

const CASES: [Case; 7] = [
    ("attention in bf16", attention_bf16, &["attention_forward.cu", "attention_backward.cu"]),
    ("attention in f32", attention_f32, &["attention_forward.cu", "attention_backward.cu"]),
    ("head", head, &["elements.cuh"]),
    ("norm", norm, &["column_sums.cu"]),
    ("step", step, &["adamw.cu", "weighted_sum.cu"]),
    ("cached attention", cached_attention, &["cached_attention.cu"]),
    ("draw", draw, &["draw.cu"]),
];

/// Files whose barriers order one block after another: blocks run whole here, so that the race detector alone tries what is left out of
/// them (`tests/sanitizers/run mutants`).
const BETWEEN_BLOCKS: [&str; 1] = ["last_block.cuh"];

const SEEDS: std::ops::Range<u64> = 0..6;

fn under(seed: u64, omitted: Option<(&'static CStr, u32)>, run: fn() -> Bits) -> Bits {
    emulate_scheduled(EmulatedSchedule { seed: Some(seed), omitted }, run)
}

#[test]
fn results_are_equal_bit_by_bit_under_every_schedule() {
    for (name, run, _) in CASES {
        let once = under(0, None, run).unwrap();
        assert!(once.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{name}");
        for seed in SEEDS {
            assert!(under(seed, None, run).unwrap() == once, "{name}, seed {seed}");
        }
    }
}

/// Files and lines of the kernels that order threads or copies: each a statement on a line of its own.
fn sites() -> Vec<(String, u32)> {
    let calls = ["__syncthreads(", "__syncwarp(", "copy_async_commit(", "copy_async_wait<"];
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/device/cuda");
    let mut sites = vec![];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        // platform.cuh defines them.
        if file == "platform.cuh" || BETWEEN_BLOCKS.contains(&&file[..]) {
            continue;
        }
        for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if calls.iter().any(|call| code.contains(call)) {
                let alone = calls.iter().any(|call| code.trim().starts_with(call)) && code.trim().ends_with(");");
                assert!(alone, "{file}:{}: more than the call on its line: {line}", index + 1);
                sites.push((file.clone(), index as u32 + 1));
            }
        }
    }
    sites
}

#[test]
fn no_barrier_commit_or_wait_can_be_left_out_unnoticed() {
    let sites = sites();
    for file in CASES.iter().flat_map(|(_, _, files)| *files) {
        assert!(sites.iter().any(|(own, _)| own == file), "{file}: nothing to leave out any more: mend CASES");
    }
    let mut tried = 0;
    let mut unnoticed = vec![];
    for (file, line) in &sites {
        let cases = CASES.iter().filter(|(_, _, files)| files.contains(&&file[..])).collect::<Vec<_>>();
        assert!(!cases.is_empty(), "{file}:{line}: no case reaches it: add one to CASES");
        let name: &'static CStr = Box::leak(CString::new(&file[..]).unwrap().into_boxed_c_str());
        for (case, run, _) in cases {
            let intact = under(0, None, *run).unwrap();
            tried += 1;
            if !SEEDS.into_iter().any(|seed| under(seed, Some((name, *line)), *run).ok() != Some(intact.clone())) {
                unnoticed.push(format!("{file}:{line} in {case}"));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{} of {tried} unnoticed: {unnoticed:?}", unnoticed.len());
}
