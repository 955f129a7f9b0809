//! `-` in place of a file: standard input or standard output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// Standard input as a file.
const INPUT: &str = "/dev/stdin";
/// Standard output as a file.
const OUTPUT: &str = "/dev/stdout";

/// Files to read; `-` is standard input.
pub fn input() -> impl TypedValueParser<Value = PathBuf> {
    instead_of_dash(INPUT)
}

/// Files to write; `-` is standard output.
pub fn output() -> impl TypedValueParser<Value = PathBuf> {
    instead_of_dash(OUTPUT)
}

/// True for standard input.
pub fn is_input(path: &Path) -> bool {
    path == Path::new(INPUT)
}

/// True for standard output.
pub fn is_output(path: &Path) -> bool {
    path == Path::new(OUTPUT)
}

fn instead_of_dash(stream: &'static str) -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(move |path| if path.as_os_str() == OsStr::new("-") { stream.into() } else { path })
}
