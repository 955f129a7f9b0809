//! Values that are sent in several messages, and what MPI is told of each.

use std::ops::Range;

/// Ranges of the ranks' values (those of rank r are `bounds[r]..bounds[r + 1]`) in messages of at most `most` values a rank: a
/// range for each rank, by message.
pub(super) fn rounds(bounds: &[usize], most: usize) -> impl Iterator<Item = Vec<Range<usize>>> {
    let most = most.max(1);
    let count = bounds.windows(2).map(|ends| (ends[1] - ends[0]).div_ceil(most)).max().unwrap_or(0);
    (0..count).map(move |round| {
        let of = |ends: &[usize]| {
            let start = (ends[0] + round * most).min(ends[1]);
            start..(start + most).min(ends[1])
        };
        bounds.windows(2).map(of).collect()
    })
}

/// Numbers of values and first places of each rank, one after the other, as MPI counts.
pub(super) fn counts_and_places(lengths: impl Iterator<Item = usize>) -> (Vec<i32>, Vec<i32>) {
    let mut next = 0;
    lengths
        .map(|length| {
            let place = next;
            next += length as i32;
            (length as i32, place)
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::{counts_and_places, rounds};

    #[test]
    fn every_value_is_sent_once_and_by_its_rank() {
        let messages: Vec<_> = rounds(&[0, 5, 5, 7, 14], 3).collect();
        assert_eq!(
            messages,
            [vec![0..3, 5..5, 5..7, 7..10], vec![3..5, 5..5, 7..7, 10..13], vec![5..5, 5..5, 7..7, 13..14]]
        );
        assert_eq!(rounds(&[0, 0, 0], 3).count(), 0);
        assert_eq!(rounds(&[0, 2, 4], 0).count(), 2, "a message has at least one value a rank");
    }

    #[test]
    fn places_follow_counts() {
        assert_eq!(counts_and_places([2, 0, 3].into_iter()), (vec![2, 0, 3], vec![0, 2, 2]));
    }
}
