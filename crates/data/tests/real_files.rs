//! Real preference files with a real tokenizer, on request:
//!
//! ```text
//! SMPO_MODEL_DIR=… SMPO_PREFERENCE_FILES=a.jsonl:b.jsonl cargo test --release -p smpo-data --test real_files -- --ignored --nocapture
//! ```

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use smpo_data::{Dataset, RowKind, TokenCache};
use smpo_tokenizer::ChatTokenizer;

#[test]
#[ignore = "needs SMPO_MODEL_DIR and SMPO_PREFERENCE_FILES"]
fn real_pairs_are_read_and_tokenised() {
    let model = std::env::var("SMPO_MODEL_DIR").expect("SMPO_MODEL_DIR names a model directory");
    let files = std::env::var("SMPO_PREFERENCE_FILES").expect("SMPO_PREFERENCE_FILES names files, separated by `:`");
    let tokenizer = ChatTokenizer::from_model_dir(model).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path());
    for file in files.split(':') {
        let bytes = std::fs::metadata(file).unwrap().len() as f64 / 1e6;
        let dataset = Dataset::new(RowKind::Pairs, vec![PathBuf::from(file)]);
        for state in ["cold", "warm"] {
            let began = Instant::now();
            let read = dataset.tokenize(&tokenizer, &cache, true, &mut |_| ControlFlow::Continue(())).unwrap();
            let rows = read.unwrap().rows().unwrap();
            let seconds = began.elapsed().as_secs_f64();
            let mut tokens = 0;
            for row in &rows.train {
                tokens += row.tokens();
                for side in row.completions() {
                    assert_eq!(side.is_terminator().iter().filter(|&&ends| ends).count(), 1, "{}", row.id);
                    assert_eq!(side.is_terminator().last(), Some(&true));
                }
            }
            println!(
                "{file}: {state}: {} pairs, {tokens} tokens; {seconds:.2} s, {:.1} MB/s on {} threads; {:?}",
                rows.train.len(),
                bytes / seconds,
                rayon::current_num_threads(),
                rows.work
            );
        }
    }
}
