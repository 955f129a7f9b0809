//! Agreement with SciPy and statsmodels; `golden/generate.py` says how each value was made.

use approx::assert_relative_eq;
use serde_json::Value;
use smpo_stats::hierarchical::{self, Arm, Seeds};
use smpo_stats::survival::Observation;
use smpo_stats::{
    binary, bootstrap, distribution, equivalence, multiplicity, permutation, power, proportion, survival,
};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/golden.json")).expect("golden.json is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn cases(value: &Value) -> &Vec<Value> {
    value.as_array().expect("an array of cases")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is a number"))
}

#[track_caller]
fn close(got: f64, expected: f64, tolerance: f64) {
    assert_relative_eq!(got, expected, epsilon = tolerance, max_relative = tolerance);
}

#[test]
fn shares_agree_with_statsmodels() {
    for case in cases(&golden()["proportion"]) {
        let (x, n, level) = (number(case, "successes"), number(case, "n"), number(case, "confidence"));
        let wilson = proportion::wilson(x, n, level).unwrap();
        let exact = proportion::clopper_pearson(x as u64, n as u64, level).unwrap();
        let (expected_wilson, expected_exact) = (numbers(&case["wilson"]), numbers(&case["clopper_pearson"]));
        close(wilson.low, expected_wilson[0], 1e-10);
        close(wilson.high, expected_wilson[1], 1e-10);
        close(exact.low, expected_exact[0], 1e-9);
        close(exact.high, expected_exact[1], 1e-9);
    }
}

#[test]
fn paired_binary_agrees_with_statsmodels_and_the_likelihood() {
    for case in cases(&golden()["paired_binary"]) {
        let [both, only_first, only_second, neither] = numbers(&case["table"])[..] else { panic!("four cells") };
        let table = binary::PairedTable {
            both: both as u64,
            only_first: only_first as u64,
            only_second: only_second as u64,
            neither: neither as u64,
        };
        let test = binary::mcnemar(&table);
        close(test.exact, number(case, "exact"), 1e-12);
        close(test.mid_p, number(case, "mid_p"), 1e-12);
        close(test.second_smaller, number(case, "second_smaller"), 1e-12);
        let level = number(case, "confidence");
        let tango = binary::tango(only_first, only_second, table.n() as f64, level).unwrap();
        let expected = numbers(&case["tango"]);
        close(tango.low, expected[0], 2e-6); // the reference maximises numerically
        close(tango.high, expected[1], 2e-6);
        let newcombe = binary::newcombe(&table, level).unwrap();
        let expected = numbers(&case["newcombe"]);
        close(newcombe.low, expected[0], 1e-10);
        close(newcombe.high, expected[1], 1e-10);
    }
}

#[test]
fn the_bca_interval_is_scipys() {
    let golden = golden();
    let case = &golden["bootstrap"];
    let (values, replicates) = (numbers(&case["values"]), numbers(&case["replicates"]));
    let estimate = values.iter().sum::<f64>() / values.len() as f64;
    let a = bootstrap::acceleration(&values);
    close(a, number(case, "acceleration"), 1e-9);
    let interval = bootstrap::bca(estimate, &replicates, a, 0.95, bootstrap::Reach::Normal).unwrap();
    let expected = numbers(&case["bca"]);
    close(interval.low, expected[0], 1e-9);
    close(interval.high, expected[1], 1e-9);

    // Our own draws against SciPy's 200,000: equal up to Monte-Carlo error.
    let drawn = &bootstrap::means(&[&values], 100_000, 1).unwrap()[0];
    let own = bootstrap::bca(estimate, drawn, a, 0.95, bootstrap::Reach::Normal).unwrap();
    let scipy = numbers(&case["scipy_bca"]);
    let tolerance = 0.02 * number(case, "scipy_standard_error");
    assert!((own.low - scipy[0]).abs() < tolerance && (own.high - scipy[1]).abs() < tolerance, "{own:?} {scipy:?}");
}

#[test]
fn sign_flip_is_scipys_exact_permutation_test() {
    for case in cases(&golden()["sign_flip"]) {
        let test = permutation::sign_flip(&numbers(&case["differences"]), 10, 1).unwrap();
        assert!(test.exact);
        close(test.two_sided, number(case, "two_sided"), 1e-12);
        close(test.less, number(case, "less"), 1e-12);
        close(test.greater, number(case, "greater"), 1e-12);
    }
}

#[test]
fn adjusted_p_values_agree_with_statsmodels() {
    let golden = golden();
    let case = &golden["multiplicity"];
    let p = numbers(&case["p"]);
    for (got, expected) in
        [(multiplicity::holm(&p), numbers(&case["holm"])), (multiplicity::benjamini_hochberg(&p), numbers(&case["bh"]))]
    {
        for (got, expected) in got.iter().zip(expected) {
            close(*got, expected, 1e-12);
        }
    }
}

#[test]
fn survival_agrees_with_statsmodels_and_scipy() {
    let golden = golden();
    let case = &golden["survival"];
    let observations: Vec<Observation> = numbers(&case["time"])
        .into_iter()
        .zip(numbers(&case["ended"]))
        .map(|(time, ended)| Observation { time, ended: ended == 1.0 })
        .collect();
    let curve = survival::kaplan_meier(&observations).unwrap();
    let (times, share, error) = (numbers(&case["times"]), numbers(&case["survival"]), numbers(&case["standard_error"]));
    // statsmodels also lists times at which completions were only cut.
    for (index, time) in times.iter().enumerate() {
        close(curve.at(*time), share[index], 1e-12);
    }
    let (at_risk, ended) = (numbers(&case["at_risk"]), numbers(&case["ended_at"]));
    for step in &curve.steps {
        let index = times.iter().position(|t| *t == step.time).expect("statsmodels knows the time");
        close(step.standard_error, error[index], 1e-12);
        close(step.hazard, ended[index] / at_risk[index], 1e-12);
        assert_eq!(step.at_risk as f64, at_risk[index]);
    }
    let restricted = curve.restricted_mean(number(case, "horizon"));
    close(restricted.mean, number(case, "restricted_mean"), 1e-10);
    close(restricted.standard_error, number(case, "restricted_mean_se"), 1e-10);
    let (interval, expected) = (curve.interval_at(30.0, 0.95).unwrap(), numbers(&case["log_log_at_30"]));
    close(interval.low, expected[0], 1e-9);
    close(interval.high, expected[1], 1e-9);
}

