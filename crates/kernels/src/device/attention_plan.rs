//! Pairs of tiles that attention computes.
//!
//! The spans are cut into tiles of up to 64 tokens. The host lists, once for all layers, the pairs of a tile of queries
//! and a tile of keys with any visible key, and the bounds of visibility: within a span indices and positions rise
//! together, so causality, the prefix and the window are bounds on the indices in two tiles.

use super::engine::Engine;
use crate::error::Result;
use crate::options::{AttentionPlan, PairList, Segments};
use std::sync::Arc;

/// Tokens of a tile: `ATTENTION_TILE` in attention.cuh.
pub(super) const TILE: usize = 64;
/// A bound without effect within a tile.
const FAR: i64 = 1 << 20;

/// The pairs of tiles of `segments` in the engine's memory.
pub(super) fn plan(engine: &Engine, segments: &Segments, window: Option<usize>) -> Result<Arc<AttentionPlan>> {
    segments.plan(window, engine.device().location(), || {
        let tiles = tiles(segments);
        let pairs = pairs(segments, &tiles, window);
        Ok(AttentionPlan {
            queries: upload(engine, &tiles, &pairs, |pair| pair.query)?,
            keys: upload(engine, &tiles, &pairs, |pair| pair.key)?,
        })
    })
}

/// Neighbouring tokens of one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    first: usize,
    end: usize,
    span: usize,
}

fn tiles(segments: &Segments) -> Vec<Tile> {
    let spans = segments.spans().iter().enumerate();
    spans
        .flat_map(|(index, span)| {
            let end = span.end;
            (span.start..end).step_by(TILE).map(move |first| Tile { first, end: end.min(first + TILE), span: index })
        })
        .collect()
}

/// Two tiles by their indices, and the bounds of visibility between them: `AttentionPair` in attention.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    query: usize,
    key: usize,
    key_first: usize,
    key_last: usize,
    causal: i64,
    near: i64,
}

/// The pairs with any visible key, by their queries and then their keys.
fn pairs(segments: &Segments, tiles: &[Tile], window: Option<usize>) -> Vec<Pair> {
    let position = |token: usize| i64::from(segments.positions()[token]);
    let mut pairs = vec![];
    for (query, tile) in tiles.iter().enumerate() {
        let span = &segments.spans()[tile.span];
        let prefix = span.prefix.clone().unwrap_or(0..0);
        for (range, own) in [(prefix, false), (span.start..tile.end, true)] {
            let from = tiles.partition_point(|tile| tile.end <= range.start);
            let keys = tiles.iter().enumerate().skip(from).take_while(|(_, tile)| tile.first < range.end);
            for (key, keys) in keys {
                let causal = if own { (tile.first - keys.first) as i64 } else { FAR };
                let near = window.and_then(|window| i64::try_from(window).ok()).map_or(-FAR, |window| {
                    // Query i and key j are position(first query) + i − position(first key) − j apart.
                    position(tile.first) - position(keys.first) - window + 1
                });
                let key_first = range.start.max(keys.first) - keys.first;
                let key_last = range.end.min(keys.end) - keys.first;
                if near < key_last as i64 {
                    let (causal, near) = (causal.min(FAR), near.max(-FAR));
                    pairs.push(Pair { query, key, key_first, key_last, causal, near });
                }
            }
        }
    }
    pairs
}

/// The tiles in the order of their work, with the pairs that each owns.
fn upload(engine: &Engine, tiles: &[Tile], pairs: &[Pair], owner: impl Fn(&Pair) -> usize) -> Result<PairList> {
    let mut owned: Vec<Vec<&Pair>> = vec![vec![]; tiles.len()];
    for pair in pairs {
        owned[owner(pair)].push(pair);
    }
    // The longest work first, so that the last blocks end together.
    let mut order: Vec<usize> = (0..tiles.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(owned[index].len()));
    let (mut rows, mut all) = (vec![], vec![]);
    for index in order {
        let Tile { first, end, .. } = tiles[index];
        let before = all.len() / 8;
        for pair in &owned[index] {
            let (query, key) = (tiles[pair.query], tiles[pair.key]);
            let tokens = [query.first, query.end - query.first, key.first, key.end - key.first];
            let bounds = [pair.key_first as i64, pair.key_last as i64, pair.causal, pair.near];
            all.extend(tokens.map(|token| token as u32));
            all.extend(bounds.map(|bound| bound as i32 as u32));
        }
        rows.extend([first, end - first, before, all.len() / 8].map(|value| value as u32));
    }
    // A GPU has no empty memory.
    let upload = |values: &[u32]| engine.upload(if values.is_empty() { &[0] } else { values });
    Ok(PairList { count: tiles.len(), tiles: upload(&rows)?, pairs: upload(&all)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Span;

    fn visible(segments: &Segments, window: Option<usize>) -> Vec<(usize, usize)> {
        let tiles = tiles(segments);
        let mut seen = vec![];
        for pair in pairs(segments, &tiles, window) {
            let (query, key) = (tiles[pair.query], tiles[pair.key]);
            let before = seen.len();
            for i in 0..(query.end - query.first) {
                for j in pair.key_first..pair.key_last {
                    let (row, column) = (i as i64, j as i64);
                    if column <= row + pair.causal && column >= row + pair.near {
                        seen.push((query.first + i, key.first + j));
                    }
                }
            }
            assert!(seen.len() > before, "a pair without a visible key: {pair:?}");
        }
        seen.sort_unstable();
        seen
    }

    #[test]
    fn pairs_are_what_the_segments_say() {
        let spans = vec![
            Span::new(0..70),
            Span::new(70..75),
            Span::with_prefix(75..280, 5..73),
            Span::with_prefix(280..281, 0..70),
            Span::new(281..500),
        ];
        let segments = Segments::new(spans).unwrap();
        for window in [None, Some(1), Some(9), Some(64), Some(130), Some(usize::MAX)] {
            let mut want = vec![];
            for span in segments.spans() {
                for query in span.start..span.end {
                    let prefix = span.prefix.clone().unwrap_or(0..0);
                    for key in prefix.chain(span.start..query + 1) {
                        let [query_at, key_at] = [query, key].map(|token| i128::from(segments.positions()[token]));
                        if window.is_none_or(|window| query_at - key_at < window as i128) {
                            want.push((query, key));
                        }
                    }
                }
            }
            assert_eq!(visible(&segments, window), want, "window {window:?}");
        }
    }
}
