//! Parquet files of preference rows.

#![no_main]

use std::sync::LazyLock;

use smpo_data::{count_rows, records};
use smpo_fuzz::{Files, target};

static FILES: LazyLock<Files> = LazyLock::new(|| {
    // The reader's own panics are caught where it is called: they are errors of the file, and not to end the process here.
    std::panic::set_hook(Box::new(|_| {}));
    Files::new()
});

target!(data, {
    let path = FILES.write("rows.parquet", data);
    let _ = count_rows(&path);
    if let Ok(rows) = records(&path) {
        rows.take(10_000).for_each(drop);
    }
});
