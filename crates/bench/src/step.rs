//! Timed optimizer steps: the learner of `smpo train` on random weights and synthetic pairs.

use std::time::Instant;

use serde::Serialize;
use smpo_devices::{Kind, OpenDevice, on_device};
use smpo_losses::{Loss, Objective};
use smpo_model::{Decoder, Flops, FourBitOptions, LoraConfig, PackedBatch, Placement, Storage, WeightDtype};
use smpo_trainer::{
    Learner, LearnerOptions, MemoryBudget, Row, StepRow, TokenizedCompletion, TrainConfig, TrainError, synthetic,
};

use crate::error::BenchError;
use crate::peak::{Arithmetic, peak_flops};
use crate::rate;
use crate::shape::Shape;
use crate::spread::Spread;

/// Version of the report's JSON.
const SCHEMA: u32 = 1;

/// Options of a bench.
#[derive(Debug, Clone, Copy)]
pub struct StepBench {
    /// Model sizes.
    pub shape: Shape,
    /// Rank of adapters on every linear layer except the head; `None` trains all weights.
    pub lora_r: Option<usize>,
    /// dtype of weights and activations.
    pub dtype: WeightDtype,
    /// Storage of the weights under adapters.
    pub base: Base,
    /// Tokens per side, prompt included.
    pub length: usize,
    /// Pairs per step.
    pub batch_size: usize,
    /// Pairs per micro-batch.
    pub micro_batch_size: usize,
    /// Timed steps.
    pub steps: usize,
    /// Warm-up steps before the timed ones.
    pub warmup: usize,
    /// Most tokens of a pack; `None`: as `smpo train` chooses.
    pub max_tokens_per_pack: Option<usize>,
    /// Gradient checkpointing: blocks are recomputed in the backward pass.
    pub checkpointing: bool,
    /// Seed of weights and tokens.
    pub seed: u64,
}

/// Storage of the weights under adapters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Base {
    /// The dtype of activations.
    #[default]
    Dense,
    /// bfloat16.
    Bf16,
    /// NF4 with double quantisation, the embedding and the head in bfloat16.
    Nf4,
}

impl Base {
    /// Every storage.
    pub const ALL: [Self; 3] = [Self::Dense, Self::Bf16, Self::Nf4];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Bf16 => "bfloat16",
            Self::Nf4 => "nf4",
        }
    }
}

/// Results of a bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    schema: u32,
    /// Name of the shape.
    pub shape: &'static str,
    /// The device as `--device` spells it.
    pub device: String,
    /// Device name.
    pub device_name: String,
    /// dtype of weights and activations.
    pub dtype: &'static str,
    /// Rank of adapters.
    pub lora_r: Option<usize>,
    /// Storage of the weights under adapters.
    pub base: &'static str,
    /// Gradient checkpointing.
    pub checkpointing: bool,
    /// Tokens per side.
    pub length: usize,
    /// Pairs per step.
    pub batch_size: usize,
    /// Pairs per micro-batch.
    pub micro_batch_size: usize,
    /// Most tokens of a pack.
    pub max_tokens_per_pack: usize,
    /// Number of parameters, adapters not counted.
    pub parameters: usize,
    /// Number of trained parameters.
    pub trained_parameters: usize,
    /// Timed steps.
    pub steps: usize,
    /// Warm-up steps before the timed ones.
    pub warmup: usize,
    /// Tokens per step of a trainer without shared prompts: prompt and completion, the prompt once per side.
    pub tokens: usize,
    /// Tokens per step that the model computed: the prompt once per pair.
    pub packed_tokens: usize,
    /// Seconds per step.
    pub seconds: Spread,
    /// `tokens` per second.
    pub tokens_per_s: Spread,
    /// Model FLOPs per step.
    pub flops: u64,
    /// Model FLOP/s of the median step.
    pub flops_per_s: f64,
    /// Peak FLOP/s that `mfu` is relative to.
    pub peak_flops_per_s: Option<f64>,
    /// Source of the peak: `data sheet` or `measured`.
    pub peak_from: Option<&'static str>,
    /// Model FLOPs utilisation: the median step's share of the peak.
    pub mfu: Option<f64>,
    /// Peak memory, in bytes: of the device's allocations for a GPU, of the process for the CPU.
    pub peak_memory_bytes: Option<u64>,
    /// Losses of the first and the last step: lower at the end if training works.
    pub losses: [f64; 2],
}

