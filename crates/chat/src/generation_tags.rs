//! `{% generation %}…{% endgeneration %}`, the block `transformers` adds to Jinja to mark the assistant's tokens.
//!
//! It renders its body in a scope of its own and nothing else, so before parsing the tag becomes an empty
//! `{% with %}`, which does just that. Only real block tags change: comments, raw blocks, expressions, and
//! strings inside tags are stepped over.

/// Rewrites the tags; everything else, whitespace control included, is unchanged.
pub(crate) fn rewrite(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    while let Some(at) = rest.find('{') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let length = match tail.as_bytes().get(1) {
            Some(b'#') if !raw => tail.find("#}").map_or(tail.len(), |end| end + 2),
            Some(b'{') if !raw => closing(tail, "}}"),
            Some(b'%') => closing(tail, "%}"),
            _ => 1,
        };
        let (token, after) = tail.split_at(length);
        match tag_name(token) {
            Some("endraw") => {
                raw = false;
                out.push_str(token);
            }
            // inside a raw block what looks like a tag is text, and may hold an unbalanced quote
            _ if raw => {
                out.push('{');
                rest = &tail[1..];
                continue;
            }
            Some("raw") => {
                raw = true;
                out.push_str(token);
            }
            Some("generation") => out.push_str(&token.replacen("generation", "with", 1)),
            Some("endgeneration") => out.push_str(&token.replacen("endgeneration", "endwith", 1)),
            _ => out.push_str(token),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The length of a tag up to and with its closing mark, strings stepped over; all of it when it never closes.
fn closing(tag: &str, mark: &str) -> usize {
    let bytes = tag.as_bytes();
    let mut at = 2;
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'\'' | b'"')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(mark.as_bytes()) => return at + mark.len(),
            _ => {}
        }
        at += 1;
    }
    tag.len()
}

/// The first word of a `{% … %}` tag.
fn tag_name(token: &str) -> Option<&str> {
    let inner = token.strip_prefix("{%")?;
    let inner = inner.trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    Some(&inner[..end])
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn tags_become_a_scope_and_keep_their_whitespace_control() {
        assert_eq!(rewrite("a{%- generation -%}b{% endgeneration +%}c"), "a{%- with -%}b{% endwith +%}c");
    }

    #[test]
    fn what_only_looks_like_a_tag_is_left_alone() {
        for text in [
            "{# {% generation %} #}x",
            "{{ '{% generation %}' }}",
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
        assert_eq!(rewrite("{% raw %}'{{{% endraw %}{% generation %}"), "{% raw %}'{{{% endraw %}{% with %}");
    }
}
