//! Boards of runs whose order is known.

mod runs;

use std::path::Path;

use runs::{Build, ones_first, run};
use smpo_gate::ranking::{RankingOptions, boards};
use smpo_gate::{GateError, Policy, Run};
use smpo_results::{Board, COMMON_PROMPTS, FinishReason, LoopSpan, Measurement, SCHEMA_VERSION, Sample, write_jsonl};
use smpo_stats::proportion::wilson;

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

/// A run on disk with these completions.
fn saved(root: &Path, made: &Run, samples: &[Sample]) -> Run {
    let dir = made.write(root);
    write_jsonl(&dir.join("samples.jsonl"), "sample", samples).unwrap();
    Run::load(dir).unwrap()
}

fn sound(n: usize) -> Vec<Sample> {
    (0..n).map(|i| sample(i, "fine", FinishReason::Eos, Some(9))).collect()
}

/// A run with a name and a training seed of an arm.
fn trained(mut run: Run, arm: Option<&str>, seed: Option<u64>) -> Run {
    (run.manifest.model.arm, run.manifest.model.training_seed) = (arm.map(str::to_owned), seed);
    run
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
    // Two rules on it make one column.
    let bound = "[[metric]]\nid = \"eos_rate\"\npass_k = 2\nrequire = { at_least = 0.5 }\n";
    let policy = Policy::parse("p.toml", &format!("{rule}{bound}")).unwrap();
    let board = one_board(vec![made("d", 10)], &RankingOptions { policy: Some(&policy), ..self::options() });
    let found = board.entries[0].metrics.iter().filter(|metric| metric.metric == "eos_rate^2");
    assert_eq!(found.map(|metric| metric.value).collect::<Vec<_>>(), [0.75]);
}

/// Seeds that agree on every prompt are no proof of it: the interval of a share over them has Wilson's in it.
#[test]
fn a_share_over_seeds_that_agree_has_an_interval() {
    let root = tempfile::tempdir().unwrap();
    let seeds = (0..3).map(|seed| {
        let mut run = written(root.path(), &format!("a-{seed}"), 40, 40);
        (run.manifest.model.arm, run.manifest.model.training_seed) = (Some("a".into()), Some(seed));
        run
    });
    let board = one_board(seeds.collect(), &options());
    let eos = board.entries[0].metrics.iter().find(|metric| metric.metric == "eos_rate").unwrap();
    assert_eq!((eos.value, eos.ci_high), (1.0, 1.0));
    assert!((0.90..0.93).contains(&eos.ci_low), "{}", eos.ci_low);
}

