//! The rows of a run: ratios, held-out rows, samples, and what becomes of bad rows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smpo_data::{
    Dataset, Example, HoldOut, OnBadRows, PreferencePair, Row, Rows, TokenCache, Truncation, UnpairedExample,
};
use smpo_tokenizer::ChatTokenizer;

fn model() -> ChatTokenizer {
    ChatTokenizer::from_model_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden/chatml"))
        .unwrap()
}

fn pairs(dir: &Path, name: &str, rows: usize) -> PathBuf {
    let path = dir.join(name);
    let row = |n| serde_json::json!({"id": format!("{name}/{n}"), "prompt": format!("question {n}"), "chosen": "yes", "rejected": "no"});
    let lines: Vec<String> = (0..rows).map(|n| row(n).to_string()).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn ids(rows: &[Row<PreferencePair>]) -> Vec<String> {
    rows.iter().map(|row| row.record.id.clone()).collect()
}

#[test]
fn files_are_split_then_taken_by_ratio_and_joined() {
    let dir = tempfile::tempdir().unwrap();
    let files = vec![pairs(dir.path(), "a", 100), pairs(dir.path(), "b", 40)];
    let dataset = Dataset {
        ratios: vec![0.25, 2.0],
        test_size: Some(HoldOut::Share(0.1)),
        seed: 3,
        ..Dataset::all(files.clone())
    };
    let Rows { train, held_out, bad } = dataset.rows::<PreferencePair>().unwrap();
    assert_eq!(bad.count, 0);
    // 90 and 36 rows are left to train on: int(0.25 · 90) = 22 of them, and 36 twice
    let of = |rows: &[Row<PreferencePair>], file: &str| ids(rows).iter().filter(|id| id.starts_with(file)).count();
    assert_eq!((of(&train, "a/"), of(&train, "b/")), (22, 72));
    // 10 and 4 are held out: int(0.25 · 10) = 2 of them, and 4 once
    assert_eq!((of(&held_out, "a/"), of(&held_out, "b/")), (2, 4));
    let (train, held_out): (BTreeSet<_>, BTreeSet<_>) =
        (ids(&train).into_iter().collect(), ids(&held_out).into_iter().collect());
    assert!(train.is_disjoint(&held_out));

    let other = Dataset { seed: 4, ..dataset.clone() }.rows::<PreferencePair>().unwrap();
    assert_eq!(ids(&other.held_out).into_iter().collect::<BTreeSet<_>>(), held_out, "whatever the seed");
    assert_ne!(ids(&other.train).into_iter().collect::<BTreeSet<_>>(), train);
    let sampled = Dataset { sample: Some(7), ..dataset.clone() }.rows::<PreferencePair>().unwrap();
    assert_eq!(sampled.train.len(), 7);
    assert_eq!(ids(&sampled.held_out).len(), 6, "a sample leaves held-out rows alone");
    let counted = Dataset { test_size: Some(HoldOut::Rows(5)), ratios: vec![], ..dataset };
    assert_eq!(counted.rows::<PreferencePair>().unwrap().held_out.len(), 10);
    assert_eq!(Dataset::all(files).rows::<PreferencePair>().unwrap().train.len(), 140);
}

#[test]
fn both_halves_of_a_pair_are_on_one_side_of_the_split() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Dataset { test_size: Some(HoldOut::Rows(10)), ..Dataset::all(vec![pairs(dir.path(), "a", 30)]) };
    let rows = dataset.rows::<UnpairedExample>().unwrap();
    assert_eq!((rows.train.len(), rows.held_out.len()), (40, 20));
    let prompts = |rows: &[Row<UnpairedExample>]| {
        rows.iter().map(|row| row.record.prompt[0].content.clone()).collect::<BTreeSet<_>>()
    };
    assert!(prompts(&rows.train).is_disjoint(&prompts(&rows.held_out)));
}

#[test]
fn bad_rows_are_errors_or_left_out_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let file = pairs(dir.path(), "a", 6);
    let mut lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_string).collect();
    lines[1] = "{\"prompt\": \"p\", \"rejected\": \"r\"}".into();
    lines[3] = "{\"prompt\": \"p\", \"completion\": \"c\"}".into();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let strict = Dataset::all(vec![file.clone()]);
    let error = strict.rows::<PreferencePair>().unwrap_err().to_string();
    assert!(error.contains("a:2: expected `chosen`"), "{error}");
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict.clone() };
    let rows = lenient.rows::<PreferencePair>().unwrap();
    assert_eq!(rows.train.len(), 4);
    assert_eq!(rows.bad.count, 2);
    assert!(rows.bad.first[1].contains("a:4: expected a preference pair"), "{:?}", rows.bad);

    std::fs::write(&file, "{}\n{}").unwrap();
    let error = lenient.rows::<Example>().unwrap_err().to_string();
    assert!(error.contains("no row to train on") && error.contains("2 bad rows"), "{error}");
    std::fs::write(&file, "").unwrap();
    assert!(strict.rows::<Example>().unwrap_err().to_string().contains("no row to train on"));
}

