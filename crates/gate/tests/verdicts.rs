//! Verdicts on runs whose answer is known.

mod runs;

use runs::{Build, ones_first, run};
use smpo_gate::{DecideOptions, GateError, OnInconclusive, Policy, Run, decide};
use smpo_results::manifest::{FINISH_REASON, PROMPT, TOKENS};
use smpo_results::{ClaimScope, Decision, Measurement, Verdict};

fn policy(rules: &str) -> Policy {
    Policy::parse("test.toml", &format!("name = \"test\"\nmin_n = 20\nresamples = 2000\n{rules}")).unwrap()
}

fn eos(require: &str) -> Policy {
    policy(&format!("[[metric]]\nid = \"eos_rate\"\nrequire = {require}\n"))
}

fn verdict(policy: &Policy, baseline: Run, candidate: Run) -> Verdict {
    decide(policy, vec![baseline], vec![candidate], DecideOptions::default()).unwrap()
}

fn answer(policy: &Policy, baseline: Run, candidate: Run) -> (Decision, u8) {
    let verdict = verdict(policy, baseline, candidate);
    (verdict.verdict, u8::from(verdict.exit_code))
}

#[test]
fn a_clear_regression_fails_and_its_reverse_passes() {
    let (good, bad) =
        (|| run("good").with("eos_rate", ones_first(300, 300)), || run("bad").with("eos_rate", ones_first(255, 300)));
    let policy = eos("{ non_inferior = 0.05 }");
    assert_eq!(answer(&policy, good(), bad()), (Decision::Fail, 1));
    assert_eq!(answer(&policy, bad(), good()), (Decision::Pass, 0));
    let decided = [verdict(&policy, good(), bad()), verdict(&policy, bad(), good())];
    assert_eq!(decided.map(|verdict| verdict.metrics[0].n_needed), [None; 2]);
    let superior = eos("{ superior = 0.05 }");
    assert_eq!(answer(&superior, bad(), good()), (Decision::Pass, 0));
    assert_eq!(answer(&superior, good(), bad()), (Decision::Fail, 1));
}

#[test]
fn every_number_of_a_binary_verdict_can_be_checked_by_hand() {
    let verdict = verdict(
        &eos("{ non_inferior = 0.05 }"),
        run("a").with("eos_rate", ones_first(300, 300)),
        run("b").with("eos_rate", ones_first(255, 300)),
    );
    let row = &verdict.metrics[0];
    let pairs = row.pairs.unwrap();
    assert_eq!((pairs.both, pairs.baseline_only, pairs.candidate_only, pairs.neither), (255, 45, 0, 0));
    assert_eq!((row.baseline, row.candidate, row.n), (Some(1.0), Some(0.85), 300));
    assert!((row.p_exact.unwrap() / (2.0 * 0.5f64.powi(45)) - 1.0).abs() < 1e-9);
    assert!((row.p.unwrap() / 0.5f64.powi(45) - 1.0).abs() < 1e-9);
    assert!((row.difference.unwrap() + 0.15).abs() < 1e-12 && (row.level - 0.9).abs() < 1e-12);
    assert!(row.ci_low.unwrap() < -0.15 && row.ci_high.unwrap() > -0.15);
    assert_eq!(row.adjustment, "none");
}

#[test]
fn few_prompts_are_inconclusive_and_say_how_many_would_do() {
    let verdict = verdict(
        &eos("{ non_inferior = 0.02 }"),
        run("a").with("eos_rate", ones_first(58, 60)),
        run("b").with("eos_rate", ones_first(57, 60)),
    );
    assert_eq!((verdict.verdict, u8::from(verdict.exit_code)), (Decision::Inconclusive, 3));
    let row = &verdict.metrics[0];
    assert!(row.n_needed.unwrap() > 60, "{row:?}");
    assert_eq!(
        row.reason,
        format!(
            "EOS rate fell by 1.67 points (90 % interval -7.13 to 2.72 points): neither a regression nor its absence \
             beyond 2 points is shown; 60 prompts show a change of 9.95 points or more with 80 % power; {} prompts would \
             settle it",
            row.n_needed.unwrap()
        )
    );
    assert!((row.detectable.unwrap() - 0.0995).abs() < 1e-4 && row.power.unwrap() < 0.5);
}

#[test]
fn an_inconclusive_verdict_exits_as_requested_and_stays_inconclusive() {
    for (on_inconclusive, code) in [(OnInconclusive::Pass, 0), (OnInconclusive::Fail, 1), (OnInconclusive::Report, 3)] {
        let (a, b) = (run("a").with("eos_rate", ones_first(58, 60)), run("b").with("eos_rate", ones_first(57, 60)));
        let options = DecideOptions { on_inconclusive, ..Default::default() };
        let verdict = decide(&eos("{ non_inferior = 0.02 }"), vec![a], vec![b], options).unwrap();
        assert_eq!((verdict.verdict, u8::from(verdict.exit_code)), (Decision::Inconclusive, code));
    }
}

#[test]
fn ties_pass_only_with_enough_prompts() {
    let policy = eos("{ non_inferior = 0.02 }");
    let tie =
        |n| answer(&policy, run("a").with("eos_rate", ones_first(n, n)), run("b").with("eos_rate", ones_first(n, n)));
    assert_eq!(tie(30), (Decision::Inconclusive, 3));
    assert_eq!(tie(300), (Decision::Pass, 0));
    // Shares of several samples obey the same rule: a bootstrap of ties would claim certainty.
    let shares = |n: usize| {
        let make = |name| run(name).with_samples("eos_rate", (0..n).map(|_| vec![1.0, 1.0, 1.0]));
        answer(&policy, make("a"), make("b"))
    };
    assert_eq!(shares(30), (Decision::Inconclusive, 3));
    assert_eq!(shares(300), (Decision::Pass, 0));
}

#[test]
fn one_prompt_is_inconclusive_not_a_panic() {
    for n in [1, 2] {
        let (a, b) = (run("a").with("eos_rate", ones_first(n, n)), run("b").with("eos_rate", ones_first(0, n)));
        let verdict = verdict(&eos("{ non_inferior = 0.02 }"), a, b);
        assert_eq!(verdict.verdict, Decision::Inconclusive);
        assert!(verdict.metrics[0].n_needed.unwrap() >= 20);
    }
}