/// The second turn of a benchmark has the model's own first answer in it.
#[test]
fn a_later_turn_is_the_same_prompt_whatever_the_model_answered_before() {
    let root = tempfile::tempdir().unwrap();
    let made = |name: &str, asked: &str| {
        let dir = run(name).with("eos_rate", ones_first(2, 2)).write(root.path());
        let messages = serde_json::json!([
            {"role": "user", "content": "Compose a poem."}, {"role": "assistant", "content": format!("{name} answers")},
            {"role": "user", "content": asked},
        ]);
        let samples = [0, 1].map(|prompt| Sample {
            messages: serde_json::from_value(messages.clone()).unwrap(),
            ..sample(prompt, "fine", FinishReason::Eos, Some(9))
        });
        write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
        Run::load(dir).unwrap()
    };
    one_board(vec![made("a", "Now shorter."), made("b", "Now shorter.")], &options());
    let other = boards(vec![made("c", "Now shorter."), made("d", "Now longer.")], &options());
    assert!(matches!(other, Err(GateError::DifferentPrompt { .. })));
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
    for (bytes, span) in [
        (300, None),
        (301, Some(LoopSpan { start: 300, end: 301, period: 6 })),
        (999, Some(LoopSpan { start: 300, end: 480, period: 6 })),
    ] {
        let run = Run::load(root.path().join("a")).unwrap();
        let board = one_board(vec![run], &RankingOptions { completion_bytes: bytes, ..options() });
        assert_eq!(board.entries[0].worst[0].loop_span, span, "{bytes}");
    }
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
    let interval = wilson(10.0, 210.0, 0.95).unwrap();
    assert!((common("all").1 - interval.low).abs() < 1e-12 && (common("all").2 - interval.high).abs() < 1e-12);
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

/// A run on disk with these values, one a prompt; its completions say nothing.
fn of_values(root: &Path, name: &str, metric: &str, values: &[f64]) -> Run {
    let dir = run(name).with(metric, values.iter().copied()).write(root);
    let samples: Vec<Sample> = (0..values.len()).map(|i| sample(i, "fine", FinishReason::Eos, Some(9))).collect();
    write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
    Run::load(dir).unwrap()
}

fn bands(board: &Board) -> Vec<(&str, (usize, usize))> {
    board.entries.iter().map(|entry| (entry.name.as_str(), entry.rank_band)).collect()
}

/// Five differences of mean m and standard error 1/√2: t = √2·m, and 2.776 is the critical value. Equal ones leave the signs.
#[test]
fn continuous_metrics_are_ranked_by_students_paired_test() {
    let pair = |differences: &[f64]| {
        let root = tempfile::tempdir().unwrap();
        let before: Vec<f64> = (0..differences.len()).map(|i| i as f64 - 40.0).collect();
        let after: Vec<f64> = before.iter().zip(differences).map(|(b, d)| b + d).collect();
        let runs =
            [("a", before), ("b", after)].map(|(name, values)| of_values(root.path(), name, "eos_logp_gold", &values));
        let board = one_board(runs.into(), &options());
        (board.entries[0].name.clone(), board.entries[0].rank_band)
    };
    let around = |mean: f64| [-2.0, -1.0, 0.0, 1.0, 2.0].map(|d| mean + d);
    assert_eq!(pair(&around(1.95)), ("b".into(), (1, 2)));
    assert_eq!(pair(&around(1.97)), ("b".into(), (1, 1)));
    assert_eq!(pair(&around(-1.97)), ("a".into(), (1, 1)));
    assert_eq!((pair(&[0.5; 5]).1, pair(&[0.5; 6]).1, pair(&[0.0; 9]).1), ((1, 2), (1, 1), (1, 2)));
    assert_eq!((pair(&[9.0]).1, pair(&[9.0, 9.1]).1), ((1, 2), (1, 1)), "one prompt is no test");
}

#[test]
fn rows_of_one_band_are_in_the_order_of_their_mean_places() {
    let root = tempfile::tempdir().unwrap();
    // by EOS rate b, c, then a and d; by loops c, d, then a and b: places 2.5 + 2.5, 0 + 2.5, 1 + 0, 2.5 + 1
    let runs = [("a", 8, 3), ("b", 10, 3), ("c", 9, 1), ("d", 8, 2)].map(|(name, ends, loops)| {
        let dir = run(name)
            .with("eos_rate", ones_first(ends, 10))
            .with("loop_rate", ones_first(loops, 10))
            .write(root.path());
        let samples: Vec<Sample> = (0..10).map(|i| sample(i, "fine", FinishReason::Eos, Some(9))).collect();
        write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
        Run::load(dir).unwrap()
    });
    assert_eq!(bands(&one_board(runs.into(), &options())), ["c", "b", "d", "a"].map(|name| (name, (1, 4))));
}

#[test]
fn a_metric_without_values_ranks_last_and_ties_nobody() {
    let root = tempfile::tempdir().unwrap();
    let runs = [("none", 0), ("some", 4), ("other", 4)].map(|(name, n)| {
        let mut run = of_values(root.path(), name, "eos_logp_gold", &vec![-3.0; n]);
        run.measurements = of_values(root.path(), &format!("{name}-all"), "length", &[9.0; 4]).measurements;
        run.measurements.set("eos_logp_gold", (0..n).map(|row| (row, [-3.0])).collect());
        run
    });
    assert_eq!(bands(&one_board(runs.into(), &options())), ["some", "other", "none"].map(|name| (name, (1, 3))));
}

#[test]
fn long_curves_are_thinned_and_keep_their_end() {
    let root = tempfile::tempdir().unwrap();
    let curve = |ends: u32, step: u32| {
        let name = format!("{ends}-{step}");
        let dir = run(&name).with("eos_rate", ones_first(ends as usize, ends as usize + 1)).write(root.path());
        let mut samples: Vec<Sample> =
            (0..ends).map(|i| sample(i as usize, "fine", FinishReason::Eos, Some(step * (i + 1)))).collect();
        samples.push(sample(ends as usize, "cut", FinishReason::Length, Some(step * ends + 7)));
        write_jsonl(&dir.join("samples.jsonl"), "sample", &samples).unwrap();
        one_board(vec![Run::load(dir).unwrap()], &options()).entries.remove(0)
    };
    for (ends, step, points) in [(160, 1, 162), (161, 1, 161), (400, 2, 161)] {
        let entry = curve(ends, step);
        let (first, last) = (entry.survival[0], *entry.survival.last().unwrap());
        assert_eq!((entry.survival.len(), first.t, first.y), (points, 0.0, 1.0), "{ends} {step}");
        assert_eq!(last.t, f64::from(step * ends + 7));
        assert!((last.y - 1.0 / f64::from(ends + 1)).abs() < 1e-12, "{last:?}");
        assert!(entry.survival.windows(2).all(|pair| pair[0].t < pair[1].t && pair[0].y >= pair[1].y));
        // 48 bins at most, of whole tokens
        let width = (f64::from(step * ends + 7) / 48.0).ceil();
        assert_eq!(entry.hazard[0].t, width);
    }
}

#[test]
fn scored_files_share_a_board_if_more_than_half_of_their_prompts_do() {
    let root = tempfile::tempdir().unwrap();
    let scored = |name: &str, from: usize| {
        let mut run = written(root.path(), name, 100, 100);
        run.manifest.kind = "score".into();
        run.manifest.suite.sha256 = name.into();
        run.manifest.model.name = "model".into();
        let mut rows: Vec<_> = run.measurements.rows().collect();
        rows.iter_mut().enumerate().for_each(|(i, row)| row.prompt_id = format!("p{:05}", i + from));
        run.measurements = rows.into_iter().collect();
        run
    };
    let found = |from: usize| {
        let found = boards(vec![scored("a", 0), scored(&format!("b{from}"), from)], &options()).unwrap();
        found.iter().map(|board| (board.entries.len(), board.apart.clone())).collect::<Vec<_>>()
    };
    assert_eq!(found(48), [(2, None)]);
    let apart = "model and model have half of their prompts or fewer in common".to_owned();
    assert_eq!(found(50), [(1, None), (1, Some(apart.clone()))]);
    assert_eq!(found(100), [(1, None), (1, Some(apart))]);
    let mut elsewhere = scored("elsewhere", 0);
    let rows = elsewhere.measurements.rows().map(|row| Measurement { slice: "other".into(), ..row });
    elsewhere.measurements = rows.collect();
    assert_eq!(
        boards(vec![scored("a", 0), elsewhere], &options()).unwrap()[1].apart.as_deref(),
        Some("model and model have the same ids of prompts under different slices")
    );
    let same = one_board(["x", "y", "z"].map(|name| scored(name, 0)).into(), &options());
    assert_eq!(bands(&same).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["model", "model (2)", "model (3)"]);
}

#[test]
fn a_figure_of_whole_runs_is_averaged_over_seeds_with_students_interval() {
    let root = tempfile::tempdir().unwrap();
    let runs = (0..3).map(|seed| {
        let mut run = written(root.path(), &format!("arm-{seed}"), 300, 300).declare("distinct_2").declare("length");
        run.manifest.model.arm = Some("arm".into());
        run.manifest.model.training_seed = Some(seed);
        for estimate in &mut run.metrics.metrics {
            match estimate.metric.as_str() {
                "distinct_2" => estimate.value = 0.2 * (seed + 1) as f64,
                "length" => estimate.value = 20.0 * (seed + 1) as f64,
                _ => {}
            }
        }
        run
    });
    let board = one_board(runs.collect(), &options());
    let found = |metric: &str| {
        let found = board.entries[0].metrics.iter().find(|m| m.metric == metric).unwrap();
        [found.value, found.ci_low, found.ci_high]
    };
    // 4.302653 · 0.2 / √3 either way
    let expected = [("distinct_2", [0.4, 0.0, 0.896_827]), ("length", [40.0, -9.682_75, 89.682_75])];
    for (metric, numbers) in expected {
        for (got, expected) in found(metric).into_iter().zip(numbers) {
            assert!((got - expected).abs() < 1e-4, "{metric}: {got} {expected}");
        }
    }
}

#[test]
fn primary_metrics_come_first_and_have_a_direction() {
    let root = tempfile::tempdir().unwrap();
    let mut made = run("a")
        .with("broken_rate", ones_first(0, 4))
        .with("length", [9.0; 4])
        .with("eos_rate", ones_first(4, 4))
        .with("loop_rate", ones_first(0, 4));
    made.metrics.metrics[1].primary = true;
    made.manifest.samples_per_prompt = 4;
    let board = one_board(vec![saved(root.path(), &made, &sound(4))], &options());
    assert_eq!(
        board.metrics.iter().map(|metric| (metric.id.as_str(), metric.primary)).collect::<Vec<_>>(),
        [("eos_rate", true), ("loop_rate", true), ("broken_rate", false), ("length", false)]
    );
    assert_eq!(board.title, "ood, T 0.8, cap 240, 4 samples a prompt");
}

/// By EOS rate four share the first four places and y is last; by loops the order is y, u, x, v, w. With shared places u has
/// 2.5 + 2, x 2.5 + 3, y 5 + 1, v 2.5 + 4, w 2.5 + 5.
#[test]
fn equal_entries_share_their_places() {
    let root = tempfile::tempdir().unwrap();
    let runs = [("w", 9, 5), ("v", 9, 4), ("y", 8, 1), ("x", 9, 3), ("u", 9, 2)].map(|(name, ends, loops)| {
        let made = run(name).with("eos_rate", ones_first(ends, 10)).with("loop_rate", ones_first(loops, 10));
        saved(root.path(), &made, &sound(10))
    });
    assert_eq!(bands(&one_board(runs.into(), &options())), ["u", "x", "y", "v", "w"].map(|name| (name, (1, 5))));
}

/// An arm that left the hard prompts out is not better for it, and one without the metric changes nothing.
#[test]
fn rows_of_one_band_are_ordered_by_what_all_answered() {
    let root = tempfile::tempdir().unwrap();
    let made = |name: &str, ends: usize, answered: usize| {
        let made = run(name).with("length", [9.0; 20]).with("eos_rate", ones_first(ends, answered));
        saved(root.path(), &made, &sound(20))
    };
    let board = one_board(vec![made("skips", 9, 10), made("all", 10, 20), made("none", 0, 0)], &options());
    assert_eq!(bands(&board), ["all", "skips", "none"].map(|name| (name, (1, 3))));
    // Nothing in common: each entry's own mean.
    let gold = |name: &str, mean: f64, answered: std::ops::Range<usize>| {
        let values = (0..8).map(|i| if answered.contains(&i) { vec![mean] } else { vec![] });
        saved(root.path(), &run(name).with("length", [9.0; 8]).with_samples("eos_logp_gold", values), &sound(8))
    };
    let board = one_board(vec![gold("low", -1.0, 0..2), gold("high", -0.5, 2..8)], &options());
    assert_eq!(bands(&board), ["high", "low"].map(|name| (name, (1, 2))));
}

#[test]
fn arms_over_seeds_are_ranked_by_the_spread_of_their_seeds() {
    let root = tempfile::tempdir().unwrap();
    let seeds = |arm: &str, finished: &[usize]| -> Vec<Run> {
        let one = |(seed, finished): (usize, &usize)| {
            let name = format!("{arm}-{seed}-of-{}", finished);
            trained(written(root.path(), &name, *finished, 300), Some(arm), Some(seed as u64))
        };
        finished.iter().enumerate().map(one).collect()
    };
    let [good, bad] = [("good", [290, 295, 300]), ("bad", [200, 205, 195])].map(|(arm, ends)| seeds(arm, &ends));
    for runs in [[good.clone(), bad.clone()], [bad, good.clone()]] {
        assert_eq!(bands(&one_board(runs.concat(), &options())), [("good", (1, 1)), ("bad", (2, 2))]);
    }
    // One bad seed of three is no proof, though its run against the checkpoint would be one.
    let wild = seeds("wild", &[200, 300, 300]);
    let one = || vec![written(root.path(), "checkpoint", 300, 300)];
    for runs in [[one(), wild.clone()], [wild, one()]] {
        let board = one_board(runs.concat(), &options());
        assert!(board.entries.iter().all(|entry| entry.rank_band == (1, 2)), "{:?}", bands(&board));
    }
    let board = one_board([one(), seeds("bad", &[200, 205, 195])].concat(), &options());
    assert_eq!(bands(&board), [("checkpoint", (1, 1)), ("bad", (2, 2))]);
}

#[test]
fn only_other_seeds_of_one_arm_are_one_entry() {
    let root = tempfile::tempdir().unwrap();
    let runs = || ["x", "y"].map(|name| written(root.path(), name, 4, 4));
    for (first, second, together) in [
        ((Some("a"), Some(0)), (Some("a"), Some(1)), true),
        ((Some("a"), Some(0)), (Some("a"), Some(0)), false),
        ((Some("a"), Some(0)), (Some("b"), Some(1)), false),
        ((Some("a"), Some(0)), (Some("a"), None), false),
        ((Some("a"), None), (Some("a"), Some(0)), false),
        ((Some("a"), None), (Some("a"), None), false),
        ((None, Some(0)), (None, Some(1)), false),
        ((None, None), (None, None), false),
    ] {
        let [x, y] = runs();
        let board = one_board(vec![trained(x, first.0, first.1), trained(y, second.0, second.1)], &options());
        let names: Vec<&str> = board.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, if together { vec!["a"] } else { vec!["x", "y"] }, "{first:?} {second:?}");
    }
}