impl StepBench {
    /// Creates the model, the learner and the pairs.
    ///
    /// # Errors
    /// When an option is out of range, or the model does not fit the device.
    pub fn prepare(&self, device: &OpenDevice) -> Result<Prepared, BenchError> {
        self.check(device)?;
        let model_config = self.shape.config()?;
        // Before the model takes a part of it.
        let budget = MemoryBudget::of(device);
        let placement = Placement { device: device.device().clone(), dtype: self.dtype };
        let mut decoder = match self.base {
            Base::Dense => Decoder::init_on(&model_config, self.seed, None, &placement)?,
            Base::Bf16 => Decoder::init_frozen(&model_config, self.seed, &placement, &Storage::AsStored)?,
            Base::Nf4 => {
                let options = FourBitOptions { double: true, ..FourBitOptions::default() };
                Decoder::init_frozen(&model_config, self.seed, &placement, &Storage::FourBit(options))?
            }
        };
        if let Some(r) = self.lora_r {
            let targets = vec!["all-linear".to_owned()];
            let lora = LoraConfig { r, alpha: 2.0 * r as f64, targets, ..LoraConfig::default() };
            decoder.add_lora(&lora, self.seed)?;
        }
        let config = self.train_config()?;
        let options = LearnerOptions::of(&config, decoder.spec(), budget, None)?;
        let learner = Learner::new(decoder, Objective::new(config.loss.clone())?, options)?;
        let vocabulary = model_config.spec().vocab_size;
        let rows = synthetic::pairs(self.batch_size, self.length, vocabulary, |_| false, self.seed);
        Ok(Prepared { max_tokens: options.max_tokens, learner, rows, learning_rate: config.learning_rate, steps: 0 })
    }

    /// Runs the bench. `on_progress` is called with the number of steps done, warm-up included.
    ///
    /// # Errors
    /// When an option is out of range, the model does not fit the device, or a step fails.
    pub fn run(&self, device: &OpenDevice, on_progress: &mut dyn FnMut(usize)) -> Result<StepReport, BenchError> {
        on_device(device, || self.time(device, on_progress))
    }

    fn time(&self, device: &OpenDevice, on_progress: &mut dyn FnMut(usize)) -> Result<StepReport, BenchError> {
        let mut prepared = self.prepare(device)?;
        let decoder = prepared.learner.decoder();
        let parameters = decoder.parameter_count();
        let trained_parameters = decoder.trainable().iter().map(|(_, var)| var.elem_count()).sum();
        let batches = prepared.rows.chunks(self.micro_batch_size).map(packed).collect::<Result<Vec<_>, _>>()?;
        let flops: Flops = batches.iter().map(|batch| decoder.flops(batch)).sum();
        let mut seconds = Vec::with_capacity(self.steps);
        let mut losses = [f64::NAN; 2];
        device.reset_peak_memory();
        for step in 0..self.warmup + self.steps {
            device.synchronize()?;
            let began = Instant::now();
            let loss = prepared.step()?;
            device.synchronize()?;
            if step >= self.warmup {
                seconds.push(began.elapsed().as_secs_f64());
            }
            losses = [if step == 0 { loss } else { losses[0] }, loss];
            on_progress(step + 1);
        }
        let peak_memory_bytes = device.peak_memory();
        let (peak_flops_per_s, peak_from) = self.peak(device)?;
        let tokens = prepared.tokens();
        let tokens_per_s = Spread::of(seconds.iter().map(|seconds| tokens as f64 / seconds).collect());
        let seconds = Spread::of(seconds);
        let flops_per_s = flops.total() as f64 / seconds.median;
        Ok(StepReport {
            schema: SCHEMA,
            shape: self.shape.name(),
            device: device.choice().to_string(),
            device_name: device.name().to_owned(),
            dtype: self.dtype.name(),
            lora_r: self.lora_r,
            base: self.base.name(),
            checkpointing: self.checkpointing,
            length: self.length,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size,
            max_tokens_per_pack: prepared.max_tokens,
            parameters,
            trained_parameters,
            steps: self.steps,
            warmup: self.warmup,
            tokens,
            packed_tokens: batches.iter().map(PackedBatch::tokens).sum(),
            seconds,
            tokens_per_s,
            flops: flops.total(),
            flops_per_s,
            peak_flops_per_s,
            peak_from,
            mfu: peak_flops_per_s.map(|peak| flops_per_s / peak),
            peak_memory_bytes,
            losses,
        })
    }