#[test]
fn continuous_metrics_are_bootstrapped_in_their_direction() {
    let noise = |i: usize| ((i * 7919) % 1000) as f64 / 1000.0 - 0.5;
    let nats = |name: &str, mean: f64, salt: usize| {
        run(name).with("eos_logp_gold", (0..120).map(|i| mean + noise(i) + 0.3 * noise(i * i + salt)))
    };
    let policy = policy("[[metric]]\nid = \"eos_logp_gold\"\nrequire = { non_inferior = 0.5 }\n");
    assert_eq!(answer(&policy, nats("sft", -0.5, 1), nats("modified", -0.65, 2)), (Decision::Pass, 0));
    assert_eq!(answer(&policy, nats("sft", -0.5, 1), nats("regular", -6.6, 2)), (Decision::Fail, 1));
    assert_eq!(answer(&policy, nats("sft", -0.5, 1), nats("edge", -1.0, 2)).0, Decision::Inconclusive);

    // loop_rate: less is better, so more loops must fail.
    let loops = |name: &str, ones| run(name).with("loop_rate", ones_first(ones, 500));
    let policy = self::policy("[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.02 }\n");
    assert_eq!(answer(&policy, loops("sft", 49), loops("smpo", 3)), (Decision::Pass, 0));
    assert_eq!(answer(&policy, loops("smpo", 3), loops("sft", 49)), (Decision::Fail, 1));
}

#[test]
fn absolute_bounds_look_at_the_candidate_alone() {
    let policy = eos("{ at_least = 0.9 }");
    let baseline = || run("a").with("eos_rate", ones_first(10, 400));
    assert_eq!(answer(&policy, baseline(), run("b").with("eos_rate", ones_first(390, 400))), (Decision::Pass, 0));
    assert_eq!(answer(&policy, baseline(), run("b").with("eos_rate", ones_first(320, 400))), (Decision::Fail, 1));
    assert_eq!(
        answer(&policy, baseline(), run("b").with("eos_rate", ones_first(360, 400))),
        (Decision::Inconclusive, 3)
    );
    let row = &verdict(&policy, baseline(), run("b").with("eos_rate", ones_first(390, 400))).metrics[0];
    assert_eq!((row.baseline, row.difference, row.p), (None, None, None));
    let several = run("b").with_samples("eos_rate", (0..400).map(|i| vec![1.0, f64::from(u8::from(i % 50 != 0))]));
    assert_eq!(answer(&policy, baseline_of_two(), several), (Decision::Pass, 0));
}

fn baseline_of_two() -> Run {
    run("a").with_samples("eos_rate", (0..400).map(|_| vec![0.0, 1.0]))
}

#[test]
fn all_primary_rules_must_pass_and_secondary_ones_only_report() {
    let both = "[[metric]]\nid = \"eos_rate\"\nrequire = { non_inferior = 0.05 }\n[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\n";
    let make = |name: &str, eos, loops| {
        run(name).with("eos_rate", ones_first(eos, 300)).with("loop_rate", ones_first(loops, 300))
    };
    assert_eq!(answer(&policy(both), make("a", 300, 0), make("b", 300, 60)), (Decision::Fail, 1));
    let secondary = both.replace("id = \"loop_rate\"", "id = \"loop_rate\"\nrole = \"secondary\"");
    let verdict = verdict(&policy(&secondary), make("a", 300, 0), make("b", 300, 60));
    assert_eq!(verdict.verdict, Decision::Pass);
    assert_eq!(verdict.metrics[1].verdict, Decision::Fail);
    assert!(!verdict.metrics[1].primary);
}

#[test]
fn primary_alarms_share_one_alpha() {
    // Five losses against none: one-sided mid-p 1/64, enough alone, not beside four quiet metrics.
    let ids = ["eos_rate", "loop_rate", "broken_rate", "seq_rep_4", "p_cap"];
    let rules: String =
        ids.iter().map(|id| format!("[[metric]]\nid = \"{id}\"\nrequire = {{ non_inferior = 0.001 }}\n")).collect();
    let make = |name: &str, eos| {
        ids[1..]
            .iter()
            .fold(run(name).with("eos_rate", ones_first(eos, 300)), |run, id| run.with(id, ones_first(0, 300)))
    };
    let alone = eos("{ non_inferior = 0.001 }");
    assert_eq!(answer(&alone, make("a", 300), make("b", 295)).0, Decision::Fail);
    let together = verdict(&policy(&rules), make("a", 300), make("b", 295));
    assert_eq!(together.verdict, Decision::Inconclusive);
    assert_eq!(together.metrics[0].adjustment, "holm");
    assert!((together.metrics[0].p_harm.unwrap() - 5.0 * 0.5f64.powi(6)).abs() < 1e-12);
    assert_eq!(verdict(&policy(&rules), make("a", 300), make("b", 290)).verdict, Decision::Fail);
}

#[test]
fn slices_are_judged_apart() {
    let policy = policy("[[metric]]\nid = \"eos_rate\"\nslice = \"odd\"\nrequire = { non_inferior = 0.05 }\n");
    // Only even prompts get worse.
    let worse = run("b").with("eos_rate", (0..400).map(|i| f64::from(u8::from(i % 2 == 1))));
    let verdict = verdict(&policy, run("a").with("eos_rate", ones_first(400, 400)), worse);
    assert_eq!((verdict.verdict, verdict.metrics[0].n), (Decision::Pass, 200));
}

#[test]
fn an_empty_slice_is_inconclusive_and_names_the_slices() {
    let on = |slice: &str| {
        policy(&format!("[[metric]]\nid = \"eos_rate\"\nslice = \"{slice}\"\nrequire = {{ non_inferior = 0.05 }}\n"))
    };
    let make = |name| run(name).with("eos_rate", ones_first(400, 400));
    let verdict = verdict(&on("prime"), make("a"), make("b"));
    assert_eq!((verdict.verdict, verdict.metrics[0].n), (Decision::Inconclusive, 0));
    let reason = &verdict.metrics[0].reason;
    assert!(reason.contains("even, odd"), "{reason}");
}

#[test]
fn a_misspelt_slice_is_refused_even_if_it_may_be_missing() {
    let rule = |slice: &str| {
        format!(
            "[[metric]]\nid = \"eos_rate\"\nslice = \"{slice}\"\nrequire = {{ non_inferior = 0.05 }}\nif_missing = \"skip\"\n"
        )
    };
    let make = |name| vec![run(name).with("eos_rate", ones_first(400, 400))];
    let refused = |text: &str| decide(&policy(text), make("a"), make("b"), DecideOptions::default()).err();
    let error = refused(&format!("{}{}", rule("odd"), rule("evn"))).unwrap().to_string();
    assert_eq!(error, "test.toml: no run has the slice `evn`; did you mean `even`?");
    // Named beside the slice that is like it: another one, which these runs lack.
    assert!(refused(&format!("{}{}", rule("even"), rule("evn"))).is_none());
    // A slice that the runs have is meant, and `all` is no slice, however alike others are.
    let renamed = |name| {
        let mut run = run(name).with("eos_rate", ones_first(400, 400));
        let slice = |row: &Measurement| if row.slice == "odd" { "hall" } else { "call" }.to_owned();
        run.measurements = run.measurements.rows().map(|row| Measurement { slice: slice(&row), ..row }).collect();
        run
    };
    for slice in ["hall", "all"] {
        assert_eq!(answer(&policy(&rule(slice)), renamed("a"), renamed("b")).0, Decision::Pass, "{slice}");
    }
}

