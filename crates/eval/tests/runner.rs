//! Sampling a suite with scripted generators: streaming, resuming, stopping, failing.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use smpo_eval::{Progress, Prompt, RunError, Sampled, Suite, sample_suite, write_results};
use smpo_inference::{Completion, EngineInfo, Generator, InferenceError, Request, Sampler, Scripted};
use smpo_results::{
    EvaluationDir, FinishReason, Message, ModelInfo, Observed, RunManifest, SCHEMA_VERSION, Sample, read_jsonl,
};

struct Room {
    _temp: tempfile::TempDir,
    dir: EvaluationDir,
}

impl Deref for Room {
    type Target = EvaluationDir;
    fn deref(&self) -> &EvaluationDir {
        &self.dir
    }
}

fn room() -> Room {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let dir = EvaluationDir::new(temp.path().join("run"));
    Room { _temp: temp, dir }
}

fn suite(prompts: usize, samples_per_prompt: u32) -> Suite {
    let prompts = (0..prompts).map(|index| Prompt {
        id: format!("p{index}"),
        slice: format!("slice{}", index % 2),
        messages: vec![Message::user(format!("question {index}"))],
        reference: Some(format!("answer {index}")),
        language: None,
        closed: true,
        extra_body: Default::default(),
        cap: None,
        turn: None,
    });
    Suite {
        name: "test".into(),
        prompts: prompts.collect(),
        sampler: Sampler::temperature(0.8),
        cap: 16,
        samples_per_prompt,
        seed: 7,
        pairs: None,
    }
}

fn manifest(suite: &Suite) -> RunManifest {
    RunManifest {
        schema: SCHEMA_VERSION,
        kind: "eval".into(),
        model: ModelInfo {
            source: "scripted".into(),
            name: "scripted".into(),
            weights_sha256: None,
            arm: None,
            training_seed: None,
        },
        suite: suite.info().expect("no pairs"),
        sampler: Some(suite.sampler),
        cap: Some(suite.cap),
        samples_per_prompt: suite.samples_per_prompt,
        terminators: None,
        template_sha256: None,
        seed: suite.seed,
        versions: Default::default(),
        fidelity_max_abs_nats: None,
        observed: Observed::default(),
    }
}

fn script(suite: &Suite) -> Scripted {
    suite.prompts.iter().enumerate().fold(Scripted::new(), |script, (index, prompt)| {
        script.text(&prompt.id, format!("answer {index}")).text(&prompt.id, format!("answer {index} and more"))
    })
}

type Before = Arc<dyn Fn(&Request) -> Result<(), InferenceError> + Send + Sync>;

/// Answers by script, counts requests, and does something first.
#[derive(Clone)]
struct Spy {
    script: Scripted,
    asked: Arc<Mutex<Vec<(String, u32)>>>,
    before: Before,
}

impl Spy {
    fn new(script: Scripted, before: impl Fn(&Request) -> Result<(), InferenceError> + Send + Sync + 'static) -> Self {
        Spy { script, asked: Arc::default(), before: Arc::new(before) }
    }
    fn boxed(&self, count: usize) -> Vec<Box<dyn Generator>> {
        (0..count).map(|_| Box::new(self.clone()) as Box<dyn Generator>).collect()
    }
    fn asked(&self) -> Vec<(String, u32)> {
        let mut asked = self.asked.lock().expect("unpoisoned").clone();
        asked.sort();
        asked
    }
}

impl Generator for Spy {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        self.asked.lock().expect("unpoisoned").push((request.prompt_id.clone(), request.sample));
        // Slower than the disk, like every engine: otherwise all is done before anyone can stop it.
        std::thread::sleep(std::time::Duration::from_millis(2));
        (self.before)(request)?;
        self.script.generate(request)
    }
    fn engine(&self) -> EngineInfo {
        self.script.engine()
    }
}

