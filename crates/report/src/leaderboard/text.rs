//! A leaderboard for a terminal: the findings, then the ranking by primary metrics.

use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, presets};
use smpo_results::{Board, BoardMetric, Leaderboard};

use super::{band, overall, own_prompts, story};
use crate::inert::{NAME, apart, short_line};
use crate::verdict::{self, text::Style};
use crate::{figure, wording};

/// One table per board.
pub fn render(leaderboard: &Leaderboard, style: Style) -> String {
    let mut out = String::new();
    for verdict in &leaderboard.verdicts {
        let (sign, word) = (wording::decision_sign(verdict.verdict), wording::decision(verdict.verdict));
        out.push_str(&format!("{sign} {}  {}\n", word.to_uppercase(), verdict::headline(verdict)));
    }
    for board in &leaderboard.boards {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}\n", short_line(&board.title, 160)));
        if let Some(apart) = &board.apart {
            out.push_str(&format!("a board of its own: {}\n", short_line(apart, 300)));
        }
        if board.entries.is_empty() {
            out.push_str("no model on this board\n");
            continue;
        }
        for finding in story::tell(board) {
            let numbers = match finding.figure.as_str() {
                "" => "; ".to_owned(),
                figure => format!(", {figure} [{}] ", finding.interval),
            };
            out.push_str(&format!("{}: {}{numbers}{}\n", finding.question, finding.answer, finding.note));
        }
        out.push_str(&format!("\n{}\n", table(board, style).trim_fmt()));
    }
    out
}

fn table(board: &Board, style: Style) -> Table {
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
    let primary: Vec<&BoardMetric> = board.metrics.iter().filter(|metric| metric.primary).collect();
    let mut heads = vec!["rank".to_owned(), "model".to_owned()];
    heads.extend(primary.iter().map(|metric| wording::metric(&metric.id).into_owned()));
    table.set_header(heads.into_iter().enumerate().map(|(index, head)| {
        let cell = Cell::new(head).set_alignment(alignment(index));
        if style.colour { cell.add_attribute(Attribute::Dim) } else { cell }
    }));
    let names: Vec<&str> = board.entries.iter().map(|entry| entry.name.as_str()).collect();
    for (entry, name) in board.entries.iter().zip(apart(&names, NAME)) {
        let is_baseline = board.baseline.as_deref() == Some(entry.name.as_str());
        let own = own_prompts(board, entry).map(|n| format!(" ({})", wording::count(n, "prompt"))).unwrap_or_default();
        let baseline = if is_baseline { " (baseline)" } else { "" };
        let name = format!("{name}{baseline}{own}");
        let mut cells = vec![band(entry), name];
        cells.extend(primary.iter().map(|metric| match overall(entry, &metric.id) {
            None => "–".to_owned(),
            Some(e) => {
                format!("{} [{}]", figure::value(e.unit, e.value), figure::interval(e.unit, e.ci_low, e.ci_high))
            }
        }));
        table.add_row(
            cells.into_iter().enumerate().map(|(index, text)| Cell::new(text).set_alignment(alignment(index))),
        );
    }
    if let Some(rank) = table.column_mut(0) {
        rank.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

fn alignment(column: usize) -> CellAlignment {
    match column {
        1 => CellAlignment::Left,
        _ => CellAlignment::Right,
    }
}
