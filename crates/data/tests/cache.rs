//! Cached tokens are the tokens that tokenising gives, or they are not used.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smpo_chat::ChatTemplate;
use smpo_data::{Dataset, FileProgress, RowKind, Rows, TokenCache, Work};
use smpo_tokenizer::ChatTokenizer;

const TOKENIZED: Work = Work { parsed_files: 1, tokenized_records: 5 };
const FOUND: Work = Work { parsed_files: 0, tokenized_records: 0 };

fn golden(model: &str) -> PathBuf {
    smpo_fixtures::golden("tokenizer", model)
}

fn tokenizer(model: &str) -> ChatTokenizer {
    ChatTokenizer::from_model_dir(golden(model)).unwrap()
}

fn pairs() -> Vec<String> {
    let row = |n| serde_json::json!({"id": n, "prompt": format!("question {n}"), "chosen": "yes", "rejected": "no"});
    (0..5).map(|n| row(n).to_string()).collect()
}

/// A folder with a data file and a cache.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.write(&pairs());
        files
    }

    fn write(&self, rows: &[String]) {
        fs::write(self.dir.path().join("pairs.jsonl"), rows.join("\n")).unwrap();
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("tokens")
    }

    fn cached(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(self.cache()).into_iter().flatten();
        found.map(|entry| entry.unwrap().path()).collect()
    }

    fn dataset(&self, kind: RowKind) -> Dataset {
        Dataset::new(kind, vec![self.dir.path().join("pairs.jsonl")])
    }

    fn rows(&self, model: &ChatTokenizer) -> Rows {
        self.rows_of(model, &self.dataset(RowKind::Pairs), &self.cache(), true)
    }

    fn rows_of(&self, model: &ChatTokenizer, dataset: &Dataset, cache: &Path, check: bool) -> Rows {
        let files = dataset.tokenize(model, &TokenCache::new(cache), check, &mut go_on).unwrap().unwrap();
        assert_eq!(files.reports.len(), usize::from(check));
        files.rows().unwrap()
    }
}

fn go_on(_: FileProgress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_second_time_the_rows_are_found_and_equal() {
    let (files, model) = (Files::new(), tokenizer("chatml"));
    let mut rows = Vec::new();
    let mut count = |progress: FileProgress<'_>| {
        rows.push((progress.rows, progress.share));
        ControlFlow::Continue(())
    };
    let dataset = files.dataset(RowKind::Pairs);
    let cache = TokenCache::new(files.cache());
    let first = dataset.tokenize(&model, &cache, true, &mut count).unwrap().unwrap();
    let second = dataset.tokenize(&model, &cache, true, &mut count).unwrap().unwrap();
    assert_eq!(rows, [(5, 1.0)]);
    assert_eq!(first.reports, second.reports);
    let (first, second) = (first.rows().unwrap(), second.rows().unwrap());
    assert!(first.cache_write_error.is_none());
    assert_eq!((first.work, second.work), (TOKENIZED, FOUND));
    assert_eq!(first.train, second.train);
}

#[test]
fn one_entry_serves_every_kind_of_rows_and_every_draw() {
    let (files, model) = (Files::new(), tokenizer("chatml"));
    assert_eq!(files.rows(&model).work, TOKENIZED);
    for kind in [RowKind::Examples, RowKind::Labelled] {
        assert_eq!(files.rows_of(&model, &files.dataset(kind), &files.cache(), false).work, FOUND);
    }
    let sample = Dataset { sample: Some(2), seed: 9, ..files.dataset(RowKind::Pairs) };
    assert_eq!(files.rows_of(&model, &sample, &files.cache(), true).work, FOUND);
    assert_eq!(files.cached().len(), 1);
}

#[test]
fn work_that_is_broken_off_keeps_nothing() {
    let files = Files::new();
    let (dataset, model) = (files.dataset(RowKind::Pairs), tokenizer("chatml"));
    let stop = &mut |_: FileProgress<'_>| ControlFlow::Break(());
    let stopped = dataset.tokenize(&model, &TokenCache::new(files.cache()), true, stop).unwrap();
    assert!(stopped.is_none());
    assert!(files.cached().is_empty());
}

