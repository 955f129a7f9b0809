//! Duplicates of synthetic rows whose similarity is known.

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use smpo_curation::{By, CurationError, Keep, Method, Options, Report, duplicates};

fn options(method: Method) -> Options {
    Options { by: By::Row, method, keep: Keep::First, against: Vec::new() }
}

fn minhash(threshold: f64) -> Method {
    Method::MinHash { threshold, shingle: 5 }
}

/// The report, and the ids of the rows that stay.
fn run(files: &[PathBuf], options: Options, dir: &Path) -> (Report, Vec<String>) {
    let go_on = |_| ControlFlow::Continue(());
    let found = duplicates(files, options, None, &go_on).unwrap().unwrap();
    let out = dir.join("out.jsonl");
    let report = found.write(Some(&out), &go_on).unwrap().unwrap();
    let kept = fs::read_to_string(out).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    (report, kept.lines().map(id).collect())
}

fn file(dir: &Path, name: &str, rows: &[Value]) -> PathBuf {
    let path = dir.join(name);
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

/// Texts and copies of them with some words changed, deleted and moved.
fn texts(random: &mut ChaCha8Rng) -> Vec<String> {
    let word = |random: &mut ChaCha8Rng| {
        let length = random.random_range(2..10);
        (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect::<String>()
    };
    let vocabulary: Vec<String> = (0..3000).map(|_| word(random)).collect();
    let mut texts = Vec::new();
    for _ in 0..300 {
        let words: Vec<&String> =
            (0..random.random_range(20..120)).map(|_| vocabulary.choose(random).unwrap()).collect();
        for _ in 0..random.random_range(1..6) {
            let mut copy = words.clone();
            for _ in 0..random.random_range(0..8) {
                let at = random.random_range(0..copy.len());
                match random.random_range(0..3) {
                    0 => copy[at] = vocabulary.choose(random).unwrap(),
                    1 => drop(copy.remove(at)),
                    _ => {
                        let moved = copy.remove(at);
                        copy.insert(random.random_range(0..=copy.len()), moved);
                    }
                }
            }
            texts.push(copy.into_iter().cloned().collect::<Vec<_>>().join(" "));
        }
    }
    texts
}

fn runs(text: &str) -> HashSet<&str> {
    (0..=text.len() - 5).map(|at| &text[at..at + 5]).collect()
}

#[test]
fn minhash_finds_what_comparing_all_pairs_finds() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let texts = texts(&mut random);
    let rows: Vec<Value> =
        texts.iter().enumerate().map(|(at, text)| json!({"id": at.to_string(), "prompt": text})).collect();
    let path = file(dir.path(), "rows.jsonl", &rows);
    let sets: Vec<HashSet<&str>> = texts.iter().map(|text| runs(text)).collect();
    let similarity = |a: usize, b: usize| {
        let shared = sets[a].intersection(&sets[b]).count();
        shared as f64 / (sets[a].len() + sets[b].len() - shared) as f64
    };
    for threshold in [0.6, 0.8, 0.9] {
        let (report, kept) = run(std::slice::from_ref(&path), options(minhash(threshold)), dir.path());
        // rows in order; each is left out if it is like one that stays
        let mut stay: Vec<usize> = Vec::new();
        let repeats = |stay: &Vec<usize>, row: usize| stay.iter().any(|leader| similarity(*leader, row) >= threshold);
        (0..texts.len()).for_each(|row| {
            if !repeats(&stay, row) {
                stay.push(row)
            }
        });
        let kept: Vec<usize> = kept.iter().map(|id| id.parse().unwrap()).collect();
        let (expected, got): (HashSet<_>, HashSet<_>) = (stay.iter().collect(), kept.iter().collect());
        let left_out = texts.len() - stay.len();
        assert!(left_out > 100, "{threshold}: only {left_out} duplicates to find");
        // recall: of the rows that repeat another, those left out; every one is verified, so precision is 1
        let missed = got.difference(&expected).count();
        assert!(missed as f64 <= 0.01 * left_out as f64, "{threshold}: {missed} of {left_out} missed");
        for cluster in &report.clusters {
            for member in &cluster.left_out {
                let [leader, row] = [&cluster.kept, member].map(|member| member.line as usize - 1);
                let exact = similarity(leader, row);
                // runs are compared by hashes of 32 bits
                assert!(
                    (exact - member.similarity).abs() < 0.01 && member.similarity >= threshold,
                    "{leader} {row}: {exact}"
                );
            }
        }
    }
}

#[test]
fn similarity_is_not_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    // each shares half or more of its runs with its neighbour, the first and the last none
    let row = |id: &str, prompt: &str| json!({"id": id, "prompt": prompt});
    let rows = [row("a", "abcdefghijklmnop"), row("b", "efghijklmnopqrst"), row("c", "ijklmnopqrstuvwx")];
    let path = file(dir.path(), "rows.jsonl", &rows);
    let (report, kept) = run(&[path], options(minhash(0.45)), dir.path());
    assert_eq!(kept, ["a", "c"]);
    assert_eq!((report.near, report.exact, report.clusters[0].left_out[0].line), (1, 0, 2));
}

