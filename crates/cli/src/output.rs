//! Results on standard output, where a reader that closes the pipe early is no error, and notes on standard error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
pub use smpo_report::plain_table as table;
use smpo_report::verdict::text;

use crate::exit::{Failure, OrFail};
use crate::streams::is_output;

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
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::execution(format!("standard output: cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. A log that cannot be written stops no work.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a value as indented JSON.
pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).or_execution_error()?)
}

/// Prints the result of a command that writes rows to `out`: to standard error where the rows go to standard output.
pub fn summary(
    out: Option<&Path>,
    format: Format,
    text: impl FnOnce() -> String,
    value: &impl Serialize,
) -> Result<(), Failure> {
    let result = match format {
        Format::Text => text(),
        Format::Json => serde_json::to_string_pretty(value).or_execution_error()?,
    };
    if out.is_some_and(is_output) {
        note(&result);
        return Ok(());
    }
    print(&result)
}

/// True if standard output may have colours: a terminal, and `NO_COLOR` unset or empty (no-color.org).
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal; `None` if standard output is none.
pub fn width() -> Option<u16> {
    if std::io::stdout().is_terminal() { comfy_table::Table::new().width() } else { None }
}

/// Style of verdicts: colours and wrapping only on a terminal.
pub fn verdict_style() -> text::Style {
    text::Style { colour: colours(), width: comfy_table::Table::new().width() }
}
