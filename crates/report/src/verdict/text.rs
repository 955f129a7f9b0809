//! A verdict for a terminal.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets,
};
use smpo_results::{Decision, Verdict};

use super::row::Row;
use super::{P_EXPLAINED, asides, basis, interval_heading, names, outcome, rows};
use crate::inert::short_line;
use crate::wording;

/// Style of terminal output, chosen by the caller (colours: a terminal and no `NO_COLOR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Write ANSI colours.
    pub colour: bool,
    /// Columns of the terminal; `None` never wraps.
    pub width: Option<u16>,
}

/// The table of `smpo gate`: one row per metric and slice, then the reasons of all that did not pass.
pub fn render(verdict: &Verdict, style: Style) -> String {
    let rows = rows(verdict);
    let mut out = String::new();
    let word =
        format!("{} {}", wording::decision_sign(verdict.verdict), wording::decision(verdict.verdict).to_uppercase());
    out.push_str(&paint(&word, verdict.verdict, style));
    out.push_str(&format!("  {}\n", outcome(verdict)));
    let [baseline, candidate] = names(verdict, 160);
    out.push_str(&format!("baseline   {baseline}\ncandidate  {candidate}\n"));
    if let Some(suite) = &verdict.suite {
        out.push_str(&format!("suite      {}\n", short_line(suite, 160)));
    }
    out.push_str(&format!("{}\n{}\n", basis(verdict), wording::claim(verdict.claim)));
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(verdict, &rows, style).trim_fmt());
        out.push('\n');
    }
    let open: Vec<&Row> = rows.iter().filter(|row| row.decision != Decision::Pass).collect();
    if !open.is_empty() {
        out.push('\n');
    }
    for row in open {
        out.push_str(&paint(wording::decision_sign(row.decision), row.decision, style));
        out.push_str(&format!(" {}", row.reason));
        if !row.power.is_empty() {
            out.push_str(&format!(" ({})", row.power));
        }
        out.push('\n');
    }
    if rows.iter().any(Row::has_p) && style.width.is_none_or(|width| width >= P_FROM) {
        out.push_str(&format!("· {P_EXPLAINED}\n"));
    }
    for aside in asides(verdict) {
        out.push_str(&format!("· {aside}\n"));
    }
    out
}

/// Columns of a terminal that shows p values.
const P_FROM: u16 = 90;

const HEADS: [&str; 9] = ["metric", "baseline", "candidate", "difference", "interval", "bound", "p", "n", "verdict"];

fn table(verdict: &Verdict, rows: &[Row], style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    match style.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(60)),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let interval = interval_heading(verdict);
    let heads = HEADS.map(|head| if head == "interval" { interval.as_str() } else { head });
    table.set_header(heads.into_iter().enumerate().map(|(index, head)| {
        let cell = Cell::new(head).set_alignment(alignment(index));
        if style.colour { cell.add_attribute(Attribute::Dim) } else { cell }
    }));
    for row in rows {
        let texts = [
            if row.primary { row.subject() } else { format!("{} (secondary)", row.subject()) },
            row.baseline.clone(),
            row.candidate.clone(),
            row.difference.clone(),
            row.interval.clone(),
            row.bound.clone(),
            row.p.clone(),
            row.n.clone(),
            format!("{} {}", row.sign(), row.word()),
        ];
        let last = texts.len() - 1;
        table.add_row(texts.into_iter().enumerate().map(|(index, text)| {
            let cell = Cell::new(text).set_alignment(alignment(index));
            if index == last && style.colour { cell.fg(colour(row.decision)) } else { cell }
        }));
    }
    // numbers never wrap, names do; columns that verdict.json also has are hidden on narrow terminals
    let width = style.width.unwrap_or(u16::MAX);
    for (index, column) in table.column_iter_mut().enumerate() {
        match HEADS[index] {
            "metric" => column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(16))),
            "n" if width < 120 => column.set_constraint(ColumnConstraint::Hidden),
            "bound" if width < 110 => column.set_constraint(ColumnConstraint::Hidden),
            "p" if width < P_FROM => column.set_constraint(ColumnConstraint::Hidden),
            _ => column.set_constraint(ColumnConstraint::ContentWidth),
        };
    }
    table
}

fn alignment(column: usize) -> CellAlignment {
    match column {
        0 | 8 => CellAlignment::Left,
        _ => CellAlignment::Right,
    }
}

fn colour(decision: Decision) -> Color {
    match decision {
        Decision::Pass => Color::Green,
        Decision::Fail => Color::Red,
        Decision::Inconclusive => Color::Yellow,
    }
}

/// Bold, in the decision's colour: SGR codes of ECMA-48.
fn paint(text: &str, decision: Decision, style: Style) -> String {
    let code = match decision {
        Decision::Pass => 32,
        Decision::Fail => 31,
        Decision::Inconclusive => 33,
    };
    if style.colour { format!("\u{1b}[1;{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
