//! Assignment of tokens to experts.

/// Choice of a token's experts from the router's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterOptions {
    /// `k`: experts of each token.
    pub per_token: usize,
    /// Make the weights of a token's experts sum to one.
    pub normalise: bool,
}

/// The `k` experts of each of `N` tokens. A slot is a token's place for one of its experts, token by token; sorted by
/// expert, and within one by token, the slots are in their routed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    per_token: usize,
    /// First routed slot of each expert, and the number of slots.
    starts: Vec<usize>,
    /// Token of each routed slot.
    tokens: Vec<u32>,
    /// Slots in their routed order.
    slots: Vec<u32>,
    /// Index in the routed order of each token's slots, ascending.
    places: Vec<u32>,
}

impl Routing {
    /// From the experts of each slot, all below `experts`.
    pub(crate) fn new(chosen: &[u32], per_token: usize, experts: usize) -> Self {
        let mut starts = vec![0; experts + 1];
        chosen.iter().for_each(|expert| starts[*expert as usize + 1] += 1);
        for expert in 0..experts {
            starts[expert + 1] += starts[expert];
        }
        let mut next = starts.clone();
        let (mut tokens, mut slots) = (vec![0; chosen.len()], vec![0; chosen.len()]);
        let mut places = vec![0; chosen.len()];
        for (slot, expert) in chosen.iter().enumerate() {
            let place = next[*expert as usize];
            next[*expert as usize] += 1;
            tokens[place] = (slot / per_token) as u32;
            slots[place] = slot as u32;
            places[slot] = place as u32;
        }
        places.chunks_exact_mut(per_token).for_each(<[u32]>::sort_unstable);
        Self { per_token, starts, tokens, slots, places }
    }

    /// Experts of each token.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Number of tokens.
    pub fn token_count(&self) -> usize {
        self.tokens.len() / self.per_token
    }

    /// Tokens of an expert, ascending.
    pub fn tokens_of(&self, expert: usize) -> &[u32] {
        &self.tokens[self.starts[expert]..self.starts[expert + 1]]
    }

    /// Slots of an expert, one for each of its tokens.
    pub fn slots_of(&self, expert: usize) -> &[u32] {
        &self.slots[self.starts[expert]..self.starts[expert + 1]]
    }

    /// Tokens of each expert.
    pub(crate) fn loads(&self) -> impl Iterator<Item = usize> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// Token of each routed slot.
    pub(crate) fn routed_tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Slots in their routed order.
    pub(crate) fn routed_slots(&self) -> &[u32] {
        &self.slots
    }

    /// Index in the routed order of the slots of each token, ascending, (N, k).
    pub(crate) fn places(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.places.chunks_exact(self.per_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_sorted_by_expert_and_then_by_token() {
        let routing = Routing::new(&[2, 0, 0, 3, 3, 2], 2, 4);
        let tokens: Vec<&[u32]> = (0..4).map(|expert| routing.tokens_of(expert)).collect();
        assert_eq!(tokens, [&[0, 1][..], &[], &[0, 2], &[1, 2]]);
        assert_eq!(routing.routed_slots(), [1, 2, 0, 5, 3, 4]);
        assert_eq!(routing.places().collect::<Vec<_>>(), [[0, 2], [1, 4], [3, 5]]);
        assert_eq!(routing.loads().collect::<Vec<_>>(), [2, 0, 2, 2]);
    }
}
