//! The rows of a run: ratios, held-out rows, samples, bad rows, and how often files are read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smpo_chat::ChatTemplate;
use smpo_data::{
    Dataset, DatasetError, FileProgress, HoldOut, OnBadRows, Row, RowKind, Rows, TokenCache, TrainOn, Truncation,
    Unfinished, Work,
};
use smpo_tokenizer::ChatTokenizer;

fn golden(model: &str) -> PathBuf {
    smpo_fixtures::golden("tokenizer", model)
}

fn model() -> ChatTokenizer {
    ChatTokenizer::from_model_dir(golden("chatml")).unwrap()
}

fn pairs(dir: &Path, name: &str, rows: usize) -> PathBuf {
    let path = dir.join(name);
    let row = |n| serde_json::json!({"id": format!("{name}/{n}"), "prompt": format!("question {n}"), "chosen": "yes", "rejected": "no"});
    let lines: Vec<String> = (0..rows).map(|n| row(n).to_string()).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn go_on(_: FileProgress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn dataset(files: Vec<PathBuf>) -> Dataset {
    Dataset::new(RowKind::Pairs, files)
}

/// The rows, without the data check and with a cache of their own.
fn rows(dataset: &Dataset) -> Result<Rows, DatasetError> {
    rows_by(&model(), dataset)
}

fn rows_by(model: &ChatTokenizer, dataset: &Dataset) -> Result<Rows, DatasetError> {
    let dir = tempfile::tempdir().unwrap();
    dataset.tokenize(model, &TokenCache::new(dir.path()), false, &mut go_on)?.unwrap().rows()
}

fn ids(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.id.clone()).collect()
}

#[test]
fn files_are_split_then_taken_by_ratio_and_joined() {
    let dir = tempfile::tempdir().unwrap();
    let files = vec![pairs(dir.path(), "a", 100), pairs(dir.path(), "b", 40)];
    let run =
        Dataset { ratios: vec![0.25, 2.0], test_size: Some(HoldOut::Share(0.1)), seed: 3, ..dataset(files.clone()) };
    let Rows { train, held_out, bad, .. } = rows(&run).unwrap();
    assert_eq!(bad.count, 0);
    // 90 and 36 rows are left to train on: int(0.25 · 90) = 22 of them, and 36 twice
    let of = |rows: &[Row], file: &str| ids(rows).iter().filter(|id| id.starts_with(file)).count();
    assert_eq!((of(&train, "a/"), of(&train, "b/")), (22, 72));
    // 10 and 4 are held out: int(0.25 · 10) = 2 of them, and 4 once
    assert_eq!((of(&held_out, "a/"), of(&held_out, "b/")), (2, 4));
    let (train, held_out): (BTreeSet<_>, BTreeSet<_>) =
        (ids(&train).into_iter().collect(), ids(&held_out).into_iter().collect());
    assert!(train.is_disjoint(&held_out));

    let other = rows(&Dataset { seed: 4, ..run.clone() }).unwrap();
    assert_eq!(ids(&other.held_out).into_iter().collect::<BTreeSet<_>>(), held_out, "whatever the seed");
    assert_ne!(ids(&other.train).into_iter().collect::<BTreeSet<_>>(), train);
    let sampled = rows(&Dataset { sample: Some(7), ..run.clone() }).unwrap();
    assert_eq!(sampled.train.len(), 7);
    assert_eq!(ids(&sampled.held_out).len(), 6, "a sample leaves held-out rows alone");
    let counted = Dataset { test_size: Some(HoldOut::Rows(5)), ratios: vec![], ..run };
    assert_eq!(rows(&counted).unwrap().held_out.len(), 10);
    assert_eq!(rows(&dataset(files)).unwrap().train.len(), 140);
}

#[test]
fn both_halves_of_a_pair_are_on_one_side_of_the_split() {
    let dir = tempfile::tempdir().unwrap();
    let files = vec![pairs(dir.path(), "a", 30)];
    let run = Dataset { test_size: Some(HoldOut::Rows(10)), ..Dataset::new(RowKind::Labelled, files) };
    let found = rows(&run).unwrap();
    assert_eq!((found.train.len(), found.held_out.len()), (40, 20));
    let prompts = |rows: &[Row]| rows.iter().map(|row| row.prompt.clone()).collect::<BTreeSet<_>>();
    assert!(prompts(&found.train).is_disjoint(&prompts(&found.held_out)));
}

#[test]
fn rows_of_files_to_evaluate_on_are_all_held_out() {
    let dir = tempfile::tempdir().unwrap();
    let [train, eval] = [pairs(dir.path(), "train", 6), pairs(dir.path(), "eval", 4)];
    let run = Dataset { eval_files: vec![eval.clone()], ratios: vec![0.5], sample: Some(2), ..dataset(vec![train]) };
    let found = rows(&run).unwrap();
    assert_eq!((found.train.len(), found.held_out.len()), (2, 4));
    assert!(ids(&found.held_out).iter().all(|id| id.starts_with("eval/")));
    std::fs::write(&eval, "").unwrap();
    let error = rows(&run).unwrap_err().to_string();
    assert!(error.contains("eval: no row to train on"), "{error}");
}

#[test]
fn every_file_is_parsed_once_and_every_record_tokenised_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = vec![pairs(dir.path(), "a", 50), pairs(dir.path(), "b", 2000)];
    let run = Dataset {
        ratios: vec![2.0, 0.5],
        test_size: Some(HoldOut::Rows(5)),
        eval_files: vec![pairs(dir.path(), "c", 7)],
        ..dataset(files)
    };
    let (model, cache) = (model(), TokenCache::new(dir.path().join("tokens")));
    let mut read = Vec::new();
    let mut note = |progress: FileProgress<'_>| {
        read.push((progress.file.file_name().unwrap().to_str().unwrap().to_owned(), progress.rows));
        ControlFlow::Continue(())
    };
    let cold = run.tokenize(&model, &cache, true, &mut note).unwrap().unwrap();
    assert_eq!(cold.reports.len(), 3);
    let cold = cold.rows().unwrap();
    assert_eq!(cold.work, Work { parsed_files: 3, tokenized_records: 2057 });
    let warm = run.tokenize(&model, &cache, true, &mut note).unwrap().unwrap().rows().unwrap();
    assert_eq!(warm.work, Work::default());
    assert_eq!((cold.train, cold.held_out), (warm.train, warm.held_out));
    let expected = [("a", 50), ("b", 1024), ("b", 2000), ("c", 7)];
    assert_eq!(read, expected.map(|(file, rows)| (file.to_owned(), rows)));
}

