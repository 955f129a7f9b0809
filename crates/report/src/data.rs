//! Data checks and length statistics for a terminal.

use comfy_table::{CellAlignment, ContentArrangement};
use smpo_data::{CheckReport, Finding, LengthReport, Lengths, Severity};

use crate::plain_table;

/// Columns of a table that no terminal bounds.
const PLAIN_WIDTH: u16 = 120;

/// The findings of a data check: a table, at most `width` columns wide, and a summary line.
pub fn findings(report: &CheckReport, width: Option<u16>) -> String {
    let kinds = [
        (report.pairs, "pair", "pairs"),
        (report.groups, "group", "groups"),
        (report.labelled, "labelled completion", "labelled completions"),
        (report.examples, "example", "examples"),
        (report.classified, "text with labels", "texts with labels"),
    ];
    let counted = |(count, one, many): (u64, &str, &str)| format!("{count} {}", if count == 1 { one } else { many });
    let kinds: Vec<String> = kinds.into_iter().filter(|(count, ..)| *count > 0).map(counted).collect();
    let held = if kinds.is_empty() { "nothing readable".to_string() } else { kinds.join(", ") };
    let summary = format!(
        "{}: {} ({held}); {}",
        report.file,
        counted((report.rows, "row", "rows")),
        [Severity::Error, Severity::Warning, Severity::Note].map(|severity| report.counted(severity)).join(", ")
    );
    if report.findings.is_empty() {
        return summary;
    }
    let mut table = plain_table();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    // Logs and files have no width of their own; without one the table would never wrap.
    table.set_width(width.unwrap_or(PLAIN_WIDTH));
    table.set_header(["severity", "rule", "rows", "first lines", "what is wrong, and what to do"]);
    for finding in &report.findings {
        table.add_row([
            finding.severity.name().to_string(),
            finding.rule.id().to_string(),
            affected(finding),
            offenders(finding),
            format!("{}. {}.", finding.what, capitalised(finding.remedy)),
        ]);
    }
    if let Some(rows) = table.column_mut(2) {
        rows.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{summary}")
}

fn affected(finding: &Finding) -> String {
    match finding.share {
        Some(share) => format!("{} ({:.1} %)", finding.count, share * 100.0),
        None => "–".to_string(),
    }
}

/// Lines of the first rows affected, and the detail of the very first.
fn offenders(finding: &Finding) -> String {
    let lines: Vec<String> =
        finding.first.iter().filter_map(|sample| sample.line).map(|line| line.to_string()).collect();
    let more = if finding.count as usize > finding.first.len() { ", …" } else { "" };
    let detail = finding.first.first().map_or("", |sample| sample.detail.as_str());
    let alike = more.is_empty() && finding.first.iter().all(|sample| sample.detail == detail);
    match lines.as_slice() {
        [] => detail.to_string(),
        lines if detail.is_empty() => format!("{}{more}", lines.join(", ")),
        lines if alike => format!("{}: {detail}", lines.join(", ")),
        [first, ..] => format!("{}{more}; line {first}: {detail}", lines.join(", ")),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// Length statistics of a file: a table, and a histogram per part.
pub fn histograms(report: &LengthReport) -> String {
    let skipped = match report.skipped {
        0 => String::new(),
        skipped => format!("; {} skipped (see `smpo data check`)", smpo_suggest::counted(skipped, "row")),
    };
    let mut table = plain_table();
    table.set_header(["part", "total", "mean", "min", "p50", "p90", "p95", "p99", "max"]);
    for part in &report.parts {
        let Lengths { total, mean, min, p50, p90, p95, p99, max, .. } = part;
        let mut row = vec![part.part.to_string(), total.to_string(), format!("{mean:.1}")];
        row.extend([min, p50, p90, p95, p99, max].map(ToString::to_string));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let weight = report.terminator_weight.map_or_else(String::new, |weight| {
        format!("in a mean over tokens, a rejected terminator has {weight:.1} times the weight of a chosen one\n")
    });
    let bars: Vec<String> = report.parts.iter().map(|part| histogram(part, report.unit)).collect();
    let rows = smpo_suggest::counted(report.rows, "row");
    format!("{}: {rows}, lengths in {}{skipped}\n{table}\n{weight}{}", report.file, report.unit, bars.join("\n"))
}

fn histogram(part: &Lengths, unit: &str) -> String {
    const WIDTH: usize = 40;
    let highest = part.bins.iter().map(|bin| bin.count).max().unwrap_or(1);
    let mut lines = vec![format!("{} ({unit})", part.part)];
    for bin in &part.bins {
        let bar = "█".repeat((bin.count * WIDTH).div_ceil(highest));
        lines.push(format!("  {:>8} – {:<8} {:>8} {bar}", bin.from, bin.to - 1, bin.count));
    }
    lines.join("\n")
}
