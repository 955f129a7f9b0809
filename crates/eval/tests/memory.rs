//! Peak memory of scoring, measured by an allocator that counts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use smpo_eval::score::{CompletionFile, Store, assemble, write};
use smpo_fixtures::CountingAllocator;
use smpo_results::EvaluationDir;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// A file of prompts with three completions each, as a batch of samples or sample by sample.
fn file(path: &Path, prompts: usize, words: usize, by_sample: bool) {
    let text = "and so it goes ".repeat(words / 4);
    let mut lines = String::new();
    for row in 0..3 * prompts {
        let (prompt, sample) = if by_sample { (row % prompts, row / prompts) } else { (row / 3, row % 3) };
        let row = serde_json::json!({"prompt_id": format!("p{prompt}"), "sample": sample, "prompt": format!("Question {prompt}?"),
            "completion": format!("{prompt} {text}"), "finish_reason": "eos", "tokens": words});
        writeln!(lines, "{row}").unwrap();
    }
    fs::write(path, lines).unwrap();
}

/// Bytes that scoring a file takes at its peak.
fn peak(dir: &Path, prompts: usize, words: usize, by_sample: bool) -> usize {
    let path = dir.join("completions.jsonl");
    file(&path, prompts, words, by_sample);
    let (peak, ()) = ALLOCATOR.peak(|| {
        let mut store = Store::beside(dir);
        let file = CompletionFile::read(&path, None, &mut store).unwrap();
        let models = assemble(vec![file], None, None, store).unwrap().models;
        write(&EvaluationDir::new(dir.join("out")), &models[0]).unwrap();
    });
    peak
}

/// One test: the counters are the whole process's.
#[test]
fn memory_is_bounded_by_the_number_of_prompts_not_by_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| {
        peak(dir.path(), 100, 16, false); // tables that are made once
        for by_sample in [false, true] {
            let [small, large] = [8192, 16384].map(|prompts| peak(dir.path(), prompts, 16, by_sample));
            let each = (large - small) / 8192;
            assert!(each < 1536, "{each} bytes a prompt of three samples");
        }
        // 18 MB of completions
        let long = peak(dir.path(), 2048, 800, false);
        assert!(long < 6 << 20, "{long} bytes for long completions");
    });
}
