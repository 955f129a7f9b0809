//! Merges of byte-pair encoding: those of the metadata, or those that a SentencePiece vocabulary implies.

use crate::Metadata;
use crate::error::Result;
use crate::tokenizer::Vocabulary;

const MERGES: &str = "tokenizer.ggml.merges";

/// Characters of a token at most whose halves are looked up: the work is quadratic in them, and no real token is longer.
const LONGEST: usize = 512;

/// The merges of the metadata; `None` where there are none.
pub(super) fn listed(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Option<Vec<(String, String)>>> {
    let Some(merges) = metadata.texts(MERGES)? else { return Ok(None) };
    let ids = vocabulary.ids();
    let pair = |(index, merge): (usize, &String)| {
        // A blank may be the first character of the first token.
        let blank = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let halves = blank.map(|at| (&merge[..at], &merge[at + 1..]));
        halves
            .filter(|(left, right)| [*left, *right, &[*left, *right].concat()].iter().all(|t| ids.contains_key(*t)))
            .map(|(left, right)| (left.to_string(), right.to_string()))
            .ok_or_else(|| {
                let field = format!("{MERGES}[{index}]");
                metadata.error(
                    &field,
                    "two tokens with a blank between, that are a token together",
                    format!("{merge:?}"),
                )
            })
    };
    merges.iter().enumerate().map(pair).collect::<Result<_>>().map(Some)
}

/// The merges that a vocabulary implies: every way to make a token of two, the highest `rank` first, then the longest
/// first halves.
pub(super) fn implied(vocabulary: &Vocabulary, rank: impl Fn(usize) -> f64) -> Vec<(String, String)> {
    struct Merge<'a> {
        rank: f64,
        lengths: (usize, usize),
        left: &'a str,
        right: &'a str,
    }
    let ids = vocabulary.ids();
    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens().iter().enumerate() {
        let characters = token.chars().count();
        if characters > LONGEST {
            continue;
        }
        let halves = token.char_indices().enumerate().skip(1).filter_map(|(before, (at, _))| {
            let (left, right) = token.split_at(at);
            let (left_id, right_id) = (ids.get(left)?, ids.get(right)?);
            let merge = Merge { rank: rank(id), lengths: (before, characters - before), left, right };
            Some(((left_id, right_id), merge))
        });
        let mut halves: Vec<_> = halves.collect();
        halves.sort_by_key(|(ids, _)| *ids);
        merges.extend(halves.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| b.rank.total_cmp(&a.rank).then(b.lengths.cmp(&a.lengths)));
    merges.into_iter().map(|merge| (merge.left.to_string(), merge.right.to_string())).collect()
}