    fn check(&self, device: &OpenDevice) -> Result<(), BenchError> {
        let refuse = |option, expected: &str, got: String| {
            Err(BenchError::Option { option, expected: expected.to_owned(), got })
        };
        if self.length < 2 {
            return refuse("--length", "at least 2", self.length.to_string());
        }
        let counts =
            [("--batch-size", self.batch_size), ("--micro-batch-size", self.micro_batch_size), ("--steps", self.steps)];
        if let Some((option, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return refuse(option, "at least 1", "0".to_owned());
        }
        if self.max_tokens_per_pack == Some(0) {
            return refuse("--max-tokens-per-pack", "at least 1", "0".to_owned());
        }
        if self.lora_r == Some(0) {
            return refuse("--lora-r", "at least 1", "0".to_owned());
        }
        if self.base != Base::Dense && self.lora_r.is_none() {
            return refuse("--base", "--lora-r beside it", self.base.name().to_owned());
        }
        if device.kind() == Kind::Cpu && self.dtype != WeightDtype::F32 {
            return refuse("--dtype", "float32, the only dtype trained on the CPU", self.dtype.name().to_owned());
        }
        Ok(())
    }

    /// Training configuration of the learner.
    fn train_config(&self) -> Result<TrainConfig, BenchError> {
        let config = TrainConfig::builder(Loss::Smpo(Default::default()))
            .model("random")
            .output_dir("none")
            .train_files(["synthetic"])
            .learning_rate(1e-5)
            .max_length(self.length)
            .bf16(self.dtype == WeightDtype::Bf16)
            .fp16(self.dtype == WeightDtype::F16)
            .per_device_train_batch_size(self.micro_batch_size)
            .gradient_checkpointing(self.checkpointing)
            .seed(self.seed);
        let config = match self.max_tokens_per_pack {
            Some(most) => config.max_tokens_per_pack(most),
            None => config,
        };
        Ok(config.build().map_err(TrainError::from)?)
    }

    /// Peak FLOP/s and its source.
    fn peak(&self, device: &OpenDevice) -> Result<(Option<f64>, Option<&'static str>), BenchError> {
        Ok(match device.kind() {
            Kind::Cuda(_) => {
                let arithmetic = match self.dtype {
                    WeightDtype::F32 => Arithmetic::F32,
                    WeightDtype::Bf16 => Arithmetic::Bf16,
                    WeightDtype::F16 => Arithmetic::F16,
                };
                let peak = peak_flops(device.name(), arithmetic);
                (peak, peak.map(|_| "data sheet"))
            }
            Kind::Cpu => (Some(rate::measured(device)?), Some("measured")),
            Kind::Emulated => (None, None),
        })
    }
}

/// A learner and the pairs of each of its steps.
pub struct Prepared {
    /// Most tokens of a pack.
    max_tokens: usize,
    learner: Learner,
    rows: Vec<Row>,
    learning_rate: f64,
    steps: u64,
}

impl Prepared {
    /// Takes one optimizer step; returns the loss, in nats.
    ///
    /// # Errors
    /// When the step fails.
    pub fn step(&mut self) -> Result<f64, BenchError> {
        let rows: Vec<StepRow<'_>> =
            self.rows.iter().map(|row| StepRow { row, reference: None, other: None }).collect();
        let outcome = self.learner.step(&rows, self.steps, self.learning_rate)?;
        self.steps += 1;
        Ok(outcome.evaluation.value)
    }