#[test]
fn the_row_that_stays_can_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let long = "tell me everything that there is to know about the moon and its seas";
    let row = |id: &str, prompt: &str, score: f64| json!({"id": id, "prompt": prompt, "score": score});
    let rows = [row("a", long, 1.0), row("b", &format!("{long}!"), 0.5), row("c", long, 2.0), row("d", "other", 0.0)];
    let path = file(dir.path(), "rows.jsonl", &rows);
    let keeping = |keep: Keep| {
        let options = Options { keep, ..options(minhash(0.8)) };
        run(std::slice::from_ref(&path), options, dir.path()).1
    };
    assert_eq!(keeping(Keep::First), ["a", "d"]);
    assert_eq!(keeping(Keep::Longest), ["b", "d"]);
    assert_eq!(keeping(Keep::Best("score".into())), ["c", "d"]);
    let (report, kept) = run(&[path], options(Method::Exact), dir.path());
    assert_eq!((kept.len(), report.exact, report.near), (3, 1, 0));
}

#[test]
fn leaks_are_rows_that_repeat_another_file_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: &str, prompt: &str| json!({"id": id, "prompt": prompt, "chosen": "a", "rejected": "b"});
    let rows = [
        row("a", "Name the capital of the largest country of South America."),
        row("b", "name the capital  of the largest country of South America"),
        row("c", "something else"),
        row("d", "something else"),
    ];
    let train = file(dir.path(), "train.jsonl", &rows);
    let prompt = "Name the capital of the largest country of South America.";
    let system = json!({"role": "system", "content": "Be brief."});
    let suite = file(
        dir.path(),
        "suite.jsonl",
        &[
            json!({"id": "x", "messages": [system, {"role": "user", "content": prompt}]}),
            json!({"id": "y", "prompt": "no"}),
        ],
    );
    let options = Options { by: By::Question, against: vec![suite], ..options(minhash(0.8)) };
    let (report, kept) = run(&[train], options, dir.path());
    assert_eq!(kept, ["c", "d"]);
    assert_eq!((report.references, report.left_out, report.exact, report.near), (2, 2, 1, 1));
    assert_eq!(report.clusters.len(), 1);
    assert!(report.clusters[0].kept.path.ends_with("suite.jsonl"));
}