#[test]
fn bad_rows_are_errors_or_left_out_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let file = pairs(dir.path(), "a", 6);
    let mut lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_string).collect();
    lines[1] = "{\"prompt\": \"p\", \"rejected\": \"r\"}".into();
    lines[3] = "{\"prompt\": \"p\", \"completion\": \"c\"}".into();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let strict = dataset(vec![file.clone()]);
    let error = rows(&strict).unwrap_err().to_string();
    assert!(error.contains("a:2: expected `chosen`"), "{error}");
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict.clone() };
    let found = rows(&lenient).unwrap();
    assert_eq!(found.train.len(), 4);
    assert_eq!(found.bad.count, 2);
    assert!(found.bad.first[1].contains("a:4: expected a preference pair"), "{:?}", found.bad);
    assert_eq!(found.bad.to_string(), "unreadable_row 1, wrong_kind 1");

    std::fs::write(&file, "{}\n{}").unwrap();
    let error = rows(&Dataset { kind: RowKind::Examples, ..lenient }).unwrap_err().to_string();
    assert!(error.contains("no row to train on") && error.contains("2 bad rows"), "{error}");
    std::fs::write(&file, "").unwrap();
    let error = rows(&Dataset { kind: RowKind::Examples, ..strict }).unwrap_err().to_string();
    assert!(error.contains("no row to train on"), "{error}");
}

