//! Evaluation directories that are damaged, unfinished or of another time.

mod runs;

use runs::{Build, ones_first, run};
use smpo_files::write_whole;
use smpo_gate::{DecideOptions, GateError, Policy, Run, decide};

fn refusal(dir: &std::path::Path) -> String {
    Run::load(dir).unwrap_err().to_string()
}

#[test]
fn a_written_run_reads_back() {
    let root = tempfile::tempdir().unwrap();
    let made = run("a").with("eos_rate", ones_first(5, 10));
    let read = Run::load(made.write(root.path())).unwrap();
    assert_eq!(
        (&read.manifest, &read.metrics, &read.measurements),
        (&made.manifest, &made.metrics, &made.measurements)
    );
}

#[test]
fn damage_is_named_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    let dir = run("a").with("eos_rate", ones_first(5, 10)).write(root.path());
    let path = dir.join("measurements.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();

    let cut = &whole[..whole.len() - 20];
    write_whole(&path, cut.as_bytes()).unwrap();
    assert!(refusal(&dir).contains("measurements.jsonl:10: not a valid measurement"), "{}", refusal(&dir));

    write_whole(&path, whole.replace("\"schema\":1", "\"schema\":9").as_bytes()).unwrap();
    assert!(refusal(&dir).contains(":1: schema version 9 is newer than 1"), "{}", refusal(&dir));

    let line = whole.lines().next().unwrap();
    write_whole(&path, format!("{whole}{line}\n").as_bytes()).unwrap();
    assert!(matches!(Run::load(&dir), Err(GateError::DuplicatePrompt { .. })), "{}", refusal(&dir));

    write_whole(&path, whole.replacen("1.0", "2.0", 1).as_bytes()).unwrap();
    assert!(refusal(&dir).ends_with("expected a share from 0 to 1, got 2"), "{}", refusal(&dir));

    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&dir).contains("not a finished evaluation: measurements.jsonl is missing"), "{}", refusal(&dir));
    assert!(refusal(&root.path().join("nowhere")).contains("there is no such directory"));

    // Of two kinds of damage the first, at one place the prompt that occurs twice.
    let lines: Vec<&str> = whole.lines().collect();
    let impossible = |line: usize| lines[line].replace("1.0", "2.0");
    let with = |lines: Vec<String>| {
        write_whole(&path, (lines.join("\n") + "\n").as_bytes()).unwrap();
        Run::load(&dir).unwrap_err()
    };
    let owned = || -> Vec<String> { lines.iter().map(|line| (*line).to_owned()).collect() };
    let mut first_impossible = owned();
    first_impossible[2] = impossible(2);
    first_impossible.push(lines[0].to_owned());
    assert!(matches!(with(first_impossible), GateError::Impossible { .. }));
    let mut first_repeated = owned();
    first_repeated[4] = impossible(4);
    first_repeated.insert(1, lines[0].to_owned());
    assert!(matches!(with(first_repeated), GateError::DuplicatePrompt { .. }));
    let mut both = owned();
    both.push(impossible(0));
    assert!(matches!(with(both), GateError::DuplicatePrompt { .. }));

    // What people give instead: a training run, a model.
    let model = root.path().join("run/model");
    std::fs::create_dir_all(&model).unwrap();
    write_whole(&model.join("config.json"), b"{}").unwrap();
    assert!(
        refusal(&model).contains(&format!("it is a model; `smpo eval {} ", model.display())),
        "{}",
        refusal(&model)
    );
    let run = root.path().join("run");
    write_whole(&run.join("config.toml"), b"").unwrap();
    assert!(
        refusal(&run)
            .ends_with("not a finished evaluation: run.json is missing; run `smpo eval` or `smpo score` again")
    );
    write_whole(&run.join("metrics.jsonl"), b"").unwrap();
    assert!(refusal(&run).contains(&format!("a training run; `smpo eval {} ", model.display())), "{}", refusal(&run));
}

