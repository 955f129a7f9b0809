//! A table by columns in place of a row, as pandas (`to_json`) and `Dataset.to_dict` write it.

use serde_json::Value;

use super::columns::OF_A_ROW;
use super::fields::Fields;

/// A description of such an object, with the way out.
pub(super) const COLUMNS: &str = "an object of columns; write the table row by row: \
                                  `pandas.read_json(FILE).to_json(\"rows.jsonl\", orient=\"records\", lines=True)`";

/// True where every column of the conversation is the column of a table, all of one length.
pub(super) fn is_table(row: &Fields) -> bool {
    let mut columns = OF_A_ROW.into_iter().flatten().filter_map(|name| row.get(name)).map(rows);
    let Some(Some(first)) = columns.next() else { return false };
    // one list of texts alone may be meant as messages, and is refused as such
    columns.next() == Some(Some(first)) && columns.all(|rows| rows == Some(first))
}

/// The number of rows of a column: a list of texts or of lists, or an object by number of the row.
fn rows(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => items.iter().all(|item| item.is_string() || item.is_array()).then_some(items.len()),
        Value::Object(map) => {
            let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
            (!map.is_empty() && map.keys().all(is_number)).then_some(map.len())
        }
        _ => None,
    }
}
