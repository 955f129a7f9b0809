//! Macros whose defaults name their own parameters. Jinja reads the parameters from left to right, the engine from right to
//! left, so the name stands for another value, or for none.

use crate::rewriting::tags::{Piece, pieces, unquoted, words};

/// The first such default, as a problem to tell.
pub(crate) fn problem(source: &str) -> Option<String> {
    let declares = |piece: &Piece<'_>| match (piece.tag_name(), piece.text().split_once("call")) {
        (Some("macro"), _) => true,
        // Other brackets are of the call itself.
        (Some("call"), Some((_, behind))) => behind.trim_start().starts_with('('),
        _ => false,
    };
    pieces(source).filter(declares).find_map(|piece| {
        let given = parameters(piece.text());
        let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        given.iter().find_map(|(name, default)| {
            let default = (*default)?;
            let (_, used) = words(default).find(|(at, word)| names.contains(word) && !is_attribute(default, *at))?;
            Some(format!("the default of the parameter `{name}` names another one, `{used}`, which is not supported"))
        })
    })
}

fn is_attribute(code: &str, at: usize) -> bool {
    code[..at].trim_end().ends_with(['.', '|'])
}

/// The parameters of a tag, with their defaults.
fn parameters<'a>(tag: &'a str) -> Vec<(&'a str, Option<&'a str>)> {
    let Some(open) = unquoted(tag).find(|(_, byte)| *byte == b'(').map(|(at, _)| at + 1) else { return Vec::new() };
    let (mut depth, mut start, mut found) = (0usize, open, Vec::new());
    for (at, byte) in unquoted(tag).filter(|(at, _)| *at >= open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' if depth == 0 => {
                found.push(&tag[start..at]);
                break;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                found.push(&tag[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    let split = |parameter: &'a str| match parameter.split_once('=') {
        Some((name, default)) => (name.trim(), Some(default)),
        None => (parameter.trim(), None),
    };
    found.into_iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn defaults_that_name_parameters_are_found() {
        for source in [
            "{% macro f(a, b=a) %}",
            "{%- macro f(a=[b], b=1) -%}",
            "{% macro f(a, b=g('x', a.y)) %}",
            "{% call(a, b=a) f() %}",
        ] {
            assert!(problem(source).is_some(), "{source}");
        }
        for source in [
            "{% macro f(a, b='a', c=x.a, d=(1, 2), e=x|a) %}{{ a }}",
            "{% macro f() %}",
            "{% call f(a=a) %}",
            "{# {% macro f(a, b=a) %} #}",
            "{% macro",
        ] {
            assert_eq!(problem(source), None, "{source}");
        }
    }
}
