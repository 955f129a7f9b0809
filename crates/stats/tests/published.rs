//! Worked examples from the papers that the functions cite.

use smpo_stats::binary::{PairedTable, mcnemar, newcombe, tango};
use smpo_stats::power::{line_n, line_power, mcnemar_n, mcnemar_power, tango_n, tango_power};
use smpo_stats::proportion::wilson;

#[track_caller]
fn rounds_to(got: f64, expected: f64, decimals: i32) {
    let scale = 10f64.powi(decimals);
    assert_eq!((got * scale).round(), (expected * scale).round(), "{got} does not round to {expected}");
}

/// Newcombe 1998, Stat Med 17:857, table I, method 3.
#[test]
fn wilson_as_printed_by_newcombe() {
    for (successes, n, low, high) in [
        (81.0, 263.0, 0.2553, 0.3662),
        (15.0, 148.0, 0.0624, 0.1605),
        (0.0, 20.0, 0.0, 0.1611),
        (1.0, 29.0, 0.0061, 0.1718),
    ] {
        let interval = wilson(successes, n, 0.95).unwrap();
        rounds_to(interval.low, low, 4);
        rounds_to(interval.high, high, 4);
    }
}

/// Airway hyper-responsiveness before and after a transplantation: the example of Fagerland, Lydersen & Laake
/// (2013, BMC Med Res Methodol 13:91; 2014, Stat Med 33:2850).
#[test]
fn the_airway_example() {
    let table = PairedTable { both: 1, only_first: 1, only_second: 7, neither: 12 };
    let test = mcnemar(&table);
    rounds_to(test.exact, 0.070, 3);
    rounds_to(test.mid_p, 0.039, 3);
    let score = tango(1.0, 7.0, 21.0, 0.95).unwrap();
    rounds_to(score.low, 0.026, 3);
    rounds_to(score.high, 0.517, 3);
    let squared = newcombe(&table, 0.95).unwrap();
    rounds_to(squared.low, 0.026, 3);
    rounds_to(squared.high, 0.507, 3);
}

/// Termination from 5 % to 1 % and from 2.5 % to 1 %, most survivors shared: 243 and 870 prompts at a
/// two-sided 5 % and 80 % power; non-inferiority by 2 points at a one-sided 5 %, 309 and 773.
#[test]
fn the_sample_sizes_that_the_documentation_quotes() {
    assert_eq!(mcnemar_n(0.045, 0.005, 0.025, 0.8).unwrap(), 243);
    assert_eq!(mcnemar_n(0.020, 0.005, 0.025, 0.8).unwrap(), 870);
    assert_eq!(line_n(0.02, 0.02, 0.05, 0.8).unwrap(), 310); // 309.1: 309 falls short by a hair
    assert_eq!(line_n(0.05, 0.02, 0.05, 0.8).unwrap(), 773);
    let power = mcnemar_power(0.045, 0.005, 243, 0.025).unwrap();
    assert!((0.8..0.802).contains(&power), "{power}");
    let power = line_power((0.05_f64 / 773.0).sqrt(), 0.02, 0.05).unwrap();
    assert!((0.8..0.801).contains(&power), "{power}");
}

/// No discordant pair: the score interval has the closed form z² / (n + z²).
#[test]
fn all_ties_still_leave_doubt() {
    let z2 = 1.959_963_984_540_054_f64.powi(2);
    for n in [1.0, 10.0, 240.0] {
        let interval = tango(0.0, 0.0, n, 0.95).unwrap();
        assert!((interval.high - z2 / (n + z2)).abs() < 1e-9);
        assert!((interval.low + z2 / (n + z2)).abs() < 1e-9);
    }
}

/// Summed over all tables, the power is what counting the tables one by one gives; and the normal approximation
/// that takes over for many discordant pairs meets it.
#[test]
fn the_power_of_the_score_test_is_exact_where_it_matters() {
    // n = 4, one discordant cell of probability ½: by hand over 5 tables
    let shown = |b: u64| smpo_stats::binary::tango_z(b as f64, 0.0, 4.0, -0.5) > 1.281_551_565_544_6;
    let by_hand: f64 =
        [1.0, 4.0, 6.0, 4.0, 1.0].iter().zip(0..).filter(|(_, b)| shown(*b)).map(|(ways, _)| ways / 16.0).sum();
    assert!((tango_power(0.5, 0.0, 0.5, 4, 0.1).unwrap() - by_hand).abs() < 1e-12);
    for (p, margin, n) in [(0.05, 0.02, 1_400), (0.07, 0.03, 1_000)] {
        let sum = tango_power(p, p, margin, n, 0.05).unwrap();
        let approximate = tango_power(p, p, margin, n + 100, 0.05).unwrap();
        assert!((sum - approximate).abs() < 0.03, "{sum} {approximate}");
    }
    let n = tango_n(0.01, 0.01, 0.02, 0.05, 0.8).unwrap().unwrap();
    let (just, below) =
        (tango_power(0.01, 0.01, 0.02, n, 0.05).unwrap(), tango_power(0.01, 0.01, 0.02, n - 1, 0.05).unwrap());
    assert!(just >= 0.8 && below < 0.8, "{n}: {below} {just}");
    assert!((330..450).contains(&n), "{n}");
    assert_eq!(tango_n(0.05, 0.01, 0.04, 0.05, 0.8).unwrap(), None);
}

/// The table of prompts in docs/ci.md, row by row.
#[test]
fn the_table_of_prompts_in_the_documentation() {
    let table = [
        (0.01, [268, 804, 1_354, 3_162, 6_215]),
        (0.02, [133, 255, 401, 819, 1_578]),
        (0.03, [88, 147, 206, 380, 705]),
        (0.05, [52, 87, 101, 158, 263]),
        (0.10, [25, 25, 42, 49, 77]),
    ];
    for (margin, row) in table {
        for (discordant, expected) in [0.0, 0.01, 0.02, 0.05, 0.10].into_iter().zip(row) {
            let half = discordant / 2.0;
            assert_eq!(tango_n(half, half, margin, 0.05, 0.8).unwrap(), Some(expected), "{margin} {discordant}");
        }
    }
    assert_eq!(line_n(1.5 * 1.5, 0.5, 0.05, 0.8).unwrap(), 56);
}
