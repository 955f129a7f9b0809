//! Metrics of any text and any ids, against their definitions in quadratic time.

#![no_main]

use std::collections::HashSet;

use smpo_fuzz::target;
use smpo_metrics::metric::seq_rep::{MAX_N, Repeats, seq_rep};
use smpo_metrics::periodic::{Tail, tail};
use smpo_metrics::text::folded::fold;
use smpo_metrics::text::words::{hash_first_words, hash_words};
use smpo_metrics::{Corpus, Scratch, all, among_metrics, measure_sample};
use smpo_results::{FinishReason, Sample};

/// Every reason.
const FINISHES: [FinishReason; 6] = {
    use FinishReason::*;
    [Eos, Stop, Length, Repetition, Error, Unknown]
};

/// The longest input that is compared with its definition.
const LONGEST: usize = 512;

/// Every period, compared unit by unit.
fn tail_by_definition(units: &[u8], copies: usize, covered: usize) -> Option<Tail> {
    let len = units.len();
    let mut best: Option<Tail> = None;
    for period in 1..=len / copies {
        let matched = (period..len).take_while(|i| units[len - 1 - i] == units[len - 1 - (i - period)]).count();
        let cover = period + matched;
        if cover >= covered && cover >= copies * period && best.is_none_or(|best| cover > best.covered) {
            best = Some(Tail { period, covered: cover });
        }
    }
    best
}

fn ids(units: &[u8]) {
    for copies in 2..=4 {
        for covered in [1, 8, 32] {
            let expected = tail_by_definition(units, copies, covered);
            assert_eq!(tail(units, copies, covered, &mut Vec::new()), expected, "{copies} copies over {covered}");
        }
    }
    let wide: Vec<u32> = units.iter().map(|&unit| unit.into()).collect();
    let shares = seq_rep(&wide, &mut Repeats::default());
    for n in 1..=MAX_N {
        let grams: Vec<_> = units.windows(n).collect();
        let distinct: HashSet<_> = grams.iter().collect();
        let expected = (!grams.is_empty()).then(|| 1.0 - distinct.len() as f64 / grams.len() as f64);
        assert_eq!(shares[n - 1], expected, "{n}-grams");
    }
}

fn text(text: &str) {
    let (mut words, mut first, mut units) = (Vec::new(), Vec::new(), Vec::new());
    hash_words(text, &mut words);
    hash_first_words(text, 5, &mut first);
    assert_eq!(first, words[..words.len().min(5)]);
    fold(text, &mut units);
    let mut last = 0;
    for unit in units {
        assert!(unit.start >= last && unit.end > unit.start, "units are ranges in order");
        assert!([unit.start, unit.end].iter().all(|&at| text.is_char_boundary(at as usize)));
        last = unit.end;
    }
}

target!(data, {
    let Some((choice, bytes)) = data.split_first() else { return };
    if bytes.len() <= LONGEST {
        ids(bytes);
    }
    let completion = String::from_utf8_lossy(bytes);
    text(&completion);
    let known = FINISHES[usize::from(*choice) % FINISHES.len()];
    let mut sample = Sample::new("p", &*completion);
    sample.finish_reason = known;
    sample.token_ids = (choice % 2 == 0).then(|| bytes.iter().map(|&byte| byte.into()).collect());
    for value in measure_sample(&sample, &mut Scratch::default()).into_iter().flatten() {
        assert!(value.is_finite(), "{value}");
    }
    let mut other = sample.clone();
    other.sample = 1;
    let samples = [sample, other];
    for (_, among) in among_metrics() {
        assert_eq!(among.measure(&samples).len(), samples.len());
    }
    let corpus = Corpus::new(&samples);
    for estimate in all().iter().filter_map(|metric| metric.corpus?(&corpus)) {
        assert!(estimate.value.is_finite(), "{estimate:?}");
    }
});
