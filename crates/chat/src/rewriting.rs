//! A template's text as the engine takes it: what it would read otherwise than Jinja is written in other words, or refused.

use crate::{constants, macros, namespaces, raw_blocks, string_escapes, subscripts, tuples};

/// The rewritten text.
///
/// # Errors
/// A problem to tell, if there are no other words.
pub(crate) fn for_engine(source: &str) -> Result<String, String> {
    if let Some(problem) = macros::problem(source) {
        return Err(problem);
    }
    let read = string_escapes::rewrite(&raw_blocks::keep_line_ends(source))?;
    Ok(tuples::mark(&subscripts::mark(&constants::guard(&namespaces::guard(&read)))))
}