#[test]
fn a_board_apart_says_how_it_was_sampled() {
    let root = tempfile::tempdir().unwrap();
    let mut unknown = written(root.path(), "b", 4, 4);
    (unknown.manifest.sampler, unknown.manifest.cap) = (None, None);
    let boards = boards(vec![written(root.path(), "a", 4, 4), unknown], &options()).unwrap();
    assert_eq!(boards[1].apart.as_deref(), Some("b was sampled with an unknown sampler, a with T 0.8, cap 240"));
}

/// Of each prompt's two answers one ends.
#[test]
fn figures_over_common_prompts_are_means_over_samples() {
    let root = tempfile::tempdir().unwrap();
    let made = |name: &str, n: usize| {
        saved(root.path(), &run(name).with_samples("eos_rate", vec![vec![1.0, 0.0]; n]), &sound(n))
    };
    let board = one_board(vec![made("a", 40), made("b", 30)], &options());
    let common = |entry: &smpo_results::BoardEntry| {
        let found = entry.metrics.iter().find(|metric| metric.slice == COMMON_PROMPTS).unwrap();
        (found.value, found.n)
    };
    assert_eq!(board.entries.iter().map(common).collect::<Vec<_>>(), [(0.5, 30); 2]);
}

fn shown<'a>(board: &'a Board, name: &str) -> Vec<(&'a str, u32)> {
    let entry = board.entries.iter().find(|entry| entry.name == name).unwrap();
    entry.worst.iter().map(|worst| (worst.sample.prompt_id.as_str(), worst.sample.sample)).collect()
}

