//! Results on standard output; a reader that closes the pipe early is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;
use smpo_report::verdict::text;

use crate::exit::{Blame, Failure};

/// Format of a command's result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Human-readable text
    #[default]
    Text,
    /// JSON
    Json,
}

/// Prints text and a newline.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).execution(),
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).execution()?)
}

/// Whether standard output may carry colours: a terminal, and `NO_COLOR` unset or empty (no-color.org).
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table with a line below its header and no others; it never wraps.
pub fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// How verdicts are printed: colours and wrapping only for a terminal.
pub fn verdict_style() -> text::Style {
    text::Style { colour: colours(), width: comfy_table::Table::new().width() }
}
