//! Rows that lie deeper in their file than its lines: `{"data": [{…}]}`, `{"rows": [{"row": {…}}]}`.

use serde_json::Value;

use super::columns::OF_A_ROW;
use super::fields::Fields;

/// Levels that are looked through.
const DEPTH: usize = 3;

/// The place of the rows in a row that has no key of one, as a path of `jq`: `.data[]`.
pub(super) fn path(row: &Fields) -> Option<String> {
    match row.names().any(is_known) {
        true => None,
        false => row.left().find_map(|(name, value)| below(name, value, DEPTH)),
    }
}

fn is_known(name: &str) -> bool {
    OF_A_ROW.iter().any(|names| names.contains(&name))
}

fn below(name: &str, value: &Value, depth: usize) -> Option<String> {
    let (row, each) = match value {
        Value::Array(items) => (items.first()?.as_object()?, "[]"),
        other => (other.as_object()?, ""),
    };
    // Any other name needs quotes in `jq`, and in a shell quotes of its own.
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let rest = match row.keys().any(|name| is_known(name)) {
        true => String::new(),
        false if depth == 1 => return None,
        false => row.iter().find_map(|(name, value)| below(name, value, depth - 1))?,
    };
    Some(format!(".{name}{each}{rest}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_found_below_other_keys() {
        let found = |row: Value| path(&Fields::new(row.as_object().unwrap().clone()));
        let row = json!({ "prompt": "p", "chosen": "c", "rejected": "r" });
        assert_eq!(found(json!({ "version": 1, "data": [row] })).as_deref(), Some(".data[]"));
        assert_eq!(found(json!({ "rows": [{ "row_idx": 0, "row": row }] })).as_deref(), Some(".rows[].row"));
        assert_eq!(found(json!({ "row_idx": 0, "row": row })).as_deref(), Some(".row"));
        for other in
            [json!({ "data": [] }), json!({ "data": ["x"] }), json!({ "my data": [row] }), json!({ "a": { "b": 1 } })]
        {
            assert_eq!(found(other), None);
        }
        assert_eq!(found(json!({ "prompt": "p", "data": [row] })), None, "it has a prompt of its own");
    }
}
