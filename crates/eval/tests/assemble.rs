//! Whose a completion is, to which prompt, and how often it counts.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use smpo_eval::score::{Assembled, CompletionFile, ModelCompletions, Store, assemble, write};
use smpo_eval::{InputError, Suite};
use smpo_results::{EvaluationDir, FinishReason, Message, RunManifest, Sample};

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, Vec<Value>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, rows) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        }
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn assemble(&self, names: &[&str], suite: Option<&str>, name: Option<&str>) -> Result<Assembled, InputError> {
        let mut store = Store::beside(self.0.path());
        let files = names.iter().map(|name| CompletionFile::read(&self.path(name), None, &mut store));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let suite = suite.map(|suite| Suite::read_answered(&self.path(suite))).transpose()?;
        assemble(files, suite.as_ref(), name, store)
    }

    fn manifest(&self, model: &ModelCompletions) -> RunManifest {
        write(&EvaluationDir::new(self.path("out").join(&model.name)), model).unwrap().0
    }
}

fn names(assembled: &Assembled) -> Vec<&str> {
    assembled.models.iter().map(|model| model.name.as_str()).collect()
}

fn samples(model: &ModelCompletions) -> Vec<Sample> {
    model.samples().collect::<Result<_, _>>().unwrap()
}

fn ids(model: &ModelCompletions) -> Vec<String> {
    samples(model).into_iter().map(|sample| sample.prompt_id).collect()
}

/// Samples that failed, as they are and as they are counted.
fn failures(model: &ModelCompletions) -> usize {
    let failed = samples(model).iter().filter(|sample| sample.finish_reason == FinishReason::Error).count();
    assert_eq!(model.failed(), failed);
    failed
}

/// A row of a batch's output; `None` failed.
fn batch(id: usize, model: &str, text: Option<&str>) -> Value {
    match text {
        Some(text) => {
            let choice = json!({"index": 0, "message": {"content": text}, "finish_reason": "stop"});
            let body = json!({"model": model, "choices": [choice]});
            json!({"custom_id": format!("q{id}"), "response": {"status_code": 200, "body": body}, "error": null})
        }
        None => {
            let body = json!({"error": {"message": "rate limited", "type": "requests"}});
            json!({"custom_id": format!("q{id}"), "response": {"status_code": 429, "body": body}, "error": null})
        }
    }
}

fn plain(id: usize, text: &str) -> Value {
    json!({"id": id, "prompt": format!("question {id}"), "completion": text})
}

#[test]
fn failed_requests_belong_to_the_files_only_model() {
    let output: Vec<Value> = (0..9).map(|id| batch(id, "tiny", (id % 3 > 0).then_some("fine"))).collect();
    let errors = vec![batch(0, "", None), batch(20, "", None)];
    let other: Vec<Value> = (0..9).map(|id| batch(id, "big", Some("fine"))).collect();
    let files = Files::new(&[("out.jsonl", output), ("errors.jsonl", errors), ("other.jsonl", other)]);
    let alone = files.assemble(&["out.jsonl"], None, None).unwrap();
    assert_eq!((names(&alone), failures(&alone.models[0])), (vec!["tiny"], 3));
    assert_eq!(samples(&alone.models[0])[0].error.as_deref(), Some("rate limited"));
    // A request that both files list failed once.
    let both = files.assemble(&["out.jsonl", "errors.jsonl"], None, None).unwrap();
    assert_eq!((names(&both), failures(&both.models[0]), both.models[0].suite.prompts), (vec!["tiny"], 4, 10));
    assert!(both.notes[0].contains("errors.jsonl:1: the answer to \"q0\" is already at"), "{:?}", both.notes);
    let error = files.assemble(&["out.jsonl", "other.jsonl", "errors.jsonl"], None, None).unwrap_err().to_string();
    assert!(error.contains("errors.jsonl: all requests in it failed") && error.contains("tiny, big"), "{error}");
    // A file of failures alone is its own model.
    assert_eq!(names(&files.assemble(&["errors.jsonl"], None, None).unwrap()), ["errors"]);
}

