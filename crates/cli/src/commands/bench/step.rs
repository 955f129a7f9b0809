//! `smpo bench step`: whole optimizer steps, timed.

use smpo_bench::{Base, Shape, StepBench, text};
use smpo_model::WeightDtype;

use super::{MOST_RANK, MOST_SEQUENCES, MOST_STEPS, MOST_TOKENS, usual_dtype};
use crate::commands::device::DeviceArgs;
use crate::commands::{named, set_threads};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Time whole optimizer steps of a known model shape, with random weights and synthetic pairs.
#[derive(clap::Args)]
pub struct StepArgs {
    /// Model shape
    #[arg(long, value_parser = named::named(Shape::ALL, Shape::name), default_value = Shape::Tiny.name())]
    shape: Shape,
    #[command(flatten)]
    device: DeviceArgs,
    /// Dtype of weights and activations [default: bfloat16 on a GPU, float32 on the CPU]
    #[arg(long, value_parser = named::dtype())]
    dtype: Option<WeightDtype>,
    /// LoRA rank, on every linear layer [default: full fine-tuning]
    #[arg(long, value_name = "RANK", value_parser = named::up_to(MOST_RANK))]
    lora_r: Option<usize>,
    /// Storage of the weights under adapters: dense (the dtype), bfloat16, or nf4 with double quantisation
    #[arg(long, value_parser = named::named(Base::ALL, Base::name), default_value = Base::default().name())]
    base: Base,
    /// Tokens of each side (chosen, rejected) of a pair, prompt included
    #[arg(long, value_name = "TOKENS", value_parser = named::up_to(MOST_TOKENS), default_value_t = 512)]
    length: usize,
    /// Pairs per optimizer step
    #[arg(long, value_name = "N", value_parser = named::up_to(MOST_SEQUENCES), default_value_t = 8)]
    batch_size: usize,
    /// Pairs per micro-batch [default: --batch-size]
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<usize>,
    /// Most tokens of a pack, which goes through the model at once [default: as train chooses]
    #[arg(long, value_name = "TOKENS")]
    max_tokens_per_pack: Option<usize>,
    /// Timed steps
    #[arg(long, value_name = "N", value_parser = named::up_to(MOST_STEPS), default_value_t = 10)]
    steps: usize,
    /// Warm-up steps, not timed
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: usize,
    /// Gradient checkpointing: recompute activations in the backward pass
    #[arg(long)]
    checkpointing: bool,
    /// Random seed of weights and tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: StepArgs) -> Outcome {
    set_threads(args.threads)?;
    super::refuse_larger(args.batch_size, args.length, "--length")?;
    let progress = Progress::new();
    let device = args.device.open(&progress)?;
    let bench = StepBench {
        shape: args.shape,
        lora_r: args.lora_r,
        dtype: args.dtype.unwrap_or(usual_dtype(&device)),
        base: args.base,
        length: args.length,
        batch_size: args.batch_size,
        micro_batch_size: args.micro_batch_size.unwrap_or(args.batch_size),
        max_tokens_per_pack: args.max_tokens_per_pack,
        steps: args.steps,
        warmup: args.warmup,
        checkpointing: args.checkpointing,
        seed: args.seed,
    };
    let stage = progress.stage("bench", (args.warmup + args.steps) as u64);
    let report = bench.run(&device, &mut |done| stage.update(done as u64, "steps"))?;
    stage.finish("");
    match args.format {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text::step(&report))?,
    }
    Ok(Exit::Success)
}
