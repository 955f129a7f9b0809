//! The line end behind `{% raw %}`: Jinja keeps it, the engine takes it away as behind other tags.

use crate::rewriting::tags::pieces;

/// Gives a raw block that begins with a line end another one to be taken away.
pub(crate) fn keep_line_ends(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut begins = false;
    for piece in pieces(source) {
        let text = piece.text();
        out.push_str(if begins && text.starts_with('\n') { "\n" } else { "" });
        out.push_str(text);
        begins = piece.tag_name() == Some("raw") && !text.ends_with("-%}") && !text.ends_with("+%}");
    }
    out
}
