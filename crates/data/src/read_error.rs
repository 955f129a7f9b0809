//! Errors of reading a data file, with their place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A place in a file: `path:line`, lines counted from 1; rows, in a Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: Arc<Path>,
    /// The line a row begins on; 0 when the file as a whole is meant.
    pub line: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.path.display()),
            line => write!(f, "{}:{line}", self.path.display()),
        }
    }
}

/// A problem and its place.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {problem}")]
pub struct ReadError {
    /// Place of the problem.
    pub location: Location,
    /// The problem.
    #[source]
    pub problem: Problem,
}

impl ReadError {
    /// True if the machine failed, not the file: a disk, a permission that was lost.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(&self.problem, Problem::Io(source) if source.raw_os_error().is_some())
    }

    /// True if the rows after this one can still be read.
    pub fn is_row(&self) -> bool {
        !matches!(
            self.problem,
            Problem::Io(_)
                | Problem::NotKept(_)
                | Problem::Parquet { .. }
                | Problem::NotRows { .. }
                | Problem::NoFiles { .. }
                | Problem::Hub(_)
        )
    }
}

/// Problem with a file or a row.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// I/O error, or a packed stream that is damaged or ends early.
    #[error("cannot read: {0}")]
    Io(#[source] std::io::Error),
    /// Hashes of rows that a check cannot keep in a temporary file.
    #[error("cannot keep the hashes of rows in a temporary file: {0}")]
    NotKept(#[source] std::io::Error),
    /// A directory or a pattern without data files.
    #[error("expected data files ({expected}, also with .gz or .zst), found none")]
    NoFiles {
        /// Endings of data files.
        expected: String,
    },
    /// A data set of the Hugging Face Hub cannot be read.
    #[error("{0}")]
    Hub(String),
    /// The Parquet file is damaged, or uses a feature that the reader does not support.
    #[error("cannot read this Parquet file further: {message}; write it again, or as JSON lines")]
    Parquet {
        /// Message of the reader.
        message: String,
    },
    /// Bytes that are not UTF-8.
    #[error("expected UTF-8, got the byte 0x{byte:02x} at byte {offset} of the row")]
    NotUtf8 {
        /// The first offending byte.
        byte: u8,
        /// Its place in the row.
        offset: usize,
    },
    /// A row longer than the limit.
    #[error("a row of more than {limit} bytes; expected at most that")]
    TooLong {
        /// The bound, in bytes.
        limit: usize,
    },
    /// A row that is not JSON.
    #[error("expected one JSON object per line, got invalid JSON: {message}")]
    NotJson {
        /// Message of the parser, with the column.
        message: String,
    },
    /// A file that is neither lines of objects nor a list of them.
    #[error("expected JSON lines or one JSON list of objects, got {got}")]
    NotRows {
        /// Description of the content.
        got: String,
    },
    /// A row that is JSON but no object.
    #[error("expected a JSON object, got {got}")]
    NotAnObject {
        /// Type of the value.
        got: &'static str,
    },
    /// A field is missing.
    #[error("expected `{field}`, got only {keys:?}{}", hint(.nearest))]
    Missing {
        /// The field.
        field: &'static str,
        /// The fields the row has.
        keys: Vec<String>,
        /// A field of nearly that name.
        nearest: Option<String>,
    },
    /// A row of unknown shape.
    #[error(
        "expected a preference pair (`chosen` and `rejected`), a conversation (`messages`), `prompt` and `completion`, or a \
         group (`prompt`, `completions`, `rewards`), got {keys:?}{}; `dataset_columns` names columns \
         that are called otherwise, and with them all others of the conversation: {{ prompt = …, chosen = …, rejected = … }}",
        hint(.nearest)
    )]
    UnknownShape {
        /// The fields the row has.
        keys: Vec<String>,
        /// A field that is nearly one of those.
        nearest: Option<String>,
    },
    /// Columns that `dataset_columns` names and no row has.
    #[error("`dataset_columns` names {absent:?}, expected some of {found:?}")]
    ColumnsAbsent {
        /// The columns that are named.
        absent: Vec<String>,
        /// The columns of the rows.
        found: Vec<String>,
    },
    /// Rows below another key.
    #[error(
        "expected a row, got an object with the rows in it; take them out, one a line: `jq -c '{path}' FILE > rows.jsonl`"
    )]
    Wrapped {
        /// Their place, as a path of `jq`.
        path: String,
    },
    /// A field of the wrong type.
    #[error("`{field}`: expected {expected}, got {got}")]
    WrongType {
        /// The field, with its index where it is in a list.
        field: String,
        /// Expected type.
        expected: &'static str,
        /// Type or value found.
        got: String,
    },
    /// Messages whose roles do not make a prompt and a completion.
    #[error("`{field}`: roles out of order: expected {expected}, got {got}")]
    Roles {
        /// The field.
        field: &'static str,
        /// Expected roles.
        expected: &'static str,
        /// Roles found.
        got: String,
    },
    /// Two columns that do not belong to one conversation.
    #[error("{one} contradicts {other}; {remedy}")]
    Contradiction {
        /// The column, with the beginning of what it says where that helps.
        one: String,
        /// The other one.
        other: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// A field that cannot be trained on, or that no reader of this layout takes.
    #[error("`{field}` is {got}; {remedy}")]
    Unsupported {
        /// The field.
        field: String,
        /// Type or value found, and what is wrong with it.
        got: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// A valid row of another kind than the one wanted.
    #[error("expected {expected}, got {got}")]
    WrongKind {
        /// Kind wanted.
        expected: &'static str,
        /// Kind found.
        got: &'static str,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}
