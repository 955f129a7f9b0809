//! Helpers of all targets: memory that is bounded by the input, files that a target rewrites, and mutations that keep JSON
//! whole.
//!
//! An input of a target that reads several files begins with one character, the file that the rest replaces.

mod bounded;
mod files;
mod json;

pub use bounded::bounded;
pub use files::Files;
pub use json::mutate;

/// A target over bytes, and a mutator that knows JSON.
#[macro_export]
macro_rules! target {
    ($data:ident, $body:expr) => {
        libfuzzer_sys::fuzz_target!(|$data: &[u8]| $crate::bounded($data.len(), || $body));
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate(data, size, max_size, seed)
        });
    };
}