#[test]
fn rows_that_the_template_refuses_keep_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = pairs(dir.path(), "a", 3);
    let source = "{{ raise_exception('no twos') if messages[0].content == 'question 2' }}\
                  {% for m in messages %}{{ m.content }};{% endfor %}";
    let template = ChatTemplate::from_source(source, "t.jinja").unwrap();
    let model = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
    let strict = dataset(vec![file]);
    let error = rows_by(&model, &strict).unwrap_err().to_string();
    assert!(error.contains("a:3: t.jinja: the chat template refuses this conversation: no twos"), "{error}");
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict };
    let cache = TokenCache::new(dir.path().join("tokens"));
    for parsed_files in [1, 0] {
        let found = lenient.tokenize(&model, &cache, false, &mut go_on).unwrap().unwrap().rows().unwrap();
        assert_eq!((found.train.len(), found.bad.count), (2, 1));
        assert!(found.bad.first[0].contains("a:3: "), "{:?}", found.bad);
        let cached = "what the template refuses does not keep the others from the cache";
        assert_eq!(found.work.parsed_files, parsed_files, "{cached}");
    }
}

#[test]
fn sides_that_the_template_splits_apart_are_tokenised_as_they_are_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("think.jsonl");
    // The generation prompt opens a thinking block, which only the first answer goes on with.
    let source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}\
                  {{ '<|im_start|>' + ('<think>' if 'x' in m.content else '') + m.content + '<|im_end|>' }}{% endif %}\
                  {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|><think>' }}{% endif %}";
    let template = ChatTemplate::from_source(source, "think.jinja").unwrap();
    let model = ChatTokenizer::with_template(golden("chatml"), template).unwrap();
    std::fs::write(&file, r#"{"prompt": "p", "chosen": "x then y", "rejected": "then y"}"#).unwrap();
    let pair = &smpo_data::read_pairs(&file).unwrap()[0];
    let together = model.encode_completions(&pair.prompt, &[&pair.chosen, &pair.rejected]).unwrap();
    let alone = [&pair.chosen, &pair.rejected].map(|side| model.encode_completion(&pair.prompt, side).unwrap());
    assert!(together.alone_prompt_lengths.is_none() && alone[0].prompt_ids.len() > together.prompt_ids.len());
    let labelled = rows_by(&model, &Dataset::new(RowKind::Labelled, vec![file.clone()])).unwrap().train;
    for (row, alone) in labelled.iter().zip(&alone) {
        assert_eq!(row.prompt, alone.prompt_ids);
        assert_eq!(row.completions().next().unwrap().ids(), alone.completion_ids);
    }
    let pairs = rows_by(&model, &dataset(vec![file])).unwrap().train;
    assert_eq!(pairs[0].prompt, together.prompt_ids);
    assert!(pairs[0].completions().map(|side| side.ids()).eq(&together.completion_ids));
}

#[test]
fn tokens_are_cut_counted_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::new(dir.path().join("tokens"));
    let run = Dataset {
        test_size: Some(HoldOut::Rows(3)),
        truncation: Truncation { max_length: Some(8), max_prompt_length: Some(6), ..Truncation::default() },
        ..dataset(vec![pairs(dir.path(), "a", 20)])
    };
    let model = model();
    let mut seen = Vec::new();
    let read = |seen: &mut Vec<u64>| {
        let on_progress = &mut |progress: FileProgress<'_>| {
            seen.push(progress.rows);
            ControlFlow::Continue(())
        };
        run.tokenize(&model, &cache, false, on_progress).unwrap().unwrap().rows().unwrap()
    };
    let first = read(&mut seen);
    assert_eq!((first.train.len(), first.held_out.len(), first.work.tokenized_records), (17, 3, 20));
    assert_eq!(first.truncated.prompts, 20);
    for row in &first.train {
        let chosen = row.chosen.as_ref().unwrap();
        assert!(row.prompt.len() + chosen.len() <= 8);
        assert!(chosen.finished() == (chosen.is_terminator().last() == Some(&true)));
    }
    assert_eq!(seen, [20]);
    seen.clear();
    let second = read(&mut seen);
    assert!(second.work == Work::default() && seen.is_empty());
    assert_eq!(first.train, second.train);
    assert_eq!(first.held_out, second.held_out);
    let cache = TokenCache::new(dir.path().join("other"));
    let stop = &mut |_: FileProgress<'_>| ControlFlow::Break(());
    assert!(run.tokenize(&model, &cache, false, stop).unwrap().is_none());
}

