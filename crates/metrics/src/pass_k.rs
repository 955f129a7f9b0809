//! pass^k: the probability that all of k samples of a prompt are good, for a metric whose samples are good or bad. Its id is
//! the metric's with the exponent, `eos_rate^4`; it is a share, and higher is better whatever the metric's direction.

use smpo_results::Direction;
use smpo_stats::proportion::all_of;

use crate::MetricInfo;
use crate::metric::find;

/// The id of pass^k of a metric.
pub fn id(metric: &str, k: usize) -> String {
    format!("{metric}^{k}")
}

/// The metric and k of such an id.
pub fn parse(id: &str) -> Option<(&'static MetricInfo, usize)> {
    let (metric, k) = id.rsplit_once('^')?;
    Some((find(metric)?, k.parse().ok()?))
}

/// Short name of a metric of the catalogue, or of pass^k of one.
pub fn name(id: &str) -> Option<String> {
    match parse(id) {
        Some((info, k)) => Some(format!("{}, pass^{k}", info.name)),
        None => find(id).map(|info| info.name.to_owned()),
    }
}

/// True if the metric's samples are good or bad.
pub fn applies(info: &MetricInfo) -> bool {
    info.binary && info.better != Direction::Neither
}

/// Unbiased estimate from the values of a prompt's samples; `None` for fewer than k.
pub fn estimate(info: &MetricInfo, values: &[f64], k: usize) -> Option<f64> {
    let good = if info.better == Direction::Lower { 0.0 } else { 1.0 };
    all_of(values.iter().filter(|value| **value == good).count(), values.len(), k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_is_the_better_end_of_the_metric() {
        let (eos, loops) = (find("eos_rate").expect("known"), find("loop_rate").expect("known"));
        assert!(applies(eos) && !applies(find("length").expect("known")));
        assert!(!applies(find("seq_rep_4").expect("known")), "better if lower, but neither good nor bad");
        assert_eq!(estimate(eos, &[1.0, 1.0, 1.0, 0.0], 2), Some(0.5));
        assert_eq!(estimate(loops, &[1.0, 0.0, 0.0, 0.0], 2), Some(0.5));
        assert_eq!(estimate(loops, &[0.0], 2), None);
    }

    #[test]
    fn an_id_reads_back() {
        assert_eq!(parse(&id("eos_rate", 4)).map(|(info, k)| (info.id, k)), Some(("eos_rate", 4)));
        assert_eq!(name("loop_rate^3").as_deref(), Some("Loop rate, pass^3"));
        assert_eq!([parse("eos_rate"), parse("nothing^3"), parse("eos_rate^x")], [None; 3]);
    }
}
