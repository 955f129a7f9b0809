//! A template's text as the engine takes it: what it would read otherwise than Jinja is written in other words, or refused.

use crate::tags::{Piece, pieces};
use crate::{constants, macros, namespaces, raw_blocks, tuples};

/// Escapes in strings that Python reads and the engine leaves as they are.
const ESCAPES: [&str; 2] = ["\\\n", "\\N{"];

/// The rewritten text.
///
/// # Errors
/// A problem to tell, if there are no other words.
pub(crate) fn for_engine(source: &str) -> Result<String, String> {
    if let Some(problem) = macros::problem(source) {
        return Err(problem);
    }
    let unread = |piece: &Piece<'_>| {
        !matches!(piece, Piece::Text(_)) && ESCAPES.iter().any(|escape| piece.text().contains(escape))
    };
    if let Some(piece) = pieces(source).find(unread) {
        return Err(format!(
            "a string has an escape that is not supported, a line end or `\\N{{…}}`: {}",
            piece.text()
        ));
    }
    Ok(tuples::mark(&constants::guard(&namespaces::guard(&raw_blocks::keep_line_ends(source)))))
}