#[test]
fn rows_that_the_template_refuses_keep_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = pairs(dir.path(), "a", 3);
    let source = "{{ raise_exception('no twos') if messages[0].content == 'question 2' }}\
                  {% for m in messages %}{{ m.content }};{% endfor %}";
    let template = smpo_chat::ChatTemplate::from_source(source, "t.jinja").unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden/chatml");
    let model = ChatTokenizer::with_template(golden, template).unwrap();
    let strict = Dataset::all(vec![file]);
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let cut = Truncation::default();
    let error = strict.tokens::<PreferencePair>(&model, &cut, None, go_on).unwrap_err().to_string();
    assert!(error.contains("a:3: t.jinja: the chat template refuses this conversation: no twos"), "{error}");
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict };
    let cache = TokenCache::new(dir.path().join("tokens"));
    for cached in [false, true] {
        let tokens = lenient.tokens::<PreferencePair>(&model, &cut, Some(&cache), go_on).unwrap().unwrap();
        assert_eq!((tokens.train.len(), tokens.bad.count), (2, 1));
        assert!(tokens.bad.first[0].contains("a:3: "), "{:?}", tokens.bad);
        assert_eq!(tokens.cached, cached, "what the template refuses does not keep the others from the cache");
    }
}

#[test]
fn tokens_are_cut_counted_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path().join("tokens"));
    let dataset = Dataset { test_size: Some(HoldOut::Rows(3)), ..Dataset::all(vec![pairs(dir.path(), "a", 20)]) };
    let truncation = Truncation { max_length: Some(8), ..Truncation::default() };
    let mut told = Vec::new();
    let run = |told: &mut Vec<(u64, u64)>| {
        let done = &mut |rows, total| {
            told.push((rows, total));
            ControlFlow::Continue(())
        };
        dataset.tokens::<PreferencePair>(&model(), &truncation, Some(&cache), done).unwrap().unwrap()
    };
    let first = run(&mut told);
    assert_eq!((first.train.len(), first.held_out.len(), first.cached), (17, 3, false));
    assert_eq!(first.truncated.prompts, 20);
    assert!(first.train.iter().all(|row| row.prompt.len() + row.chosen.len() <= 8));
    assert_eq!(told, [(17, 20), (20, 20)]);
    told.clear();
    let second = run(&mut told);
    assert!(second.cached && told.is_empty());
    assert_eq!(first.train, second.train);
    assert_eq!(first.held_out, second.held_out);
    let stop = &mut |_, _| ControlFlow::Break(());
    assert!(dataset.tokens::<PreferencePair>(&model(), &truncation, None, stop).unwrap().is_none());
}

#[test]
fn a_completion_that_would_vanish_is_refused_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let strict = Dataset::all(vec![pairs(dir.path(), "a", 3)]);
    let cut = Truncation { max_length: Some(2), ..Truncation::default() };
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let error = strict.tokens::<PreferencePair>(&model(), &cut, None, go_on).unwrap_err().to_string();
    assert!(error.contains("a:1: cut to 2 tokens, a completion keeps nothing but its terminator"), "{error}");
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict };
    let error = lenient.tokens::<PreferencePair>(&model(), &cut, None, go_on).unwrap_err().to_string();
    assert!(error.contains("got 3 bad rows"), "{error}");
}

#[test]
fn what_cannot_be_selected_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Dataset::all(vec![pairs(dir.path(), "a", 5)]);
    let refuse = |dataset: Dataset| dataset.rows::<PreferencePair>().unwrap_err().to_string();
    let error = refuse(Dataset { test_size: Some(HoldOut::Rows(5)), ..dataset.clone() });
    assert!(error.contains("a: held-out rows: expected fewer than the 5 rows"), "{error}");
    let error = refuse(Dataset { sample: Some(6), ..dataset.clone() });
    assert!(error.contains("dataset sample: expected at most the 5 rows there are, got 6"), "{error}");
    let error = refuse(Dataset { ratios: vec![1.0, 1.0], ..dataset });
    assert!(error.contains("expected one per data set (1), got 2"), "{error}");
}
