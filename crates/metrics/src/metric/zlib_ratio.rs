//! Compressibility of a completion.

use libdeflater::{CompressionLvl, Compressor};
use smpo_results::{Direction, Unit};

use super::{Metric, MetricInfo, Scratch, View};

/// The last bytes of a completion that are compressed: one deflate window, so that the cost of a runaway completion
/// is bounded and its ratio is not diluted by what came before.
pub const WINDOW_BYTES: usize = 32 * 1024;
const LEVEL: i32 = 1;

/// `zlib_ratio`.
pub static INFO: MetricInfo = MetricInfo {
    id: "zlib_ratio",
    name: "Zlib ratio",
    unit: Unit::Ratio,
    better: Direction::Neither,
    primary: false,
    binary: false,
    leaderboard: Some(5),
    summary: false,
    description: "bytes / zlib-compressed bytes (libdeflate, level 1) of the last 32 KiB of a completion; grows with \
                  length and with repetition",
    reference: "RFC 1950, RFC 1951",
};

/// The entry of the catalogue.
pub static METRICS: &[Metric] = &[Metric::of_sample(&INFO, measure)];

/// Raw bytes over compressed bytes; no value for an empty completion.
fn measure(view: &View<'_>, scratch: &mut Scratch) -> Option<f64> {
    let bytes = view.text.as_bytes();
    let tail = &bytes[bytes.len().saturating_sub(WINDOW_BYTES)..];
    let compressed = scratch.deflate.compressed_len(tail)?;
    (!tail.is_empty()).then(|| tail.len() as f64 / compressed as f64)
}

/// A compressor whose tables are reused.
///
/// libdeflate takes a whole buffer at once, which is what there is: twice as fast as zlib on a kilobyte or two, where
/// the cost is not in the matches but in the tables, and a little tighter.
pub struct Deflate {
    compressor: Compressor,
    output: Vec<u8>,
}

impl Default for Deflate {
    fn default() -> Self {
        let level = CompressionLvl::new(LEVEL).unwrap_or_default();
        Deflate { compressor: Compressor::new(level), output: Vec::new() }
    }
}

impl std::fmt::Debug for Deflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflate").finish_non_exhaustive()
    }
}

impl Deflate {
    /// Length of `bytes` as one zlib stream; `None` should the compressor refuse, which it has no reason to.
    pub fn compressed_len(&mut self, bytes: &[u8]) -> Option<usize> {
        let bound = self.compressor.zlib_compress_bound(bytes.len());
        if self.output.len() < bound {
            self.output.resize(bound, 0);
        }
        self.compressor.zlib_compress(bytes, &mut self.output).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratio(text: &str) -> Option<f64> {
        crate::sample::value("zlib_ratio", &crate::sample::sample(text))
    }

    #[test]
    fn repetition_compresses_and_runaway_length_does_not_hide_it() {
        assert_eq!(ratio(""), None);
        assert!(ratio("short").expect("some") < 1.0);
        let prose = "It was the best of times, it was the worst of times, it was the age of wisdom";
        let loops = prose.to_owned() + &" again and again".repeat(2_000);
        assert!(ratio(prose).expect("some") < 2.0);
        assert!(ratio(&loops).expect("some") > 50.0);
        // Only the tail counts, so ten times the loop changes nothing.
        let longer = prose.to_owned() + &" again and again".repeat(20_000);
        assert!((ratio(&longer).expect("some") - ratio(&"n and again agai".repeat(2_048)).expect("some")).abs() < 5.0);
    }

    proptest! {
        #[test]
        fn the_length_is_of_a_stream_that_decompresses(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4000), 1..4)) {
            let mut deflate = Deflate::default();
            for bytes in texts {
                let len = deflate.compressed_len(&bytes).expect("compresses");
                let mut back = vec![0; bytes.len()];
                let read = libdeflater::Decompressor::new().zlib_decompress(&deflate.output[..len], &mut back);
                prop_assert_eq!(read, Ok(bytes.len()));
                prop_assert_eq!(back, bytes);
            }
        }
    }
}