fn failure(request: &Request) -> InferenceError {
    InferenceError::Engine {
        prompt_id: request.prompt_id.clone(),
        sample: request.sample,
        engine: "spy".into(),
        message: "out of memory".into(),
    }
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

fn all(sampled: Sampled) -> Vec<Sample> {
    match sampled {
        Sampled::All(samples) => samples,
        Sampled::Stopped(progress) => panic!("stopped at {progress:?}"),
    }
}

#[test]
fn every_sample_is_taken_once_and_the_bytes_do_not_depend_on_threads() {
    let suite = suite(13, 3);
    let bytes: Vec<Vec<u8>> = [1, 4]
        .map(|threads| {
            let dir = room();
            let spy = Spy::new(script(&suite), |_| Ok(()));
            let mut last = None;
            let samples =
                all(sample_suite(&suite, &dir, &manifest(&suite), spy.boxed(threads), &never(), |p| last = Some(p))
                    .expect("runs"));
            assert_eq!(samples.len(), 39);
            assert_eq!(spy.asked().len(), 39);
            assert!(matches!(last, Some(Progress { done: 39, total: 39, failed: 0, .. })), "{last:?}");
            let written: Vec<Sample> = read_jsonl(&dir.samples(), "sample").expect("valid");
            assert_eq!(written, samples);
            assert_eq!((written[5].prompt_id.as_str(), written[5].sample), ("p1", 2));
            write_results(&dir, &manifest(&suite), &samples, Vec::new()).expect("writes");
            let mut bytes = fs::read(dir.samples()).expect("samples");
            for file in [dir.measurements(), dir.metrics(), dir.manifest()] {
                bytes.extend(fs::read(file).expect("written"));
            }
            assert!(smpo_files::DirLock::take(dir.path()).expect("writable").is_some(), "the lock is released");
            bytes
        })
        .into();
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn a_stopped_run_goes_on_without_sampling_again() {
    let (suite, dir) = (suite(20, 2), room());
    let uninterrupted = room();
    let spy = Spy::new(script(&suite), |_| Ok(()));
    let whole =
        all(sample_suite(&suite, &uninterrupted, &manifest(&suite), spy.boxed(2), &never(), |_| {}).expect("runs"));

    let stop = never();
    let spy = Spy::new(script(&suite), |_| Ok(()));
    let sampled = sample_suite(&suite, &dir, &manifest(&suite), spy.boxed(2), &stop, |progress| {
        if progress.done == 9 {
            stop.store(true, Ordering::SeqCst);
        }
    })
    .expect("stops in order");
    let Sampled::Stopped(progress) = sampled else { panic!("expected a stop") };
    assert!((9..=12).contains(&progress.done), "{progress:?}");
    let first = spy.asked();
    assert_eq!(first.len(), progress.done);
    // A crash may have torn the last line.
    let mut torn = fs::read(dir.samples()).expect("samples");
    torn.extend(b"{\"schema\":1,\"prompt_id\":\"p1");
    fs::write(dir.samples(), torn).expect("writable");

    let spy = Spy::new(script(&suite), |_| Ok(()));
    let resumed = all(sample_suite(&suite, &dir, &manifest(&suite), spy.boxed(3), &never(), |_| {}).expect("resumes"));
    assert_eq!(resumed, whole);
    assert_eq!(fs::read(dir.samples()).expect("a"), fs::read(uninterrupted.samples()).expect("b"));
    let mut asked = [first, spy.asked()].concat();
    asked.sort();
    assert_eq!(asked.len(), 40);
    asked.dedup();
    assert_eq!(asked.len(), 40, "something was sampled twice");
}

#[test]
fn failures_are_recorded_and_tried_again() {
    let (suite, dir) = (suite(6, 1), room());
    let broken = Spy::new(script(&suite), |request| match request.prompt_id.as_str() {
        "p2" => Err(failure(request)),
        "p4" => panic!("index out of bounds"),
        _ => Ok(()),
    });
    let samples = all(sample_suite(&suite, &dir, &manifest(&suite), broken.boxed(1), &never(), |_| {}).expect("runs"));
    assert_eq!(samples[2].finish_reason, FinishReason::Error);
    assert!(samples[2].error.as_deref().is_some_and(|error| error.contains("out of memory")), "{:?}", samples[2]);
    assert!(samples[4].error.as_deref().is_some_and(|error| error.contains("index out of bounds")), "{:?}", samples[4]);
    let measured = write_results(&dir, &manifest(&suite), &samples, Vec::new()).expect("writes");
    assert_eq!(measured.metrics.get("error_rate", "all").map(|m| (m.value, m.n)), Some((2.0 / 6.0, 6)));
    for sound in ["exact_match", "self_bleu"] {
        assert_eq!(measured.metrics.get(sound, "all").map(|m| m.n), Some(4), "{sound}");
    }
    assert_eq!(measured.metrics.get("exact_match", "all").map(|m| m.value), Some(1.0));

    let mended = Spy::new(script(&suite), |_| Ok(()));
    let samples = all(sample_suite(&suite, &dir, &manifest(&suite), mended.boxed(1), &never(), |_| {}).expect("runs"));
    assert_eq!(mended.asked(), [("p2".to_owned(), 0), ("p4".to_owned(), 0)]);
    assert!(samples.iter().all(|sample| sample.finish_reason == FinishReason::Eos));
    assert!(!dir.metrics().exists(), "an estimate of other samples was left behind");
}

#[test]
fn an_engine_that_only_fails_is_given_up_on() {
    let (suite, dir) = (suite(200, 1), room());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let spy = Spy::new(script(&suite), move |request| {
        if counted.fetch_add(1, Ordering::SeqCst) < 5 { Ok(()) } else { Err(failure(request)) }
    });
    let error = sample_suite(&suite, &dir, &manifest(&suite), spy.boxed(2), &never(), |_| {}).expect_err("gives up");
    assert!(matches!(error, RunError::Failing { count: 20, .. }), "{error}");
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert!(calls.load(Ordering::SeqCst) < 40);
    // The five sound samples are kept.
    let mended = Spy::new(script(&suite), |_| Ok(()));
    all(sample_suite(&suite, &dir, &manifest(&suite), mended.boxed(2), &never(), |_| {}).expect("resumes"));
    assert_eq!(mended.asked().len(), 195);
}

#[test]
fn another_runs_directory_is_refused_by_field() {
    let (mut suite, dir) = (suite(3, 1), room());
    let run = |suite: &Suite, manifest: &RunManifest| {
        let generators: Vec<Box<dyn Generator>> = vec![Box::new(script(suite))];
        sample_suite(suite, &dir, manifest, generators, &never(), |_| {})
    };
    let first = manifest(&suite);
    run(&suite, &first).expect("runs");
    fs::write(dir.metrics(), "{}").expect("writable");
    let refused = |result: Result<Sampled, RunError>| match result.expect_err("another run") {
        RunError::OtherRun { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(refused(run(&suite, &RunManifest { seed: 8, ..first.clone() })), "seed");
    assert_eq!(refused(run(&suite, &RunManifest { cap: Some(17), ..first.clone() })), "cap");
    let other = ModelInfo { source: "elsewhere".into(), ..first.model.clone() };
    assert_eq!(refused(run(&suite, &RunManifest { model: other, ..first.clone() })), "model.source");
    suite.prompts[0].messages[0].content.push('?');
    assert_eq!(refused(run(&suite, &manifest(&suite))), "suite.sha256");
    let none = sample_suite(&suite, &dir, &first, Vec::new(), &never(), |_| {});
    assert!(matches!(none, Err(RunError::NoGenerator)));
    assert!(dir.metrics().is_file(), "what is refused changes nothing");
}

#[test]
fn damaged_directories_are_named() {
    let (suite, dir) = (suite(3, 1), room());
    let run = || {
        let generators: Vec<Box<dyn Generator>> = vec![Box::new(script(&suite))];
        sample_suite(&suite, &dir, &manifest(&suite), generators, &never(), |_| {})
    };
    run().expect("runs");
    let good = fs::read_to_string(dir.samples()).expect("samples");

    let line_two = good.lines().nth(1).expect("two lines");
    fs::write(dir.samples(), good.replace(line_two, "{\"schema\":1}")).expect("writable");
    let error = run().expect_err("damaged").to_string();
    assert!(error.contains("samples.jsonl:2:"), "{error}");

    fs::write(dir.samples(), good.replace("\"p1\"", "\"p9\"")).expect("writable");
    let error = run().expect_err("foreign").to_string();
    assert!(error.contains("\"p9\""), "{error}");

    fs::write(dir.samples(), &good).expect("writable");
    fs::remove_file(dir.manifest()).expect("there");
    assert!(matches!(run(), Err(RunError::ForeignSample { .. })));
}

#[test]
fn one_directory_takes_one_process() {
    let (suite, dir) = (suite(2, 1), room());
    let path: PathBuf = dir.path().to_owned();
    let inner = suite.clone();
    let spy = Spy::new(script(&suite), move |_| {
        let generators: Vec<Box<dyn Generator>> = vec![Box::new(script(&inner))];
        let second = sample_suite(&inner, &EvaluationDir::new(&path), &manifest(&inner), generators, &never(), |_| {});
        assert!(matches!(second, Err(RunError::Locked { .. })), "{second:?}");
        Ok(())
    });
    let samples = all(sample_suite(&suite, &dir, &manifest(&suite), spy.boxed(1), &never(), |_| {}).expect("runs"));
    assert!(samples.iter().all(|sample| sample.error.is_none()), "{samples:?}");
}
