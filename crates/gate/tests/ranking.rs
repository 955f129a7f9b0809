//! Boards of runs whose order is known.

mod runs;

use std::path::Path;

use runs::{Build, ones_first, run};
use smpo_gate::ranking::{RankingOptions, boards};
use smpo_gate::{GateError, Policy, Run};
use smpo_results::{Board, COMMON_PROMPTS, FinishReason, LoopSpan, SCHEMA_VERSION, Sample, write_jsonl};

fn options<'a>() -> RankingOptions<'a> {
    RankingOptions {
        baseline: None,
        policy: None,
        resamples: 1_000,
        seed: 1,
        wanted: Default::default(),
        worst_per_entry: 4,
        completion_bytes: 200,
    }
}

fn sample(prompt: usize, completion: &str, finish_reason: FinishReason, tokens: Option<u32>) -> Sample {
    let looping = completion.contains("again");
    let line = serde_json::json!({
        "schema": SCHEMA_VERSION, "prompt_id": format!("p{prompt:05}"),
        "slice": if prompt % 2 == 1 { "odd" } else { "even" },
        "sample": 0, "completion": completion, "finish_reason": finish_reason, "tokens": tokens,
        "token_ids": tokens.map(|_| [1, 2, 3].repeat(if looping { 12 } else { 1 })),
    });
    serde_json::from_value(line).unwrap()
}

/// A run on disk: `finished` of `n` prompts end after 10, 20, 30… tokens, the others loop to the cap of 240.
fn written(root: &Path, name: &str, finished: usize, n: usize) -> Run {
    let made =
        run(name).with("eos_rate", ones_first(finished, n)).with("loop_rate", ones_first(finished, n).map(|v| 1.0 - v));
    let dir = made.write(root);
    let samples: Vec<Sample> = (0..n)
        .map(|i| {
            if i < finished {
                sample(i, "fine", FinishReason::Eos, Some(10 * (1 + i as u32 % 6)))
            } else {
                sample(i, "again again again ", FinishReason::Length, Some(240))
            }
        })
        .collect();
    write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
    Run::load(dir).unwrap()
}

fn one_board(runs: Vec<Run>, options: &RankingOptions) -> Board {
    let mut boards = boards(runs, options).unwrap();
    assert_eq!(boards.len(), 1);
    boards.remove(0)
}

#[test]
fn models_that_the_data_cannot_separate_share_a_band() {
    let root = tempfile::tempdir().unwrap();
    let models = [("broken", 150), ("good", 298), ("better", 299), ("bad", 220)];
    let board = one_board(
        models.iter().map(|(name, finished)| written(root.path(), name, *finished, 300)).collect(),
        &options(),
    );
    let rows: Vec<(&str, (usize, usize))> = board.entries.iter().map(|e| (e.name.as_str(), e.rank_band)).collect();
    assert_eq!(rows, [("better", (1, 2)), ("good", (1, 2)), ("bad", (3, 3)), ("broken", (4, 4))]);
    assert_eq!(board.title, "ood, T 0.8, cap 240");
    assert_eq!(
        board.metrics.iter().map(|m| (m.id.as_str(), m.primary)).collect::<Vec<_>>(),
        [("eos_rate", true), ("loop_rate", true)]
    );
    assert_eq!(board.metrics[0].description, smpo_metrics::metric::eos_rate::INFO.description);
}

#[test]
fn better_on_one_metric_and_worse_on_another_is_no_order() {
    let root = tempfile::tempdir().unwrap();
    let mut a = written(root.path(), "a", 300, 300);
    let b = written(root.path(), "b", 200, 300);
    // `a` always ends but always loops before it does
    a.measurements.set("loop_rate", (0..300).map(|row| (row, [1.0])).collect());
    let board = one_board(vec![a, b], &options());
    assert!(board.entries.iter().all(|entry| entry.rank_band == (1, 2)));
}

