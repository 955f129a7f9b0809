//! Policies: the shipped ones, and refusals of invalid ones.

mod runs;

use runs::{Build, ones_first, run};
use smpo_gate::policy::{IfMissing, Role, SHIPPED, shipped_names};
use smpo_gate::{DecideOptions, GateError, Policy, decide};
use smpo_results::Decision;

fn refusal(text: &str) -> String {
    Policy::parse("my.toml", text).unwrap_err().to_string()
}

const RULE: &str = "[[metric]]\nid = \"eos_rate\"\nrequire = { non_inferior = 0.02 }\n";

#[test]
fn every_shipped_policy_loads_and_names_known_metrics() {
    for (name, _) in SHIPPED {
        let policy = Policy::load(name).unwrap();
        assert_eq!(policy.name, *name);
        assert!(!policy.description.is_empty());
        for rule in &policy.rules {
            assert!(smpo_metrics::find(&rule.metric).is_some(), "{name}: {}", rule.metric);
        }
    }
}

#[test]
fn every_shipped_policy_is_documented() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ci.md")).unwrap();
    for name in shipped_names() {
        assert!(text.contains(&format!("\n| `{name}` |")), "docs/ci.md: no row for the policy `{name}`");
    }
}

/// A policy is shipped by its file and its name in `SHIPPED`.
#[test]
fn every_policy_of_the_directory_is_shipped() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../evals/gates");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort_unstable();
    let mut shipped = shipped_names();
    shipped.sort_unstable();
    assert_eq!(files, shipped, "files of evals/gates (left), SHIPPED of crates/gate/src/policy.rs (right)");
}

/// All answers end and no two need be alike: the rule on terse answers alone sees that few words are left of them.
#[test]
fn a_model_that_is_left_with_a_few_words_fails_every_policy_for_real_models() {
    let model = |name: &str, terse: usize| {
        ["loop_rate", "broken_rate", "runaway_rate", "empty_rate", "same_answer", "self_talk_rate", "seq_rep_4"]
            .iter()
            .fold(run(name), |run, metric| run.with(metric, ones_first(0, 600)))
            .with("eos_rate", ones_first(600, 600))
            .with("terse_rate", ones_first(terse, 600))
    };
    for name in ["default", "strict", "smoke"] {
        let policy = Policy::load(name).unwrap();
        let verdict = |terse| {
            decide(&policy, vec![model("before", 20)], vec![model("after", terse)], DecideOptions::default()).unwrap()
        };
        let collapsed = verdict(270);
        assert_eq!(collapsed.verdict, Decision::Fail, "{name}");
        let failed = collapsed.metrics.iter().filter(|metric| metric.verdict == Decision::Fail);
        assert_eq!(failed.map(|metric| metric.metric.as_str()).collect::<Vec<_>>(), ["terse_rate"], "{name}");
        assert_eq!(verdict(20).verdict, Decision::Pass, "{name}");
    }
}

/// The arms of the tiny-model experiment as the prototype saw them: only the candidate that keeps its terminator passes.
#[test]
fn the_demo_policy_passes_modified_against_regular_and_fails_the_reverse() {
    let noise = |i: usize| ((i * 7919) % 1000) as f64 / 500.0 - 1.0;
    let arm = |name: &str, gold: f64, finished, salt: usize| {
        run(name)
            .with("eos_logp_gold", (0..240).map(|i| gold + noise(i + salt)))
            .with("eos_rate", ones_first(finished, 240))
            .with("pref_accuracy", ones_first(239, 240))
            .with("loop_rate", ones_first(240 - finished, 240))
    };
    let policy = Policy::load("demo").unwrap();
    let (regular, modified) = (|| arm("regular", -6.66, 216, 3), || arm("modified", -0.65, 239, 11));
    let answer = |a, b| decide(&policy, vec![a], vec![b], DecideOptions::default()).unwrap().verdict;
    assert_eq!(answer(regular(), modified()), Decision::Pass);
    assert_eq!(answer(modified(), regular()), Decision::Fail);
}

