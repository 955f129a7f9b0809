//! Properties for any input: no panic, intervals around estimates, symmetry, bytes without threads.

use proptest::prelude::*;
use smpo_stats::binary::{PairedTable, mcnemar, newcombe, tango, tango_z};
use smpo_stats::hierarchical::{self, Arm, Options, Seeds};
use smpo_stats::proportion::{clopper_pearson, wilson};
use smpo_stats::survival::{Observation, kaplan_meier};
use smpo_stats::{StatsError, bootstrap, multiplicity, permutation, power};

fn table() -> impl Strategy<Value = PairedTable> {
    (0u64..60, 0u64..60, 0u64..60, 0u64..60).prop_filter_map(
        "at least one pair",
        |(both, only_first, only_second, neither)| {
            (both + only_first + only_second + neither > 0).then_some(PairedTable {
                both,
                only_first,
                only_second,
                neither,
            })
        },
    )
}

#[test]
fn the_score_statistic_at_the_edges_of_its_range() {
    // no discordant pair and no difference; then differences that no table has, and one that this table has
    assert_eq!(tango_z(0.0, 0.0, 10.0, 0.0), 0.0);
    assert_eq!(tango_z(1.0, 2.0, 10.0, 1.0), f64::NEG_INFINITY);
    assert_eq!(tango_z(2.0, 1.0, 10.0, -1.0), f64::INFINITY);
    assert_eq!(tango_z(0.0, 10.0, 10.0, 1.0), 0.0);
}

