//! The order of an epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The order in which epoch `epoch` visits `rows` rows: a permutation of `0..rows` that depends on nothing but its
/// three arguments, so a run resumed from (epoch, position) goes on exactly where it was.
pub fn order(rows: usize, epoch: u64, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // one stream per epoch: no epoch's order depends on an earlier one having been drawn
    rng.set_stream(epoch);
    let mut indices: Vec<usize> = (0..rows).collect();
    indices.shuffle(&mut rng);
    indices
}

/// The same order with every window of `window` rows sorted by length, longest first: rows of one step are then about
/// equally long and little is padded or left idle, while what a window holds stays random.
/// A window of 0 or 1 leaves the order as it is.
pub fn order_by_length(lengths: &[usize], window: usize, epoch: u64, seed: u64) -> Vec<usize> {
    let mut indices = order(lengths.len(), epoch, seed);
    for rows in indices.chunks_mut(window.max(1)) {
        // stable, so that equal lengths keep their random order
        rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::{order, order_by_length};

    #[test]
    fn windows_are_sorted_and_hold_the_rows_that_the_order_gives_them() {
        let lengths: Vec<usize> = (0..50).map(|row| row * 37 % 11).collect();
        let plain = order(50, 2, 5);
        let sorted = order_by_length(&lengths, 8, 2, 5);
        for (window, expected) in sorted.chunks(8).zip(plain.chunks(8)) {
            assert!(window.is_sorted_by_key(|&row| std::cmp::Reverse(lengths[row])));
            let (mut window, mut expected) = (window.to_vec(), expected.to_vec());
            window.sort_unstable();
            expected.sort_unstable();
            assert_eq!(window, expected);
        }
        assert_eq!(order_by_length(&lengths, 0, 2, 5), plain);
        assert_eq!(order_by_length(&lengths, 1, 2, 5), plain);
    }

    #[test]
    fn an_order_is_a_permutation_fixed_by_its_arguments() {
        let one = order(100, 0, 7);
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(one, order(100, 0, 7));
        assert_ne!(one, order(100, 1, 7));
        assert_ne!(one, order(100, 0, 8));
    }

    #[test]
    fn the_order_is_the_same_in_every_release() {
        assert_eq!(order(8, 0, 0), GOLDEN);
    }

    const GOLDEN: [usize; 8] = [2, 0, 6, 1, 3, 5, 7, 4];
}
