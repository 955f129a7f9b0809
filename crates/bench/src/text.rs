//! Reports for a terminal: a bench, and the self-test of a device.

use comfy_table::CellAlignment;
use smpo_devices::format_bytes;
use smpo_report::plain_table;
use smpo_trainer::SelfTest;

use crate::decode::DecodeReport;
use crate::spread::Spread;
use crate::step::StepReport;

fn spread(spread: &Spread, decimals: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
}

/// A table of a bench of sampling: a row per figure.
pub fn decode(report: &DecodeReport) -> String {
    let giga = |bytes: f64| format!("{:.2} GB/s", bytes / 1e9);
    let mut table = plain_table();
    let mut row = |name: &str, value: String| {
        table.add_row([name, &value]);
    };
    row("shape", format!("{}, {} parameters", report.shape, report.parameters));
    row("device", format!("{} ({})", report.device, report.device_name));
    row("dtype", report.dtype.to_owned());
    row("sequences", format!("{}, of {} tokens before the first step", report.batch_size, report.context));
    row("steps", format!("{} after {} to warm up", report.steps, report.warmup));
    row("tokens/s", spread(&report.tokens_per_s, 0));
    row("seconds a step", spread(&report.seconds, 4));
    row("seconds of prompts", format!("{:.4}", report.prompt_seconds));
    row("to read a step", format_bytes(report.bytes));
    row("reached", giga(report.bytes_per_s));
    if let (Some(share), Some(bandwidth)) = (report.share, report.bandwidth_bytes_per_s) {
        row("of the bandwidth", format!("{:.1} % of {} (measured)", 100.0 * share, giga(bandwidth)));
    }
    if let Some(bytes) = report.peak_memory_bytes {
        row("peak memory", format_bytes(bytes));
    }
    table.to_string()
}

/// A table of a bench of training: a row per figure.
pub fn step(report: &StepReport) -> String {
    let tera = |flops: f64| format!("{:.3} TFLOP/s", flops / 1e12);
    let trained = match report.lora_r {
        Some(r) => format!("LoRA r {r}: {} of {}", report.trained_parameters, report.parameters),
        None => format!("all {}", report.parameters),
    };
    let mut table = plain_table();
    let mut row = |name: &str, value: String| {
        table.add_row([name, &value]);
    };
    row("shape", report.shape.to_owned());
    row("device", format!("{} ({})", report.device, report.device_name));
    row("numbers trained", trained);
    row("dtype", report.dtype.to_owned());
    row("pairs a step", format!("{}, of 2 × {} tokens", report.batch_size, report.length));
    if report.lora_r.is_some() {
        row("base", report.base.to_owned());
    }
    let plural = if report.max_tokens_per_pack == 1 { "" } else { "s" };
    row("pack", format!("at most {} token{plural}", report.max_tokens_per_pack));
    row("checkpointing", if report.checkpointing { "on" } else { "off" }.to_owned());
    row("tokens a step", format!("{}, {} with each prompt once", report.tokens, report.packed_tokens));
    row("steps", format!("{} after {} to warm up", report.steps, report.warmup));
    row("tokens/s", spread(&report.tokens_per_s, 0));
    row("seconds a step", spread(&report.seconds, 4));
    row("model FLOPs a step", format!("{:.3e}", report.flops as f64));
    row("reached", tera(report.flops_per_s));
    if let (Some(mfu), Some(peak), Some(from)) = (report.mfu, report.peak_flops_per_s, report.peak_from) {
        row("utilisation", format!("{:.1} % of {} ({from})", 100.0 * mfu, tera(peak)));
    }
    if let Some(bytes) = report.peak_memory_bytes {
        row("peak memory", format_bytes(bytes));
    }
    table.to_string()
}

/// A table of a self-test and its outcome: a row per operation with its largest difference; with `all`, a row per
/// comparison. Failures have a row in both.
pub fn selftest(report: &SelfTest, all: bool) -> String {
    let mut table = plain_table();
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
