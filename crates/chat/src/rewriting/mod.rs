//! A template's text as the engine takes it: what it would read otherwise than Jinja is written in other words, or refused.

pub(crate) mod constants;
pub(crate) mod generation_tags;
pub(crate) mod macros;
pub(crate) mod namespaces;
pub(crate) mod operators;
pub(crate) mod raw_blocks;
pub(crate) mod string_escapes;
pub(crate) mod subscripts;
pub(crate) mod tags;
pub(crate) mod tokens;
pub(crate) mod tuples;

/// The rewritten text.
///
/// # Errors
/// A problem to tell, if there are no other words.
pub(crate) fn for_engine(source: &str) -> Result<String, String> {
    if let Some(problem) = macros::problem(source) {
        return Err(problem);
    }
    let read = string_escapes::rewrite(&raw_blocks::keep_line_ends(source))?;
    let marked = tuples::mark(&subscripts::mark(&constants::guard(&namespaces::guard(&read))));
    Ok(operators::rewrite(&marked))
}
