//! Real preference files with a real tokenizer, on request:
//!
//! ```text
//! SMPO_MODEL_DIR=… SMPO_PREFERENCE_FILES=a.jsonl:b.jsonl cargo test --release -p smpo-data --test real_files -- --ignored --nocapture
//! ```

use std::ops::ControlFlow;
use std::time::Instant;

use smpo_data::{PreferencePair, read, tokenize};
use smpo_tokenizer::ChatTokenizer;

#[test]
#[ignore = "needs SMPO_MODEL_DIR and SMPO_PREFERENCE_FILES"]
fn real_pairs_are_read_and_tokenised() {
    let model = std::env::var("SMPO_MODEL_DIR").expect("SMPO_MODEL_DIR names a model directory");
    let files = std::env::var("SMPO_PREFERENCE_FILES").expect("SMPO_PREFERENCE_FILES names files, separated by `:`");
    let tokenizer = ChatTokenizer::from_model_dir(model).unwrap();
    for file in files.split(':') {
        let begun = Instant::now();
        let pairs = read::<PreferencePair>(file).unwrap();
        let read = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let rows = tokenize(&tokenizer, &pairs, &mut |_| ControlFlow::Continue(())).unwrap();
        let tokenised = begun.elapsed().as_secs_f64();
        let mut tokens = 0;
        for (pair, row) in pairs.iter().zip(rows) {
            let row = row.unwrap_or_else(|error| panic!("{}: {error}", pair.location));
            tokens += row.prompt.len() + row.chosen.len() + row.rejected.len();
            for side in [&row.chosen, &row.rejected] {
                assert_eq!(side.iter().filter(|&&id| tokenizer.is_terminator(id)).count(), 1, "{}", pair.location);
                assert!(tokenizer.is_terminator(side[side.len() - 1]));
            }
        }
        let bytes = std::fs::metadata(file).unwrap().len() as f64 / 1e6;
        println!(
            "{file}: {} pairs, {tokens} tokens; read {:.0} MB/s, tokenised {:.1} MB/s on {} threads",
            pairs.len(),
            bytes / read,
            bytes / tokenised,
            rayon::current_num_threads()
        );
    }
}