#[test]
fn a_misspelt_field_is_met_with_its_line_and_the_right_name() {
    let text = refusal(&format!("name = \"x\"\nalhpa = 0.05\n{RULE}"));
    assert!(
        text.starts_with("my.toml:2: unknown field `alhpa`") && text.ends_with("(did you mean `alpha`?)"),
        "{text}"
    );
    let text = refusal(&format!("name = \"x\"\n{}", RULE.replace("non_inferior", "noninferior")));
    assert!(
        text.starts_with("my.toml:4: unknown variant `noninferior`")
            && text.ends_with("(did you mean `non_inferior`?)"),
        "{text}"
    );
    let text = refusal(&format!("name = \"x\"\n{RULE}role = \"primry\"\n"));
    assert!(text.contains("did you mean `primary`"), "{text}");
}

#[test]
fn values_out_of_range_are_named() {
    for (text, expected) in [
        (format!("name = \"x\"\nalpha = 0.7\n{RULE}"), "my.toml:2: alpha: expected above 0 and below 0.5, got 0.7"),
        (format!("name = \"x\"\nresamples = 10\n{RULE}"), "my.toml:2: resamples: expected 1000 to 1000000, got 10"),
        (format!("name = \"x\"\nalpha = 0.5\n{RULE}"), "my.toml:2: alpha: expected above 0 and below 0.5, got 0.5"),
        (format!("name = \"x\"\nalpha = 0.0\n{RULE}"), "my.toml:2: alpha: expected above 0 and below 0.5, got 0"),
        (format!("name = \"x\"\npower = 0.5\n{RULE}"), "my.toml:2: power: expected above 0.5 and below 1, got 0.5"),
        (format!("name = \"x\"\npower = 1.0\n{RULE}"), "my.toml:2: power: expected above 0.5 and below 1, got 1"),
        (format!("name = \"x\"\nresamples = 999\n{RULE}"), "my.toml:2: resamples: expected 1000 to 1000000, got 999"),
        (
            format!("name = \"x\"\n{RULE}max_unpaired = 1.5\n"),
            "my.toml: max_unpaired of `eos_rate` on slice `all`: expected a share from 0 to 1, got 1.5",
        ),
        (
            format!("name = \"x\"\n{RULE}min_n = 1\n"),
            "my.toml: min_n of `eos_rate` on slice `all`: expected at least 2, got 1",
        ),
        (
            format!("name = \"x\"\n{}", RULE.replace("0.02", "-0.02")),
            "my.toml: require of `eos_rate` on slice `all`: expected a margin of at least 0, got -0.02",
        ),
        (
            format!("name = \"x\"\n{RULE}role = \"secondary\"\n"),
            "my.toml: metric: expected at least one rule with role = \"primary\", got none",
        ),
        (
            format!("name = \"x\"\n{RULE}pass_k = 1\n"),
            "my.toml: pass_k of `eos_rate` on slice `all`: expected at least 2 samples that must all be good, got 1",
        ),
        (
            format!("name = \"x\"\n{RULE}pass_k = 2\n").replace("eos_rate", "seq_rep_4"),
            "my.toml: pass_k of `seq_rep_4` on slice `all`: expected a metric of the catalogue whose samples are good or \
             bad, as `eos_rate`, got seq_rep_4",
        ),
        (
            format!("name = \"x\"\n{RULE}{RULE}"),
            "my.toml: rule of `eos_rate` on slice `all`: expected one of a kind, got two",
        ),
    ] {
        assert_eq!(refusal(&text), expected);
    }
    let taken = format!("name = \"x\"\nresamples = 1000\n{RULE}min_n = 2\nmax_unpaired = 1.0\npass_k = 2\n");
    assert!(Policy::parse("my.toml", &taken).is_ok());
    assert!(refusal("name = \"x\"\nmetric = []\n").contains("at least one rule"));
    assert!(refusal("name = ").starts_with("my.toml:1: "));
    assert!(refusal("").contains("missing field"));
}

