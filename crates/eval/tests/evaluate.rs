//! A whole evaluation with an engine and a scorer that are tables, as somebody else's would be plugged in.

use std::ops::ControlFlow;
use std::path::Path;

use smpo_eval::{
    ALL, Engines, EvaluateError, Event, FidelityCheck, FidelityError, Item, Options, Prompt, Report, RunError,
    ScorerError, Suite, TeacherForced, TokenScores, evaluate,
};
use smpo_inference::{Completion, EngineInfo, Generator, InferenceError, Request, Sampler, Scripted};
use smpo_results::{EvaluationDir, Message, Sample, read_jsonl};

const LOG_PROB: f32 = -0.5;

/// Every token has the same log-prob.
struct Constant(f32);

impl TeacherForced for Constant {
    fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<TokenScores>, ScorerError> {
        let logp = f64::from(self.0);
        Ok(vec![TokenScores { logps: vec![logp; 3], terminator_logp: logp, terminator_rank: 1 }; items.len()])
    }

    fn log_probs(&mut self, _: &[Message], token_ids: &[u32]) -> Result<Vec<f32>, ScorerError> {
        Ok(vec![self.0; token_ids.len()])
    }
}

fn suite(prompts: usize) -> Suite {
    let prompts = (0..prompts).map(|index| Prompt {
        id: format!("p{index}"),
        slice: "s".into(),
        messages: vec![Message::user(format!("question {index}"))],
        reference: Some("yes".into()),
        language: None,
        closed: false,
        extra_body: Default::default(),
        cap: None,
        turn: None,
    });
    Suite {
        name: "t".into(),
        prompts: prompts.collect(),
        sampler: Sampler::temperature(0.8),
        cap: 8,
        samples_per_prompt: 1,
        seed: 0,
        pairs: None,
    }
}

fn scripted(suite: &Suite) -> Scripted {
    let completion = Completion {
        token_ids: Some(vec![1, 2, 3, 0]),
        logps: Some(vec![LOG_PROB; 4]),
        tokens: Some(4),
        cap: 8,
        ..Completion::new("yes it is")
    };
    suite.prompts.iter().fold(Scripted::new(), |script, prompt| script.completion(&prompt.id, completion.clone()))
}

/// Slower than the disk, like every engine: otherwise all is done before a callback can stop it.
struct Slow(Scripted);

impl Generator for Slow {
    fn generate(&mut self, request: &Request) -> Result<Completion, InferenceError> {
        std::thread::sleep(std::time::Duration::from_millis(2));
        self.0.generate(request)
    }

    fn engine(&self) -> EngineInfo {
        self.0.engine()
    }
}

fn options(dir: &Path) -> Options {
    Options::new(dir, "table", "table")
}

/// Evaluates without stopping; the report and the events.
fn run(suite: &Suite, engines: Engines, options: &Options) -> Result<(Report, Vec<Event>), EvaluateError> {
    let mut events = Vec::new();
    let evaluated = evaluate(suite, engines, options, &mut |event| {
        events.push(event);
        ControlFlow::Continue(())
    })?;
    Ok((evaluated.expect("nobody stopped it"), events))
}

#[test]
fn an_engine_with_a_scorer_gives_all_files_and_metrics() {
    let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(9));
    let engines = Engines::new([scripted(&suite), scripted(&suite)]).with_scorer(Constant(LOG_PROB));
    let (report, events) = run(&suite, engines, &options(dir.path())).expect("evaluates");
    assert_eq!(report.manifest.fidelity_max_abs_nats, Some(0.0));
    for metric in ["eos_rate", "loop_rate", "eos_logp_gold"] {
        assert!(report.metrics.get(metric, ALL).is_some(), "{metric}");
    }
    assert!(events.iter().any(|event| matches!(event, Event::Sampling(state) if state.done == 9)));
    assert_eq!(events.last(), Some(&Event::Gold { done: 9, total: 9 }));
    let files = EvaluationDir::new(dir.path());
    for path in [files.manifest(), files.samples(), files.measurements(), files.metrics()] {
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn a_scorer_that_disagrees_stops_the_run_unless_the_check_is_skipped() {
    let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(3));
    let engines = || Engines::new([scripted(&suite), scripted(&suite)]).with_scorer(Constant(LOG_PROB - 0.25));
    let error = run(&suite, engines(), &options(dir.path())).expect_err("another model");
    let EvaluateError::Fidelity(error @ FidelityError::Disagreement { sequential: None, .. }) = &error else {
        panic!("{error}")
    };
    assert!(error.to_string().contains("max |Δ| 0.250 nats over"), "{error}");
    assert!(!error.is_decimal());
    assert!(!EvaluationDir::new(dir.path()).metrics().exists());

    let skip = Options { fidelity: FidelityCheck::Skip, ..options(dir.path()) };
    let (report, _) = run(&suite, engines(), &skip).expect("evaluates");
    assert_eq!(report.manifest.fidelity_max_abs_nats, None);
    let wide = Options { fidelity: FidelityCheck::Run { tolerance: Some(0.3) }, restart: true, ..options(dir.path()) };
    let (report, _) = run(&suite, engines(), &wide).expect("evaluates");
    assert_eq!(report.manifest.fidelity_max_abs_nats, Some(0.25));
}