#[test]
fn differences_are_to_the_baseline_asked_for_with_the_policys_margin() {
    let root = tempfile::tempdir().unwrap();
    let make = || vec![written(root.path(), "sft", 300, 300), written(root.path(), "tuned", 250, 300)];
    let policy = Policy::load("demo").unwrap();
    let board = one_board(make(), &RankingOptions { policy: Some(&policy), ..options() });
    assert_eq!(board.baseline.as_deref(), Some("sft"));
    let (sft, tuned) = (&board.entries[0], &board.entries[1]);
    assert!(sft.comparisons.is_empty());
    let eos = tuned.comparisons.iter().find(|c| c.metric == "eos_rate").unwrap();
    assert!(
        (eos.difference + 50.0 / 300.0).abs() < 1e-12 && eos.ci_low < eos.difference && eos.difference < eos.ci_high
    );
    assert_eq!(eos.margin, Some(0.05));
    let reversed = one_board(make(), &RankingOptions { baseline: Some("tuned"), ..options() });
    assert!((reversed.entries[0].comparisons[0].difference - 50.0 / 300.0).abs() < 1e-12);
    let error = boards(make(), &RankingOptions { baseline: Some("tund"), ..options() }).unwrap_err();
    assert!(matches!(&error, GateError::UnknownEntry { .. }));
    assert_eq!(error.to_string(), "no entry `tund` to compare with (did you mean `tuned`?); entries: sft, tuned");
}

#[test]
fn suites_and_samplers_make_boards_and_seeds_make_entries() {
    let root = tempfile::tempdir().unwrap();
    let mut runs: Vec<Run> = (0..3)
        .map(|seed| {
            let mut run = written(root.path(), &format!("regular-{seed}"), 240 + 5 * seed, 300);
            run.manifest.model.arm = Some("regular".into());
            run.manifest.model.training_seed = Some(seed as u64);
            run
        })
        .collect();
    runs.push(written(root.path(), "sft", 299, 300));
    let mut greedy = written(root.path(), "greedy", 299, 300);
    greedy.manifest.sampler.as_mut().unwrap().temperature = 0.0;
    runs.push(greedy);
    let boards = boards(runs, &options()).unwrap();
    assert_eq!(
        boards.iter().map(|b| b.title.as_str()).collect::<Vec<_>>(),
        ["ood, T 0.8, cap 240", "ood, greedy, cap 240"]
    );
    assert_eq!(
        boards.iter().map(|b| b.apart.as_deref()).collect::<Vec<_>>(),
        [None, Some("greedy was sampled with greedy, cap 240, regular-0 with T 0.8, cap 240")]
    );
    let regular = boards[0].entries.iter().find(|e| e.name == "regular").unwrap();
    assert_eq!(regular.provenance.len(), 3);
    let eos = regular.metrics.iter().find(|m| m.metric == "eos_rate").unwrap();
    assert!((eos.value - 245.0 / 300.0).abs() < 1e-12, "{eos:?}");
    assert!(eos.ci_low < eos.value && eos.value < eos.ci_high);
    assert_eq!(boards[1].baseline, None);
}

#[test]
fn curves_treat_the_cap_as_censoring() {
    let root = tempfile::tempdir().unwrap();
    let board = one_board(vec![written(root.path(), "a", 240, 300)], &options());
    let entry = &board.entries[0];
    let at = |t: f64| entry.survival.iter().take_while(|p| p.t <= t).last().unwrap().y;
    assert_eq!(at(0.0), 1.0);
    assert!((at(60.0) - 0.2).abs() < 1e-12);
    assert!((at(240.0) - 0.2).abs() < 1e-12);
    // 5 tokens a bin; 40 stop at t = 10, when all 300 have run 10 tokens.
    let first = entry.hazard.iter().find(|p| p.t == 10.0).unwrap();
    assert!((first.y - 40.0 / (300.0 * 5.0)).abs() < 1e-12, "{first:?}");
    assert!(entry.hazard.iter().filter(|p| p.t > 60.0).all(|p| p.y == 0.0));
}