/// The reason for which a rule has no value to judge.
#[test]
fn a_rule_without_values_says_why() {
    for (metric, more, reason) in [
        ("eos_rate", "", "no answer says how it ended"),
        ("eos_rate", "pass_k = 3", "no answer says how it ended"),
        ("eos_rate", "slice = \"odd\"", "no run has a value on this slice"),
        ("eos_rate", "slice = \"prime\"", "no run has a value on this slice; slices of these runs: even, odd"),
        ("eos_logp_gold", "", "not measured: it takes a model, not completions"),
        ("empty_rate", "", "no completion has a value"),
    ] {
        let rule = policy(&format!("[[metric]]\nid = \"{metric}\"\nrequire = {{ non_inferior = 0.05 }}\n{more}\n"));
        let make = |name| run(name).with("loop_rate", ones_first(0, 300));
        let found = verdict(&rule, make("a"), make("b")).metrics.remove(0).reason;
        assert_eq!(found.split_once(": ").unwrap().1, reason, "{metric} {more}");
    }
}

#[test]
fn a_metric_without_measurements_never_passes_silently() {
    let rule = "[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\n[[metric]]\nid = \"eos_rate\"\nrequire = { non_inferior = 0.05 }\n";
    let make = |name| run(name).with("loop_rate", ones_first(0, 300));
    let open = verdict(&policy(rule), make("a"), make("b"));
    assert_eq!(open.verdict, Decision::Inconclusive);
    assert_eq!(open.metrics[1].reason, "EOS rate: no answer says how it ended");
    assert_eq!(open.metrics[1].n_needed, None);
    let skipping = policy(&format!("{rule}if_missing = \"skip\"\n"));
    let skipped = verdict(&skipping, make("a"), make("b"));
    assert_eq!((skipped.verdict, skipped.skipped.len(), skipped.metrics.len()), (Decision::Pass, 1, 1));
    let left_out = |verdict: &Verdict| -> Vec<String> {
        verdict.not_judged.iter().map(|part| format!("{}: {}", part.subject, part.reason)).collect()
    };
    assert_eq!(left_out(&skipped), ["EOS rate: no answer says how it ended"], "a pass says what it leaves out");
    assert_eq!(left_out(&open), left_out(&skipped), "the subject stands once");
    // Made of the completions of a run together, not of a model.
    let same = policy("[[metric]]\nid = \"same_answer\"\nrequire = { at_most = 0.05 }\n");
    let same = verdict(&same, make("a"), make("b"));
    assert!(same.metrics[0].reason.ends_with(": no completion has a value"), "{}", same.metrics[0].reason);
    // Measured in one arm only is not the same as not measured.
    let one_sided = verdict(&skipping, make("a").with("eos_rate", ones_first(300, 300)), make("b"));
    assert_eq!(one_sided.verdict, Decision::Inconclusive);
    // Nothing left to judge.
    let only = policy("[[metric]]\nid = \"eos_rate\"\nrequire = { non_inferior = 0.05 }\nif_missing = \"skip\"\n");
    let nothing = verdict(&only, make("a"), make("b"));
    assert_eq!((nothing.verdict, u8::from(nothing.exit_code)), (Decision::Inconclusive, 3));
    assert!(nothing.notes.iter().any(|note| note.contains("nothing was decided")));
}

#[test]
fn prompts_that_one_arm_lost_bar_a_pass() {
    // The candidate answered everything it answered, and failed to answer a fifth.
    let policy = eos("{ non_inferior = 0.05 }");
    let partial = run("b").with_samples("eos_rate", (0..400).map(|i| if i % 5 == 0 { vec![] } else { vec![1.0] }));
    let verdict = verdict(&policy, run("a").with("eos_rate", ones_first(400, 400)), partial);
    assert_eq!(verdict.verdict, Decision::Inconclusive);
    let reason = &verdict.metrics[0].reason;
    assert!(reason.contains("no pass, because 80 of 400 prompts lack `eos_rate`"), "{reason}");
    assert_eq!(verdict.not_judged[0].subject, "EOS rate on 80 of 400 prompts");
}

/// Both arms end half of their answers in an unknown way: no prompt lacks a partner, and half are not judged.
#[test]
fn prompts_that_neither_arm_has_a_value_for_are_said() {
    let make = |name| {
        let known = (0..600).map(|i| if i % 2 == 0 { vec![1.0] } else { vec![] });
        run(name).with("loop_rate", ones_first(0, 600)).with_samples("eos_rate", known)
    };
    let verdict = verdict(&eos("{ non_inferior = 0.02 }"), make("a"), make("b"));
    assert_eq!((verdict.metrics[0].n, verdict.metrics[0].asked), (300, Some(600)));
    assert_eq!(verdict.not_judged[0].subject, "EOS rate on 300 of 600 prompts");
    // What is left to do counts prompts with a value.
    let few = |name, ends| {
        let known = (0..120).map(|i| if i % 2 == 0 { vec![f64::from(u8::from(i < 2 * ends))] } else { vec![] });
        run(name).with("loop_rate", ones_first(0, 120)).with_samples("eos_rate", known)
    };
    let open = self::verdict(&eos("{ non_inferior = 0.02 }"), few("a", 58), few("b", 57)).metrics.remove(0);
    let expected =
        format!("; {} prompts with a value would settle it, which 60 of 120 have", open.n_needed.expect("a number"));
    assert!(open.reason.ends_with(&expected), "{}", open.reason);
}

/// Gold log-probs and metrics of some prompts alone have prompts of their own; a slice has those of no other.
#[test]
fn prompts_are_asked_for_a_metric_where_it_applies() {
    let make = |name| {
        let known = (0..601).map(|i| if i % 4 < 2 { vec![1.0] } else { vec![] });
        run(name)
            .with("loop_rate", ones_first(0, 601))
            .with("exact_match", ones_first(100, 100))
            .with("eos_logp_gold", [-1.0; 60])
            .with_samples("eos_rate", known)
    };
    for (metric, slice, n, asked) in [
        ("loop_rate", "all", 601, 601),
        ("exact_match", "all", 100, 100),
        ("eos_logp_gold", "all", 60, 60),
        ("eos_rate", "all", 301, 601),
        ("eos_rate", "even", 151, 301),
        ("eos_rate", "odd", 150, 300),
    ] {
        let rule = format!("[[metric]]\nid = \"{metric}\"\nslice = \"{slice}\"\nrequire = {{ non_inferior = 0.2 }}\n");
        let found = verdict(&policy(&rule), make("a"), make("b"));
        assert_eq!((found.metrics[0].n, found.metrics[0].asked), (n, Some(asked)), "{metric} {slice}");
        assert_eq!(found.not_judged.is_empty(), n == asked, "{metric} {slice}");
    }
}

