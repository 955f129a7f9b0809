//! Speed: training steps of a small model, and a model's own completions.

use std::time::{Duration, Instant};

use serde::Serialize;
use smpo_bench::{Base, Shape, StepBench};
use smpo_chat::Message;
use smpo_devices::{Choice, Kind};
use smpo_model::{ModelDir, ModelInfo, Placement, Storage, WeightDtype};
use smpo_native::{NativeOptions, TokenPrompt, complete};
use smpo_sampling::{Noise, Recorder, Sampler};
use smpo_tokenizer::ChatTokenizer;
use smpo_trainer::MemoryBudget;

use crate::exit::{Failure, OrFail};
use crate::progress::Progress;

/// Completions in flight, as `smpo eval` has them.
const BATCH: usize = 16;

/// Time that completions are measured for.
const MEASURED: Duration = Duration::from_secs(5);

/// Bytes of a parameter of a model that generates.
const BYTES_LOADED: u64 = 4;

/// Estimated speed of a model, in tokens per second.
#[derive(Serialize)]
pub struct ModelSpeed {
    /// Training all weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_all_weights: Option<f64>,
    /// Training adapters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_adapters: Option<f64>,
    /// Completions, all in flight together; absent for a model that is too large to be loaded beside others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<f64>,
}

impl ModelSpeed {
    /// Estimates training from the FLOP/s of steps: 6 FLOPs a parameter and token, 4 where the weights have no gradient.
    pub fn new(info: &ModelInfo, flops: Option<f64>, generate: Option<f64>) -> Self {
        let active = (info.parameters - info.spec.idle_parameters()) as f64;
        let per_token = |each: f64| flops.map(|flops| flops / (each * active));
        ModelSpeed { train_all_weights: per_token(6.0), train_adapters: per_token(4.0), generate }
    }
}

/// FLOP/s of training steps on this machine's device.
pub fn training_flops(progress: &Progress) -> Result<Option<f64>, Failure> {
    let device = Choice::Auto.open()?;
    let bench = StepBench {
        shape: Shape::SixMillion,
        lora_r: None,
        dtype: if matches!(device.kind(), Kind::Cuda(_)) { WeightDtype::Bf16 } else { WeightDtype::F32 },
        base: Base::default(),
        length: 256,
        batch_size: 4,
        micro_batch_size: 4,
        steps: 3,
        warmup: 1,
        max_tokens_per_pack: None,
        checkpointing: false,
        seed: 0,
    };
    let stage = progress.stage("speed of training", (bench.warmup + bench.steps) as u64);
    let report = bench.run(&device, &mut |done| stage.update(done as u64, ""))?;
    stage.finish("");
    Ok(Some(report.flops_per_s).filter(|flops| flops.is_finite()))
}

/// Tokens per second of completions by the native engine, all cores and [`BATCH`] requests at a time; `None` for a model
/// that would take more than half of the free memory.
pub fn generation(
    dir: &ModelDir,
    info: &ModelInfo,
    tokenizer: &ChatTokenizer,
    progress: &Progress,
) -> Result<Option<f64>, Failure> {
    if (info.parameters as u64).saturating_mul(BYTES_LOADED) > MemoryBudget::host().free() / 2 {
        return Ok(None);
    }
    let ids = tokenizer.encode_prompt(&[Message::user("Tell me a story.")])?;
    let decoder = dir.load_frozen(&Placement::default(), &Storage::default())?.pack().or_execution_error()?;
    let stage = progress.stage("speed of completions", MEASURED.as_secs());
    let options = NativeOptions { threads: rayon::current_num_threads(), batch: BATCH };
    let (began, mut tokens, mut cap) = (Instant::now(), 0, 4);
    // Without terminators each completion has its full length; the rounds get longer, so that the first is short.
    while began.elapsed() < MEASURED {
        let prompt = |sample| TokenPrompt {
            ids: ids.clone(),
            recorder: Recorder::new(Sampler::temperature(1.0), Noise::new(0, "speed", sample), &[], cap),
        };
        let records = complete(&decoder, (0..BATCH as u32).map(prompt), options).or_execution_error()?;
        tokens += records.iter().flatten().map(|record| record.token_ids.len()).sum::<usize>();
        cap = (2 * cap).min(32);
        stage.update(began.elapsed().as_secs(), "");
    }
    stage.finish("");
    Ok(Some(tokens as f64 / began.elapsed().as_secs_f64()))
}
