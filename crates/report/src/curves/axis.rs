//! Ticks of an axis.

/// Largest number of tick intervals.
const TICKS: f64 = 5.0;

/// Ticks at multiples of 1, 2 or 5 times a power of ten that cover `low..=high`, in ascending order.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
    let power = 10f64.powf((span / TICKS).log10().floor());
    let width = [1.0, 2.0, 5.0, 10.0].into_iter().map(|unit| unit * power).find(|width| span / width <= TICKS);
    let width = width.unwrap_or(span);
    let (first, last) = ((low / width).floor(), (high / width).ceil().max((low / width).floor() + 1.0));
    (0..=(last - first) as usize).map(|index| (first + index as f64) * width).collect()
}

/// Label of a tick: the digits that distinguish neighbours `width` apart, thousands shortened.
pub(super) fn label(value: f64, width: f64) -> String {
    if value != 0.0 && !(1e-3..1e7).contains(&value.abs()) {
        // as many digits as tell it from its neighbour
        let digits = (value.abs().log10().floor() - width.abs().log10().floor()).clamp(0.0, 6.0) as usize;
        return format!("{value:.digits$e}").replacen('-', "−", usize::from(value < 0.0));
    }
    if value.abs() >= 10_000.0 {
        return format!("{}k", trimmed(value / 1000.0, width / 1000.0));
    }
    trimmed(value, width)
}

fn trimmed(value: f64, width: f64) -> String {
    let decimals = (-width.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    // −0 is 0
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        "0".to_owned()
    } else {
        text.replace('-', "−")
    }
}

/// A figure in a legend.
pub(super) fn figure(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(ticks(0.0, 100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(-3.2, 0.4), [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0]);
        for (low, high) in [(0.1, 0.11), (5.0, 5.0), (0.0, 0.0), (-1e-7, 1e-7), (1e9, 3e9)] {
            let ticks = ticks(low, high);
            assert!(ticks.len() >= 2 && ticks.len() <= 8, "{low}..{high}: {ticks:?}");
            assert!(ticks[0] <= low && *ticks.last().unwrap() >= high, "{low}..{high}: {ticks:?}");
        }
    }

    #[test]
    fn labels_have_the_digits_that_matter() {
        assert_eq!(label(0.25, 0.05), "0.25");
        assert_eq!(label(-4.0, 1.0), "−4");
        assert_eq!(label(-0.0, 1.0), "0");
        assert_eq!(label(20_000.0, 5_000.0), "20k");
        assert_eq!(label(2e-5, 1e-5), "2e-5");
        assert_eq!([1e-5, 1.5e-5, 2e-5].map(|rate| label(rate, 5e-6)), ["1.0e-5", "1.5e-5", "2.0e-5"]);
        assert_eq!(label(1.5e10, 5e9), "1.5e10");
        assert_eq!(label(-2e-5, 1e-5), "−2e-5");
    }
}
