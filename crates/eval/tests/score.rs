//! Completions of others: every format read back, and what is said about what cannot be.

use std::cell::RefCell;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use smpo_eval::score::{CompletionFile, InputFormat, ModelCompletions, Store, assemble, write};
use smpo_eval::{InputError, Suite};
use smpo_fixtures::{Packing, zip};
use smpo_results::{EvaluationDir, FinishReason, Message, RunManifest, Sample, read_json, read_jsonl};

struct Files {
    dir: tempfile::TempDir,
    store: RefCell<Store>,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        let store = RefCell::new(Store::beside(dir.path()));
        Files { dir, store }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn try_read(&self, name: &str) -> Result<CompletionFile, InputError> {
        CompletionFile::read(&self.path(name), None, &mut self.store.borrow_mut())
    }
    fn read(&self, name: &str) -> CompletionFile {
        self.try_read(name).expect(name)
    }
    /// The models of all files that were read so far.
    fn assemble(&self, files: Vec<CompletionFile>, suite: Option<&Suite>) -> Result<Vec<Model>, InputError> {
        let models = assemble(files, suite, None, self.store.replace(Store::beside(self.dir.path())))?.models;
        Ok(models.into_iter().map(Model::of).collect())
    }
    /// The models of files without a suite.
    fn assembled(&self, files: &[CompletionFile]) -> Vec<Model> {
        self.assemble(files.to_vec(), None).expect("assembles")
    }
}

/// A model with its samples.
struct Model {
    completions: ModelCompletions,
    samples: Vec<Sample>,
}

impl Model {
    fn of(completions: ModelCompletions) -> Self {
        let samples: Vec<Sample> = completions.samples().collect::<Result<_, _>>().expect("readable");
        assert_eq!(samples.len(), completions.count());
        Model { completions, samples }
    }
}

impl Deref for Model {
    type Target = ModelCompletions;

    fn deref(&self) -> &ModelCompletions {
        &self.completions
    }
}

fn one(name: &str, text: &str) -> (InputFormat, Model) {
    let files = Files::new(&[(name, text)]);
    let file = files.read(name);
    let mut models = files.assembled(std::slice::from_ref(&file));
    assert_eq!(models.len(), 1, "{text}");
    (file.format, models.remove(0))
}

fn error(name: &str, text: &str) -> String {
    let files = Files::new(&[(name, text)]);
    let result = files.try_read(name).and_then(|file| files.assemble(vec![file], None));
    result.err().expect("wrong").to_string()
}

#[test]
fn fastchat_answers() {
    let (format, model) = one(
        "gpt-4.jsonl",
        concat!(
            r#"{"question_id": 81, "answer_id": "x", "model_id": "gpt-4", "choices": [{"index": 0, "turns": [{"content": "Hello", "token_len": 1}]}, {"index": 1, "turns": [{"content": "Hi"}]}]}"#,
            "\n",
            r#"{"question_id": "82", "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["first", "second"]}]}"#,
            "\n",
            r#"{"question_id": 83, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["$ERROR$"]}]}"#,
        ),
    );
    assert_eq!((format, model.name.as_str(), model.suite.prompts), (InputFormat::FastChat, "gpt-4", 4));
    let found: Vec<_> = model.samples.iter().map(|s| (s.prompt_id.as_str(), s.sample, s.completion.as_str())).collect();
    let expected =
        [("81", 0, "Hello"), ("81", 1, "Hi"), ("82/turn_1", 0, "first"), ("82/turn_2", 0, "second"), ("83", 0, "")];
    assert_eq!(found, expected);
    assert_eq!(model.samples[3].slice, "turn_2");
    assert!(model.samples[..4].iter().all(|s| s.finish_reason == FinishReason::Unknown && s.tokens.is_none()));
    assert_eq!(model.samples[4].finish_reason, FinishReason::Error);
}

