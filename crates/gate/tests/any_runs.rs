//! Whatever two arms measured, `decide` answers without a panic, and its answer hangs together.

mod runs;

use proptest::prelude::*;
use runs::{Build, run};
use smpo_gate::{DecideOptions, GateError, Policy, Run, decide};
use smpo_results::{Decision, ExitCode, Verdict};

const METRICS: [&str; 4] = ["eos_rate", "loop_rate", "eos_logp_gold", "seq_rep_4"];

/// Values of one metric over prompts: shares or log-probs, none for some prompts, several for others.
fn column() -> impl Strategy<Value = Vec<Vec<f64>>> {
    let binary = prop_oneof![Just(0.0), Just(1.0)].boxed();
    let share = (0.0..=1.0f64).boxed();
    let wild = prop_oneof![(-1e6..1e6f64), Just(0.0), Just(-3.5)].boxed();
    prop_oneof![Just((binary.clone(), 1)), Just((binary, 4)), Just((share, 2)), Just((wild, 1))].prop_flat_map(
        |(value, k)| {
            let prompt = prop_oneof![9 => prop::collection::vec(value, 1..=k), 1 => Just(Vec::new())];
            prop::collection::vec(prompt, 0..25)
        },
    )
}

fn arm(name: &'static str) -> impl Strategy<Value = Vec<Run>> {
    let one = prop::collection::vec(prop::option::weighted(0.8, column()), METRICS.len());
    prop::collection::vec(one, 1..4).prop_map(move |seeds| {
        let build = |(seed, columns): (usize, Vec<Option<Vec<Vec<f64>>>>)| {
            let start = run(name).seed(name, seed as u64);
            METRICS.iter().zip(columns).filter_map(|(metric, column)| Some((metric, column?))).fold(
                start,
                |run, (metric, column)| {
                    // Shares must be shares, whatever was drawn.
                    let share = *metric != "eos_logp_gold";
                    let fit = |v: f64| if share { v.abs().clamp(0.0, 1.0) } else { v };
                    run.with_samples(metric, column.into_iter().map(|values| values.into_iter().map(fit).collect()))
                },
            )
        };
        seeds.into_iter().enumerate().map(build).collect()
    })
}

fn policy() -> Policy {
    let rules = [
        "id = \"eos_rate\"\nrequire = { non_inferior = 0.02 }",
        "id = \"loop_rate\"\nrequire = { superior = 0.1 }\nif_missing = \"skip\"",
        "id = \"eos_logp_gold\"\nrequire = { non_inferior = 0.5 }\nrole = \"secondary\"",
        "id = \"seq_rep_4\"\nrequire = { at_most = 0.3 }\nslice = \"odd\"",
        "id = \"eos_rate\"\nrequire = { at_least = 0.9 }\nrole = \"secondary\"",
        "id = \"loop_rate\"\nrequire = { non_inferior = 0.0 }\nrole = \"secondary\"",
    ];
    let text: String = rules.iter().map(|rule| format!("[[metric]]\n{rule}\n")).collect();
    Policy::parse("any", &format!("name = \"any\"\nmin_n = 5\nresamples = 1000\n{text}")).unwrap()
}

fn hangs_together(verdict: &Verdict) {
    let primary: Vec<Decision> = verdict.metrics.iter().filter(|m| m.primary).map(|m| m.verdict).collect();
    match verdict.verdict {
        Decision::Pass => assert!(!primary.is_empty() && primary.iter().all(|d| *d == Decision::Pass)),
        Decision::Fail => assert!(primary.contains(&Decision::Fail)),
        Decision::Inconclusive => assert!(!primary.contains(&Decision::Fail)),
    }
    assert_eq!(
        verdict.exit_code,
        match verdict.verdict {
            Decision::Pass => ExitCode::Pass,
            Decision::Fail => ExitCode::Fail,
            Decision::Inconclusive => ExitCode::Inconclusive,
        }
    );
    for row in &verdict.metrics {
        assert!(!row.reason.is_empty());
        if row.verdict == Decision::Pass {
            assert!(row.n >= 5);
        }
        if row.verdict == Decision::Fail {
            assert!(row.p_harm.unwrap() <= verdict.alpha);
        }
        let shown = [row.ci_low, row.ci_high, row.difference, row.p, row.p_harm, row.power, row.candidate];
        assert!(shown.iter().flatten().all(|v| v.is_finite()), "{row:?}");
        if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
            assert!(low <= high);
        }
        assert!([row.p, row.p_harm, row.power].iter().flatten().all(|p| (0.0..=1.0).contains(p)), "{row:?}");
    }
    let text = serde_json::to_string(verdict).unwrap();
    assert_eq!(&serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn an_answer_or_a_reason(baseline in arm("a"), candidate in arm("b")) {
        match decide(&policy(), baseline, candidate, DecideOptions::default()) {
            Ok(verdict) => hangs_together(&verdict),
            Err(error) => prop_assert!(matches!(error, GateError::NoOverlap { .. }), "{error}"),
        }
    }
}