#[test]
fn scored_files_pair_by_prompt_and_check_its_text() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, n: usize, last: &str| {
        let mut made = run(name).with("loop_rate", ones_first(0, n));
        made.manifest.kind = "score".into();
        made.manifest.suite.sha256 = name.into();
        let dir = made.write(root.path());
        let lines: String = (0..n)
            .map(|i| {
                let slice = if i % 2 == 1 { "odd" } else { "even" };
                let text = if i + 1 == n { last } else { "same" };
                format!("{{\"prompt_id\":\"p{i:05}\",\"slice\":\"{slice}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}\n")
            })
            .collect();
        write_whole(&dir.join("samples.jsonl"), lines.as_bytes()).unwrap();
        vec![Run::load(dir).unwrap()]
    };
    let policy = Policy::load("default").unwrap();
    let verdict = decide(&policy, make("a", 400, "same"), make("b", 398, "same"), DecideOptions::default()).unwrap();
    let loops = verdict.metrics.iter().find(|m| m.metric == "loop_rate").unwrap();
    assert_eq!(loops.n, 398);
    assert!(verdict.notes.iter().any(|note| note.contains("others generated")));
    let error = decide(&policy, make("a", 400, "same"), make("b", 398, "other"), DecideOptions::default()).unwrap_err();
    assert!(error.to_string().contains("prompt `p00397` is not the same text in both"), "{error}");
}

/// FastChat's answers carry no prompts, and its question ids are unique only within a task.
#[test]
fn ids_without_prompts_are_paired_with_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, suite: &str, prompts: bool| {
        let mut made = run(name).with("loop_rate", ones_first(0, 400));
        made.manifest.kind = "score".into();
        made.manifest.suite.sha256 = suite.into();
        let dir = made.write(root.path());
        let messages = if prompts { "[{\"role\":\"user\",\"content\":\"q\"}]" } else { "[]" };
        let line = |i: usize| {
            let slice = if i % 2 == 1 { "odd" } else { "even" };
            format!("{{\"prompt_id\":\"p{i:05}\",\"slice\":\"{slice}\",\"messages\":{messages}}}\n")
        };
        write_whole(&dir.join("samples.jsonl"), (0..400).map(line).collect::<String>().as_bytes()).unwrap();
        vec![Run::load(dir).unwrap()]
    };
    let policy = Policy::load("default").unwrap();
    let warnings = |baseline, candidate| -> Vec<String> {
        let verdict = decide(&policy, baseline, candidate, DecideOptions::default()).unwrap();
        verdict.notes.into_iter().filter(|note| note.contains("question id alone")).collect()
    };
    let bare = warnings(make("a", "one", false), make("b", "one", false));
    assert!(bare[0].starts_with("the answers of the baseline and the candidate come without"), "{bare:?}");
    let half = warnings(make("a", "one", true), make("b", "two", false));
    assert!(half[0].starts_with("the answers of the candidate come without"), "{half:?}");
    assert_eq!(warnings(make("a", "one", true), make("b", "one", true)), Vec::<String>::new());
}

#[test]
fn scored_files_without_a_common_id_are_refused_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, text: &str| {
        let mut made = run(name).with("loop_rate", ones_first(0, 4));
        made.manifest.kind = "score".into();
        made.manifest.suite.sha256 = name.into();
        let rows = made.measurements.rows().map(|mut row| {
            row.prompt_id = format!("{name}-{}", row.prompt_id);
            row
        });
        made.measurements = rows.collect();
        let dir = made.write(root.path());
        let line = |i: usize| {
            let message = format!("{{\"role\":\"user\",\"content\":\"{text} {i}\"}}");
            format!("{{\"prompt_id\":\"{name}-p{i:05}\",\"slice\":\"s\",\"messages\":[{message}]}}\n")
        };
        write_whole(&dir.join("samples.jsonl"), (0..4).map(line).collect::<String>().as_bytes()).unwrap();
        vec![Run::load(dir).unwrap()]
    };
    let policy = Policy::load("default").unwrap();
    let refused = |a, b| decide(&policy, a, b, DecideOptions::default()).unwrap_err().to_string();
    let start = |text: &str| text.split_once("common, ").unwrap().1.to_owned();
    assert_eq!(
        start(&refused(make("a", "question"), make("b", "question"))),
        "by their ids (a-p00000 and b-p00000); the texts of prompts are the same: give both files the same ids, or score \
         them with one `--prompts`"
    );
    assert_eq!(
        start(&refused(make("a", "question"), make("c", "another"))),
        "by their ids (a-p00000 and c-p00000); evaluate both on the same prompts"
    );
}
