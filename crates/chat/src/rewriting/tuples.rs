//! Tuples in a template's text: the engine reads `(1, 2)` as a list, which prints otherwise and is no tuple to `startswith`.

use minijinja::value::Value;
use minijinja::{Environment, Error};

use crate::python::values;
use crate::rewriting::tags::{Piece, map_code, replaced, unquoted, words};

/// The function that makes a tuple of a list.
const MAKE: &str = "__tuple";
/// Words that a bracket behind them does not call. Behind `in` a tuple is as good as a list.
const OPERATORS: [&str; 7] = ["and", "or", "not", "is", "if", "else", "elif"];

/// Lets brackets with a comma make tuples, and values with one that are assigned.
pub(crate) fn mark(source: &str) -> String {
    map_code(source, |piece| {
        let text = piece.text();
        let brackets = tuples(text, targets_end(piece)).into_iter();
        let mut places: Vec<(usize, &str)> =
            brackets.flat_map(|(open, close)| [(open, "__tuple(["), (close, "])")]).collect();
        if let Some((equals, end)) = bare_tuple(piece) {
            let closed = match text.as_bytes()[end] {
                b'-' => "])-",
                b'+' => "])+",
                _ => "])%",
            };
            places.extend([(equals, "= __tuple(["), (end, closed)]);
        }
        replaced(text, places)
    })
}

/// The `=` and the end of `{% set x = 1, 2 %}`.
fn bare_tuple(piece: Piece<'_>) -> Option<(usize, usize)> {
    let (Some("set"), tag) = (piece.tag_name(), piece.text()) else { return None };
    let (mut depth, mut equals, mut has_comma) = (0usize, None, false);
    for (at, byte) in unquoted(tag) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            // In brackets it names an argument: the tag is a block then. The brace of the tag is open throughout.
            b'=' if equals.is_none() && depth == 1 => equals = Some(at),
            b',' => has_comma |= equals.is_some() && depth == 1,
            _ => {}
        }
    }
    let end = tag.strip_suffix("%}")?.trim_end_matches(['-', '+']).len();
    equals.filter(|_| has_comma).map(|equals| (equals, end))
}

/// Adds the function.
pub(crate) fn add_function(environment: &mut Environment<'static>) {
    environment
        .add_function(MAKE, |items: Value| -> Result<Value, Error> { Ok(values::tuple(items.try_iter()?.collect())) });
}

/// The end of what a tag assigns to: brackets before it are no values.
fn targets_end(piece: Piece<'_>) -> usize {
    let text = piece.text();
    match piece.tag_name() {
        Some("for") => words(text).find(|(_, word)| *word == "in").map_or(text.len(), |(at, _)| at),
        Some("set" | "with") => unquoted(text).find(|(_, byte)| *byte == b'=').map_or(text.len(), |(at, _)| at),
        _ => 0,
    }
}

/// The brackets of tuples, as places of their openings and ends.
fn tuples(code: &str, from: usize) -> Vec<(usize, usize)> {
    let (mut opened, mut found) = (Vec::new(), Vec::new());
    for (at, byte) in unquoted(code).filter(|(at, _)| *at >= from) {
        match byte {
            b'(' | b'[' | b'{' => opened.push((at, byte == b'(' && is_value(code, at), false)),
            b',' => {
                if let Some((_, _, has_comma)) = opened.last_mut() {
                    *has_comma = true;
                }
            }
            b')' | b']' | b'}' => match opened.pop() {
                Some((open, true, has_comma)) if has_comma || code[open + 1..at].trim().is_empty() => {
                    found.push((open, at));
                }
                _ => {}
            },
            _ => {}
        }
    }
    found
}

/// True for a bracket that groups, where others call.
fn is_value(code: &str, open: usize) -> bool {
    let before = code[..open].trim_end();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = &before[before.trim_end_matches(is_word).len()..];
    match word {
        "" => !before.ends_with([')', ']', '\'', '"']) && !before.ends_with('}'),
        word => OPERATORS.contains(&word) && !before[..before.len() - word.len()].trim_end().ends_with(['.', '|']),
    }
}

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn brackets_with_a_comma_are_marked() {
        for (source, marked) in [
            ("{{ (1, 2) }}", "{{ __tuple([1, 2]) }}"),
            ("{{ f((1, (2,)), ()) }}", "{{ f(__tuple([1, __tuple([2,])]), __tuple([])) }}"),
            ("{% set (a, b) = (1, ')') %}", "{% set (a, b) = __tuple([1, ')']) %}"),
            ("{% set x = 1, (2, [3]) -%}", "{% set x = __tuple([ 1, __tuple([2, [3]]) ])-%}"),
            ("{% set x = f(1), a == 2 %}", "{% set x = __tuple([ f(1), a == 2 ])%}"),
            ("{% set x = 1, +%}", "{% set x = __tuple([ 1, ])+%}"),
            ("{%- set x.y = 'a', %}", "{%- set x.y = __tuple([ 'a', ])%}"),
            ("{% for (a, b) in x if not (a, b) %}", "{% for (a, b) in x if not __tuple([a, b]) %}"),
        ] {
            assert_eq!(mark(source), marked);
        }
    }

    #[test]
    fn other_brackets_are_left_alone() {
        for same in [
            "(1, 2)",
            "{{ (1 + 2) * f(1, 2)(3, 4) }}",
            "{{ x in ('a', 'b') }}",
            "{{ x.if(1, 2) or [(1), '(1, 2)'] }}",
            "{% set a, b = [1, ', '] %}{% set a | f(b=1, c=2) %}{% set a = f(1, 2) == {'b': 1, 'c': 2} %}",
            "{% macro f(a, b) %}{% call(a, b) f(1, 2) %}",
            "{{ x is f(1, 2) }}{{ ([1, 2]) }}{# (1, 2) #}",
            "{{ ) }}",
            "{% for a, (b, c) in d %}{% set a, (b, c) = d %}{% with a, (b, c) = d %}",
        ] {
            assert_eq!(mark(same), same);
        }
    }
}