/// Scored files often do not say how an answer ended: the headline does, and in whose files.
#[test]
fn a_headline_says_what_scored_files_do_not_tell() {
    let rule = "[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\n[[metric]]\nid = \"eos_rate\"\nrequire = { non_inferior = 0.05 }\nif_missing = \"skip\"\n";
    let silent = |name: &str| {
        let mut run = run(name).with("loop_rate", ones_first(0, 300));
        run.manifest.observed.untold.insert(smpo_results::manifest::FINISH_REASON.into(), 300);
        run
    };
    let both = verdict(&policy(rule), silent("a"), silent("b"));
    assert_eq!(
        (both.verdict, both.not_judged[0].subject.as_str()),
        (Decision::Pass, "EOS rate (EOS unknown in the files)")
    );
    let known = || run("a").with("loop_rate", ones_first(0, 300)).with("eos_rate", ones_first(300, 300));
    let one = verdict(&policy(rule), known(), silent("b"));
    assert_eq!(one.not_judged[0].subject, "EOS rate (EOS unknown in the candidate's files)");
    // Half of the answers say it.
    let half = || silent("b").with_samples("eos_rate", (0..300).map(|i| if i % 2 == 0 { vec![1.0] } else { vec![] }));
    let part = verdict(&policy(rule), half(), half());
    assert_eq!(part.not_judged[0].subject, "EOS rate on 150 of 300 prompts (EOS unknown in the files)");
    assert_eq!(verdict(&policy(rule), known(), known()).not_judged, []);
}

/// Each metric lacks a fact of its own, and each subject stands once however many rules are about it.
#[test]
fn a_headline_has_every_subject_once() {
    let rules: String = [
        ("eos_rate", "non_inferior = 0.05"),
        ("eos_rate", "at_least = 0.9"),
        ("length", "at_most = 300"),
        ("foreign_script", "non_inferior = 0.05"),
        ("empty_rate", "non_inferior = 0.05"),
        ("loop_rate", "non_inferior = 0.05"),
    ]
    .iter()
    .map(|(id, require)| format!("[[metric]]\nid = \"{id}\"\nrequire = {{ {require} }}\nif_missing = \"skip\"\n"))
    .collect();
    let silent = |name: &str, facts: &[&str]| {
        let mut run = run(name).with("loop_rate", ones_first(0, 300));
        run.manifest.observed.untold = facts.iter().map(|fact| ((*fact).to_owned(), 300)).collect();
        run
    };
    let found = verdict(&policy(&rules), silent("a", &[FINISH_REASON, TOKENS]), silent("b", &[FINISH_REASON, PROMPT]));
    let name = |id: &str| smpo_metrics::find(id).unwrap().name;
    assert_eq!(
        found.not_judged.iter().map(|part| part.subject.as_str()).collect::<Vec<_>>(),
        [
            "EOS rate (EOS unknown in the files)",
            &format!("{} (length in tokens unknown in the baseline's files)", name("length")),
            &format!("{} (prompts unknown in the candidate's files)", name("foreign_script")),
            name("empty_rate"),
        ]
    );
}

#[test]
fn equivalence_is_shown_refuted_or_left_open() {
    let equivalent = eos("{ equivalent = 0.05 }");
    let arm = |name, ones| run(name).with("eos_rate", ones_first(ones, 400));
    assert_eq!(answer(&equivalent, arm("a", 380), arm("b", 384)).0, Decision::Pass);
    assert_eq!(answer(&equivalent, arm("a", 380), arm("b", 340)).0, Decision::Fail, "ten points fewer");
    assert_eq!(answer(&equivalent, arm("a", 340), arm("b", 380)).0, Decision::Fail, "ten points more");
    let open = verdict(&equivalent, arm("a", 380), arm("b", 362));
    let row = &open.metrics[0];
    assert_eq!(open.verdict, Decision::Inconclusive);
    assert!(row.p_equivalence.unwrap() > 0.05 && row.n_needed.unwrap() > 400, "{row:?}");
    assert!(row.reason.contains("neither within 5 points either way nor beyond is shown"), "{}", row.reason);

    // A metric without a direction may be held equivalent, a continuous one too.
    let length = policy("[[metric]]\nid = \"length\"\nrequire = { equivalent = 10 }\n");
    let lengths = |name: &str, more: f64| run(name).with("length", (0..300).map(|i| more + f64::from(i % 40)));
    assert_eq!(answer(&length, lengths("a", 0.0), lengths("b", 2.0)).0, Decision::Pass);
    assert_eq!(answer(&length, lengths("a", 0.0), lengths("b", 20.0)).0, Decision::Fail);
}

/// The margin is a share: a unit that only the run knows is checked with the run.
#[test]
fn a_margin_that_decides_nothing_is_refused_with_the_runs_unit() {
    let mut arm = run("a").with("my_rate", ones_first(300, 300));
    arm.metrics.metrics.push(smpo_results::MetricEstimate {
        metric: "my_rate".into(),
        slice: "all".into(),
        value: 0.5,
        ci_low: 0.4,
        ci_high: 0.6,
        n: 300,
        unit: smpo_results::Unit::Share,
        better: smpo_results::Direction::Higher,
        primary: false,
    });
    let policy = policy("[[metric]]\nid = \"my_rate\"\nrequire = { non_inferior = 2 }\n");
    let error = decide(&policy, vec![arm.clone()], vec![Run { dir: "b".into(), ..arm }], DecideOptions::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("require of `my_rate`") && error.contains("0.02 is 2 points"), "{error}");
}

#[test]
fn pooling_samples_as_independent_is_not_what_happens() {
    // 40 prompts × 10 samples; four prompts break entirely. Pooled, 40 of 400 against 0 would be overwhelming.
    let make = |name: &str, broken: usize| {
        run(name).with_samples("eos_rate", (0..40).map(|i| vec![f64::from(u8::from(i >= broken)); 10]))
    };
    let row = verdict(&eos("{ non_inferior = 0.02 }"), make("a", 0), make("b", 4)).metrics.remove(0);
    assert_eq!(row.n, 40);
    assert!(row.p.unwrap() > 0.1, "{row:?}");
}

fn seeds(arm: &str, shares: &[f64]) -> Vec<Run> {
    shares
        .iter()
        .enumerate()
        .map(|(s, share)| {
            run(arm).seed(arm, s as u64).with(
                "eos_rate",
                (0..200).map(|i| f64::from(u8::from((i * 37 + s * 11) % 200 < (share * 200.0) as usize))),
            )
        })
        .collect()
}