#[test]
fn alpaca_eval_outputs() {
    let text = r#"[{"dataset": "koala", "instruction": "Say hi", "output": "hi", "generator": "phi-2"},
                   {"dataset": "oasst", "instruction": "Say ho", "output": "", "generator": "phi-2"}]"#;
    let (format, model) = one("phi.json", text);
    assert_eq!((format, model.name.as_str()), (InputFormat::AlpacaEval, "phi-2"));
    assert_eq!((model.samples[0].slice.as_str(), model.samples[1].slice.as_str()), ("koala", "oasst"));
    assert_eq!(model.samples[0].messages, [Message::user("Say hi")]);
    assert_eq!(model.samples[0].prompt_id.len(), 16);
}

#[test]
fn lists_that_a_pipeline_of_transformers_returns() {
    let texts = "[{\"generated_text\": \"Paris.\"}, {\"generated_text\": \"Rome.\"}]\n[{\"generated_text\": \"4\"}]\n";
    let dumped = format!("[{}]", texts.trim().replace('\n', ", "));
    for text in [texts, &dumped] {
        let (_, model) = one("m.json", text);
        let found: Vec<_> =
            model.samples.iter().map(|s| (s.prompt_id.as_str(), s.sample, s.completion.as_str())).collect();
        assert_eq!(found, [("line_1", 0, "Paris."), ("line_1", 1, "Rome."), ("line_2", 0, "4")], "{text}");
    }
    let turns = r#"[{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]"#;
    for text in [format!("[{{\"generated_text\": {turns}}}]\n"), format!("[[{{\"generated_text\": {turns}}}]]")] {
        let (_, model) = one("m.jsonl", &text);
        let sample = &model.samples[0];
        assert_eq!((sample.messages.as_slice(), sample.completion.as_str()), (&[Message::user("Where?")][..], "Here."));
    }
}

#[test]
fn lm_evaluation_harness_samples() {
    let list = concat!(
        r#"{"doc_id": 3, "doc": {"q": "?"}, "target": "18", "arguments": [["Q: ?", {"until": ["\n"], "max_gen_toks": 256}]], "resps": [["18", "19"]], "filtered_resps": ["18"], "filter": "strict"}"#,
        "\n",
        r#"{"doc_id": 3, "doc": {"q": "?"}, "target": "18", "arguments": {"gen_args_0": {"arg_0": "Q: ?", "arg_1": {"max_gen_toks": 256}}}, "resps": [["18", "19"]], "filtered_resps": ["x"], "filter": "flexible"}"#,
    );
    let (format, model) = one("org__model/samples_gsm8k_cot_2024-06-01T12-00-00.123456.jsonl", list);
    assert_eq!((format, model.name.as_str()), (InputFormat::LmEval, "org__model"));
    let found: Vec<_> = model.samples.iter().map(|s| (s.prompt_id.as_str(), s.sample, s.completion.as_str())).collect();
    assert_eq!(found, [("gsm8k_cot/3", 0, "18"), ("gsm8k_cot/3", 1, "19")]);
    assert_eq!((model.samples[0].slice.as_str(), model.samples[0].cap), ("gsm8k_cot", Some(256)));
    assert_eq!(model.samples[0].messages, [Message::user("Q: ?")]);
    assert_eq!(model.samples[0].reference.as_deref(), Some("18"));
    let likelihoods = r#"{"doc_id": 0, "doc": {}, "resps": [[["-1.5", "False"]], [["-2.5", "True"]]]}"#;
    assert!(error("samples_mmlu.jsonl", likelihoods).contains("log-likelihoods"));
}