#[test]
fn needed_prompts_agree_with_the_noncentral_t() {
    for case in cases(&golden()["paired_mean_n"]) {
        let got = power::paired_mean_n(number(case, "effect"), number(case, "alpha"), number(case, "power")).unwrap();
        let expected = number(case, "n");
        assert!((got as f64 - expected).abs() <= 1.0, "{got} vs {expected}");
    }
}

#[test]
fn students_distribution_agrees_with_scipy() {
    for case in cases(&golden()["student"]) {
        let df = number(case, "df");
        close(distribution::student_quantile(number(case, "p"), df), number(case, "quantile"), 1e-8);
        close(distribution::student_cdf(2.0, df), number(case, "cdf_at_2"), 1e-9);
    }
}

#[test]
fn variance_components_agree_with_statsmodels_anova() {
    let golden = golden();
    let case = &golden["hierarchical"];
    let cells: Vec<Vec<f64>> = cases(&case["cells"]).iter().map(numbers).collect();
    let zeros = vec![vec![0.0]; cells[0].len()];
    let arm = |rows: Vec<Vec<&'static [f64]>>| Arm { runs: rows };
    // Leaked on purpose: a test's few kilobytes, so that both arms can borrow from them.
    let cells: &'static [Vec<f64>] = cells.leak();
    let zeros: &'static [Vec<f64>] = zeros.leak();
    let candidate = arm(cells.iter().map(|row| row.iter().map(std::slice::from_ref).collect()).collect());
    let baseline = arm(cells.iter().map(|_| zeros.iter().map(Vec::as_slice).collect()).collect());
    let options = hierarchical::Options { confidence: 0.95, resamples: 2_000, seed: 1 };
    let got = hierarchical::compare(&baseline, &candidate, Seeds::Paired, options).unwrap();
    close(got.value, number(case, "value"), 1e-10);
    close(got.standard_error, number(case, "standard_error"), 1e-9);
    close(got.df, number(case, "df"), 1e-9);
    close(got.two_sided, number(case, "two_sided"), 1e-8);
    assert!(got.interval.contains(got.value));
}

#[test]
fn detectable_effects_agree_with_statsmodels_and_a_root_search() {
    let golden = golden();
    for case in cases(&golden["line_detectable"]) {
        let got = power::line_detectable(number(case, "standard_error"), number(case, "alpha"), number(case, "power"));
        close(got.unwrap(), number(case, "detectable"), 2e-5); // its solver stops there
    }
    for case in cases(&golden["mcnemar_detectable"]) {
        let (n, alpha) = (number(case, "n") as usize, number(case, "alpha"));
        let got = power::mcnemar_detectable(number(case, "discordant"), n, alpha, number(case, "power")).unwrap();
        close(got.expect("some effect is found"), number(case, "detectable"), 1e-9);
    }
    assert_eq!(power::mcnemar_detectable(0.1, 2, 0.05, 0.8).unwrap(), None, "two prompts find nothing");
}

#[test]
fn equivalence_agrees_with_statsmodels_and_the_likelihood() {
    let golden = golden();
    for case in cases(&golden["tost_paired"]) {
        let differences = numbers(&case["differences"]);
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let got = equivalence::student(mean, (variance / n).sqrt(), n - 1.0, number(case, "margin"));
        close(got.lower, number(case, "lower"), 1e-9);
        close(got.upper, number(case, "upper"), 1e-9);
        close(got.p(), number(case, "p"), 1e-9);
    }
    for case in cases(&golden["tost_tango"]) {
        let [both, only_first, only_second, neither] = numbers(&case["table"])[..] else { panic!("four cells") };
        let n = both + only_first + only_second + neither;
        let got = equivalence::tango(only_first, only_second, n, number(case, "margin"));
        close(got.lower, number(case, "lower"), 2e-6); // the reference maximises numerically
        close(got.upper, number(case, "upper"), 2e-6);
    }
}

#[test]
fn the_power_of_the_score_test_agrees_with_a_sum_over_tables() {
    for case in cases(&golden()["tango_power"]) {
        let (first_only, second_only) = (number(case, "first_only"), number(case, "second_only"));
        let (margin, alpha, n) = (number(case, "margin"), number(case, "alpha"), number(case, "n"));
        let got = power::tango_power(first_only, second_only, margin, n as usize, alpha).unwrap();
        // Beyond 150 expected discordant pairs the score is approximated by a normal variable.
        let tolerance = if (first_only + second_only) * n > 150.0 { 0.004 } else { 1e-9 };
        close(got, number(case, "power"), tolerance);
    }
}

#[test]
fn all_of_k_samples_is_a_draw_without_replacement() {
    for case in cases(&golden()["all_of"]) {
        let [good, n, k] = ["good", "n", "k"].map(|key| number(case, key) as usize);
        close(proportion::all_of(good, n, k).expect("enough samples"), number(case, "p"), 1e-12);
    }
    assert_eq!([proportion::all_of(1, 1, 2), proportion::all_of(1, 1, 0), proportion::all_of(2, 1, 1)], [None; 3]);
}
