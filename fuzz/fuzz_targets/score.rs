//! Completions of other programs, in every format.

#![no_main]

use std::sync::LazyLock;

use smpo_eval::measure::measure_each;
use smpo_eval::score::{CompletionFile, InputFormat, Store, assemble};
use smpo_fuzz::{Files, target};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

target!(data, {
    let Some((choice, bytes)) = data.split_first() else { return };
    // An archive is told by its ending.
    let path = FILES.write(if choice % 2 == 0 { "model.jsonl" } else { "model.eval" }, bytes);
    let given = InputFormat::ALL.get(usize::from(choice / 2)).copied();
    let mut store = Store::beside(&path);
    if let Ok(file) = CompletionFile::read(&path, given, &mut store)
        && let Ok(assembled) = assemble(vec![file], None, None, store)
    {
        for model in &assembled.models {
            measure_each(model, Vec::new()).expect("completions that were stored");
        }
    }
});