#[test]
fn generators_alone_skip_what_needs_a_scorer_and_run_one_by_one_on_demand() {
    let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(3));
    let engines = Engines { sequential_unless_checked: true, ..Engines::new([scripted(&suite), scripted(&suite)]) };
    let (report, events) = run(&suite, engines, &options(dir.path())).expect("evaluates");
    assert_eq!(events.first(), Some(&Event::Sequential));
    assert!(report.metrics.get("eos_logp_gold", ALL).is_none());
    assert!(report.metrics.get("eos_rate", ALL).is_some());
    let none = run(&suite, Engines::new(Vec::<Scripted>::new()), &options(dir.path())).expect_err("no engine");
    assert!(none.to_string().contains("no generator"), "{none}");
}

#[test]
fn a_break_stops_and_the_same_call_resumes() {
    let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(40));
    let engines = || Engines::new([Slow(scripted(&suite))]);
    let stopped = evaluate(&suite, engines(), &options(dir.path()), &mut |event| match event {
        Event::Sampling(state) if state.done >= 5 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(stopped.expect("stops"), None);
    let files = EvaluationDir::new(dir.path());
    let kept: Vec<Sample> = read_jsonl(&files.samples(), "sample").expect("valid");
    assert!((5..40).contains(&kept.len()), "{}", kept.len());
    let (report, events) = run(&suite, engines(), &options(dir.path())).expect("resumes");
    assert!(matches!(events.first(), Some(Event::Sampling(state)) if state.done == kept.len()));
    assert_eq!(report.metrics.get("eos_rate", ALL).map(|estimate| estimate.n), Some(40));
}

#[test]
fn failures_are_reported_and_nothing_but_failures_is_an_error() {
    let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(3));
    let half = Scripted::new().text("p0", "fine").failure("p1", "out of memory").text("p2", "fine");
    let (_, events) = run(&suite, Engines::new([half]), &options(dir.path())).expect("evaluates");
    assert!(events.contains(&Event::Failed { failed: 1, total: 3 }));
    let broken = suite.prompts.iter().fold(Scripted::new(), |script, prompt| script.failure(&prompt.id, "broken"));
    let restart = Options { restart: true, ..options(dir.path()) };
    let error = run(&suite, Engines::new([broken]), &restart).expect_err("nothing to measure");
    assert!(matches!(&error, EvaluateError::NothingSampled { first } if first.contains("broken")), "{error}");
}

#[test]
fn prompts_that_no_engine_could_take_are_no_failure_to_try_again() {
    // Nothing is scripted for them; of many, the first twenty are enough to know.
    for (prompts, tried) in [(3, 3), (50, 20)] {
        let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(prompts));
        let error = run(&suite, Engines::new([Scripted::new()]), &options(dir.path())).expect_err("nothing to measure");
        let EvaluateError::Run(RunError::Unusable { count, last }) = error else { panic!("{error}") };
        assert_eq!(count, tried, "{last}");
    }
    // One that can be sampled makes the others failed samples.
    let (dir, suite) = (tempfile::tempdir().expect("a directory"), suite(3));
    let (_, events) =
        run(&suite, Engines::new([Scripted::new().text("p0", "fine")]), &options(dir.path())).expect("evaluates");
    assert!(events.contains(&Event::Failed { failed: 2, total: 3 }));
}
