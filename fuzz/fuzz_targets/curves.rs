//! Metrics of training runs, as curves.

#![no_main]

use std::sync::LazyLock;

use smpo_fuzz::{Files, target};
use smpo_report::curves::{csv, html, read};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

target!(data, {
    let path = FILES.write("metrics.jsonl", data);
    if let Ok(runs) = read(&[path]) {
        csv(&runs);
        if let Ok(page) = html(&runs) {
            assert_eq!(page.matches("<script").count(), 0, "scripts");
            assert_eq!(page.matches("<style").count(), 1, "styles");
        }
    }
});