#[test]
fn every_learned_turn_of_a_conversation_is_held_against_a_suite() {
    let dir = tempfile::tempdir().unwrap();
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let [ask, answer] = ["user", "assistant"].map(|role| move |content: &str| turn(role, content));
    let first = [ask("Hello there, who are you?"), answer("A model.")];
    let talk = |id: &str, more: &[Value]| json!({"id": id, "messages": ([&first[..], more].concat())});
    let rows = [
        talk("whole", &[ask("What is the capital of Peru?"), answer("Lima.")]),
        talk(
            "earlier",
            &[ask("And of Chile, if you know?"), answer("Santiago."), ask("Thanks a lot!"), answer("Sure.")],
        ),
        talk("alone", &[ask("Name three colours of the rainbow."), answer("Red.")]),
        talk("other", &[ask("Tell me of the sea."), answer("It is wide.")]),
    ];
    let train = file(dir.path(), "train.jsonl", &rows);
    let suite = file(
        dir.path(),
        "suite.jsonl",
        &[
            json!({"id": "x", "messages": ([&first[..], &[ask("What is the capital of Peru?")]].concat())}),
            json!({"id": "y", "messages": ([&first[..], &[ask("And of Chile, if you know?")]].concat())}),
            json!({"id": "z", "prompt": "Name three colours of the rainbow."}),
        ],
    );
    for by in [By::Question, By::Prompt] {
        let options = Options { by, against: vec![suite.clone()], ..options(minhash(0.8)) };
        let (report, kept) = run(std::slice::from_ref(&train), options, dir.path());
        assert_eq!((kept, report.left_out), (vec!["other".to_owned()], 3));
    }
    // conversations that only begin alike are no duplicates
    let options = Options { by: By::Prompt, ..options(Method::Exact) };
    assert_eq!(run(&[train], options, dir.path()).1.len(), 4);
}

#[test]
fn swapped_sides_and_opposite_labels_are_no_duplicates() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["the first of two answers to a question", "an answer of quite another kind to it"];
    let rows = [
        json!({"id": "a", "prompt": "q", "chosen": one, "rejected": other}),
        json!({"id": "b", "prompt": "q", "chosen": other, "rejected": one}),
    ];
    let pairs = file(dir.path(), "pairs.jsonl", &rows);
    assert_eq!(run(&[pairs], options(minhash(0.8)), dir.path()).1, ["a", "b"]);
    let rows = [true, false, true]
        .map(|label| json!({"id": label.to_string(), "prompt": "q", "completion": one, "label": label}));
    let labelled = file(dir.path(), "labelled.jsonl", &rows);
    assert_eq!(run(&[labelled], options(minhash(0.8)), dir.path()).1, ["true", "false"]);
}

#[test]
fn a_file_that_changes_in_between_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let row = |prompt: &str| json!({"id": "a", "prompt": prompt});
    let path = file(dir.path(), "rows.jsonl", &[row("one"), row("two")]);
    let go_on = |_| ControlFlow::Continue(());
    let found = duplicates(std::slice::from_ref(&path), options(minhash(0.8)), None, &go_on).unwrap().unwrap();
    file(dir.path(), "rows.jsonl", &[row("one"), row("three")]);
    let out = dir.path().join("out.jsonl");
    let error = found.write(Some(&out), &go_on).unwrap_err();
    assert!(matches!(error, CurationError::Changed { .. }), "{error}");
    assert!(error.to_string().contains("rows.jsonl:2: the row changed"), "{error}");
    assert!(!out.exists());
    // shorter than it was
    file(dir.path(), "rows.jsonl", &[row("one")]);
    assert!(found.write(Some(&out), &go_on).is_err());
    assert!(!out.exists());
}

#[test]
fn empty_texts_stay_and_options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "rows.jsonl", &[json!({"id": "a", "t": " "}), json!({"id": "b", "t": ""})]);
    let by = By::Column("t".into());
    let (report, kept) = run(std::slice::from_ref(&path), Options { by, ..options(minhash(0.8)) }, dir.path());
    assert_eq!((kept.len(), report.empty), (2, 2));
    let go_on = |_| ControlFlow::Continue(());
    for method in [minhash(0.0), minhash(1.1), minhash(f64::NAN), Method::MinHash { threshold: 0.5, shingle: 0 }] {
        let refused = duplicates(std::slice::from_ref(&path), options(method), None, &go_on);
        assert!(matches!(refused, Err(CurationError::Option(_))));
    }
}