/// Three arms do not end prompt 1, the worst of all is a loop at prompt 2: prompt 1 has more flaws over all.
#[test]
fn the_prompts_with_the_most_flaws_over_all_entries_are_shown_of_each() {
    let root = tempfile::tempdir().unwrap();
    let made = |name: &str, prompt: usize, flawed: Sample| {
        let mut samples = sound(4);
        samples[prompt] = flawed;
        saved(root.path(), &run(name).with("eos_rate", ones_first(4, 4)), &samples)
    };
    let cut = || sample(1, "and so", FinishReason::Length, Some(240));
    let mut runs: Vec<Run> = ["a", "b", "c"].map(|name| made(name, 1, cut())).into();
    runs.push(made("loops", 2, sample(2, &"again ".repeat(30), FinishReason::Eos, None)));
    let board = one_board(runs, &RankingOptions { worst_per_entry: 1, ..options() });
    assert_eq!(shown(&board, "loops"), [("p00002", 0), ("p00001", 0)]);
    assert_eq!(shown(&board, "a"), [("p00001", 0)]);
}

#[test]
fn of_sound_answers_to_a_wanted_prompt_one_is_shown() {
    let root = tempfile::tempdir().unwrap();
    let mut samples = sound(2);
    samples.push(Sample { sample: 1, ..samples[0].clone() });
    let made = saved(root.path(), &run("a").with("eos_rate", ones_first(2, 2)), &samples);
    let wanted = [("even".to_owned(), "p00000".to_owned())].into();
    let board = one_board(vec![made], &RankingOptions { wanted, ..options() });
    assert_eq!(shown(&board, "a"), [("p00000", 0)]);
}