/// The cap of a request is evidence of an end, and stands in the batch's input alone.
#[test]
fn an_end_at_the_cap_of_a_batchs_request_is_the_caps() {
    let answer = |id: &str, tokens: u32, reason: &str| {
        serde_json::json!({"custom_id": id, "response": {"status_code": 200, "body": {"model": "m",
            "choices": [{"message": {"content": "hi"}, "finish_reason": reason}], "usage": {"completion_tokens": tokens}}}})
    };
    let output =
        [answer("a", 64, "stop"), answer("b", 63, "stop"), answer("c", 64, "length")].map(|row| row.to_string());
    for (name, body) in [
        (
            "chat",
            serde_json::json!({"body": {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "q"}]}}),
        ),
        (
            "newer",
            serde_json::json!({"body": {"max_completion_tokens": 64, "messages": [{"role": "user", "content": "q"}]}}),
        ),
        ("responses", serde_json::json!({"body": {"max_output_tokens": 64, "input": "q"}})),
        (
            "anthropic",
            serde_json::json!({"params": {"max_tokens": 64, "messages": [{"role": "user", "content": "q"}]}}),
        ),
        (
            "gemini",
            serde_json::json!({"request": {"contents": [{"parts": [{"text": "q"}], "role": "user"}],
                                                  "generationConfig": {"maxOutputTokens": 64}}}),
        ),
    ] {
        let input = ["a", "b", "c"].map(|id| {
            let mut row = body.clone();
            row["custom_id"] = id.into();
            row.to_string()
        });
        let files = Files::new(&[("input.jsonl", &input.join("\n")), ("output.jsonl", &output.join("\n"))]);
        let suite = Suite::read_answered(&files.path("input.jsonl")).expect(name);
        let models = files.assemble(vec![files.read("output.jsonl")], Some(&suite)).expect("assembles");
        let ends: Vec<_> = models[0].samples.iter().map(|s| (s.finish_reason, s.cap)).collect();
        use FinishReason::{Eos, Length};
        assert_eq!(ends, [(Length, Some(64)), (Eos, Some(64)), (Length, Some(64))], "{name}");
        assert_eq!(
            models[0].samples[0].finish_remark.as_deref(),
            Some("an end at the cap of the request, counted as cut")
        );
    }
}

/// `.eval` holds what `inspect log dump` writes as one document.
#[test]
fn an_archived_log_of_inspect_is_its_document() {
    let header = serde_json::json!({"version": 2, "status": "success", "eval": {"task": "t", "model": "tiny"}});
    let sample = |id: u32, text: &str| {
        serde_json::json!({"id": id, "epoch": 1, "input": format!("question {id}"), "target": "",
            "output": {"model": "tiny", "choices": [{"message": {"role": "assistant", "content": text}, "stop_reason": "stop"}]}})
    };
    let samples = [sample(1, "one"), sample(2, "two")];
    let mut document = header.clone();
    document["samples"] = serde_json::json!(samples);
    let (format, expected) = one("log.json", &document.to_string());
    assert_eq!(format, InputFormat::Inspect);

    let files = Files::new(&[]);
    let [header, first, second] = [header.to_string(), samples[0].to_string(), samples[1].to_string()];
    let samples = [("samples/1_epoch_1.json", first.as_str()), ("samples/2_epoch_1.json", second.as_str())];
    let whole = [&samples[..], &[("summaries.json", "[]"), ("header.json", &header)]].concat();
    // One that is being written.
    let begun = [&[("_journal/start.json", header.as_str())], &samples[..]].concat();
    for (entries, packing) in [(&whole, Packing::Deflate), (&whole, Packing::Zstd), (&begun, Packing::Stored)] {
        fs::write(files.path("log.eval"), zip(entries, packing)).expect("writable");
        let model = files.assembled(&[files.read("log.eval")]).remove(0);
        assert_eq!((&model.name, &model.samples), (&expected.name, &expected.samples));
    }
    let refused = |entries: &[(&str, &str)]| {
        fs::write(files.path("other.zip"), zip(entries, Packing::Deflate)).expect("writable");
        files.try_read("other.zip").expect_err("refused").to_string()
    };
    assert!(refused(&[("a.json", "{}")]).contains("no log of inspect"));
    let damaged = refused(&[("header.json", &header), ("samples/1_epoch_1.json", "{\"id\": 1,")]);
    assert!(damaged.contains("`samples/1_epoch_1.json` in the archive: expected JSON"), "{damaged}");
}

