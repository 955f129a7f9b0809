//! `smpo bench step`: whole optimizer steps, timed.

use smpo_bench::{Shape, Spread, StepBench, StepReport};
use smpo_devices::{Kind, OpenDevice};
use smpo_model::WeightDtype;

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
    #[arg(long, value_name = "RANK")]
    lora_r: Option<usize>,
    /// Tokens of each side (chosen, rejected) of a pair, prompt included
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    length: usize,
    /// Pairs per optimizer step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,
    /// Pairs per micro-batch [default: --batch-size]
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<usize>,
    /// Timed steps
    #[arg(long, value_name = "N", default_value_t = 10)]
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
    let progress = Progress::new();
    let device = args.device.open(&progress)?;
    let usual = match device.kind() {
        Kind::Cuda(_) => WeightDtype::Bf16,
        Kind::Cpu | Kind::Emulated => WeightDtype::F32,
    };
    let bench = StepBench {
        shape: args.shape,
        lora_r: args.lora_r,
        dtype: args.dtype.unwrap_or(usual),
        length: args.length,
        batch_size: args.batch_size,
        micro_batch_size: args.micro_batch_size.unwrap_or(args.batch_size),
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
        Format::Text => output::print(&text(&report, &device))?,
    }
    Ok(Exit::Success)
}

fn text(report: &StepReport, device: &OpenDevice) -> String {
    let spread = |spread: &Spread, unit: &str, decimals: usize| {
        let Spread { median, min, max } = spread;
        format!("{median:.decimals$}{unit} ({min:.decimals$} to {max:.decimals$})")
    };
    let tera = |flops: f64| format!("{:.3} TFLOP/s", flops / 1e12);
    let trained = match report.lora_r {
        Some(r) => format!("LoRA r {r}: {} of {}", report.trained_parameters, report.parameters),
        None => format!("all {}", report.parameters),
    };
    let mut table = output::table();
    let mut row = |name: &str, value: String| {
        table.add_row([name, &value]);
    };
    row("shape", report.shape.to_owned());
    row("device", format!("{} ({})", report.device, device.name()));
    row("numbers trained", trained);
    row("dtype", report.dtype.to_owned());
    row("pairs a step", format!("{}, of 2 × {} tokens", report.batch_size, report.length));
    row("checkpointing", if report.checkpointing { "on" } else { "off" }.to_owned());
    row("tokens a step", format!("{}, {} with each prompt once", report.tokens, report.packed_tokens));
    row("steps", format!("{} after {} to warm up", report.steps, report.warmup));
    row("tokens/s", spread(&report.tokens_per_s, "", 0));
    row("seconds a step", spread(&report.seconds, "", 4));
    row("model FLOPs a step", format!("{:.3e}", report.flops as f64));
    row("reached", tera(report.flops_per_s));
    if let (Some(mfu), Some(peak), Some(from)) = (report.mfu, report.peak_flops_per_s, report.peak_from) {
        row("utilisation", format!("{:.1} % of {} ({from})", 100.0 * mfu, tera(peak)));
    }
    if let Some(bytes) = report.peak_memory_bytes {
        row("peak memory", smpo_devices::format_bytes(bytes));
    }
    table.to_string()
}
