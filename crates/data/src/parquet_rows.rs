//! Rows of a Parquet file as JSON objects, one at a time: pages are read as they are needed, so memory holds a page per
//! column and one row, however large the file.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use crate::read_error::{Location, Problem, ReadError};

/// First bytes of a Parquet file.
pub(crate) const MAGIC: &[u8] = b"PAR1";
/// Maximum characters of the reader's own messages, which may quote whole values.
const MESSAGE: usize = 300;

/// A row with its place.
type LocatedRow = (Location, Map<String, Value>);

/// Rows with their numbers, from 1.
pub(crate) struct ParquetRows {
    rows: RowIter<'static>,
    path: Arc<Path>,
    row: u64,
    done: bool,
    /// Number of rows by the file's footer.
    total: u64,
}

impl ParquetRows {
    pub fn open(file: File, path: Arc<Path>) -> Result<Self, ReadError> {
        let rows = guarded(|| {
            let reader = SerializedFileReader::new(file)?;
            let total = reader.metadata().file_metadata().num_rows();
            Ok((RowIter::from_file_into(Box::new(reader)), u64::try_from(total).unwrap_or(0)))
        });
        match rows {
            Ok((rows, total)) => Ok(Self { rows, path, row: 0, done: false, total }),
            Err(problem) => Err(ReadError { location: Location { path, line: 0 }, problem }),
        }
    }

    /// Rows of a file, as its footer says.
    pub fn count(file: File, path: Arc<Path>) -> Result<u64, ReadError> {
        let rows = guarded(|| Ok(SerializedFileReader::new(file)?.metadata().file_metadata().num_rows()));
        match rows {
            Ok(rows) => Ok(u64::try_from(rows).unwrap_or(0)),
            Err(problem) => Err(ReadError { location: Location { path, line: 0 }, problem }),
        }
    }

    /// Share of the rows that has been read, 0 to 1.
    pub fn share(&self) -> f64 {
        self.row.min(self.total) as f64 / self.total.max(1) as f64
    }

    /// The next row, with its place; nothing follows an error.
    pub fn next(&mut self) -> Option<Result<LocatedRow, ReadError>> {
        if self.done {
            return None;
        }
        let row = guarded(|| self.rows.next().transpose());
        self.row += 1;
        let location = Location { path: self.path.clone(), line: self.row };
        match row {
            Ok(Some(row)) => Some(Ok((location, object(&row)))),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(problem) => {
                self.done = true;
                Some(Err(ReadError { location, problem }))
            }
        }
    }
}

/// Turns a panic of the reader into an error: it trusts a file's footer in places and panics where that is wrong.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Problem> {
    let message = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(ParquetError::External(source))) => match source.downcast::<std::io::Error>() {
            Ok(error) => return Err(Problem::Io(*error)),
            Err(other) => other.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its pages contradict its footer".to_string(),
    };
    let message = match message.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    };
    Err(Problem::Parquet { message })
}

fn object(row: &Row) -> Map<String, Value> {
    row.get_column_iter().filter_map(|(name, field)| Some((name.clone(), value(field)?))).collect()
}

/// A field as JSON; `None` for bytes that are no text, such as images, which no row here is made of.
fn value(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => (*value).into(),
        Field::Long(value)
        | Field::TimeMicros(value)
        | Field::TimestampMillis(value)
        | Field::TimestampMicros(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => number(f64::from(value.to_f32())),
        Field::Float(value) => number(f64::from(*value)),
        Field::Double(value) => number(*value),
        Field::Decimal(_) => {
            let text = field.to_string();
            text.parse().map_or(Value::String(text), Value::Number)
        }
        Field::Str(text) => Value::String(text.clone()),
        // text that its writer did not declare as such
        Field::Bytes(bytes) => Value::String(std::str::from_utf8(bytes.data()).ok()?.to_string()),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => {
            // in their places: lists of a row belong together
            list.elements().iter().map(|item| value(item).unwrap_or_default()).collect()
        }
        Field::MapInternal(map) => {
            let key = |key: &Field| match key {
                Field::Str(text) => text.clone(),
                other => other.to_string(),
            };
            map.entries().iter().filter_map(|(name, field)| Some((key(name), value(field)?))).collect()
        }
    })
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use parquet::data_type::Decimal;
    use serde_json::json;

    use super::*;

    #[test]
    fn decimals_are_numbers_and_bytes_that_are_no_text_nothing() {
        assert_eq!(value(&Field::Decimal(Decimal::from_i32(-150, 9, 2))), Some(json!(-1.5)));
        assert_eq!(value(&Field::Bytes(vec![0xff].into())), None);
    }
}
