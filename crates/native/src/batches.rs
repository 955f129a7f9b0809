//! Sequences in batches of one forward pass each.

/// Maximum tokens packed into one forward pass.
pub(crate) const BATCH_TOKENS: usize = 8192;

/// Sequences that follow each other, together of at most [`BATCH_TOKENS`] tokens; a longer one is a batch alone.
pub(crate) fn batches<T>(sequences: &[T], length: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut batches, mut first, mut tokens) = (Vec::new(), 0, 0);
    for (index, sequence) in sequences.iter().enumerate() {
        let length = length(sequence);
        if tokens + length > BATCH_TOKENS && index > first {
            batches.push(&sequences[first..index]);
            (first, tokens) = (index, 0);
        }
        tokens += length;
    }
    if first < sequences.len() {
        batches.push(&sequences[first..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_as_many_as_fit() {
        let lengths = [5000, 3000, 192, 1, 9000, 8192];
        let sizes: Vec<usize> = batches(&lengths, |length| *length).iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes, [3, 1, 1, 1]);
        assert!(batches(&[], |length: &usize| *length).is_empty());
    }
}
