//! A text as ids and where each of them ends.

use tokenizers::Encoding;

/// Ids of a text, with the byte after each token. A token begins where the one before it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub ids: Vec<u32>,
    pub ends: Vec<usize>,
}

impl Encoded {
    pub fn with_capacity(tokens: usize) -> Self {
        Self { ids: Vec::with_capacity(tokens), ends: Vec::with_capacity(tokens) }
    }

    pub fn push(&mut self, id: u32, end: usize) {
        self.ids.push(id);
        self.ends.push(end);
    }

    /// The first tokens.
    pub fn up_to(&self, tokens: usize) -> Self {
        Self { ids: self.ids[..tokens].to_vec(), ends: self.ends[..tokens].to_vec() }
    }

    /// Tokens that end at or before `split`. A special token may reach over it, since it may swallow the white space after
    /// it; any other token that reaches over it is the first one past it.
    pub fn before(&self, split: usize, special: impl Fn(u32) -> bool) -> usize {
        let mut start = 0;
        let within = |token: &(&u32, &usize)| {
            let (&id, &end) = *token;
            let begun = std::mem::replace(&mut start, end);
            end <= split || (begun < split && special(id))
        };
        self.ids.iter().zip(&self.ends).take_while(within).count()
    }
}

impl From<Encoding> for Encoded {
    fn from(encoding: Encoding) -> Self {
        Self { ids: encoding.get_ids().to_vec(), ends: encoding.get_offsets().iter().map(|(_, end)| *end).collect() }
    }
}
