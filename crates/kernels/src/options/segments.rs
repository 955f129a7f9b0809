//! Packed sequences, and the keys that each of their tokens attends to.
//!
//! `N` tokens of several sequences are concatenated without padding. A [`Span`] is one sequence:
//! its tokens attend causally to each other, and all of them to an optional prefix range that lies
//! before the span. A preference pair is three spans: the prompt, the chosen completion with the
//! prompt as its prefix, and the rejected completion with the same prefix (prefix sharing,
//! arXiv 2410.20305).

use crate::error::{KernelError, Result};
use candle_core::{DeviceLocation, Tensor};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// One packed sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first token.
    pub start: usize,
    /// One past its last token.
    pub end: usize,
    /// Earlier tokens that each of its tokens attends to.
    pub prefix: Option<Range<usize>>,
}

impl Span {
    /// A sequence without prefix.
    pub fn new(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end, prefix: None }
    }

    /// A sequence whose tokens also attend to those of `prefix`.
    pub fn with_prefix(range: Range<usize>, prefix: Range<usize>) -> Self {
        Self { start: range.start, end: range.end, prefix: Some(prefix) }
    }
}

/// The spans of `N` packed tokens and the tokens' positions; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    spans: Vec<Span>,
    positions: Vec<u32>,
    components: Vec<Range<usize>>,
    plans: PlanCache,
}

/// Attention plans of these segments on devices. All layers of a pass share one, or two where windows alternate.
#[derive(Debug, Default)]
struct PlanCache(Mutex<Vec<CachedPlan>>);

#[derive(Debug)]
struct CachedPlan {
    window: Option<usize>,
    location: DeviceLocation,
    plan: Arc<AttentionPlan>,
}

impl PartialEq for PlanCache {
    /// Plans are functions of the segments that they are kept with.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PlanCache {}

/// The pairs of a tile of queries and a tile of keys that attention on a device computes, in the device's memory.
#[derive(Debug)]
pub(crate) struct AttentionPlan {
    pub(crate) queries: PairList,
    pub(crate) keys: PairList,
}

/// Tiles whose rows a block owns, those with most pairs first, and their pairs; see attention.cuh.
#[derive(Debug)]
pub(crate) struct PairList {
    /// Number of tiles.
    pub(crate) count: usize,
    /// (count, 4), uint32.
    pub(crate) tiles: Tensor,
    /// (pairs, 8), uint32.
    pub(crate) pairs: Tensor,
}

impl Segments {
    /// Spans that cover `0..N` in order. Positions count from 0 in a span without prefix and go on
    /// after the prefix's last token in one with a prefix.
    ///
    /// # Errors
    ///
    /// [`KernelError::Segments`] if a span is empty, leaves a gap, overlaps the one before, or has
    /// an empty prefix or one that does not end before the span.
    pub fn new(spans: Vec<Span>) -> Result<Self> {
        let mut positions: Vec<u32> = Vec::with_capacity(spans.last().map_or(0, |span| span.end));
        check(&spans)?;
        for span in &spans {
            let first = match &span.prefix {
                Some(prefix) => positions[prefix.end - 1] + 1,
                None => 0,
            };
            positions.extend((0..(span.end - span.start) as u32).map(|offset| first + offset));
        }
        Ok(Self::build(spans, positions))
    }

    /// As [`Segments::new`] with the positions given, one a token; sliding windows and rotary
    /// angles go by them. They must rise by one within a span.
    ///
    /// # Errors
    ///
    /// [`KernelError::Segments`] as for [`Segments::new`], or if the positions are not one a token
    /// or do not rise by one within a span.
    pub fn with_positions(spans: Vec<Span>, positions: Vec<u32>) -> Result<Self> {
        check(&spans)?;
        let tokens = spans.last().map_or(0, |span| span.end);
        if positions.len() != tokens {
            return Err(KernelError::Segments {
                span: spans.len().saturating_sub(1),
                reason: format!("expected {tokens} positions, one a token, got {}", positions.len()),
            });
        }
        for (index, span) in spans.iter().enumerate() {
            let own = &positions[span.start..span.end];
            if own.windows(2).any(|pair| pair[0].checked_add(1) != Some(pair[1])) {
                return Err(KernelError::Segments {
                    span: index,
                    reason: "expected positions that rise by one within the span".to_owned(),
                });
            }
        }
        Ok(Self::build(spans, positions))
    }

    /// One causal sequence of `tokens` tokens.
    ///
    /// # Errors
    ///
    /// [`KernelError::Segments`] if there are none.
    pub fn causal(tokens: usize) -> Result<Self> {
        Self::new(vec![Span::new(0..tokens)])
    }

    fn build(spans: Vec<Span>, positions: Vec<u32>) -> Self {
        let components = components(&spans);
        Self(Arc::new(Inner { spans, positions, components, plans: PlanCache::default() }))
    }

    /// The spans, in order of their tokens.
    pub fn spans(&self) -> &[Span] {
        &self.0.spans
    }

    /// The position of each token, for rotary angles and sliding windows.
    pub fn positions(&self) -> &[u32] {
        &self.0.positions
    }