#[test]
fn a_row_of_which_nothing_is_left_is_refused_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let truncation = Truncation { max_length: Some(4), ..Truncation::default() };
    let strict = Dataset { truncation, ..dataset(vec![pairs(dir.path(), "a", 3)]) };
    let error = rows(&strict).unwrap_err().to_string();
    assert!(
        error.contains("a:1: in 4 tokens, nothing is left of a completion but, at most, its terminator"),
        "{error}"
    );
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict };
    let error = rows(&lenient).unwrap_err().to_string();
    assert!(error.contains("got 3 bad rows"), "{error}");
}

/// The rejected answer loops until it is cut at a length.
#[test]
fn a_long_side_takes_nothing_from_the_prompt_and_the_other_side() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loops.jsonl");
    let row =
        |rejected: &str| serde_json::json!({"prompt": "Name a colour.", "chosen": "Green.", "rejected": rejected});
    std::fs::write(&path, row(&"red and ".repeat(200)).to_string() + "\n" + &row("Wet.").to_string()).unwrap();
    let read = |truncation| rows(&Dataset { truncation, ..dataset(vec![path.clone()]) }).unwrap();
    let whole = read(Truncation::default()).train;
    for max_prompt_length in [None, Some(30)] {
        let cut = read(Truncation { max_length: Some(60), max_prompt_length, ..Truncation::default() });
        assert_eq!((cut.truncated.prompts, cut.truncated.completions), (0, 1));
        assert_eq!((cut.unfinished.chosen, cut.unfinished.rejected), (0, 1));
        for (cut, whole) in cut.train.iter().zip(&whole) {
            assert_eq!((&cut.prompt, &cut.chosen), (&whole.prompt, &whole.chosen));
        }
        let (cut, whole) = (cut.train[0].rejected.as_ref().unwrap(), whole[0].rejected.as_ref().unwrap());
        assert!(whole.ids().starts_with(cut.ids()) && !cut.finished());
        assert!(!cut.is_terminator().contains(&true), "nothing ended");
        assert_eq!(cut.ids().len(), 60 - whole_prompt(&read(Truncation::default())));
    }
    let truncation = Truncation { max_length: Some(60), unfinished: Unfinished::Drop, ..Truncation::default() };
    let dropped = read(truncation);
    assert_eq!((dropped.train.len(), dropped.unfinished.dropped_rows, dropped.bad.count), (1, 1, 0));
    let truncation = Truncation { unfinished: Unfinished::KeepTerminator, ..truncation };
    let kept = &read(truncation).train[0];
    let (end, rest) = kept.rejected.as_ref().unwrap().is_terminator().split_last().unwrap();
    assert!(*end && !rest.contains(&true));
}

fn whole_prompt(rows: &Rows) -> usize {
    rows.train[0].prompt.len()
}

#[test]
fn what_cannot_be_selected_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dataset(vec![pairs(dir.path(), "a", 5)]);
    let refuse = |dataset: Dataset| rows(&dataset).unwrap_err().to_string();
    let error = refuse(Dataset { test_size: Some(HoldOut::Rows(5)), ..run.clone() });
    assert!(error.contains("a: `test_size`: expected fewer held-out rows than the 5 of the data"), "{error}");
    let error = refuse(Dataset { sample: Some(6), ..run.clone() });
    assert!(error.contains("`dataset_sample`: expected at most 5 rows, all of the data, got 6"), "{error}");
    let error = refuse(Dataset { ratios: vec![1.0, 1.0], ..run });
    assert!(error.contains("expected one per data set (1), got 2"), "{error}");
}

