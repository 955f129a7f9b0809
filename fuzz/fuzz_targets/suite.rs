//! Suites with their prompts, and prompts alone.

#![no_main]

use std::sync::LazyLock;

use smpo_eval::Suite;
use smpo_fuzz::{Files, target};

static FILES: LazyLock<Files> = LazyLock::new(|| {
    Files::with([
        (
            "suite.toml",
            "name = \"s\"\nprompts = \"prompts.jsonl\"\nslices = [\"a\"]\ncap = 8\n[sampler]\ntemperature = 1.0\n",
        ),
        ("prompts.jsonl", "{\"id\": \"1\", \"slice\": \"a\", \"prompt\": \"one\"}\n"),
    ])
});

target!(
    data,
    FILES.replaced(data, |dir| {
        if let Ok(suite) = Suite::read(&dir.join("suite.toml")) {
            suite.check().expect("checked when read");
            let _ = suite.info();
        }
        let _ = Suite::read(&dir.join("prompts.jsonl"));
        let _ = Suite::read_answered(&dir.join("prompts.jsonl"));
    })
);
