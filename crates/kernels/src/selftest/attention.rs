//! Attention over segments of every kind.

use super::cases::Cases;
use crate::error::Result;
use crate::{AttentionOptions, Segments, Span, attention};

/// Query heads, key heads, width of a head.
type Heads = [usize; 3];

pub(super) fn push(cases: &mut Cases) -> Result<()> {
    let plain = |width| AttentionOptions::for_width(width);
    let windowed = |width, window| AttentionOptions { window: Some(window), ..plain(width) };
    let capped = |width, cap| AttentionOptions { soft_cap: Some(cap), ..plain(width) };
    // Five tokens, a part of a tile, one tile, several and a part. (Of one token the gradient of q is 0, of two it is a
    // difference that may be next to nothing, and no error is relative to that.)
    for tokens in [5, 23, 64, 150] {
        case(cases, vec![Span::new(0..tokens)], [2, 1, 32], plain(32))?;
    }
    // A prompt and two completions; heads that share keys; every padded width of a kernel, and some between.
    let shared = || vec![Span::new(0..70), Span::with_prefix(70..101, 0..70), Span::with_prefix(101..180, 0..70)];
    for heads in [[2, 2, 64], [6, 1, 40], [2, 1, 96], [4, 2, 80], [2, 1, 128], [2, 1, 104], [1, 1, 256], [2, 1, 136]] {
        case(cases, shared(), heads, plain(heads[2]))?;
    }
    // Two such groups beside a sequence of its own; prefixes that start and end within a tile, over two spans.
    let packed = || {
        let mut spans = shared();
        spans.extend([Span::new(180..185), Span::new(185..290), Span::with_prefix(290..300, 182..270)]);
        spans.push(Span::with_prefix(300..370, 185..290));
        spans
    };
    case(cases, packed(), [4, 2, 64], plain(64))?;
    // Windows within a tile, of a tile, over several; caps; both.
    for window in [2, 10, 64, 130] {
        case(cases, packed(), [2, 1, 64], windowed(64, window))?;
    }
    case(cases, packed(), [2, 1, 128], windowed(128, 33))?;
    case(cases, shared(), [2, 1, 256], windowed(256, 40))?;
    for (width, cap) in [(64, 0.8), (128, 50.0)] {
        case(cases, shared(), [2, 1, width], capped(width, cap))?;
    }
    let both = AttentionOptions { scale: 0.05, soft_cap: Some(2.0), window: Some(50) };
    case(cases, packed(), [6, 3, 48], both)
}

fn case(cases: &mut Cases, spans: Vec<Span>, [heads, kv_heads, width]: Heads, options: AttentionOptions) -> Result<()> {
    let segments = Segments::new(spans)?;
    let (q, k) = ([segments.tokens(), heads, width], [segments.tokens(), kv_heads, width]);
    let AttentionOptions { soft_cap, window, .. } = options;
    let text = format!("{} spans, cap {soft_cap:?}, window {window:?}", segments.spans().len());
    cases.push("attention", &[&q, &k, &k], [&[], &[]], &[&q], &text, move |x| {
        Ok(vec![attention(&x[0], &x[1], &x[2], &segments, options)?])
    })
}