#[test]
fn a_row_written_again_counts_once_and_samples_count_each() {
    let once: Vec<Value> = (0..20).map(|id| plain(id, "a")).collect();
    let mut again = once.clone();
    again.push(plain(7, "a"));
    let mut differently = once.clone();
    differently.push(plain(7, "another answer"));
    let mut retried = once.clone();
    retried[3] = json!({"id": 3, "prompt": "question 3", "completion": null, "error": {"code": 503}});
    retried.push(plain(3, "a"));
    let twice: Vec<Value> = once.iter().flat_map(|row| [row.clone(), row.clone()]).collect();
    let files = Files::new(&[
        ("again.jsonl", again),
        ("differently.jsonl", differently),
        ("retried.jsonl", retried),
        ("twice.jsonl", twice),
    ]);
    for (name, samples, each, note) in [
        ("again.jsonl", 20, 1, Some("again.jsonl:21: the answer to \"7\" is already at ")),
        ("differently.jsonl", 21, 1, Some("differently.jsonl:21: the prompt \"7\" has 2 different answers")),
        ("retried.jsonl", 20, 1, Some("retried.jsonl:4: this request failed and was answered at ")),
        ("twice.jsonl", 40, 2, None),
    ] {
        let assembled = files.assemble(&[name], None, None).unwrap();
        let model = &assembled.models[0];
        assert_eq!((model.count(), failures(model)), (samples, 0), "{name}");
        assert_eq!(files.manifest(model).samples_per_prompt, each, "{name}");
        match note {
            Some(note) => assert!(assembled.notes[0].contains(note), "{:?}", assembled.notes),
            None => assert_eq!(assembled.notes, Vec::<String>::new(), "{name}"),
        }
    }
}

#[test]
fn a_file_given_twice_counts_once_and_two_equal_arms_are_two() {
    let rows: Vec<Value> = (0..4).map(|id| plain(id, "a")).collect();
    let files = Files::new(&[("a.jsonl", rows.clone()), ("b.jsonl", rows)]);
    let twice = files.assemble(&["a.jsonl", "a.jsonl"], None, None).unwrap();
    assert_eq!((twice.models[0].count(), twice.models.len()), (4, 1));
    assert!(twice.notes[0].contains("the same as"), "{:?}", twice.notes);
    assert_eq!(names(&files.assemble(&["a.jsonl", "b.jsonl"], None, None).unwrap()), ["a", "b"]);
    let copies = files.assemble(&["a.jsonl", "b.jsonl"], None, Some("m")).unwrap();
    assert_eq!((names(&copies), copies.models[0].count()), (vec!["m"], 4));
}

#[test]
fn a_name_joins_shards_and_no_two_models() {
    let shard = |ids: std::ops::Range<usize>| ids.map(|id| plain(id, "a")).collect::<Vec<_>>();
    let named = |model: &str| vec![json!({"model": model, "prompt": "q", "completion": "a"})];
    let files = Files::new(&[
        ("shard-0.jsonl", shard(0..5)),
        ("shard-1.jsonl", shard(5..9)),
        ("x.jsonl", named("x")),
        ("y.jsonl", named("y")),
        ("one/answers.jsonl", shard(0..2)),
        ("two/answers.jsonl", shard(0..2)),
    ]);
    let joined = files.assemble(&["shard-0.jsonl", "shard-1.jsonl"], None, Some("m")).unwrap();
    assert_eq!((names(&joined), joined.models[0].count(), failures(&joined.models[0])), (vec!["m"], 9, 0));
    assert_eq!(names(&files.assemble(&["x.jsonl"], None, Some("m")).unwrap()), ["m"]);
    let error = files.assemble(&["x.jsonl", "y.jsonl"], None, Some("m")).unwrap_err().to_string();
    assert!(error.contains("the files hold several models (x, y)"), "{error}");
    // Files of one name in two directories are two models.
    assert_eq!(
        names(&files.assemble(&["one/answers.jsonl", "two/answers.jsonl"], None, None).unwrap()),
        ["one", "two"]
    );
}

