//! Namespaces that hold themselves. Only they can: every other value of a template is made of values that were there before.
//! Such a one is never freed, and the engine's own text of it has no end.
//!
//! A namespace comes into itself by `{% set a.x = … %}` alone, from a value that names one without `.` or `[…]` behind it.
//! Templates in use name theirs in no such way and are left as they are; in others, each such assignment is checked.

use std::collections::BTreeSet;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use crate::python::values;
use crate::rewriting::tags::{Piece, pieces, unquoted, words};

/// The function that assigned values pass through.
const CHECK: &str = "__without_namespace";

/// Lets assignments to namespaces check their values, where a namespace may be among them.
pub(crate) fn guard(source: &str) -> String {
    if !may_hold_another(source) {
        return source.to_owned();
    }
    let guarded = |piece: Piece<'_>| match Assignment::of(piece) {
        Some(set) if set.to_attribute() => {
            let Assignment { before, value, after, .. } = set;
            format!("{before}{CHECK}(({value})){after}")
        }
        _ => piece.text().to_owned(),
    };
    pieces(source).map(guarded).collect()
}

/// Adds the function.
pub(crate) fn add_check(environment: &mut Environment<'static>) {
    environment.add_function(CHECK, |value: Value| {
        if holds_namespace(&value) {
            let message = "a namespace is put into a namespace, which might hold itself";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        Ok(value)
    });
}

/// True for a value in which a namespace is, or may be: a lazy one cannot be looked through.
fn holds_namespace(value: &Value) -> bool {
    let mut left = vec![value.clone()];
    while let Some(value) = left.pop() {
        if value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace")) {
            return true;
        }
        match value.kind() {
            ValueKind::Iterable => match values::look_through(&value) {
                Some(items) => left.extend(items),
                None => return true,
            },
            ValueKind::Seq => left.extend(value.try_iter().into_iter().flatten()),
            ValueKind::Map => {
                for key in value.try_iter().into_iter().flatten() {
                    left.extend(value.get_item(&key));
                    left.push(key);
                }
            }
            _ => {}
        }
    }
    false
}

/// `{% set … = … %}`.
struct Assignment<'a> {
    target: &'a str,
    /// Up to and with the `=`.
    before: &'a str,
    value: &'a str,
    /// The end of the tag.
    after: &'a str,
}

impl<'a> Assignment<'a> {
    fn of(piece: Piece<'a>) -> Option<Self> {
        let (Some("set"), tag) = (piece.tag_name(), piece.text()) else { return None };
        let (equals, _) = unquoted(tag).find(|(_, byte)| *byte == b'=')?;
        let begun = tag.find("set")? + "set".len();
        let end = tag.strip_suffix("%}")?.trim_end_matches(['-', '+']).len();
        let target = tag.get(begun..equals)?.trim();
        let is_target = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c);
        if !target.chars().all(is_target) {
            return None;
        }
        Some(Assignment { target, before: &tag[..=equals], value: tag.get(equals + 1..end)?, after: &tag[end..] })
    }

    /// True where it assigns to an attribute, which only namespaces have.
    fn to_attribute(&self) -> bool {
        self.target.contains('.')
    }

    /// The arguments of the `namespace(…)` that is all of its value.
    fn made_of(&self) -> Option<&'a str> {
        let arguments =
            self.value.trim().strip_prefix("namespace")?.trim_start().strip_prefix('(')?.strip_suffix(')')?;
        let mut depth = 0i32;
        let closed = unquoted(arguments).any(|(_, byte)| {
            depth += i32::from(byte == b'(') - i32::from(byte == b')');
            depth < 0
        });
        (!closed).then_some(arguments)
    }
}

/// True if a namespace is named where its value may go somewhere else.
fn may_hold_another(source: &str) -> bool {
    let assignments = || pieces(source).filter_map(Assignment::of);
    let named: BTreeSet<&str> = assignments()
        .filter(|set| set.to_attribute() || set.made_of().is_some())
        .flat_map(|set| words(set.target).map(|(_, word)| word))
        .collect();
    let escapes = |code: &str| {
        words(code).any(|(at, word)| {
            let (before, after) = (code[..at].trim_end(), code[at + word.len()..].trim_start());
            let is_value = !before.ends_with(['.', '|']) && !after.starts_with(['.', '[']);
            let is_keyword = after.starts_with('=') && !after.starts_with("==");
            word == "namespace" || named.contains(word) && is_value && !is_keyword
        })
    };
    !named.is_empty()
        && pieces(source).any(|piece| match (Assignment::of(piece), piece) {
            (Some(set), _) => escapes(set.made_of().unwrap_or(set.value)),
            (None, Piece::Text(_)) => false,
            (None, piece) => escapes(piece.text()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_that_keep_namespaces_to_themselves_are_left_alone() {
        for source in [
            "{% set ns = namespace(a='ns', b=-1) %}{% set ns.a = ns.b + 1 %}{{ ns.a }}{% if ns.a == 'ns' %}{% endif %}",
            "{% set ns = namespace(found=false) %}{% for m in messages %}{%- set ns.found = m['ns'] -%}{% endfor %}",
            "{# ns #}{% raw %}{% set a.x = a %}{% endraw %} ns {{ f(ns=1) }}",
            "{% set x = 'namespace' %}{{ namespace }}",
            "{% set ns = namespace(a=f(1)) %}{% set ns.a = 1 %}",
        ] {
            assert_eq!(guard(source), source);
        }
    }

    #[test]
    fn assignments_are_checked_where_a_namespace_may_go_elsewhere() {
        for (source, guarded) in [
            (
                "{% set ns = namespace() %}{%- set ns.x = [ns], 1 -%}",
                "{%- set ns.x =__without_namespace(( [ns], 1 ))-%}",
            ),
            ("{% set a = namespace(b=namespace()) %}{% set a.b.c = 1 %}", "{% set a.b.c =__without_namespace(( 1 ))%}"),
            ("{% set a = namespace(b=1) ~ f(c=2) %}{% set a.b = 1 %}", "{% set a.b =__without_namespace(( 1 ))%}"),
            ("{% for n in [namespace()] %}{% set n.x = 1 %}{% endfor %}", "{% set n.x =__without_namespace(( 1 ))%}"),
            ("{% set a = namespace() %}{% set b = a %}{% set a.x = 1 %}", "{% set a.x =__without_namespace(( 1 ))%}"),
            (
                "{% macro f(m, v) %}{% set m.x = v %}{% endmacro %}{{ f(namespace(), 1) }}",
                "=__without_namespace(( v ))",
            ),
        ] {
            assert!(guard(source).contains(guarded), "{}", guard(source));
        }
    }
}