/// A percentage in place of a share makes a rule that no data can break: 2 is 200 points.
#[test]
fn a_requirement_that_decides_nothing_is_refused_with_the_reason() {
    let rule = |id: &str, require: &str| {
        let text = format!("name = \"x\"\n[[metric]]\nid = \"{id}\"\nrequire = {require}\n");
        Policy::parse("my.toml", &text).map(|policy| policy.rules[0].require.value()).map_err(|e| e.to_string())
    };
    for (id, require, because) in [
        ("loop_rate", "{ non_inferior = 2 }", "0.02 is 2 points"),
        ("loop_rate", "{ non_inferior = 1.0 }", "0.02 is 2 points"),
        ("eos_rate", "{ superior = 5 }", "0.02 is 2 points"),
        ("eos_rate", "{ equivalent = 2 }", "0.02 is 2 points"),
        ("eos_rate", "{ equivalent = 0 }", "no number of prompts shows that two arms are equal"),
        ("loop_rate", "{ at_most = 2 }", "could never fail"),
        ("loop_rate", "{ at_most = 0 }", "no number of prompts"),
        ("eos_rate", "{ at_least = 97 }", "0.97 is 97 %"),
        ("eos_rate", "{ at_least = 1 }", "No number of prompts"),
        ("eos_rate", "{ at_least = 0 }", "could never fail"),
        ("eos_rate", "{ at_least = nan }", "a finite number"),
        ("eos_logp_gold", "{ non_inferior = \"2 %\" }", "per cent and points are for shares"),
        ("eos_rate", "{ non_inferior = \"two\" }", "expected a number, \"2 %\" or \"2 points\""),
        ("eos_rate", "{ non_inferior = \"200 %\" }", "0.02 is 2 points"),
    ] {
        let error = rule(id, require).expect_err(require);
        assert!(error.contains(because), "{require}: {error}");
    }
    for (id, require, value) in [
        ("eos_rate", "{ non_inferior = \"2 points\" }", 0.02),
        ("eos_rate", "{ non_inferior = \"1 point\" }", 0.01),
        ("eos_rate", "{ at_least = \"97.5%\" }", 0.975),
        ("eos_rate", "{ non_inferior = 0 }", 0.0),
        ("eos_logp_gold", "{ non_inferior = 2 }", 2.0),
        ("length", "{ at_most = 300 }", 300.0),
    ] {
        assert_eq!(rule(id, require), Ok(value), "{require}");
    }
    let both = "[[metric]]\nid = \"eos_rate\"\nrequire = { at_least = 0.9 }\n[[metric]]\nid = \"eos_rate\"\nrequire = { at_most = 0.5 }\n";
    let text = refusal(&format!("name = \"x\"\n{both}"));
    assert!(text.ends_with("expected bounds that some value meets, got 0.9 and 0.5"), "{text}");
    let one_value = both.replace("0.9", "0.5");
    assert!(Policy::parse("my.toml", &format!("name = \"x\"\n{one_value}")).is_ok());
}

#[test]
fn a_policy_that_says_little_has_defaults() {
    let policy = Policy::parse("my.toml", &format!("name = \"x\"\n{RULE}")).unwrap();
    assert_eq!((policy.alpha, policy.power, policy.resamples), (0.05, 0.8, 10_000));
    let rule = &policy.rules[0];
    assert_eq!((rule.min_n, rule.max_unpaired, rule.slice.as_str()), (50, 0.05, "all"));
    assert_eq!((rule.role, rule.if_missing), (Role::Primary, IfMissing::Inconclusive));
}

#[test]
fn an_unknown_policy_is_met_with_the_shipped_names() {
    let text = Policy::load("strikt").unwrap_err().to_string();
    let names = shipped_names().join(", ");
    assert_eq!(text, format!("no policy `strikt`: expected a file or one of {names} (did you mean `strict`?)"));
    // What is there and cannot be read is no unknown name.
    let directory = tempfile::tempdir().unwrap();
    let error = Policy::load(directory.path().to_str().unwrap()).unwrap_err();
    assert!(matches!(error, GateError::Results(_)), "{error}");
}