#[test]
fn an_id_of_two_prompts_is_told_apart_by_their_texts() {
    let task = |model: &str, subject: &str| -> Vec<Value> {
        let row =
            |id: usize| json!({"id": id, "model": model, "prompt": format!("{subject} {id}?"), "completion": subject});
        (0..3).map(row).collect()
    };
    let templated = (0..3)
        .map(|id| json!({"id": id, "model": "n", "prompt": format!("<|user|> sums {id}?<|end|>"), "completion": "c"}));
    let files = Files::new(&[
        ("sums.jsonl", task("m", "sums")),
        ("dates.jsonl", task("m", "dates")),
        ("other.jsonl", task("n", "dates")),
        ("templated.jsonl", templated.collect()),
    ]);
    let one = files.assemble(&["sums.jsonl", "dates.jsonl"], None, None).unwrap();
    assert_eq!((one.models[0].count(), one.models[0].suite.prompts), (6, 6));
    assert!(one.notes[0].contains("the id \"0\" stands for different prompts"), "{:?}", one.notes);
    let two = files.assemble(&["sums.jsonl", "other.jsonl"], None, None).unwrap();
    assert_eq!((two.models[0].suite.prompts, two.models[1].suite.prompts), (3, 3));
    assert!(ids(&two.models[0]).iter().all(|id| !ids(&two.models[1]).contains(id)));
    // A prompt in its template is the same prompt.
    let same = files.assemble(&["sums.jsonl", "templated.jsonl"], None, None).unwrap();
    assert_eq!((ids(&same.models[0]).join(" "), same.notes.len()), ("0 1 2".to_owned(), 0));
    assert_eq!(ids(&same.models[0]), ids(&same.models[1]));
}

#[test]
fn an_alpaca_input_is_part_of_the_prompt() {
    let row = |input: &str| json!({"instruction": "Summarise", "input": input, "output": "short", "generator": "m"});
    let files = Files::new(&[("m.jsonl", vec![row("text A"), row("text B"), row("")])]);
    let model = files.assemble(&["m.jsonl"], None, None).unwrap().models.remove(0);
    assert_eq!((model.suite.prompts, model.count()), (3, 3));
    assert_eq!(samples(&model)[0].messages, [Message::user("Summarise\n\ntext A")]);
    assert_eq!(samples(&model)[2].messages, [Message::user("Summarise")]);
}

#[test]
fn a_second_turn_follows_the_models_own_first_answer() {
    let question =
        json!({"question_id": 81, "category": "writing", "turns": ["Write.", "Shorter."], "reference": ["r1", "r2"]});
    let single = json!({"question_id": 82, "category": "math", "turns": ["2 + 2?"], "reference": ["4"]});
    let answer = |model: &str, first: &str| -> Vec<Value> {
        vec![
            json!({"question_id": 81, "model_id": model, "choices": [{"index": 0, "turns": [first, "short"]}]}),
            json!({"question_id": 82, "model_id": model, "choices": [{"index": 0, "turns": ["4"]}]}),
        ]
    };
    let files = Files::new(&[
        ("question.jsonl", vec![question, single]),
        ("a.jsonl", answer("a", "long a")),
        ("b.jsonl", answer("b", "long b")),
    ]);
    let assembled = files.assemble(&["a.jsonl", "b.jsonl"], Some("question.jsonl"), None).unwrap();
    for (model, first) in assembled.models.iter().zip(["long a", "long b"]) {
        assert_eq!(ids(model), ["81/turn_1", "81/turn_2", "82"]);
        let turns = [Message::user("Write."), Message::assistant(first), Message::user("Shorter.")];
        let samples = samples(model);
        assert_eq!((&samples[0].messages[..], &samples[1].messages[..]), (&turns[..1], &turns[..]));
        let references = samples.iter().map(|sample| sample.reference.as_deref());
        assert_eq!(references.collect::<Vec<_>>(), [Some("r1"), Some("r2"), Some("4")]);
        assert_eq!(failures(model), 0);
    }
    assert_eq!(assembled.models[0].suite, assembled.models[1].suite);
    // To be sampled, the later turn lacks its answer.
    let error = Suite::read(&files.path("question.jsonl")).unwrap_err().to_string();
    assert!(error.contains("question.jsonl:1: `turns`: expected one turn, got 2"), "{error}");
}

#[test]
fn files_without_completions_are_skipped_by_name() {
    let generated = json!({"doc_id": 0, "doc": {}, "resps": [["an answer"]], "arguments": [["q", {}]]});
    let likelihood = json!({"doc_id": 0, "doc": {}, "resps": [[["-1.5", "False"]], [["-2.5", "True"]]]});
    let files = Files::new(&[
        ("m/samples_qa_2025-01-01T00.jsonl", vec![generated]),
        ("m/samples_mcq_2025-01-01T00.jsonl", vec![likelihood]),
    ]);
    let both = ["m/samples_mcq_2025-01-01T00.jsonl", "m/samples_qa_2025-01-01T00.jsonl"];
    let assembled = files.assemble(&both, None, None).unwrap();
    assert_eq!((names(&assembled).join(" "), ids(&assembled.models[0]).join(" ")), ("m".to_owned(), "qa/0".to_owned()));
    assert!(
        assembled.notes[0].contains("samples_mcq") && assembled.notes[0].contains("skipped"),
        "{:?}",
        assembled.notes
    );
    assert!(files.assemble(&both[..1], None, None).unwrap_err().to_string().contains("log-likelihoods"));
}