    /// `N`, the number of tokens.
    pub fn tokens(&self) -> usize {
        self.0.positions.len()
    }

    /// Ranges of spans that share no keys with each other, in order.
    pub(crate) fn components(&self) -> &[Range<usize>] {
        &self.0.components
    }

    /// The span that each span goes on from, where it has a prefix: what has a state goes on with that of the prefix's last
    /// token.
    ///
    /// # Errors
    ///
    /// [`KernelError::Segments`] if a prefix is not the whole of an earlier span that has none itself.
    pub(crate) fn continued(&self) -> Result<Vec<Option<usize>>> {
        let spans = self.spans();
        let parent = |(index, span): (usize, &Span)| {
            let Some(prefix) = &span.prefix else { return Ok(None) };
            let place = spans[..index].partition_point(|earlier| earlier.start < prefix.start);
            match spans[..index].get(place) {
                Some(earlier) if (earlier.start..earlier.end) == *prefix && earlier.prefix.is_none() => Ok(Some(place)),
                _ => Err(KernelError::Segments {
                    span: index,
                    reason: format!(
                        "expected the whole of an earlier span without prefix to go on from, got {prefix:?}"
                    ),
                }),
            }
        };
        spans.iter().enumerate().map(parent).collect()
    }

    /// The attention plan for `window` on the device at `location`; `build` runs where there is none yet.
    pub(crate) fn plan(
        &self,
        window: Option<usize>,
        location: DeviceLocation,
        build: impl FnOnce() -> Result<AttentionPlan>,
    ) -> Result<Arc<AttentionPlan>> {
        let mut plans = self.0.plans.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = plans.iter().find(|cached| (cached.window, cached.location) == (window, location)) {
            return Ok(Arc::clone(&cached.plan));
        }
        let plan = Arc::new(build()?);
        plans.push(CachedPlan { window, location, plan: Arc::clone(&plan) });
        Ok(plan)
    }
}

fn check(spans: &[Span]) -> Result<()> {
    let mut end = 0;
    for (index, span) in spans.iter().enumerate() {
        let refuse = |reason: String| Err(KernelError::Segments { span: index, reason });
        if span.start != end {
            return refuse(format!("expected to start at token {end}, got {}", span.start));
        }
        if span.end <= span.start {
            return refuse(format!("expected at least one token, got {}..{}", span.start, span.end));
        }
        if u32::try_from(span.end).is_err() {
            return refuse(format!("expected fewer than 2^32 tokens, got {}", span.end));
        }
        if let Some(prefix) = &span.prefix
            && (prefix.start >= prefix.end || prefix.end > span.start)
        {
            return refuse(format!(
                "expected a prefix of at least one token that ends by token {}, got {prefix:?}",
                span.start
            ));
        }
        end = span.end;
    }
    Ok(())
}

/// Splits the spans at borders that no later span attends across.
fn components(spans: &[Span]) -> Vec<Range<usize>> {
    let mut reach = usize::MAX; // the earliest token that later spans attend to
    let mut borders = vec![];
    for index in (0..spans.len()).rev() {
        let first = spans[index].prefix.as_ref().map_or(spans[index].start, |prefix| prefix.start);
        reach = reach.min(first);
        if reach >= spans[index].start {
            borders.push(index);
        }
    }
    borders.reverse();
    let ends = borders.iter().skip(1).copied().chain([spans.len()]);
    borders.iter().zip(ends).map(|(&start, end)| start..end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_after_the_prefix() {
        let segments = Segments::new(vec![
            Span::new(0..3),
            Span::with_prefix(3..5, 0..3),
            Span::with_prefix(5..6, 0..3),
            Span::new(6..8),
        ])
        .unwrap();
        assert_eq!(segments.positions(), [0, 1, 2, 3, 4, 3, 0, 1]);
        assert_eq!(segments.components(), [0..3, 3..4]);
        assert_eq!(segments.tokens(), 8);
    }

    #[test]
    fn components_follow_interleaved_prefixes() {
        let spans = vec![
            Span::new(0..2),
            Span::new(2..4),
            Span::with_prefix(4..5, 0..2),
            Span::with_prefix(5..6, 2..4),
            Span::new(6..7),
        ];
        assert_eq!(components(&spans), [0..4, 4..5]);
        assert_eq!(components(&[]), Vec::<Range<usize>>::new());
    }

    #[test]
    fn refusals_name_the_span() {
        let refused = |spans: Vec<Span>| Segments::new(spans).unwrap_err().to_string();
        assert_eq!(
            refused(vec![Span::new(0..2), Span::new(3..4)]),
            "segments: span 1: expected to start at token 2, got 3"
        );
        assert!(refused(vec![Span::new(0..0)]).contains("at least one token"));
        assert!(refused(vec![Span::new(0..2), Span::with_prefix(2..3, 1..3)]).contains("got 1..3"));
        let error = Segments::with_positions(vec![Span::new(0..3)], vec![0, 1]).unwrap_err();
        assert!(error.to_string().contains("expected 3 positions"));
        let error = Segments::with_positions(vec![Span::new(0..3)], vec![0, 1, 5]).unwrap_err();
        assert!(error.to_string().contains("rise by one"));
    }
}