#[test]
fn openai_batches() {
    let choice =
        |finish: &str| format!(r#"{{"index": 0, "message": {{"role": "assistant", "content": "hi"}}, {finish}}}"#);
    let line = |id: &str, choices: &str| {
        format!(
            r#"{{"id": "b", "custom_id": "{id}", "response": {{"status_code": 200, "body": {{"model": "m", "choices": [{choices}], "usage": {{"completion_tokens": 7}}}}}}, "error": null}}"#
        )
    };
    let text = [
        line("a", &choice(r#""finish_reason": "stop""#)),
        line("b", &choice(r#""finish_reason": "length""#)),
        line("c", &choice(r#""finish_reason": "stop", "stop_reason": "END""#)),
        line("d", &choice(r#""finish_reason": "stop", "stop_reason": 151645"#)),
        line("e", &choice(r#""finish_reason": "content_filter""#)),
        line(
            "f",
            &[choice(r#""finish_reason": "stop""#), r#"{"index": 1, "text": "ho", "finish_reason": "length"}"#.into()]
                .join(", "),
        ),
        r#"{"custom_id": "g", "response": null, "error": {"code": "expired"}}"#.into(),
        r#"{"custom_id": "h", "response": {"status_code": 429, "body": {}}, "error": null}"#.into(),
        r#"{"custom_id": "i", "response": {"status_code": 200, "body": {"error": {"message": "no"}}}}"#.into(),
    ]
    .join("\n");
    // Failed rows do not name the model: the file does.
    let files = Files::new(&[("m.jsonl", &text)]);
    let file = files.read("m.jsonl");
    assert_eq!(file.format, InputFormat::Batch);
    let models = files.assembled(&[file]);
    let model = &models[0];
    use FinishReason::{Eos, Error, Length, Stop, Unknown};
    let found: Vec<_> = model.samples.iter().map(|s| (s.prompt_id.as_str(), s.finish_reason, s.tokens)).collect();
    let expected = [
        ("a", Eos, Some(7)),
        ("b", Length, Some(7)),
        ("c", Stop, Some(7)),
        ("d", Eos, Some(7)),
        ("e", Unknown, Some(7)),
        ("f", Eos, None),
        ("f", Length, None),
        ("g", Error, None),
        ("h", Error, None),
        ("i", Error, None),
    ];
    assert_eq!(found, expected);
    assert_eq!(model.samples[6].completion, "ho");
    assert!(model.samples[7].error.as_deref().is_some_and(|error| error.contains("expired")));
    assert!(model.samples[8].error.as_deref().is_some_and(|error| error.contains("429")));
}

#[test]
fn plain_lines() {
    for (text, completion, finish, messages) in [
        (r#"{"prompt": "p", "completion": "c"}"#, "c", FinishReason::Unknown, 1),
        (
            r#"{"question": "p", "answer": "c", "finish_reason": "length", "max_tokens": 9}"#,
            "c",
            FinishReason::Length,
            1,
        ),
        (r#"{"generated_text": "c", "finish_reason": "eos_token"}"#, "c", FinishReason::Eos, 0),
        (
            r#"{"prompt": [{"role": "user", "content": "p"}], "response": "c", "finish_reason": "end_turn"}"#,
            "c",
            FinishReason::Eos,
            1,
        ),
        (
            r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]}"#,
            "c",
            FinishReason::Unknown,
            2,
        ),
        (r#"{"prompt": "p", "completion": "", "error": "timeout"}"#, "", FinishReason::Error, 1),
        // NUL, lone surrogates
        (r#"{"prompt": "p", "completion": "a\u0000b\ud83d"}"#, "a\0b\u{fffd}", FinishReason::Unknown, 1),
    ] {
        let (format, model) = one("mine.jsonl", text);
        let sample = &model.samples[0];
        assert_eq!((format, model.name.as_str()), (InputFormat::Plain, "mine"), "{text}");
        assert_eq!(
            (sample.completion.as_str(), sample.finish_reason, sample.messages.len()),
            (completion, finish, messages),
            "{text}"
        );
    }
    let repeated = "{\"prompt\": \"p\", \"completion\": \"a\"}\n{\"prompt\": \"q\", \"completion\": \"b\"}\n{\"prompt\": \"p\", \"completion\": \"c\"}";
    let (_, model) = one("m.jsonl", repeated);
    let found: Vec<_> = model.samples.iter().map(|s| (s.completion.as_str(), s.sample)).collect();
    assert_eq!(found, [("a", 0), ("c", 1), ("b", 0)]);
}

/// A column of a model's answers is added to rows that have the gold answer in `answer` or `output`.
#[test]
fn the_models_column_comes_before_the_gold_answer() {
    for (row, used) in [
        (r#"{"question": "q", "answer": "gold", "prediction": "said"}"#, "prediction"),
        (r#"{"question": "q", "answer": "gold", "model_answer": "said"}"#, "model_answer"),
        (r#"{"question": "q", "answer": "gold", "generated": "said"}"#, "generated"),
        (r#"{"instruction": "q", "output": "gold", "generated_text": "said"}"#, "generated_text"),
    ] {
        let (completion, notes) = said(row);
        assert_eq!((completion.as_str(), notes.len()), ("said", 1), "{row}");
        let note = format!("m.jsonl:1: the completion is `{used}`; ");
        assert!(notes[0].contains(&note) && notes[0].ends_with("another text, is left out"), "{notes:?}");
    }
    // Alone they are the completion, and of a copy nothing is said.
    for row in
        [r#"{"question": "q", "answer": "said"}"#, r#"{"instruction": "q", "output": "said", "response": "said"}"#]
    {
        assert_eq!(said(row), ("said".to_owned(), Vec::new()), "{row}");
    }
}

/// The completion of a file of one row, and the notes on it.
fn said(row: &str) -> (String, Vec<String>) {
    let files = Files::new(&[("m.jsonl", row)]);
    let read = vec![files.read("m.jsonl")];
    let assembled =
        assemble(read, None, None, files.store.replace(Store::beside(files.dir.path()))).expect("assembles");
    let model = Model::of(assembled.models.into_iter().next().expect("one"));
    (model.samples[0].completion.clone(), assembled.notes)
}

/// Figures never stand beside samples that they are not of, whenever the writer ended.
#[test]
fn an_evaluation_that_is_written_over_is_unfinished_until_it_is_whole() {
    let files = Files::new(&[("a.jsonl", r#"{"prompt": "p", "completion": "c"}"#)]);
    let models = files.assembled(&[files.read("a.jsonl")]);
    let dir = EvaluationDir::new(files.path("run"));
    write(&dir, &models[0]).expect("writes");
    assert!(dir.metrics().is_file());
    // What comes after the samples cannot be written.
    fs::remove_file(dir.manifest()).expect("there");
    fs::create_dir_all(dir.manifest().join("in the way")).expect("writable");
    write(&dir, &models[0]).expect_err("a directory is in the way");
    assert!(!dir.metrics().exists());
}

/// Prompts that are given count, and those of the file that are others are told of.
#[test]
fn prompts_of_a_file_that_are_not_those_given_are_noted() {
    let row =
        |id: &str, prompt: &str| format!("{{\"id\": \"{id}\", \"prompt\": \"{prompt}\", \"completion\": \"c\"}}\n");
    let answers = row("1", "Name the capital.") + &row("2", "<user> Add 1 and 2.<end>") + &row("3", "Name a river.");
    let given = ["Translate this.", "Add 1 and 2.", "Say hi."].map(str::to_owned);
    let prompts: String =
        given.iter().zip(1..).map(|(text, id)| format!("{{\"id\": \"{id}\", \"prompt\": \"{text}\"}}\n")).collect();
    let files = Files::new(&[("a.jsonl", &answers), ("prompts.jsonl", &prompts)]);
    let suite = Suite::read_answered(&files.path("prompts.jsonl")).expect("prompts");
    let read = vec![files.read("a.jsonl")];
    let store = files.store.replace(Store::beside(files.dir.path()));
    let notes = assemble(read, Some(&suite), None, store).expect("assembles").notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].ends_with("a.jsonl:1: another prompt than the one given for the id \"1\", which counts; and 1 more"),
        "{notes:?}"
    );
}

#[test]
fn bytes_that_are_no_text_are_damage_not_an_error() {
    let files = Files::new(&[]);
    let path = files.path("m.jsonl");
    fs::write(&path, b"{\"prompt\": \"p\", \"completion\": \"a\xff\xfeb\"}").expect("writable");
    let models = files.assembled(&[files.read("m.jsonl")]);
    let dir = EvaluationDir::new(files.path("out"));
    let (_, measured) = write(&dir, &models[0]).expect("writes");
    assert_eq!(measured.metrics.get("broken_rate", "all").map(|m| m.value), Some(1.0));
}

#[test]
fn our_own_samples_come_back_as_they_went() {
    let files = Files::new(&[(
        "a.jsonl",
        "{\"id\": \"x\", \"prompt\": \"p\", \"completion\": \"c c\", \"finish_reason\": \"stop\", \"tokens\": 3, \"max_tokens\": 8, \"reference\": \"c\", \"closed\": true}",
    )]);
    let models = files.assembled(&[files.read("a.jsonl")]);
    let dir = EvaluationDir::new(files.path("run"));
    let (manifest, measured) = write(&dir, &models[0]).expect("writes");
    let again = files.read("run/samples.jsonl");
    assert_eq!(again.format, InputFormat::Smpo);
    let second = files.assembled(&[again]);
    assert_eq!((second[0].name.as_str(), &second[0].samples), ("run", &models[0].samples));
    assert_eq!(second[0].suite.sha256, models[0].suite.sha256);
    assert_eq!(read_json::<RunManifest>(&dir.manifest(), "run manifest").expect("valid"), manifest);
    assert_eq!(read_jsonl::<Sample>(&dir.samples(), "sample").expect("valid"), models[0].samples);
    assert_eq!((manifest.cap, manifest.kind.as_str()), (Some(8), "score"));
    let value = |id| measured.metrics.get(id, "all").map(|m| m.value);
    assert_eq!((value("eos_rate"), value("exact_match"), value("stops_when_right")), (Some(1.0), Some(0.0), Some(0.0)));
}

#[test]
fn what_the_format_cannot_say_is_absent() {
    let files = Files::new(&[("a.json", r#"[{"instruction": "p", "output": "a b c d e", "generator": "m"}]"#)]);
    let models = files.assembled(&[files.read("a.json")]);
    let (_, measured) = write(&EvaluationDir::new(files.path("out")), &models[0]).expect("writes");
    for absent in ["eos_rate", "p_cap", "length", "eos_hazard", "exact_match", "eos_logp_gold"] {
        assert!(measured.metrics.get(absent, "all").is_none(), "{absent}");
    }
    for present in ["loop_rate", "broken_rate", "seq_rep_4", "zlib_ratio", "distinct_1", "foreign_script", "error_rate"]
    {
        assert!(measured.metrics.get(present, "all").is_some(), "{present}");
    }
}

#[test]
fn models_scored_together_are_held_to_the_same_prompts() {
    let row = |prompt: &str, model: &str| {
        format!("{{\"prompt\": \"{prompt}\", \"completion\": \"c\", \"model\": \"{model}\"}}")
    };
    let files = Files::new(&[
        ("a.jsonl", &[row("p", "a"), row("q", "a"), row("r", "a")].join("\n")),
        ("b.jsonl", &[row("r", "b"), row("p", "b")].join("\n")),
        ("c.jsonl", &row("elsewhere", "c")),
    ]);
    let read: Vec<_> = ["a.jsonl", "b.jsonl", "c.jsonl"].map(|name| files.read(name)).into();
    let models = files.assembled(&read);
    assert_eq!(models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(models[0].suite, models[1].suite);
    assert_eq!((models[0].suite.prompts, models[2].suite.prompts), (3, 1));
    assert_eq!(models[1].samples.len(), 3);
    assert_eq!(models[1].samples[1].finish_reason, FinishReason::Error);

    let prompts = Files::new(&[(
        "q.jsonl",
        "{\"id\": \"1\", \"prompt\": \"Wie?\", \"slice\": \"de\"}\n{\"id\": \"2\", \"prompt\": \"Wo?\", \"slice\": \"de\"}",
    )]);
    let suite = Suite::read(&prompts.path("q.jsonl")).expect("valid");
    let answers = Files::new(&[(
        "m.jsonl",
        r#"{"question_id": 2, "model_id": "m", "choices": [{"index": 0, "turns": ["da"]}]}"#,
    )]);
    let models = answers.assemble(vec![answers.read("m.jsonl")], Some(&suite)).expect("assembles");
    let found: Vec<_> = models[0]
        .samples
        .iter()
        .map(|s| (s.prompt_id.as_str(), s.slice.as_str(), s.messages.len(), s.error.is_some()))
        .collect();
    assert_eq!(found, [("1", "de", 1, true), ("2", "de", 1, false)]);
    let stray = Files::new(&[(
        "m.jsonl",
        r#"{"question_id": 9, "model_id": "m", "choices": [{"index": 0, "turns": ["da"]}]}"#,
    )]);
    let error = stray.assemble(vec![stray.read("m.jsonl")], Some(&suite)).err().expect("unknown prompt").to_string();
    assert!(error.contains("m.jsonl:1: the prompt \"9\" is not among the 2 prompts"), "{error}");
}

#[test]
fn wrong_files_are_explained_with_the_line() {
    for (text, words) in [
        ("", "expected JSON objects, got an empty file"),
        ("[]", "expected JSON objects, got an empty file"),
        ("{\"prompt\": \"p\", \"completion\": \"c\"}\n{\"prompt\"", "m.jsonl:2: expected one JSON object a line"),
        (
            "{\"prompt\": \"p\", \"completion\": \"c\"}\n\n{\"prompt\": \"p\"}",
            "m.jsonl:3: expected a completion in one of",
        ),
        ("{\"prompt\": \"p\", \"completion\": \"c\", \"tokens\": -1}", "`tokens`: expected an integer from 0"),
        ("{\"text\": \"p\", \"label\": 1}", "no known format of completions has the fields text, label"),
        ("{\"schema\": 1, \"prompt_id\": \"a\", \"completion\": \"c\"}", "not a valid sample: missing field"),
        (
            "{\"id\": \"a\", \"sample\": 0, \"completion\": \"c\"}\n{\"id\": \"a\", \"sample\": 0, \"completion\": \"d\"}",
            "m.jsonl:2: sample 0 of prompt \"a\" by \"m\" is already at",
        ),
        (
            "{\"choices\": [{\"turns\": [7]}], \"question_id\": 1}",
            "`turns`: expected a text or a list of parts, got a number",
        ),
        ("{\"choices\": [{\"turns\": [\"x\"]}]}", "expected a `question_id`"),
        ("{\"custom_id\": \"a\", \"response\": {\"body\": {}}}", "expected a response with `choices`"),
        ("{\"doc_id\": 1, \"resps\": 3}", "`resps`: expected a list, got a number"),
        ("{\"id\": \"a\", \"slice\": \"all\", \"completion\": \"c\"}", "m.jsonl:1: the slice name \"all\" is reserved"),
    ] {
        let error = error("m.jsonl", text);
        assert!(error.contains(words), "{error}\nexpected {words}");
    }
    assert!(Files::new(&[]).try_read("nowhere.jsonl").expect_err("absent").to_string().contains("cannot read"));
    assert!("fastcat".parse::<InputFormat>().expect_err("unknown").contains("did you mean `fastchat`?"));
    for format in InputFormat::ALL {
        assert_eq!(format.id().parse::<InputFormat>(), Ok(*format));
    }
}

#[test]
fn the_documentation_lists_every_format() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scoring.md");
    let text = fs::read_to_string(path).expect("readable");
    let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> =
        InputFormat::ALL.iter().map(|format| format!("| `{}` | {} |", format.id(), format.files())).collect();
    assert_eq!(listed, expected, "docs/scoring.md (left) differs from the table of formats (right)");
}

#[test]
fn a_row_without_any_answer_is_a_failed_sample() {
    for text in [
        r#"{"custom_id": "q", "response": {"status_code": "200", "body": {"choices": []}}}"#,
        r#"{"custom_id": "q", "response": {"status_code": 200, "body": {"choices": null}}}"#,
        r#"{"model": "m", "candidates": [], "promptFeedback": {"blockReason": "SAFETY"}}"#,
        r#"{"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": []}]}"#,
        r#"{"doc_id": 0, "doc": {}, "resps": [[]], "arguments": [["p", {}]]}"#,
        r#"{"doc_id": 0, "doc": {}, "resps": [[null]], "arguments": [["p", {}]]}"#,
        r#"{"request_states": [{"instance": {"id": "1", "input": {"text": "p"}}, "result": {"success": true, "completions": []}}]}"#,
        r#"{"evalId": "e", "results": {"results": [{"prompt": {"raw": "p"}, "provider": {"id": "m"}, "response": {"output": null}}]}}"#,
    ] {
        let (_, model) = one("m.jsonl", text);
        assert_eq!(model.samples.len(), 1, "{text}");
        assert_eq!(model.samples[0].finish_reason, FinishReason::Error, "{text}");
    }
}

#[test]
fn a_response_in_a_row_of_its_own_is_read_with_the_rows_prompt() {
    for (text, model) in [
        (
            r#"{"status": "", "request": {"contents": [{"role": "user", "parts": [{"text": "p"}]}]}, "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "c"}]}, "finishReason": "STOP"}], "modelVersion": "g"}}"#,
            "g",
        ),
        (
            r#"{"recordId": "R0", "modelInput": {"messages": [{"role": "user", "content": "p"}]}, "modelOutput": {"model": "c", "role": "assistant", "content": [{"type": "text", "text": "c"}], "stop_reason": "end_turn"}}"#,
            "c",
        ),
        (r#"{"prompt": "p", "content": "c", "stop_type": "eos", "tokens_predicted": 2, "model": "l"}"#, "l"),
        (
            r#"{"model": "t", "prompt": [{"role": "user", "content": "p"}], "choices": [{"message": {"role": "assistant", "content": "c"}, "finish_reason": "stop"}]}"#,
            "t",
        ),
    ] {
        let (_, found) = one("file.jsonl", text);
        let sample = &found.samples[0];
        assert_eq!((found.name.as_str(), sample.completion.as_str()), (model, "c"), "{text}");
        assert_eq!((&*sample.messages, sample.finish_reason), (&[Message::user("p")][..], FinishReason::Eos), "{text}");
    }
    let unknown = r#"{"prompt": "p", "response": {"status": 200, "payload": "c"}}"#;
    assert!(error("m.jsonl", unknown).contains("got an object with status, payload"), "{}", error("m.jsonl", unknown));
}
