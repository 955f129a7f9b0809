//! `smpo bench decode`: steps of sampling, timed.

use smpo_bench::{DecodeBench, Shape, text};
use smpo_model::WeightDtype;

use super::{MOST_SEQUENCES, MOST_STEPS, MOST_TOKENS, usual_dtype};
use crate::commands::device::DeviceArgs;
use crate::commands::{named, set_threads};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Time steps of sampling of a known model shape: one token for each sequence of a batch, with random weights.
#[derive(clap::Args)]
pub struct DecodeArgs {
    /// Model shape
    #[arg(long, value_parser = named::named(Shape::ALL, Shape::name), default_value = Shape::Tiny.name())]
    shape: Shape,
    #[command(flatten)]
    device: DeviceArgs,
    /// Dtype of weights, activations and cache [default: bfloat16 on a GPU, float32 on the CPU]
    #[arg(long, value_parser = named::dtype())]
    dtype: Option<WeightDtype>,
    /// Sequences that are sampled side by side
    #[arg(long, value_name = "N", value_parser = named::up_to(MOST_SEQUENCES), default_value_t = 64)]
    batch_size: usize,
    /// Tokens of each sequence before the first timed step
    #[arg(long, value_name = "TOKENS", value_parser = named::up_to(MOST_TOKENS), default_value_t = 1024)]
    context: usize,
    /// Timed steps
    #[arg(long, value_name = "N", value_parser = named::up_to(MOST_STEPS), default_value_t = 20)]
    steps: usize,
    /// Warm-up steps, not timed
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: usize,
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
pub fn run(args: DecodeArgs) -> Outcome {
    set_threads(args.threads)?;
    super::refuse_larger(args.batch_size, args.context, "--context")?;
    let progress = Progress::new();
    let device = args.device.open(&progress)?;
    let bench = DecodeBench {
        shape: args.shape,
        dtype: args.dtype.unwrap_or(usual_dtype(&device)),
        batch_size: args.batch_size,
        context: args.context,
        steps: args.steps,
        warmup: args.warmup,
        seed: args.seed,
    };
    let stage = progress.stage("bench", (args.warmup + args.steps) as u64);
    let report = bench.run(&device, &mut |done| stage.update(done as u64, "steps"))?;
    stage.finish("");
    match args.format {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text::decode(&report))?,
    }
    Ok(Exit::Success)
}