#[test]
fn several_seeds_make_a_claim_about_methods() {
    let options = DecideOptions::default();
    let policy = eos("{ non_inferior = 0.05 }");
    let (good, bad) = (|| seeds("modified", &[0.99, 1.0, 0.995]), || seeds("regular", &[0.7, 0.65, 0.74]));
    let fail = decide(&policy, good(), bad(), options).unwrap();
    assert_eq!((fail.verdict, fail.claim), (Decision::Fail, ClaimScope::Methods));
    assert_eq!((fail.baseline.as_str(), fail.candidate.as_str()), ("modified", "regular"));
    assert!(fail.notes[0].contains("share their training seeds"), "{:?}", fail.notes);
    assert_eq!(decide(&policy, bad(), good(), options).unwrap().verdict, Decision::Pass);
    // Seeds that disagree: pooled prompts would call this a clear loss.
    let wild =
        decide(&policy, seeds("modified", &[0.99, 1.0, 0.995]), seeds("regular", &[0.5, 1.0, 0.99]), options).unwrap();
    assert_eq!(wild.verdict, Decision::Inconclusive);
    // The order of directories changes nothing but what is listed.
    let mut reversed = bad();
    reversed.reverse();
    assert_eq!(decide(&policy, good(), reversed, options).unwrap(), fail);
    // One checkpoint in an arm: the claim is smaller.
    let one = decide(&policy, good().split_off(2), bad(), options).unwrap();
    assert_eq!(one.claim, ClaimScope::Checkpoints);
}