#[test]
fn the_browser_opens_on_the_worst_with_the_arms_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let board =
        one_board(vec![written(root.path(), "sound", 300, 300), written(root.path(), "looping", 290, 300)], &options());
    let looping = board.entries.iter().find(|e| e.name == "looping").unwrap();
    assert_eq!(looping.worst.len(), 4);
    assert_eq!(looping.worst[0].flags, ["loop", "no EOS"]);
    assert_eq!(looping.worst[0].loop_span, Some(LoopSpan { start: 0, end: 18, period: 6 }));
    assert_eq!(looping.worst[0].sample.token_ids, None);
    let sound = board.entries.iter().find(|e| e.name == "sound").unwrap();
    let ids =
        |entry: &smpo_results::BoardEntry| entry.worst.iter().map(|w| w.sample.prompt_id.clone()).collect::<Vec<_>>();
    assert!(!sound.worst.is_empty() && sound.worst.iter().all(|w| w.flags.is_empty()));
    assert!(ids(sound).iter().all(|id| ids(looping).contains(id)));
}

#[test]
fn completions_that_run_away_are_flagged() {
    let root = tempfile::tempdir().unwrap();
    let dir = run("a").with("eos_rate", ones_first(0, 2)).write(root.path());
    let steps: String =
        (1..90).map(|i| format!("Now I write step {i} of the plan and go on with the next.\n")).collect();
    let samples = [sample(0, &steps, FinishReason::Length, None), sample(1, "fine", FinishReason::Unknown, None)];
    write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
    let board = one_board(vec![Run::load(dir).unwrap()], &RankingOptions { completion_bytes: 9_000, ..options() });
    let worst = &board.entries[0].worst;
    assert_eq!((worst.len(), &worst[0].flags[..]), (1, &["runaway".to_owned(), "no EOS".to_owned()][..]));
}

/// A policy that asks for pass^k gives the board its column.
#[test]
fn pass_k_is_a_column_where_the_policy_asks_for_it() {
    let root = tempfile::tempdir().unwrap();
    let rule = "name = \"p\"\ndescription = \"d\"\n[[metric]]\nid = \"eos_rate\"\npass_k = 2\nrequire = { non_inferior = 0.05 }\n";
    let policy = Policy::parse("p.toml", rule).unwrap();
    let options = RankingOptions { policy: Some(&policy), ..options() };
    let made = |name: &str, bad: usize| {
        let made = run(name).with_samples("eos_rate", (0..40).map(|i| vec![if i < bad { 0.0 } else { 1.0 }, 1.0]));
        let dir = made.write(root.path());
        let samples: Vec<Sample> = (0..40).map(|i| sample(i, "fine", FinishReason::Eos, Some(9))).collect();
        write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
        Run::load(dir).unwrap()
    };
    let board = one_board(vec![made("a", 0), made("b", 10)], &options);
    let column = board.metrics.iter().find(|metric| metric.id == "eos_rate^2").expect("a column");
    assert!(column.description.starts_with("probability that all of 2 samples"), "{}", column.description);
    let values: Vec<f64> =
        board.entries.iter().map(|entry| entry.metrics.iter().find(|m| m.metric == column.id).unwrap().value).collect();
    assert_eq!(values, [1.0, 0.75]);
    let difference = board.entries[1].comparisons.iter().find(|c| c.metric == column.id).unwrap();
    assert_eq!((difference.difference, difference.margin), (-0.25, Some(0.05)));
    // Runs of one answer a prompt have no such column.
    let single = one_board(vec![written(root.path(), "c", 40, 40)], &options);
    assert!(single.metrics.iter().all(|metric| metric.id != "eos_rate^2"));
}

