//! Directories and patterns of data files count as one source; what is no data is refused with a word for it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smpo_data::{
    Dataset, FileProgress, HoldOut, Purpose, RowKind, TokenCache, count_rows, read_pairs, records, source_files,
};
use smpo_tokenizer::ChatTokenizer;

/// Writes rows whose prompts are `name 0`, `name 1`, ….
fn rows(dir: &Path, name: &str, rows: usize) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let row = |row| {
        format!("{{\"id\": \"{name} {row}\", \"prompt\": \"{name} {row}\", \"chosen\": \"a\", \"rejected\": \"b\"}}\n")
    };
    std::fs::write(&path, (0..rows).map(row).collect::<String>()).unwrap();
    path
}

fn names(files: &[PathBuf], dir: &Path) -> Vec<String> {
    files.iter().map(|file| file.strip_prefix(dir).unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_directory_gives_the_files_for_the_purpose() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl"]
    {
        rows(dir.path(), name, 2);
    }
    for name in ["README.md", "dataset_info.json", ".hidden.jsonl"] {
        rows(dir.path(), name, 1);
    }
    let files = |purpose| names(&source_files(dir.path(), purpose).unwrap(), dir.path());
    assert_eq!(files(Purpose::Train), ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]);
    assert_eq!(files(Purpose::HoldOut), ["data/test-00000-of-00001.jsonl"]);
    let only_tests = dir.path().join("tests");
    rows(&only_tests, "test.jsonl", 1);
    assert_eq!(source_files(&only_tests, Purpose::Train).unwrap().len(), 1, "there is nothing else");
    assert_eq!(count_rows(dir.path()).unwrap(), 4);
    let pairs = read_pairs(dir.path()).unwrap();
    assert_eq!(pairs.len(), 4);
    assert!(pairs[3].id.starts_with("data/train-00001") && pairs[3].id.ends_with('1'));
}

#[test]
fn a_pattern_gives_what_it_matches_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.jsonl", "a.jsonl", "c.txt"] {
        rows(dir.path(), name, 1);
    }
    let files = source_files(dir.path().join("*.jsonl"), Purpose::Train).unwrap();
    assert_eq!(names(&files, dir.path()), ["a.jsonl", "b.jsonl"]);
    let odd = rows(dir.path(), "[1].jsonl", 1);
    assert_eq!(source_files(&odd, Purpose::Train).unwrap(), [odd], "a file of that name comes first");
}

#[test]
fn sources_without_rows_say_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let message = |source: PathBuf| records(source).err().expect("an error").to_string();
    assert!(message(dir.path().to_owned()).contains("expected data files (*.jsonl, *.json"));
    assert!(message(dir.path().join("*.jsonl")).contains("found none"));
    assert!(message("org/name".into()).contains("`hf://datasets/org/name`"));
    for (bytes, expected) in [
        (&b"ARROW1\0\0"[..], "got an Arrow file; save it as Parquet or JSON lines: `ds.to_parquet(FILE)`"),
        (b"BZh91AY", "got a bzip2 file"),
        (b"\xfd7zXZ\0", "got an xz file"),
    ] {
        let path = dir.path().join("foreign");
        std::fs::write(&path, bytes).unwrap();
        assert!(message(path).contains(expected));
    }
    let saved = dir.path().join("saved/train");
    std::fs::create_dir_all(&saved).unwrap();
    std::fs::write(saved.join("data-00000-of-00001.arrow"), b"\xff\xff\xff\xff").unwrap();
    let told = message(dir.path().join("saved"));
    assert!(told.contains("got Arrow files, as `save_to_disk`") && told.contains("`ds.to_parquet(FILE)`"), "{told}");
    let pretty = dir.path().join("pretty.json");
    std::fs::write(&pretty, "{\n \"prompt\": \"p\"\n}\n").unwrap();
    let error = records(pretty).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(error.contains("got an object over several lines"), "{error}");
}

#[test]
fn a_directory_counts_as_one_file_in_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let many = dir.path().join("many");
    for (name, count) in [("a.jsonl", 5), ("b.jsonl", 7), ("c.jsonl", 8)] {
        rows(&many, name, count);
    }
    let model = ChatTokenizer::from_model_dir(smpo_fixtures::golden("tokenizer", "chatml")).unwrap();
    let dataset =
        Dataset { ratios: vec![0.5], test_size: Some(HoldOut::Rows(10)), ..Dataset::new(RowKind::Pairs, vec![many]) };
    let cache = TokenCache::new(dir.path().join("tokens"));
    let go_on = &mut |_: FileProgress<'_>| ControlFlow::Continue(());
    let rows = dataset.tokenize(&model, &cache, true, go_on).unwrap().unwrap();
    assert_eq!(rows.reports.len(), 3, "one per file");
    let rows = rows.rows().unwrap();
    assert_eq!((rows.train.len(), rows.held_out.len()), (5, 5), "ratio and held-out rows are of the whole");
    let mut ids: Vec<_> = rows.train.iter().chain(&rows.held_out).map(|row| &row.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10);
}
