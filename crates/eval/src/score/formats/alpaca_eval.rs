//! AlpacaEval outputs: `{"instruction", "output", "generator", "dataset"}`.
//!
//! The prompt is its own id, so that two models' files pair up in any order. An Alpaca `input` is part of it.

use super::plain;
use crate::json_rows::Row;
use crate::score::record::Record;

pub(super) fn fits(row: &Row) -> bool {
    row.contains_key("instruction") && row.contains_key("output")
}

pub(super) fn records(row: &Row) -> Result<Vec<Record>, String> {
    plain::records(row)
}