#[test]
fn whatever_shapes_the_tokens_is_part_of_the_name() {
    let (files, model) = (Files::new(), tokenizer("chatml"));
    assert_eq!(files.rows(&model).work, TOKENIZED);
    assert_eq!(files.rows(&model).work, FOUND);

    let mut other = pairs();
    other[3] = other[3].replace("no", "no!");
    files.write(&other);
    assert_eq!(files.rows(&model).work, TOKENIZED, "a text");
    let mut other = pairs();
    other.swap(0, 1);
    files.write(&other);
    assert_eq!(files.rows(&model).work, TOKENIZED, "the order");
    let mut other = pairs();
    other[0] = other[0].replace("\"id\":0", "\"id\":\"x\"");
    files.write(&other);
    assert_eq!(files.rows(&model).work, TOKENIZED, "an id");
    files.write(&pairs());
    assert_eq!(files.rows(&model).work, FOUND);
    assert_eq!(files.rows(&tokenizer("phi")).work, TOKENIZED, "the tokenizer");

    let source = model.template().source().replace("'<|im_start|>'", "'<|im_start|>a '");
    let template = ChatTemplate::from_source(source, "other.jinja").unwrap();
    let other = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
    assert_eq!(files.rows(&other).work, TOKENIZED, "the template");
    let template = ChatTemplate::from_model_dir(golden("chatml")).unwrap().with_variable("enable_thinking", true);
    let other = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
    assert_eq!(files.rows(&other).work, TOKENIZED, "a variable");
}

#[test]
fn a_damaged_file_is_made_again() {
    let (files, model) = (Files::new(), tokenizer("chatml"));
    let good = files.rows(&model).train;
    let path = files.cached().remove(0);
    let bytes = fs::read(&path).unwrap();
    for length in [0, 1, bytes.len() / 2, bytes.len() - 2] {
        fs::write(&path, &bytes[..length]).unwrap();
        let again = files.rows(&model);
        assert_eq!(again.work, TOKENIZED, "cut to {length}");
        assert_eq!(again.train, good);
    }
    let digit = bytes.iter().rposition(|&byte| byte == b']').unwrap() - 1;
    let mut changed = bytes.clone();
    changed[digit] = if changed[digit] == b'1' { b'2' } else { b'1' };
    fs::write(&path, &changed).unwrap();
    assert_eq!(files.rows(&model).work, TOKENIZED, "a changed id");
    assert_eq!(fs::read(&path).unwrap(), bytes, "and the file is whole again");
}

#[test]
fn rows_that_fail_fail_again_and_templates_that_write_the_date_are_not_kept() {
    let (files, model) = (Files::new(), tokenizer("chatml"));
    let mut bad = pairs();
    bad[2] = bad[2].replace("\"chosen\"", "\"choosen\"");
    files.write(&bad);
    for _ in 0..2 {
        let dataset = files.dataset(RowKind::Pairs);
        let cache = TokenCache::new(files.cache());
        let read = dataset.tokenize(&model, &cache, true, &mut go_on).unwrap().unwrap();
        assert_eq!(read.reports[0].findings[0].rule.id(), "unreadable_row");
        let error = read.rows().unwrap_err().to_string();
        assert!(error.contains("pairs.jsonl:3: expected `chosen`"), "{error}");
        let lenient = Dataset { on_bad_rows: smpo_data::OnBadRows::Drop, ..dataset };
        let rows = files.rows_of(&model, &lenient, &files.cache(), false);
        assert_eq!((rows.train.len(), rows.bad.count, rows.work), (4, 1, FOUND));
    }
    let kept = files.cached().len();
    files.write(&pairs());
    let dated = format!("{{{{ strftime_now('%Y') }}}}{}", model.template().source());
    let template = ChatTemplate::from_source(dated, "dated.jinja").unwrap();
    let rows = files.rows(&ChatTokenizer::with_template(golden("chatml"), template).unwrap());
    assert_eq!((rows.work, rows.train.len()), (TOKENIZED, 5));
    assert_eq!(files.cached().len(), kept);
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing_but_the_cache() {
    let (files, model) = (Files::new(), tokenizer("chatml"));
    let file = files.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let rows = files.rows_of(&model, &files.dataset(RowKind::Pairs), &file.join("below"), true);
    assert!(rows.cache_write_error.is_some());
    assert_eq!((rows.train.len(), rows.work), (5, TOKENIZED));
}