#[test]
fn unequal_runs_are_refused_by_field_and_value() {
    let policy = eos("{ non_inferior = 0.05 }");
    let make = |name| run(name).with("eos_rate", ones_first(300, 300));
    let mut other = make("b");
    other.manifest.cap = Some(512);
    let error = decide(&policy, vec![make("a")], vec![other], DecideOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a and b cannot be compared: `cap` differs: 240 against 512; evaluate both in the same way"
    );
    let mut other = make("b");
    other.manifest.suite.sha256 = "ef".into();
    let error = decide(&policy, vec![make("a")], vec![other], DecideOptions::default()).unwrap_err();
    assert!(error.to_string().contains("`suite.sha256` differs"), "{error}");
    let mut twice = seeds("m", &[1.0, 1.0]);
    twice.iter_mut().for_each(|run| run.manifest.model.weights_sha256 = Some("77".into()));
    let error = decide(&policy, twice, vec![make("b")], DecideOptions::default()).unwrap_err();
    assert!(matches!(error, GateError::SameCheckpoint { .. }), "{error}");
    let error = decide(&policy, vec![], vec![make("b")], DecideOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the baseline arm has no evaluation directory");
    let mut stranger = make("b");
    let renamed = |row: Measurement| Measurement { prompt_id: format!("{}x", row.prompt_id), ..row };
    stranger.measurements = stranger.measurements.rows().map(renamed).collect();
    let error = decide(&policy, vec![make("a")], vec![stranger], DecideOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no prompt in common"), "{error}");
}

#[test]
fn unknown_and_unsuitable_metrics_are_named() {
    let make = |name| {
        run(name).with("eos_rate", ones_first(300, 300)).declare("distinct_2").with("length", (0..300).map(f64::from))
    };
    let refuse = |rules: &str| {
        decide(&policy(rules), vec![make("a")], vec![make("b")], DecideOptions::default()).unwrap_err().to_string()
    };
    let typo = refuse("[[metric]]\nid = \"eos_rat\"\nrequire = { non_inferior = 0.05 }\n");
    assert_eq!(
        typo,
        "test.toml: unknown metric `eos_rat` (did you mean `eos_rate`?); metrics of these runs: eos_rate, distinct_2, length"
    );
    let whole = refuse("[[metric]]\nid = \"distinct_2\"\nrequire = { non_inferior = 0.05 }\n");
    assert!(whole.contains("measured over a whole run"), "{whole}");
    let aimless = refuse("[[metric]]\nid = \"length\"\nrequire = { non_inferior = 5 }\n");
    assert!(aimless.contains("no better direction"), "{aimless}");
}

#[test]
fn the_same_seed_gives_the_same_verdict() {
    let noise = |i: usize| ((i * 7919) % 1000) as f64 / 1000.0;
    let make = |name: &str, k: usize| run(name).with("eos_logp_gold", (0..150).map(|i| noise(i * k)));
    let policy = policy("[[metric]]\nid = \"eos_logp_gold\"\nrequire = { non_inferior = 0.1 }\n");
    let text = |seed, threads| {
        let options = DecideOptions { seed, ..Default::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let verdict = pool.install(|| decide(&policy, vec![make("a", 1)], vec![make("b", 3)], options).unwrap());
        serde_json::to_string_pretty(&verdict).unwrap()
    };
    assert_eq!(text(1, 1), text(1, 4));
    assert_ne!(text(1, 1), text(2, 1).replace("\"seed\": 2", "\"seed\": 1"));
}

#[test]
fn a_repeated_answer_is_named_and_does_not_bar_a_comparison() {
    let scored = |name: &str, twice: &[usize]| {
        let mut made =
            run(name).with_samples("eos_rate", (0..300).map(|i| vec![1.0; 1 + usize::from(twice.contains(&i))]));
        made.manifest.kind = "score".into();
        made.manifest.samples_per_prompt = if twice.is_empty() { 1 } else { 2 };
        made
    };
    let verdict = verdict(&eos("{ non_inferior = 0.02 }"), scored("a", &[]), scored("b", &[17]));
    assert_eq!((verdict.verdict, verdict.metrics[0].n), (Decision::Pass, 300));
    let note = verdict.notes.iter().find(|note| note.contains("averaged")).expect("a note");
    assert!(note.starts_with("the candidate answers `p00017` 2 times, other prompts 1"), "{note}");
}

/// pass^4: the probability that all of four answers to a prompt end.
#[test]
fn all_of_k_samples_may_be_required() {
    let rule = "[[metric]]\nid = \"eos_rate\"\npass_k = 4\nrequire = { non_inferior = 0.05 }\n";
    let arm = |name: &str, bad: usize| {
        run(name).with_samples("eos_rate", (0..200).map(|i| [if i < bad { 0.0 } else { 1.0 }, 1.0, 1.0, 1.0].to_vec()))
    };
    // One answer in four fails on a fifth of the prompts: 5 points of the rate, 20 of pass^4.
    assert_eq!(answer(&eos("{ non_inferior = 0.1 }"), arm("a", 0), arm("b", 40)).0, Decision::Pass);
    let worse = verdict(&policy(rule), arm("a", 0), arm("b", 40));
    let row = &worse.metrics[0];
    assert_eq!((worse.verdict, row.metric.as_str(), row.candidate), (Decision::Fail, "eos_rate^4", Some(0.8)));
    assert!(row.reason.starts_with("EOS rate, pass^4 fell by 20.00 points"), "{}", row.reason);

    // Good is the metric's better end: loops count against.
    let loops = rule.replace("eos_rate", "loop_rate");
    let arm = |name: &str, bad: usize| {
        run(name).with_samples("loop_rate", (0..200).map(|i| [f64::from(u8::from(i < bad)), 0.0, 0.0, 0.0].to_vec()))
    };
    assert_eq!(answer(&policy(&loops), arm("a", 0), arm("b", 40)).0, Decision::Fail);
    assert_eq!(answer(&policy(&loops), arm("a", 40), arm("b", 0)).0, Decision::Pass);

    // One answer a prompt, one seed: not to be known.
    let few = verdict(
        &policy(rule),
        run("a").with("eos_rate", ones_first(200, 200)),
        run("b").with("eos_rate", ones_first(200, 200)),
    );
    assert_eq!(few.verdict, Decision::Inconclusive);
    assert!(few.metrics[0].reason.contains("it takes 4 answers to a prompt, and these runs have at most 1"));

    // One answer a prompt from each of three seeds.
    let seeds_rule = policy(&rule.replace("pass_k = 4", "pass_k = 3"));
    let over_seeds = |arm: &str, shares: &[f64]| seeds(arm, shares);
    let found = decide(
        &seeds_rule,
        over_seeds("good", &[1.0, 1.0, 1.0]),
        over_seeds("bad", &[0.9, 0.9, 0.9]),
        DecideOptions::default(),
    )
    .unwrap();
    assert_eq!((found.verdict, found.metrics[0].n), (Decision::Fail, 200));
    assert!(found.notes.iter().any(|note| note.starts_with("pass^3 takes the samples of all training seeds")));
    assert_eq!(found.claim, ClaimScope::Checkpoints, "samples of one prompt, not seeds, are resampled");
}

#[test]
fn changed_prompts_are_listed_both_ways() {
    let flags = |name: &str, bad: &[usize]| {
        run(name).with("loop_rate", (0..300).map(|i| f64::from(u8::from(bad.contains(&i)))))
    };
    let policy = policy("[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\n");
    let many: Vec<usize> = (100..170).collect();
    let verdict = verdict(&policy, flags("a", &[3]), flags("b", &many));
    let flips = verdict.metrics[0].flips.as_ref().expect("a share, compared");
    assert_eq!((flips.worse_total, flips.better_total), (70, 1));
    assert_eq!((flips.worse.len(), flips.better.len()), (50, 1), "the lists are bounded");
    assert_eq!((flips.better[0].prompt_id.as_str(), flips.better[0].baseline), ("p00003", 1.0));
    assert_eq!((flips.worse[0].prompt_id.as_str(), flips.worse[0].candidate), ("p00100", 1.0));

    // Of several samples, the prompts that changed most come first.
    let shares = |name: &str, values: [f64; 3]| {
        run(name).with_samples("loop_rate", (0..300).map(|i| vec![if i < 3 { values[i] } else { 0.0 }, 0.0]))
    };
    let verdict = self::verdict(&policy, shares("a", [0.0, 0.0, 0.0]), shares("b", [0.0, 1.0, 1.0]));
    let worse = &verdict.metrics[0].flips.as_ref().expect("some").worse;
    assert_eq!(worse.iter().map(|flip| flip.candidate).collect::<Vec<_>>(), [0.5, 0.5]);
    let quarters = |name: &str, ones: [usize; 3]| {
        run(name).with_samples("loop_rate", (0..300).map(|i| ones_first(if i < 3 { ones[i] } else { 0 }, 4).collect()))
    };
    let [few, many] = [[2, 0, 1], [3, 2, 4]];
    for (before, after) in [(few, many), (many, few)] {
        let verdict = self::verdict(&policy, quarters("a", before), quarters("b", after));
        let flips = verdict.metrics[0].flips.as_ref().expect("some");
        let changed = if before == few { &flips.worse } else { &flips.better };
        let ids: Vec<&str> = changed.iter().map(|flip| flip.prompt_id.as_str()).collect();
        assert_eq!(ids, ["p00002", "p00001", "p00000"], "three quarters, two, one");
    }

    // Over seeds a prompt's value is the mean.
    let seed = |arm: &str, seed, bad: &[usize]| flags(arm, bad).seed(arm, seed);
    let [a, b] = [vec![seed("a", 1, &[]), seed("a", 2, &[])], vec![seed("b", 1, &[3]), seed("b", 2, &[])]];
    let verdict = decide(&policy, a, b, DecideOptions::default()).unwrap();
    let worse = &verdict.metrics[0].flips.as_ref().expect("some").worse;
    assert_eq!(worse.iter().map(|flip| (flip.baseline, flip.candidate)).collect::<Vec<_>>(), [(0.0, 0.5)]);
}

#[test]
fn only_shares_of_two_arms_have_changed_prompts() {
    let make = |name| run(name).with("eos_rate", ones_first(300, 300)).with("eos_logp_gold", [-1.0; 300]);
    for (metric, require, listed) in [
        ("eos_rate", "non_inferior = 0.05", true),
        ("eos_rate", "at_least = 0.9", false),
        ("eos_logp_gold", "non_inferior = 0.05", false),
        ("eos_logp_gold", "at_least = -2", false),
    ] {
        let rule = policy(&format!("[[metric]]\nid = \"{metric}\"\nrequire = {{ {require} }}\n"));
        let found = verdict(&rule, make("a"), make("b"));
        assert_eq!((found.verdict, found.metrics[0].flips.is_some()), (Decision::Pass, listed), "{metric} {require}");
    }
}

/// The end of each requirement's sentence, by decision, on 400 prompts.
#[test]
fn every_requirement_has_its_sentence_for_every_decision() {
    use Decision::{Fail, Inconclusive, Pass};
    let arm = |name: &str, metric: &str, ones: usize| run(name).with(metric, ones_first(ones, 400));
    for (metric, require, [before, after], decision, sentence) in [
        ("eos_rate", "non_inferior = 0", [380, 340], Fail, ", and nothing worse is allowed"),
        ("eos_rate", "non_inferior = 0", [340, 380], Pass, ": not worse by the 0 points allowed"),
        (
            "eos_rate",
            "non_inferior = 0",
            [380, 380],
            Inconclusive,
            ": neither a regression nor its absence beyond 0 points",
        ),
        ("eos_rate", "non_inferior = 0.05", [380, 340], Fail, ", more than the 5 points allowed"),
        ("eos_rate", "superior = 0", [380, 340], Fail, ", not better"),
        ("eos_rate", "superior = 0", [340, 380], Pass, ": better"),
        ("eos_rate", "superior = 0", [380, 381], Inconclusive, ": neither better nor worse is shown"),
        ("eos_rate", "superior = 0.02", [380, 340], Fail, ", less than the 2 points better that are required"),
        ("eos_rate", "superior = 0.02", [340, 380], Pass, ": better by more than 2 points"),
        (
            "eos_rate",
            "superior = 0.02",
            [372, 380],
            Inconclusive,
            ": neither better by 2 points nor its contrary is shown",
        ),
        ("eos_rate", "equivalent = 0.05", [380, 340], Fail, ", more than 5 points away"),
        ("eos_rate", "equivalent = 0.05", [380, 384], Pass, ": within 5 points either way"),
        (
            "eos_rate",
            "equivalent = 0.05",
            [380, 362],
            Inconclusive,
            ": neither within 5 points either way nor beyond is shown",
        ),
        ("eos_rate", "at_least = 0.9", [0, 320], Fail, ", less than the 90 % required"),
        ("eos_rate", "at_least = 0.9", [0, 390], Pass, ", at least the 90 % required"),
        ("eos_rate", "at_least = 0.9", [0, 360], Inconclusive, ": neither 90 % and more nor less is shown"),
        ("loop_rate", "at_most = 0.1", [0, 80], Fail, ", more than the 10 % allowed"),
        ("loop_rate", "at_most = 0.1", [0, 10], Pass, ", at most the 10 % allowed"),
        ("loop_rate", "at_most = 0.1", [0, 40], Inconclusive, ": neither 10 % and less nor more is shown"),
    ] {
        let policy = policy(&format!("[[metric]]\nid = \"{metric}\"\nrequire = {{ {require} }}\n"));
        let verdict = verdict(&policy, arm("a", metric, before), arm("b", metric, after));
        let reason = &verdict.metrics[0].reason;
        assert_eq!(verdict.verdict, decision, "{require} {before} {after}: {reason}");
        let told = reason.split_once("points)").or(reason.split_once("%)")).unwrap().1;
        let whole = decision == Inconclusive && told.starts_with(sentence) || told == sentence;
        assert!(whole, "{require} {before} {after}: {told}");
    }
}

#[test]
fn a_sentence_says_how_far_a_metric_moved_and_how_sure_that_is() {
    let policy = |rule: &str| {
        let text = format!("name = \"t\"\nalpha = 0.0125\nresamples = 1000\n[[metric]]\nid = {rule}\n");
        Policy::parse("test.toml", &text).unwrap()
    };
    let reason = |rule: &str, a: Run, b: Run| verdict(&policy(rule), a, b).metrics.remove(0).reason;
    let rate = |name, ones| run(name).with("eos_rate", ones_first(ones, 400));
    let eos = "\"eos_rate\"\nrequire = { non_inferior = 0.05 }";
    assert!(
        reason(eos, rate("a", 380), rate("b", 380))
            .starts_with("EOS rate did not move on any prompt (97.5 % interval -")
    );
    assert!(reason(eos, rate("a", 380), rate("b", 390)).starts_with("EOS rate rose by 2.50 points (97.5 %"));
    assert!(reason(eos, rate("a", 390), rate("b", 380)).starts_with("EOS rate fell by 2.50 points (97.5 %"));
    let odd = reason(&format!("{eos}\nslice = \"odd\""), rate("a", 380), rate("b", 380));
    assert!(odd.starts_with("EOS rate on odd did not move"), "{odd}");
    let nats = |name, more: f64| run(name).with("eos_logp_gold", (0..400).map(|i| more - f64::from(i % 7)));
    let gold = "\"eos_logp_gold\"\nrequire = { non_inferior = 0.5 }";
    assert!(reason(gold, nats("a", 0.0), nats("b", 1e-4)).contains("did not move (97.5 %"), "too little to be told");
    assert!(reason(gold, nats("a", 0.0), nats("b", 0.25)).contains("rose by 0.250 nats"));

    // Five prompts fall by half: the signs show it, the score interval does not.
    let halves = |name: &str, bad: usize| {
        run(name).with_samples("eos_rate", (0..100).map(|i| vec![1.0, f64::from(u8::from(i >= bad))]))
    };
    let hedged = verdict(&self::eos("{ non_inferior = 0 }"), halves("a", 0), halves("b", 5)).metrics.remove(0);
    assert_eq!(hedged.verdict, Decision::Fail);
    assert!(
        hedged.reason.ends_with("(the test of a difference is exact here, the interval is wider: few prompts moved)")
    );
}

#[test]
fn answers_that_are_repeated_are_named_up_to_three() {
    let scored = |name: &str, twice: usize| {
        let mut made = run(name).with_samples("eos_rate", (0..300).map(|i| vec![1.0; if i < twice { 2 } else { 1 }]));
        made.manifest.kind = "score".into();
        made
    };
    let notes = |before, after| verdict(&eos("{ non_inferior = 0.02 }"), scored("a", before), scored("b", after)).notes;
    let found = notes(0, 5).into_iter().find(|note| note.contains("averaged")).expect("a note");
    assert!(found.starts_with("the candidate answers `p00000`, `p00001`, `p00002` and 2 more 2 times"), "{found}");
    let found = notes(3, 0).into_iter().find(|note| note.contains("averaged")).expect("a note");
    assert!(found.starts_with("the baseline answers `p00000`, `p00001`, `p00002` 2 times, other prompts 1"), "{found}");
    let apart = "the arms have different numbers of answers to a prompt, which are averaged first";
    assert!(notes(0, 300).iter().any(|note| note == apart) && notes(300, 300).iter().all(|note| note != apart));
}

/// Three of four answers to each prompt failed: a value a prompt is left, and says nothing of them.
#[test]
fn answers_that_failed_bar_a_pass_also_where_each_prompt_has_another() {
    let rule = policy("[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\n");
    let arm = |name: &str, failed: usize| {
        let errors = move |i: usize| (0..4).map(move |s| f64::from(u8::from(s < failed && i < 200)));
        run(name)
            .with_samples("error_rate", (0..220).map(|i| errors(i).collect()))
            .with_samples("loop_rate", (0..220).map(|i| vec![0.0; 4 - if i < 200 { failed } else { 0 }]))
    };
    let found = verdict(&rule, arm("a", 0), arm("b", 3));
    assert_eq!(found.verdict, Decision::Inconclusive);
    let reason = &found.metrics[0].reason;
    assert!(reason.contains("no pass, because 600 of 880 answers of b failed or ended in an unknown way"), "{reason}");
    let left_out = |verdict: &Verdict| verdict.not_judged.iter().map(|part| part.subject.clone()).collect::<Vec<_>>();
    assert_eq!(left_out(&found), ["600 of 880 answers of the candidate"]);
    assert_eq!(answer(&rule, arm("a", 0), arm("b", 0)), (Decision::Pass, 0));
    // A policy may allow it; the verdict still says so.
    let allowing = policy("[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\nmax_unpaired = 1.0\n");
    let found = verdict(&allowing, arm("a", 0), arm("b", 3));
    assert_eq!((found.verdict, left_out(&found).len()), (Decision::Pass, 1));
    // A prompt whose answers all failed is left out by the rule.
    let failing = |name: &str| {
        let failed = |i: usize| ones_first([4, 1, 0][i.min(2)], 4).collect();
        let sound = |i: usize| vec![0.0; [0, 3, 4][i.min(2)]];
        run(name).with_samples("error_rate", (0..220).map(failed)).with_samples("loop_rate", (0..220).map(sound))
    };
    let found = verdict(&rule, arm("a", 0), failing("b"));
    assert_eq!(left_out(&found), ["Loop rate on 1 of 220 prompts", "1 of 880 answers of the candidate"]);
}

/// They are what `error_rate` counts; gold log-probs are not of answers.
#[test]
fn answers_that_failed_bar_no_rule_on_failures_or_on_gold() {
    let make = |name| {
        run(name)
            .with_samples("error_rate", (0..300).map(|_| vec![1.0, 0.0, 0.0, 0.0]))
            .with("eos_logp_gold", [-1.0; 300])
    };
    for (metric, require) in [("error_rate", "at_most = 0.4"), ("eos_logp_gold", "non_inferior = 0.5")] {
        let rule = policy(&format!("[[metric]]\nid = \"{metric}\"\nrequire = {{ {require} }}\n"));
        let found = verdict(&rule, make("a"), make("b"));
        assert_eq!(found.verdict, Decision::Pass, "{}", found.metrics[0].reason);
    }
}

#[test]
fn an_evaluation_that_is_compared_with_itself_is_named() {
    let same = || run("a").with("eos_rate", ones_first(300, 300));
    assert_eq!(
        verdict(&eos("{ non_inferior = 0.05 }"), same(), same()).notes,
        ["a is on both sides: an evaluation compared with itself shows nothing"]
    );
}

/// Of an unknown end `eos_rate` has no value.
#[test]
fn ends_that_are_unknown_bar_a_pass_also_where_each_prompt_has_another() {
    let arm = |name: &str, known: usize| {
        run(name)
            .with_samples("error_rate", (0..300).map(|_| vec![0.0; 4]))
            .with_samples("eos_rate", (0..300).map(|_| vec![1.0; known]))
    };
    let rule = eos("{ non_inferior = 0.05 }");
    assert_eq!(answer(&rule, arm("a", 4), arm("b", 4)), (Decision::Pass, 0));
    assert_eq!(answer(&rule, arm("a", 4), arm("b", 2)), (Decision::Inconclusive, 3));
}

/// A bound on the candidate's own pass^k asks nothing of a baseline with one answer a prompt.
#[test]
fn an_absolute_pass_k_looks_at_the_candidate_alone() {
    let rule = |require: &str| {
        policy(&format!("[[metric]]\nid = \"eos_rate\"\npass_k = 3\nrequire = {require}\nif_missing = \"skip\"\n"))
    };
    let baseline = || run("a").with("eos_rate", ones_first(300, 300));
    let candidate = || run("b").with_samples("eos_rate", (0..300).map(|_| vec![1.0, 0.0, 1.0, 1.0]));
    assert_eq!(answer(&rule("{ at_least = 0.7 }"), baseline(), candidate()), (Decision::Fail, 1));
    let skipped = verdict(&rule("{ non_inferior = 0.05 }"), baseline(), candidate());
    assert_eq!(skipped.not_judged[0].reason, "it takes 3 answers to a prompt, and these runs have at most 1");
}

/// The place of the bad prompt does not matter.
#[test]
fn an_absolute_bound_over_seeds_counts_prompts_from_the_commoner_end() {
    let rule = policy("[[metric]]\nid = \"empty_rate\"\nrequire = { at_most = 0.04 }\n");
    let seeds_with = |bad: usize| -> Vec<Run> {
        let of = |seed| run("b").seed("b", seed).with("empty_rate", (0..100).map(|i| f64::from(u8::from(i == bad))));
        (1..4).map(of).collect()
    };
    let found = |bad| {
        let baseline = vec![run("a").with("empty_rate", ones_first(0, 100))];
        decide(&rule, baseline, seeds_with(bad), DecideOptions::default()).unwrap().metrics.remove(0)
    };
    let (first, last) = (found(0), found(99));
    assert_eq!((first.verdict, last.verdict), (Decision::Inconclusive, Decision::Inconclusive));
    assert_eq!((first.ci_low, first.ci_high.unwrap() > 0.04), (Some(0.0), true), "{first:?}");
}

/// Equal arms without a bad answer: 133 prompts show 2 points (docs/ci.md), whatever the samples of each.
#[test]
fn the_needed_prompts_of_several_samples_are_no_fewer_than_decide() {
    let rule = policy("[[metric]]\nid = \"eos_rate\"\nrequire = { non_inferior = 0.02 }\n");
    let arm = |name: &str, n: usize| run(name).with_samples("eos_rate", (0..n).map(|_| vec![1.0; 2]));
    let at = |n: usize| verdict(&rule, arm("a", n), arm("b", n)).metrics.remove(0);
    let few = at(60);
    assert_eq!(few.verdict, Decision::Inconclusive);
    let needed = few.n_needed.unwrap();
    assert!((134..400).contains(&needed), "{needed}");
    assert!(few.power.unwrap() < 0.5, "{:?}", few.power);
    assert_eq!(at(needed).verdict, Decision::Pass);
    let bound = policy("[[metric]]\nid = \"loop_rate\"\nrequire = { at_most = 0.02 }\n");
    let arm = |name: &str, n: usize| run(name).with_samples("loop_rate", (0..n).map(|_| vec![0.0; 2]));
    let at = |n: usize| verdict(&bound, arm("a", n), arm("b", n)).metrics.remove(0);
    let few = at(60);
    assert_eq!(few.verdict, Decision::Inconclusive);
    assert_eq!(at(few.n_needed.unwrap()).verdict, Decision::Pass);
}

#[test]
fn equal_ids_of_other_slices_are_refused() {
    let other = |name: &str| {
        let mut run = run(name).with("loop_rate", ones_first(0, 300));
        let rows = run.measurements.rows().map(|row| Measurement { slice: "helpful_base".into(), ..row });
        run.measurements = rows.collect();
        run
    };
    let rule = policy("[[metric]]\nid = \"loop_rate\"\nrequire = { non_inferior = 0.05 }\n");
    let plain = run("a").with("loop_rate", ones_first(0, 300));
    let error = decide(&rule, vec![plain], vec![other("b")], DecideOptions::default()).unwrap_err();
    assert!(matches!(error, GateError::OtherSlices { .. }), "{error}");
    assert!(
        error.to_string().contains("is of slice `even` in the first and of `helpful_base` in the second"),
        "{error}"
    );
}

/// Only pass^k takes the samples of an arm's seeds together into one run.
#[test]
fn a_seed_without_the_metric_bars_a_verdict() {
    let seed = |arm: &str, seed, known: usize| {
        run(arm).seed(arm, seed).with("loop_rate", ones_first(0, 300)).with("eos_rate", ones_first(known, known))
    };
    let arm = |name: &str, known: [usize; 2]| vec![seed(name, 1, known[0]), seed(name, 2, known[1])];
    for known in [[300, 0], [0, 300]] {
        let policy = eos("{ non_inferior = 0.05 }");
        let found = decide(&policy, arm("a", [300, 300]), arm("b", known), DecideOptions::default()).unwrap();
        assert_eq!((found.verdict, found.metrics[0].n), (Decision::Inconclusive, 0));
        assert_eq!(
            found.metrics[0].reason,
            "EOS rate: 0 of 300 prompts have `eos_rate` in every run; the policy asks for at least 20"
        );
    }
}
