//! GitHub Markdown: tables, inline HTML, autolinks and mentions are all escaped.

use super::{line, visible};

/// Text for a paragraph or a table cell, on one line: nothing in it is markup, a link, a mention or raw HTML. What
/// only acts next to a bracket (parentheses, exclamation marks) may stay, because brackets do not.
pub fn text(text: &str) -> String {
    let line = line(text);
    let has_www = line.to_ascii_lowercase().contains("www.");
    let mut out = String::with_capacity(line.len() + 8);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_word = chars.peek().is_some_and(|next| !next.is_whitespace());
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // autolinks (`http:`, `www.`), issue numbers and mentions work without brackets; references stop them
            ':' if next_is_word => out.push_str("&#58;"),
            '.' if has_www => out.push_str("&#46;"),
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// An inline code span for a table cell. A pipe ends a cell even inside code, so it is escaped the way GitHub's tables undo.
pub fn code_in_cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// An inline code span for a paragraph; the fence is longer than any run of backticks inside.
pub fn code(text: &str) -> String {
    let shown = line(text);
    let fence = "`".repeat(longest_run(&shown, '`') + 1);
    let pad = if shown.is_empty() || shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{shown}{pad}{fence}")
}

/// A fenced block that no line of the text can close.
pub fn fence(text: &str) -> String {
    let shown = visible(text);
    let fence = "`".repeat(longest_run(&shown, '`').max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", shown.trim_end_matches('\n'))
}

fn longest_run(text: &str, of: char) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == of { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_links_mentions_and_html_are_inert() {
        assert_eq!(
            text("a|b <script> [x](javascript:alert(1)) @you #1 https://e.x ``"),
            "a\\|b &lt;script&gt; \\[x\\](javascript&#58;alert(1)) &#64;you &#35;1 https&#58;//e.x \\`\\`"
        );
        assert_eq!(text("www.example.com"), "www&#46;example&#46;com");
        assert_eq!(text("one: two\nthree!"), "one: two⏎three!");
    }

    #[test]
    fn code_spans_and_fences_outgrow_their_content() {
        assert_eq!(code("eos_rate"), "`eos_rate`");
        assert_eq!(code("a``|b`"), "``` a``|b` ```");
        assert_eq!(code_in_cell("a``|b`"), "``` a``\\|b` ```");
        assert_eq!(fence("x\n````\ny\n"), "`````text\nx\n````\ny\n`````\n");
    }
}
