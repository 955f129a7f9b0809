//! `{% generation %}…{% endgeneration %}`, the block `transformers` adds to Jinja to mark the assistant's tokens.
//!
//! It renders its body in a scope of its own and nothing else, so before parsing the tag becomes an empty
//! `{% with %}`, which does just that. Only real block tags change: comments, raw blocks, expressions, and
//! strings inside tags are stepped over. To find what a block writes, its body is put between two marks.

use std::ops::Range;

use crate::rewriting::tags::pieces;

/// Marks around the text of a block: noncharacters of Unicode, which are for internal use.
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// Rewrites the tags; everything else, whitespace control included, is unchanged.
pub(crate) fn rewrite(source: &str) -> String {
    replace(source, &|token| token.replacen("generation", "with", 1), &|token| {
        token.replacen("endgeneration", "endwith", 1)
    })
}

/// As [`rewrite`], with a mark before and after what each block writes. An `{% if true %}` inside the marks keeps the
/// whitespace control of the tags.
pub(crate) fn mark(source: &str) -> String {
    let [open, close] = MARKS;
    let inner = |token: &str, name: &str, new: &str| {
        let control = token.split_once(name).map_or("", |(_, after)| after);
        format!("{{% {new}{control}")
    };
    let outer = |token: &str, name: &str, new: &str| {
        let control = token.split_once(name).map_or("", |(before, _)| before);
        format!("{control}{new} %}}")
    };
    replace(
        source,
        &|token| {
            let with = outer(token, "generation", "with");
            format!("{with}{{{{ '{open}' }}}}{}", inner(token, "generation", "if true"))
        },
        &|token| {
            let endif = outer(token, "endgeneration", "endif");
            format!("{endif}{{{{ '{close}' }}}}{}", inner(token, "endgeneration", "endwith"))
        },
    )
}

/// A rendering of a [`mark`]ed template without its marks, and the bytes that were between them; `None` where they do not
/// pair up.
pub(crate) fn unmark(marked: &str) -> Option<(String, Vec<Range<usize>>)> {
    let mut text = String::with_capacity(marked.len());
    let (mut spans, mut opened) = (Vec::new(), None);
    for part in marked.split_inclusive(MARKS) {
        match part.strip_suffix(MARKS) {
            None => text.push_str(part),
            Some(before) => {
                text.push_str(before);
                opened = match (part.ends_with(MARKS[0]), opened) {
                    (true, None) => Some(text.len()),
                    (false, Some(start)) => {
                        spans.push(start..text.len());
                        None
                    }
                    _ => return None,
                };
            }
        }
    }
    opened.is_none().then_some((text, spans))
}

fn replace(source: &str, open: &dyn Fn(&str) -> String, close: &dyn Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(source.len());
    for piece in pieces(source) {
        match (piece.tag_name(), piece.text()) {
            (Some("generation"), tag) => out.push_str(&open(tag)),
            (Some("endgeneration"), tag) => out.push_str(&close(tag)),
            (_, text) => out.push_str(text),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{mark, rewrite, unmark};

    #[test]
    fn tags_become_a_scope_and_keep_their_whitespace_control() {
        assert_eq!(rewrite("a{%- generation -%}b{% endgeneration +%}c"), "a{%- with -%}b{% endwith +%}c");
    }

    #[test]
    fn marks_keep_the_whitespace_control() {
        let marked = mark("a {%- generation +%} b {% endgeneration -%} c");
        let expected = "a {%- with %}{{ '\u{fdd0}' }}{% if true +%} b {% endif %}{{ '\u{fdd1}' }}{% endwith -%} c";
        assert_eq!(marked, expected);
        let (text, spans) = unmark("ab\u{fdd0}cd\u{fdd1}e\u{fdd0}\u{fdd1}").unwrap();
        assert_eq!((text.as_str(), &spans[..]), ("abcde", &[2..4, 5..5][..]));
        assert!(unmark("a\u{fdd1}").is_none() && unmark("\u{fdd0}a").is_none());
    }

    #[test]
    fn what_only_looks_like_a_tag_is_left_alone() {
        for text in [
            "{# {% generation %} #}x",
            "{{ '{% generation %}' }}",
            r"{{ 'a\' }}{% generation %}' }}",
            "{% if x == \"%}{% generation %}\" %}y{% endif %}",
            "{% raw %}{% generation %}'{% endraw %}",
            "{% set generation = 1 %}{{ generation }}",
            "{ % generation % }",
            "{% generation",
            "é{",
        ] {
            let expected = if text == "{% generation" { "{% with" } else { text };
            assert_eq!(rewrite(text), expected);
        }
    }

    #[test]
    fn after_a_raw_block_tags_count_again() {
        for raw in ["'{{", "{#"] {
            let block = format!("{{% raw %}}{raw}{{% endraw %}}");
            assert_eq!(rewrite(&format!("{block}{{% generation %}}")), format!("{block}{{% with %}}"));
        }
    }

    #[test]
    fn what_is_before_a_tag_ends_where_it_closes() {
        for before in ["{# {{#}", r"{{ 'a\\' }}", "{{}}", "{##}", "{% set a = '%}' %}", "{{ \"'\" }}", "é{é"] {
            assert_eq!(rewrite(&format!("{before}{{% generation %}}")), format!("{before}{{% with %}}"));
        }
    }
}
