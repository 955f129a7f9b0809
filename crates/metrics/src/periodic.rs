//! Periodic tails of a sequence.
//!
//! A sequence loops if its tail is at least [`MIN_COPIES`] exact copies of one cycle and at least [`MIN_TOKENS`] units
//! long. The cycle may be of any period, one token or a whole paragraph; of a last copy that was cut, the units that are
//! there count.
//!
//! The longest tail of period p is p + Z\[p\], where Z is the Z-function of the reversed sequence (Gusfield 1997,
//! *Algorithms on Strings, Trees and Sequences*, §1.4): every period in one linear pass.

/// Copies of the cycle that make a loop.
pub const MIN_COPIES: usize = 3;
/// Length of the looping tail in tokens.
pub const MIN_TOKENS: usize = 32;

/// A periodic tail, in units of the sequence it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Units of one cycle; the smallest period of the tail.
    pub period: usize,
    /// Units covered, the partial copy included.
    pub covered: usize,
}

/// True if token ids, the terminator left out, end in a loop.
pub fn ends_in_loop(ids: &[u32]) -> bool {
    tail(ids, MIN_COPIES, MIN_TOKENS, &mut Vec::new()).is_some()
}

/// The longest periodic tail of `units` with at least `copies` copies and `covered` units, its smallest period; linear
/// time. `matches` is a buffer.
pub fn tail<U: PartialEq>(units: &[U], copies: usize, covered: usize, matches: &mut Vec<u32>) -> Option<Tail> {
    let len = units.len();
    let longest_period = len / copies.max(2);
    if u32::try_from(len).is_err() {
        return None;
    }
    let unit = |index: usize| &units[len - 1 - index];
    // matches[p]: number of units before the last p that equal the units at the end, read backwards: Z of the reversal.
    matches.clear();
    matches.resize(longest_period + 1, 0);
    let (mut left, mut right) = (0, 0);
    let mut best: Option<Tail> = None;
    for period in 1..=longest_period {
        let mut matched = if period < right { (matches[period - left] as usize).min(right - period) } else { 0 };
        while period + matched < len && unit(matched) == unit(period + matched) {
            matched += 1;
        }
        if period + matched > right {
            (left, right) = (period, period + matched);
        }
        matches[period] = matched as u32;
        let cover = period + matched;
        if cover >= covered && cover >= copies * period && best.is_none_or(|best| cover > best.covered) {
            best = Some(Tail { period, covered: cover });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: every period, compared unit by unit.
    fn by_definition(units: &[u8], copies: usize, covered: usize) -> Option<Tail> {
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

    proptest! {
        #[test]
        fn one_linear_pass_finds_what_the_definition_says(
            head in prop::collection::vec(0u8..3, 0..12),
            cycle in prop::collection::vec(0u8..3, 1..6),
            copies in 1usize..6,
            cut in 0usize..6,
            covered in 1usize..16,
        ) {
            let mut units = head;
            units.extend(cycle.repeat(copies));
            units.extend(&cycle[..cut.min(cycle.len())]);
            for least in 2..=4 {
                prop_assert_eq!(tail(&units, least, covered, &mut Vec::new()), by_definition(&units, least, covered));
            }
        }
    }

    #[test]
    fn three_copies_over_thirty_two_tokens_make_a_loop() {
        assert!(ends_in_loop(&[7; 32]));
        assert!(!ends_in_loop(&[7; 31]));
        let cycle: Vec<u32> = (0..20).collect();
        assert!(!ends_in_loop(&cycle.repeat(2)));
        assert!(ends_in_loop(&cycle.repeat(3)));
    }

    #[test]
    fn the_longest_tail_wins_with_its_smallest_period() {
        let longest = |units: &[u8]| tail(units, 3, 3, &mut Vec::new());
        assert_eq!(longest(&[0, 1, 1, 1].repeat(3)), Some(Tail { period: 4, covered: 12 }));
        assert_eq!(longest(&[1; 12]), Some(Tail { period: 1, covered: 12 }));
        assert_eq!((longest(&[]), longest(&[1, 1])), (None, None));
    }
}