#[test]
fn long_completions_are_cut_at_a_character_and_say_so() {
    let root = tempfile::tempdir().unwrap();
    let made = run("a").with("eos_rate", ones_first(0, 2));
    let dir = made.write(root.path());
    let text = "ж".repeat(150) + &"again ".repeat(30);
    let samples: Vec<Sample> = (0..2).map(|i| sample(i, &text, FinishReason::Length, None)).collect();
    write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
    let board = one_board(vec![Run::load(dir).unwrap()], &RankingOptions { completion_bytes: 101, ..options() });
    let worst = &board.entries[0].worst[0];
    assert_eq!((worst.sample.completion.len(), worst.omitted_bytes), (100, 380));
    // The loop begins beyond the cut: it is flagged, but not located in what is left.
    assert_eq!((worst.loop_span, worst.flags[0].as_str()), (None, "loop"));
    // Nothing is known of the lengths.
    assert!(board.entries[0].survival.is_empty() && board.entries[0].hazard.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_board() {
    let root = tempfile::tempdir().unwrap();
    let text = |threads| {
        let runs = vec![written(root.path(), "a", 280, 300), written(root.path(), "b", 250, 300)];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&boards(runs, &options()).unwrap()).unwrap())
    };
    assert_eq!(text(1), text(3));
}

/// Two arms with the same answers, of which one left the prompts out on which the other loops.
#[test]
fn figures_are_over_the_prompts_that_all_answered() {
    let root = tempfile::tempdir().unwrap();
    let scored = |name: &str, kept: fn(&usize) -> bool| {
        let mut run = written(root.path(), name, 200, 300);
        run.manifest.kind = "score".into();
        run.manifest.suite.sha256 = name.into();
        let mut place = 0..;
        run.measurements = run.measurements.rows().filter(|_| kept(&place.next().unwrap())).collect();
        run
    };
    let runs = || vec![scored("all", |_| true), scored("skips", |i| *i < 210)];
    let board = one_board(runs(), &options());
    assert_eq!(board.common_prompts, Some(210));
    let entry = |name: &str| board.entries.iter().find(|e| e.name == name).unwrap();
    assert_eq!((entry("all").prompts, entry("skips").prompts), (Some(300), Some(210)));
    let common = |name: &str| {
        let found = entry(name).metrics.iter().find(|m| m.metric == "loop_rate" && m.slice == COMMON_PROMPTS).unwrap();
        (found.value, found.ci_low, found.ci_high, found.n)
    };
    assert_eq!(common("all"), common("skips"));
    assert_eq!((common("all").0, common("all").3), (10.0 / 210.0, 210));
    assert!(board.entries.iter().all(|e| e.rank_band == (1, 2)));

    let same = one_board(vec![scored("a", |_| true), scored("b", |_| true)], &options());
    assert_eq!(same.common_prompts, None);
    assert!(same.entries.iter().flat_map(|e| &e.metrics).all(|m| m.slice != COMMON_PROMPTS));
}

/// One answer given twice in one of two scored files opens no second board.
#[test]
fn a_repeated_answer_opens_no_second_board() {
    let root = tempfile::tempdir().unwrap();
    let scored = |name: &str, samples| {
        let mut run = written(root.path(), name, 290, 300);
        run.manifest.kind = "score".into();
        run.manifest.samples_per_prompt = samples;
        run
    };
    assert_eq!(one_board(vec![scored("once", 1), scored("twice", 2)], &options()).entries.len(), 2);
}

#[test]
fn completions_of_wanted_prompts_are_kept_whatever_their_flaws() {
    let root = tempfile::tempdir().unwrap();
    let wanted = [("odd".to_owned(), "p00007".to_owned())].into();
    let board = one_board(vec![written(root.path(), "sound", 300, 300)], &RankingOptions { wanted, ..options() });
    let kept: Vec<&str> = board.entries[0].worst.iter().map(|w| w.sample.prompt_id.as_str()).collect();
    assert_eq!(kept, ["p00007"]);
}