#[test]
fn an_answer_of_reasoning_alone_is_kept_and_a_null_is_a_failure() {
    let rows = vec![
        json!({"id": 0, "prompt": "q", "completion": null, "reasoning_content": "so so so", "finish_reason": "stop"}),
        json!({"id": 1, "prompt": "q", "completion": null}),
        json!({"id": 2, "prompt": "q", "completion": "", "finish_reason": "stop"}),
        json!({"id": 3, "prompt": "q", "error": "503 upstream"}),
        json!({"id": 4, "prompt": "q", "completion": "a", "finish_reason": "wandered off"}),
    ];
    let files = Files::new(&[("m.jsonl", rows)]);
    let model = files.assemble(&["m.jsonl"], None, None).unwrap().models.remove(0);
    let samples = samples(&model);
    let found = samples.iter().map(|s| (s.finish_reason, s.reasoning.as_deref(), s.error.as_deref()));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (FinishReason::Eos, Some("so so so"), None),
            (FinishReason::Error, None, Some("no completion: null")),
            (FinishReason::Eos, None, None),
            (FinishReason::Error, None, Some("503 upstream")),
            (FinishReason::Unknown, None, None),
        ]
    );
    let observed = files.manifest(&model).observed;
    assert_eq!(observed.finish_remarks, [("wandered off".to_owned(), 1)].into());
    assert_eq!(observed.untold, [("finish_reason".to_owned(), 1), ("tokens".to_owned(), 3)].into());
}

#[test]
fn rows_without_id_and_prompt_are_counted_as_known_by_their_line() {
    let row = |more: serde_json::Value| {
        let mut row = json!({"completion": "a", "finish_reason": "stop"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let rows = [json!({}), json!({}), json!({"id": "line_a"}), json!({"prompt": "Why?"})].map(row);
    let files = Files::new(&[("m.jsonl", rows.to_vec())]);
    let model = files.assemble(&["m.jsonl"], None, None).unwrap().models.remove(0);
    let untold = files.manifest(&model).observed.untold;
    assert_eq!((untold.get("id"), untold.get("prompt")), (Some(&2), Some(&3)));
}

#[test]
fn benchmarks_whose_prompts_are_unknown_are_not_compared() {
    let row = |model: &str| vec![json!({"question_id": 1, "model_id": model, "choices": [{"turns": ["a"]}]})];
    let files = Files::new(&[
        ("math/model_answer/x.jsonl", row("x")),
        ("math/model_answer/y.jsonl", row("y")),
        ("dates/model_answer/z.jsonl", row("z")),
        ("w.jsonl", row("w")),
    ]);
    let [x, y, z, w] =
        ["math/model_answer/x.jsonl", "math/model_answer/y.jsonl", "dates/model_answer/z.jsonl", "w.jsonl"]
            .map(|name| files.manifest(&files.assemble(&[name], None, None).unwrap().models[0]));
    assert_eq!(x.observed.benchmark.as_deref(), Some("math"));
    assert_eq!((x.incomparable(&y), x.incomparable(&w)), (None, None));
    let (field, own, others) = x.incomparable(&z).unwrap();
    assert_eq!(field, "observed.benchmark");
    assert!(own.contains("math") && others.contains("dates") && own.contains("--prompts"), "{own} {others}");
}

#[test]
fn another_encoding_is_refused_and_damage_is_told() {
    let files = Files::new(&[]);
    let path = files.path("m.jsonl");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let mut store = Store::beside(&path);
        CompletionFile::read(&path, None, &mut store).and_then(|file| assemble(vec![file], None, None, store))
    };
    let error =
        read(b"{\"prompt\": \"p\", \"completion\": \"M\xfcller, na\xefve, caf\xe9\"}\n").unwrap_err().to_string();
    assert!(error.contains("m.jsonl:1: expected UTF-8") && error.contains("iconv"), "{error}");
    let damaged = read(b"{\"prompt\": \"p\", \"completion\": \"cut \xf0\x9f\x98\"}\n").unwrap();
    assert!(damaged.notes[0].contains("no UTF-8, on line 1"), "{:?}", damaged.notes);
    let table = read(b"prompt,completion\nq,a\n").unwrap_err().to_string();
    assert!(table.contains("text that begins with \"prompt,completion\""), "{table}");
}
