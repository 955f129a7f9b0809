//! A verdict for a terminal.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets,
};
use smpo_results::{Decision, Verdict};

use super::row::Row;
use super::{asides, basis, headline};
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
    let rows: Vec<Row> = verdict.metrics.iter().map(Row::new).collect();
    let mut out = String::new();
    let word =
        format!("{} {}", wording::decision_sign(verdict.verdict), wording::decision(verdict.verdict).to_uppercase());
    out.push_str(&paint(&word, verdict.verdict, style));
    out.push_str(&format!("  {}\n", headline(verdict)));
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
        out.push_str(&format!(" {}: {}", row.subject(), row.reason));
        if !row.power.is_empty() {
            out.push_str(&format!(" ({})", row.power));
        }
        out.push('\n');
    }
    for aside in asides(verdict) {
        out.push_str(&format!("· {aside}\n"));
    }
    out
}

const HEADS: [&str; 9] = ["metric", "", "", "difference", "interval", "bound", "p", "n", "verdict"];

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
    let mut heads = HEADS.map(str::to_owned);
    heads[1] = short_line(&verdict.baseline, 24);
    heads[2] = short_line(&verdict.candidate, 24);
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
            "metric" => column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(18))),
            "n" if width < 120 => column.set_constraint(ColumnConstraint::Hidden),
            "bound" if width < 110 => column.set_constraint(ColumnConstraint::Hidden),
            "p" if width < 90 => column.set_constraint(ColumnConstraint::Hidden),
            "" => column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(8))),
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
