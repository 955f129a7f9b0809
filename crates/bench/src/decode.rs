//! Timed steps of sampling: one token for each sequence of a batch, on random weights.

use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use smpo_devices::{Kind, OpenDevice, on_device};
use smpo_model::{
    Decoder, DeviceDecoder, DeviceFeed, DeviceSequence, Feed, PackedDecoder, Placement, Scratch, Sequence,
    SequenceCache, Storage, TokenDraw, WeightDtype,
};

use crate::bandwidth;
use crate::error::BenchError;
use crate::shape::Shape;
use crate::spread::Spread;

/// Version of the report's JSON.
const SCHEMA: u32 = 1;

/// Options of a bench.
#[derive(Debug, Clone, Copy)]
pub struct DecodeBench {
    /// Model sizes.
    pub shape: Shape,
    /// dtype of weights, activations and cache.
    pub dtype: WeightDtype,
    /// Sequences.
    pub batch_size: usize,
    /// Tokens of each sequence before the first timed step, those of the warm-up included.
    pub context: usize,
    /// Timed steps.
    pub steps: usize,
    /// Warm-up steps before the timed ones.
    pub warmup: usize,
    /// Seed of weights and tokens.
    pub seed: u64,
}

/// Results of a bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecodeReport {
    schema: u32,
    /// Name of the shape.
    pub shape: &'static str,
    /// The device as `--device` spells it.
    pub device: String,
    /// Device name.
    pub device_name: String,
    /// dtype of weights, activations and cache.
    pub dtype: &'static str,
    /// Sequences.
    pub batch_size: usize,
    /// Tokens of each sequence before the first timed step.
    pub context: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// Timed steps.
    pub steps: usize,
    /// Warm-up steps before the timed ones.
    pub warmup: usize,
    /// Seconds of the prompts' pass.
    pub prompt_seconds: f64,
    /// Seconds per step.
    pub seconds: Spread,
    /// Tokens of all sequences per second.
    pub tokens_per_s: Spread,
    /// Bytes of weights, keys and values that a step has to read, on average.
    pub bytes: u64,
    /// `bytes` per second of the median step.
    pub bytes_per_s: f64,
    /// Bandwidth that `share` is relative to, measured.
    pub bandwidth_bytes_per_s: Option<f64>,
    /// The median step's share of the bandwidth.
    pub share: Option<f64>,
    /// Peak memory, in bytes: of the device's allocations for a GPU, of the process for the CPU.
    pub peak_memory_bytes: Option<u64>,
}

impl DecodeBench {
    /// Runs the bench. `on_progress` is called with the number of steps done, warm-up included.
    ///
    /// # Errors
    /// When an option is out of range, the model does not fit the device, or a step fails.
    pub fn run(&self, device: &OpenDevice, on_progress: &mut dyn FnMut(usize)) -> Result<DecodeReport, BenchError> {
        on_device(device, || self.time(device, on_progress))
    }

    fn time(&self, device: &OpenDevice, on_progress: &mut dyn FnMut(usize)) -> Result<DecodeReport, BenchError> {
        self.check(device)?;
        let bandwidth = bandwidth::measured(device)?;
        let config = self.shape.config()?;
        let placement = Placement { device: device.device().clone(), dtype: self.dtype };
        let decoder = Decoder::init_frozen(&config, self.seed, &placement, &Storage::default())?;
        let parameters = decoder.parameter_count();
        let bytes = self.bytes(&decoder, parameters);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let vocabulary = config.spec().vocab_size as u32;
        let prompt = self.context - self.warmup;
        let mut draw = || (0..prompt).map(|_| random.random_range(0..vocabulary)).collect();
        let mut next: Vec<Vec<u32>> = (0..self.batch_size).map(|_| draw()).collect();
        device.reset_peak_memory();
        let mut batch = Batch::new(decoder, device, self.batch_size, self.context + self.steps)?;
        let began = Instant::now();
        let mut tokens = batch.step(&next, 0)?;
        device.synchronize()?;
        let prompt_seconds = began.elapsed().as_secs_f64();
        let mut seconds = Vec::with_capacity(self.steps);
        for step in 0..self.warmup + self.steps {
            next = tokens.iter().map(|token| vec![*token]).collect();
            let began = Instant::now();
            tokens = batch.step(&next, step as u64 + 1)?;
            if step >= self.warmup {
                seconds.push(began.elapsed().as_secs_f64());
            }
            on_progress(step + 1);
        }
        let rate = |seconds: &f64| self.batch_size as f64 / seconds;
        let tokens_per_s = Spread::of(seconds.iter().map(rate).collect());
        let seconds = Spread::of(seconds);
        let bytes_per_s = bytes as f64 / seconds.median;
        Ok(DecodeReport {
            schema: SCHEMA,
            shape: self.shape.name(),
            device: device.choice().to_string(),
            device_name: device.name().to_owned(),
            dtype: self.dtype.name(),
            batch_size: self.batch_size,
            context: self.context,
            parameters,
            steps: self.steps,
            warmup: self.warmup,
            prompt_seconds,
            seconds,
            tokens_per_s,
            bytes,
            bytes_per_s,
            bandwidth_bytes_per_s: bandwidth,
            share: bandwidth.map(|bandwidth| bytes_per_s / bandwidth),
            peak_memory_bytes: device.peak_memory(),
        })
    }