/// The second answer to prompt 1 failed and has no value: the other two are marked, so all are; of prompt 2 one of two
/// values is marked, which may be any of three answers.
#[test]
fn broken_answers_are_flagged_where_it_is_known_which_they_are() {
    let root = tempfile::tempdir().unwrap();
    let values = [vec![1.0, 0.0, 0.0], vec![1.0, 1.0], vec![1.0, 0.0], vec![0.0, 0.0, 0.0]];
    let mut made = run("a").with_samples("broken_rate", values);
    made.manifest.samples_per_prompt = 3;
    let samples: Vec<Sample> = sound(4)
        .into_iter()
        .flat_map(|first| [0, 1, 2].map(|number| Sample { sample: number, ..first.clone() }))
        .collect();
    let board =
        one_board(vec![saved(root.path(), &made, &samples)], &RankingOptions { worst_per_entry: 12, ..options() });
    let broken: Vec<_> = [0, 1, 2].map(|number| ("p00001", number)).into();
    assert_eq!(shown(&board, "a"), [vec![("p00000", 0)], broken].concat());
    assert!(board.entries[0].worst.iter().all(|worst| worst.flags == ["broken"]));
}

#[test]
fn a_loop_that_fills_more_of_the_answer_is_worse_and_any_loop_is_worse_than_running_away() {
    let root = tempfile::tempdir().unwrap();
    let start = "Rivers carry what mountains lose, and on the way each grain of sand is ground a little finer, until at last \
                 the sea takes all of it and lays it down in beds of mud.";
    let steps: String =
        (1..90).map(|i| format!("Now I write step {i} of the plan and go on with the next.\n")).collect();
    let texts = [format!("{start} {}", "again ".repeat(40)), "again ".repeat(30), steps];
    let samples: Vec<Sample> =
        texts.iter().enumerate().map(|(i, text)| sample(i, text, FinishReason::Length, None)).collect();
    let board = one_board(vec![saved(root.path(), &run("a").with("eos_rate", ones_first(0, 3)), &samples)], &options());
    assert_eq!(shown(&board, "a"), [("p00001", 0), ("p00000", 0), ("p00002", 0)]);
    let flags: Vec<&str> = board.entries[0].worst.iter().map(|worst| worst.flags[0].as_str()).collect();
    assert_eq!(flags, ["loop", "loop", "runaway"]);
}