    /// Tokens per step: prompt and completion, the prompt once per side.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(Row::tokens).sum()
    }
}

fn packed(rows: &[Row]) -> Result<PackedBatch, BenchError> {
    let mut builder = PackedBatch::builder();
    for row in rows {
        let completions: Vec<&[u32]> = row.completions().map(TokenizedCompletion::ids).collect();
        builder.push_shared(&row.prompt, &completions)?;
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use smpo_devices::Choice;

    use super::*;

    fn tiny() -> StepBench {
        StepBench {
            shape: Shape::Tiny,
            lora_r: None,
            dtype: WeightDtype::F32,
            base: Base::Dense,
            length: 16,
            batch_size: 3,
            micro_batch_size: 2,
            steps: 3,
            warmup: 1,
            max_tokens_per_pack: None,
            checkpointing: false,
            seed: 0,
        }
    }

    #[test]
    fn a_tiny_bench_counts_what_it_does() {
        let device = Choice::Cpu.open().unwrap();
        let mut progress = Vec::new();
        let report = tiny().run(&device, &mut |step| progress.push(step)).unwrap();
        assert_eq!(progress, [1, 2, 3, 4]);
        assert_eq!((report.tokens, report.packed_tokens), (3 * 32, 3 * (8 + 7 + 7)));
        assert_eq!(report.trained_parameters, report.parameters);
        let [first, last] = report.losses;
        assert!(last < first, "{first} {last}: the same pairs again must be learnt");
        assert!(report.seconds.min <= report.seconds.median && report.seconds.median <= report.seconds.max);
        assert!(report.mfu.unwrap() > 0.0);
        let small = StepBench { max_tokens_per_pack: Some(24), ..tiny() }.run(&device, &mut |_| {}).unwrap();
        assert_eq!((small.max_tokens_per_pack, report.max_tokens_per_pack > 24), (24, true));
        assert!((small.losses[1] - report.losses[1]).abs() < 1e-5, "packs change nothing but speed and memory");
        let adapted = StepBench { lora_r: Some(4), checkpointing: true, ..tiny() };
        let adapted = adapted.run(&device, &mut |_| {}).unwrap();
        assert!(adapted.trained_parameters < report.parameters && adapted.flops < report.flops);
        for base in [Base::Bf16, Base::Nf4] {
            let packed = StepBench { lora_r: Some(4), base, ..tiny() }.run(&device, &mut |_| {}).unwrap();
            assert_eq!((packed.parameters, packed.flops > 0), (report.parameters, true));
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let device = Choice::Cpu.open().unwrap();
        let refusal = |bench: StepBench| bench.run(&device, &mut |_| {}).unwrap_err().to_string();
        let alone = refusal(StepBench { base: Base::Nf4, ..tiny() });
        assert_eq!(alone, "--base: expected --lora-r beside it, got nf4");
        assert_eq!(refusal(StepBench { length: 1, ..tiny() }), "--length: expected at least 2, got 1");
        let no_tokens = refusal(StepBench { max_tokens_per_pack: Some(0), ..tiny() });
        assert_eq!(no_tokens, "--max-tokens-per-pack: expected at least 1, got 0");
        assert_eq!(refusal(StepBench { steps: 0, ..tiny() }), "--steps: expected at least 1, got 0");
        let refused = refusal(StepBench { dtype: WeightDtype::Bf16, ..tiny() });
        assert_eq!(refused, "--dtype: expected float32, the only dtype trained on the CPU, got bfloat16");
    }
}
