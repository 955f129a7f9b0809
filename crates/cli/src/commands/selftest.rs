//! `smpo selftest`: the results of a device against those of the CPU.

use comfy_table::CellAlignment;
use smpo_devices::Kind;
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
    #[command(flatten)]
    device: DeviceArgs,
    /// Print every comparison instead of one line per operation; failures are always printed
    #[arg(long)]
    all: bool,
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
    let device = args.device.open(&progress)?;
    if device.kind() == Kind::Cpu {
        return Err(Failure::user(
            "--device: expected cuda, cuda:N or emulated, got cpu, the reference of the comparison",
        ));
    }
    let report = SelfTest::run(&device)?;
    match args.format {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report, args.all))?,
    }
    Ok(if report.passed() { Exit::Success } else { Exit::Fail })
}

fn text(report: &SelfTest, all: bool) -> String {
    let mut table = output::table();
    table.set_header(["operation", "dtype", "shapes", "difference", "bound", ""]);
    for column in table.column_iter_mut().skip(3).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let difference =
        |value: Option<f64>| value.map_or_else(|| "not a number".to_owned(), |value| format!("{value:.1e}"));
    let mut row = |name: &str, dtype: &str, shape: &str, worst: Option<f64>, bound: f64, passed: bool| {
        let outcome = if passed { "ok" } else { "FAILED" };
        table.add_row([name, dtype, shape, &difference(worst), &format!("{bound:.1e}"), outcome]);
    };
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for check in &report.checks {
        if !kinds.contains(&(&check.name, &check.dtype)) {
            kinds.push((&check.name, &check.dtype));
        }
    }
    for (name, dtype) in kinds {
        let same = || report.checks.iter().filter(|check| (&check.name[..], &check.dtype[..]) == (name, dtype));
        for check in same().filter(|check| all || !check.passed) {
            row(name, dtype, &check.shape, check.largest_difference, check.bound, check.passed);
        }
        let passed: Vec<_> = same().filter(|check| !all && check.passed).collect();
        let size = |difference: Option<f64>| difference.unwrap_or(0.0);
        let worst = passed.iter().max_by(|a, b| size(a.largest_difference).total_cmp(&size(b.largest_difference)));
        if let Some(worst) = worst {
            row(name, dtype, &passed.len().to_string(), worst.largest_difference, worst.bound, true);
        }
    }
    let failed = report.checks.iter().filter(|check| !check.passed).count();
    let verdict = match failed {
        0 => format!("{} comparisons, all within their bounds", report.checks.len()),
        _ => format!("{failed} of {} comparisons FAILED", report.checks.len()),
    };
    format!("{} ({}) against the CPU\n\n{table}\n\n{verdict}", report.device, report.device_name)
}