proptest! {
    #[test]
    fn pairs_are_counted_by_their_kind(table in table()) {
        let kinds = [(true, true), (true, false), (false, true), (false, false)];
        let counts = [table.both, table.only_first, table.only_second, table.neither];
        let pairs = kinds.into_iter().zip(counts).flat_map(|(pair, count)| std::iter::repeat_n(pair, count as usize));
        prop_assert_eq!(PairedTable::from_pairs(pairs), table);
    }

    #[test]
    fn swapping_the_arms_mirrors_everything(table in table(), confidence in 0.5..0.999) {
        let swapped = PairedTable { only_first: table.only_second, only_second: table.only_first, ..table };
        let n = table.n() as f64;
        let (b, c) = (table.only_first as f64, table.only_second as f64);
        let (score, mirrored) = (tango(b, c, n, confidence).unwrap(), tango(c, b, n, confidence).unwrap());
        prop_assert!((score.low + mirrored.high).abs() < 1e-9 && (score.high + mirrored.low).abs() < 1e-9);
        prop_assert!(score.low <= table.difference() + 1e-12 && table.difference() <= score.high + 1e-12);
        let square = newcombe(&table, confidence).unwrap();
        prop_assert!(square.low <= table.difference() + 1e-12 && table.difference() <= square.high + 1e-12);
        prop_assert!(-1.0 - 1e-12 <= square.low && square.high <= 1.0 + 1e-12);
        let (test, other) = (mcnemar(&table), mcnemar(&swapped));
        prop_assert_eq!(test.mid_p, other.mid_p);
        prop_assert!((test.second_smaller - other.second_larger).abs() < 1e-12);
        prop_assert!(test.mid_p <= test.exact + 1e-12 && test.exact <= 1.0 && test.mid_p >= 0.0);
    }

    #[test]
    fn the_score_statistic_is_z_at_both_ends(table in table(), confidence in 0.5..0.99) {
        let (b, c, n) = (table.only_first as f64, table.only_second as f64, table.n() as f64);
        let interval = tango(b, c, n, confidence).unwrap();
        let z = smpo_stats::distribution::normal_critical(confidence);
        for (end, side) in [(interval.low, 1.0), (interval.high, -1.0)] {
            if end.abs() < 1.0 - 1e-9 {
                let slope = (smpo_stats::binary::tango_z(b, c, n, end + 1e-7) - smpo_stats::binary::tango_z(b, c, n, end - 1e-7)).abs();
                prop_assert!((smpo_stats::binary::tango_z(b, c, n, end) - side * z).abs() <= 1e-6 + slope);
            }
        }
    }

    #[test]
    fn single_arm_intervals_hold_the_observed_share(x in 0u64..40, extra in 0u64..40) {
        let n = x + extra.max(1);
        let (score, exact) = (wilson(x as f64, n as f64, 0.95).unwrap(), clopper_pearson(x, n, 0.95).unwrap());
        let share = x as f64 / n as f64;
        prop_assert!(score.contains(share) && exact.contains(share));
        prop_assert!(0.0 <= exact.low && exact.high <= 1.0 && 0.0 <= score.low && score.high <= 1.0);
    }

    #[test]
    fn intervals_survive_any_finite_values(values in prop::collection::vec(-1e6..1e6f64, 2..40), reach in any::<bool>()) {
        let replicates = &bootstrap::means(&[&values], 200, 3).unwrap()[0];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let reach = if reach { bootstrap::Reach::Expanded { n: values.len() } } else { bootstrap::Reach::Normal };
        let interval = bootstrap::bca(mean, replicates, bootstrap::acceleration(&values), 0.95, reach).unwrap();
        prop_assert!(interval.low <= interval.high);
        let test = permutation::sign_flip(&values, 200, 3).unwrap();
        for p in [test.two_sided, test.less, test.greater] {
            prop_assert!(0.0 < p && p <= 1.0);
        }
    }

    #[test]
    fn adjusting_never_lowers_a_p_value(p in prop::collection::vec(0.0..1.0f64, 0..20)) {
        let (holm, bh) = (multiplicity::holm(&p), multiplicity::benjamini_hochberg(&p));
        for i in 0..p.len() {
            prop_assert!(p[i] <= bh[i] + 1e-15 && bh[i] <= holm[i] + 1e-15 && holm[i] <= 1.0);
        }
    }

    #[test]
    fn survival_falls_and_the_restricted_mean_without_cuts_is_the_mean(
        times in prop::collection::vec(1u32..50, 1..60), cut in prop::collection::vec(any::<bool>(), 60),
    ) {
        let cut_some: Vec<_> = times.iter().zip(&cut).map(|(t, c)| Observation { time: f64::from(*t), ended: !c }).collect();
        let curve = kaplan_meier(&cut_some).unwrap();
        prop_assert!(curve.steps.windows(2).all(|w| w[0].survival >= w[1].survival && w[0].time < w[1].time));
        let ended: Vec<_> = times.iter().map(|t| Observation { time: f64::from(*t), ended: true }).collect();
        let mean = times.iter().map(|t| f64::from(*t)).sum::<f64>() / times.len() as f64;
        prop_assert!((kaplan_meier(&ended).unwrap().restricted_mean(100.0).mean - mean).abs() < 1e-9);
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let values: Vec<f64> = (0..700).map(|i| f64::from((i * 7919) % 1000) / 997.0 - 0.45).collect();
    let other: Vec<f64> = values.iter().map(|v| v * v).collect();
    let many: Vec<f64> = values.iter().cycle().take(20_000).copied().collect();
    let runs: Vec<Vec<&[f64]>> = (0..3).map(|s| values[s * 200..s * 200 + 200].chunks(2).collect()).collect();
    let all = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut means = bootstrap::means(&[&values, &other], 500, 11).unwrap();
            means.extend(bootstrap::means(&[&many], 70, 11).unwrap());
            let test = permutation::sign_flip(&values, 500, 11).unwrap();
            let arm = Arm { runs: runs.clone() };
            let shifted = Arm { runs: runs.iter().rev().cloned().collect() };
            let options = Options { confidence: 0.9, resamples: 300, seed: 11 };
            let seeds = hierarchical::compare(&arm, &shifted, Seeds::Independent, options).unwrap();
            format!("{:?} {test:?} {seeds:?}", means.iter().flatten().map(|m| m.to_bits()).collect::<Vec<_>>())
        })
    };
    let one = all(1);
    assert_eq!(one, all(2));
    assert_eq!(one, all(7));
}

#[test]
fn many_prompts_are_drawn_in_blocks_and_all_alike() {
    // The last block is short; each share of prompts is drawn as often as it is there, from one block or across several.
    let (n, resamples) = (20_011, 3_000);
    let share = |of: &dyn Fn(usize) -> bool| (0..n).map(|i| f64::from(u8::from(of(i)))).collect::<Vec<_>>();
    let shares = [
        share(&|_| true),
        share(&|i| i >= 16_384),
        share(&|i| i < 100),
        share(&|i| (8_000..8_400).contains(&i)),
        share(&|i| i % 2 == 0),
    ];
    let means = bootstrap::means(&shares.each_ref().map(Vec::as_slice), resamples, 5).unwrap();
    assert!(means[0].iter().all(|mean| *mean == 1.0));
    for (share, means) in shares.iter().zip(&means).skip(1) {
        let (p, size) = (share.iter().sum::<f64>() / n as f64, resamples as f64);
        let (mean, variance) = (means.iter().sum::<f64>() / size, p * (1.0 - p) / n as f64);
        let spread = means.iter().map(|m| (m - p) * (m - p)).sum::<f64>() / size;
        assert!((mean - p).abs() < 4.0 * (variance / size).sqrt(), "{p}: {mean}");
        assert!((spread / variance - 1.0).abs() < 4.0 * (2.0 / size).sqrt(), "{p}: {spread} for {variance}");
    }
}