    /// Bytes that a step has to read: every weight once, but of an embedding that is not the head too a row for each sequence; and
    /// keys and values.
    fn bytes(&self, decoder: &Decoder, parameters: usize) -> u64 {
        let spec = decoder.spec();
        let embedding = if spec.tied { 0 } else { spec.vocab_size * spec.hidden_size };
        let weights = (parameters - embedding) * self.dtype.bytes();
        let cached = spec.cached_bytes(self.dtype) * self.batch_size;
        (weights + cached * (2 * self.context + self.steps + 1) / 2) as u64
    }

    fn check(&self, device: &OpenDevice) -> Result<(), BenchError> {
        let refuse = |option, expected: &str, got: String| {
            Err(BenchError::Option { option, expected: expected.to_owned(), got })
        };
        if let Some((option, _)) =
            [("--batch-size", self.batch_size), ("--steps", self.steps)].into_iter().find(|(_, count)| *count == 0)
        {
            return refuse(option, "at least 1", "0".to_owned());
        }
        if self.context <= self.warmup {
            return refuse("--context", "more than --warmup", self.context.to_string());
        }
        if device.kind() == Kind::Cpu && self.dtype != WeightDtype::F32 {
            return refuse("--dtype", "float32, the dtype of sampling on the CPU", self.dtype.name().to_owned());
        }
        Ok(())
    }
}

/// A decoder with the sequences of a batch.
enum Batch {
    Cpu { decoder: PackedDecoder, sequences: Vec<Sequence>, scratch: Scratch },
    Device { decoder: DeviceDecoder, cache: SequenceCache, sequences: Vec<DeviceSequence> },
}

impl Batch {
    /// `count` empty sequences that may grow to `room` tokens each.
    fn new(decoder: Decoder, device: &OpenDevice, count: usize, room: usize) -> Result<Self, BenchError> {
        if device.kind() == Kind::Cpu {
            let decoder = decoder.pack()?;
            let sequences = (0..count).map(|_| decoder.sequence(room)).collect();
            return Ok(Self::Cpu { decoder, sequences, scratch: Scratch::default() });
        }
        let decoder = DeviceDecoder::new(&decoder.with_stacked_projections()?)?;
        let mut cache = decoder.cache(count * room)?;
        let sequences = (0..count).filter_map(|_| cache.sequence(room)).collect();
        Ok(Self::Device { decoder, cache, sequences })
    }

    /// Feeds each sequence and gives the token that follows: on the CPU the likeliest, on a device one drawn at temperature 1.
    fn step(&mut self, tokens: &[Vec<u32>], step: u64) -> Result<Vec<u32>, BenchError> {
        match self {
            Self::Cpu { decoder, sequences, scratch } => {
                let mut feeds: Vec<Feed<'_>> =
                    sequences.iter_mut().zip(tokens).map(|(sequence, tokens)| Feed { sequence, tokens }).collect();
                let logits = decoder.advance(&mut feeds, scratch)?;
                Ok(logits.chunks_exact(decoder.spec().vocab_size).map(likeliest).collect())
            }
            Self::Device { decoder, cache, sequences } => {
                let draw = |index: usize| TokenDraw {
                    key: [index as u32; 8],
                    step,
                    temperature: 1.0,
                    top_k: None,
                    top_p: None,
                    min_p: None,
                    terminators: &[],
                };
                let feeds = sequences.iter_mut().zip(tokens).enumerate();
                let mut feeds: Vec<DeviceFeed<'_>> = feeds
                    .map(|(index, (sequence, tokens))| DeviceFeed { sequence, tokens, draw: draw(index) })
                    .collect();
                let drawn = decoder.step(cache, &mut feeds)?;
                Ok(drawn.into_iter().map(|drawn| drawn.token.unwrap_or_default()).collect())
            }
        }
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let largest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    largest.map_or(0, |(index, _)| index as u32)
}

#[cfg(test)]
mod tests {
    use smpo_devices::Choice;

    use super::*;

    fn tiny() -> DecodeBench {
        DecodeBench {
            shape: Shape::Tiny,
            dtype: WeightDtype::F32,
            batch_size: 3,
            context: 10,
            steps: 4,
            warmup: 2,
            seed: 0,
        }
    }

    #[test]
    fn a_tiny_bench_counts_what_it_reads() {
        for device in [Choice::Cpu, Choice::Emulated] {
            let device = device.open().unwrap();
            let mut progress = Vec::new();
            let report = tiny().run(&device, &mut |step| progress.push(step)).unwrap();
            assert_eq!(progress, [1, 2, 3, 4, 5, 6]);
            // Two layers of 2 · 2 key heads of 16 in four bytes; 10 to 13 tokens and the one that is fed.
            let cached = 2 * 2 * 2 * 16 * 4 * 3;
            assert_eq!(report.bytes as usize, report.parameters * 4 + cached * 25 / 2);
            assert!((report.bytes_per_s * report.seconds.median - report.bytes as f64).abs() < 1.0);
            assert!(report.seconds.min > 0.0 && report.tokens_per_s.max >= report.tokens_per_s.median);
            assert_eq!(report.share.is_some(), device.kind() == Kind::Cpu);
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let device = Choice::Cpu.open().unwrap();
        let refusal = |bench: DecodeBench| bench.run(&device, &mut |_| {}).unwrap_err().to_string();
        let short = refusal(DecodeBench { context: 2, ..tiny() });
        assert_eq!(short, "--context: expected more than --warmup, got 2");
        assert_eq!(refusal(DecodeBench { batch_size: 0, ..tiny() }), "--batch-size: expected at least 1, got 0");
        let dtype = refusal(DecodeBench { dtype: WeightDtype::Bf16, ..tiny() });
        assert_eq!(dtype, "--dtype: expected float32, the dtype of sampling on the CPU, got bfloat16");
    }
}