#[test]
fn rows_that_the_check_condemns_are_dropped_by_rule() {
    let dir = tempfile::tempdir().unwrap();
    let file = pairs(dir.path(), "a", 6);
    let mut lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_string).collect();
    lines[1] = r#"{"prompt": "p", "chosen": "same", "rejected": "same "}"#.into();
    lines[2] = r#"{"prompt": "p", "chosen": "", "rejected": "r"}"#.into();
    lines[4] = r#"{"prompt": "p", "chosen": "one<|im_end|>two", "rejected": "r"}"#.into();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let strict = dataset(vec![file.clone()]);
    assert_eq!(rows(&strict).unwrap().train.len(), 6, "the check alone refuses them");
    let lenient = Dataset { on_bad_rows: OnBadRows::Drop, ..strict };
    let found = rows(&lenient).unwrap();
    assert_eq!((found.train.len(), found.bad.count), (3, 3));
    assert_eq!(found.bad.to_string(), "empty_completion 1, identical_sides 1, terminator_inside 1");
    assert!(found.bad.first[0].contains("a:2: chosen and rejected are the same text"), "{:?}", found.bad);

    std::fs::write(&file, lines[1..3].join("\n")).unwrap();
    let error = rows(&lenient).unwrap_err().to_string();
    let expected = "got 2 bad rows and no other (empty_completion 1, identical_sides 1): ";
    assert!(error.contains(expected) && error.contains("a:1: chosen and rejected"), "{error}");
}

#[test]
fn of_two_kinds_in_a_file_the_commoner_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = pairs(dir.path(), "a", 2);
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("\n{\"prompt\": \"p\", \"completion\": \"c\"}\n");
    std::fs::write(&file, text).unwrap();
    let kept = Dataset { on_bad_rows: OnBadRows::Drop, kind: RowKind::Examples, ..dataset(vec![file]) };
    let found = rows(&kept).unwrap();
    assert_eq!((found.train.len(), found.bad.to_string()), (2, "mixed_kinds 1".to_string()));
    let all = Dataset { on_bad_rows: OnBadRows::Fail, ..kept };
    assert_eq!(rows(&all).unwrap().train.len(), 3);
}

#[test]
fn everything_of_a_conversation_is_learned_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("talks.jsonl");
    let turn = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let talk = [turn("user", "hi"), turn("assistant", "hello"), turn("user", "and?"), turn("assistant", "no more")];
    std::fs::write(&file, serde_json::json!({"messages": talk}).to_string()).unwrap();
    let mut run = Dataset::new(RowKind::Examples, vec![file]);
    let answers = rows(&run).unwrap().train.remove(0);
    run.preparation.train_on = TrainOn::Everything;
    let whole = rows(&run).unwrap().train.remove(0);
    let ids = |row: &Row| [&row.prompt[..], row.chosen.as_ref().unwrap().ids()].concat();
    assert_eq!(ids(&whole), ids(&answers));
    let learned = whole.chosen.as_ref().unwrap();
    assert_eq!((whole.prompt.len(), learned.len()), (1, ids(&whole).len() - 1));
    assert_eq!(learned.is_terminator().last(), Some(&true));
    // cut at its end alone
    run.truncation = Truncation { max_length: Some(9), max_prompt_length: Some(4), ..run.truncation };
    let cut = rows(&run).unwrap().train.remove(0);
    assert_eq!(ids(&cut), ids(&whole)[..9]);
}

#[test]
fn a_margin_comes_with_its_pair() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs.jsonl");
    let row = |margin: &str| format!("{{\"prompt\": \"q\", \"chosen\": \"yes\", \"rejected\": \"no\"{margin}}}\n");
    std::fs::write(&file, [row(", \"margin\": 0.25"), row(""), row(", \"margin\": null")].concat()).unwrap();
    let margins: Vec<Option<f64>> = rows(&dataset(vec![file])).unwrap().train.iter().map(|row| row.margin).collect();
    assert_eq!(margins, [Some(0.25), None, None]);
}