#[test]
fn every_bit_of_the_seed_changes_what_is_drawn() {
    // Signs of twenty differences in four orders: one order's p value has too few steps to tell the seeds apart.
    let mut differences: Vec<f64> = (0..20).map(|i| f64::from(i) - 8.5).collect();
    let orders: [Vec<f64>; 4] = std::array::from_fn(|_| {
        differences.rotate_left(3);
        differences.clone()
    });
    // One prompt is far above the others: the replicates decide the upper end of the interval.
    let skewed: Vec<f64> = (0..20).map(|i| if i == 7 { 1.0 } else { 1e-6 * f64::from(i * i) }).collect();
    let run: Vec<&[f64]> = skewed.chunks(1).collect();
    let mut drawn = [const { std::collections::BTreeSet::new() }; 3];
    let seeds: Vec<u64> = std::iter::once(0).chain((0..64).map(|bit| 1 << bit)).collect();
    for &seed in &seeds {
        let means = bootstrap::means(&[&skewed], 20, seed).unwrap().concat();
        let flipped = orders.iter().map(|order| permutation::sign_flip(order, 200, seed).unwrap().less).collect();
        let options = Options { confidence: 0.9, resamples: 1_000, seed };
        let high = hierarchical::mean(&Arm { runs: vec![run.clone()] }, options).unwrap().interval.high;
        for (set, numbers) in drawn.iter_mut().zip([means, flipped, vec![high]]) {
            set.insert(numbers.iter().map(|number| number.to_bits()).collect::<Vec<u64>>());
        }
    }
    assert_eq!(drawn.map(|set| set.len()), [seeds.len(); 3], "means, signs, intervals over seeds");
}

#[test]
fn columns_share_the_drawn_prompts() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i) * 0.25).collect();
    let columns: Vec<&[f64]> = vec![&values; 6]; // more than one group of lanes
    let means = bootstrap::means(&columns, 50, 1).unwrap();
    assert!(means.iter().all(|column| *column == means[0]));
}

#[test]
fn bad_numbers_are_named() {
    assert_eq!(
        bootstrap::means(&[&[1.0]], 10, 0),
        Err(StatsError::TooFew { what: "the bootstrap", expected: 2, got: 1 })
    );
    let nan = bootstrap::means(&[&[1.0, f64::NAN]], 10, 0).unwrap_err();
    assert_eq!(nan.to_string(), "values: expected a finite number, got NaN");
    assert!(permutation::sign_flip(&[f64::INFINITY], 10, 0).is_err());
    assert!(wilson(1.0, 0.0, 0.95).is_err());
    assert!(wilson(2.0, 1.0, 0.95).is_err());
    assert!(tango(3.0, 3.0, 5.0, 0.95).is_err());
    assert!(tango(0.0, 0.0, 0.0, 0.95).is_err());
    assert!(newcombe(&PairedTable::default(), 0.95).is_err());
    assert!(kaplan_meier(&[]).is_err());
    assert!(power::line_n(1.0, 0.0, 0.05, 0.8).is_err());
    assert!(power::mcnemar_n(0.9, 0.2, 0.05, 0.8).is_err());
    assert!(wilson(1.0, 2.0, 1.0).is_err());
}

#[test]
fn ties_everywhere_reject_nothing() {
    let test = permutation::sign_flip(&[0.0; 30], 100, 1).unwrap();
    assert_eq!((test.two_sided, test.less, test.greater), (1.0, 1.0, 1.0));
    let replicates = &bootstrap::means(&[&[0.0; 30]], 100, 1).unwrap()[0];
    let interval = bootstrap::bca(0.0, replicates, 0.0, 0.95, bootstrap::Reach::Normal).unwrap();
    assert_eq!((interval.low, interval.high), (0.0, 0.0));
}
