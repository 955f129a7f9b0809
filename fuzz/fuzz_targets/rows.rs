//! Preference rows of every layout, as JSON lines, compressed or not.

#![no_main]

use std::sync::LazyLock;

use smpo_data::{count_rows, json_rows, records, records_with_labels};
use smpo_fuzz::{Files, target};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

target!(data, {
    let path = FILES.write("rows.jsonl", data);
    if let (Ok(rows), Ok(count)) = (records(&path), count_rows(&path)) {
        let read = rows.filter(Result::is_ok).count();
        assert!(read as u64 <= count, "{read} rows of {count}");
    }
    if let Ok(rows) = records_with_labels(&path) {
        rows.for_each(drop);
    }
    if let Ok(rows) = json_rows(vec![path]) {
        for row in rows.flatten() {
            let _ = row.columns();
        }
    }
});
