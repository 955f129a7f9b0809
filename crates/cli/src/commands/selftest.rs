//! `smpo selftest`: the results of a device against those of the CPU.

use smpo_bench::text;
use smpo_devices::{Choice, Kind};
use smpo_trainer::SelfTest;

use crate::commands::device::DeviceArgs;
use crate::commands::set_threads;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Compare a GPU's results with the CPU's: every kernel, then whole training steps.
#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 every difference within its bound, 1 at least one beyond it, 2 usage error, 4 execution error.

Example:\n  smpo selftest --device cuda"
)]
pub struct SelfTestArgs {
    /// Device: cuda, cuda:N, or emulated (the GPU's kernels on the CPU) [default: a GPU]
    #[arg(long, value_name = "DEVICE", default_value_t, hide_default_value = true)]
    device: Choice,
    /// Print every comparison instead of one line per operation; failures are always printed
    #[arg(long)]
    all: bool,
    /// Some comparisons at the sizes of real runs: 151,936 tokens of vocabulary, 70,000 rows, 8,200 tokens; hours if emulated
    #[arg(long)]
    large: bool,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: SelfTestArgs) -> Outcome {
    set_threads(args.threads)?;
    let progress = Progress::new();
    let device = DeviceArgs { device: args.device }.open(&progress)?;
    if device.kind() == Kind::Cpu {
        let problem = match args.device {
            Choice::Auto => "no GPU to compare with the CPU: give --device emulated to run its kernels without one",
            _ => "--device: expected cuda, cuda:N or emulated, got cpu, the reference of the comparison",
        };
        return Err(Failure::user(problem));
    }
    let report = SelfTest::run(&device, args.large)?;
    match args.format {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text::selftest(&report, args.all))?,
    }
    Ok(if report.passed() { Exit::Success } else { Exit::Fail })
}
