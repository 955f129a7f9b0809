//! Subscripts that the engine reads otherwise than Jinja, as calls of methods.
//!
//! By the name of a dictionary's method: where Jinja finds no such item it takes the method, which is true, and `x['items']`
//! of a JSON schema without items is one. The engine asks for an item and tests whether there is one in the same way.
//!
//! With a step: where it is negative, the engine's ends are off by one.

use crate::python::values::is_dict_method;
use crate::rewriting::tags::{map_code, replaced, unquoted};

/// The method for an item.
pub(crate) const ITEM: &str = "__item";
/// The method for a slice with a step.
pub(crate) const SLICE: &str = "__slice";

/// Writes such subscripts as calls.
pub(crate) fn mark(source: &str) -> String {
    map_code(source, |piece| mark_code(piece.text()))
}

fn mark_code(code: &str) -> String {
    let mut opened: Vec<(u8, usize, Vec<usize>)> = Vec::new();
    let mut marks: Vec<(usize, String)> = Vec::new();
    for (at, byte) in unquoted(code) {
        match byte {
            b'(' | b'[' | b'{' => opened.push((byte, at, Vec::new())),
            b':' => opened.last_mut().into_iter().for_each(|(_, _, colons)| colons.push(at)),
            b')' | b']' | b'}' => {
                let Some((b'[', open, colons)) = opened.pop() else { continue };
                if !code[..open].ends_with(|c: char| c.is_alphanumeric() || "_)]}'\"".contains(c)) {
                    continue;
                }
                match colons[..] {
                    [] if names_method(&code[open + 1..at]) => {
                        marks.extend([(open, format!(".{ITEM}(")), (at, ")".into())]);
                    }
                    [first, second] => {
                        let none = |from: usize, to: usize| if code[from..to].trim().is_empty() { "none" } else { "" };
                        let (start, stop) = (none(open + 1, first), none(first + 1, second));
                        marks.extend([
                            (open, format!(".{SLICE}({start}")),
                            (first, format!(",{stop}")),
                            (second, format!(",{}", none(second + 1, at))),
                            (at, ")".into()),
                        ]);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    replaced(code, marks)
}

/// True for the name of a method in quotes.
fn names_method(subscript: &str) -> bool {
    let unquoted = |quote| subscript.trim().strip_prefix(quote)?.strip_suffix(quote);
    ['\'', '"'].into_iter().find_map(unquoted).is_some_and(is_dict_method)
}

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn subscripts_become_calls() {
        for (source, marked) in [
            ("{{ a['items']['x'][ \"keys\" ].b }}", "{{ a.__item('items')['x'].__item( \"keys\" ).b }}"),
            ("{{ a[1:b['keys'][0]:-1] }}", "{{ a.__slice(1,b.__item('keys')[0],-1) }}"),
            ("{{ 'a'[::-1] }}", "{{ 'a'.__slice(none,none,-1) }}"),
            ("{{ a[:2:] }}", "{{ a.__slice(none,2,none) }}"),
            ("{{ {'a': 1}['items'] }}", "{{ {'a': 1}.__item('items') }}"),
        ] {
            assert_eq!(mark(source), marked);
        }
    }

    #[test]
    fn others_are_left_alone() {
        for same in [
            "a['items']",
            "{{ ['items'] }}",
            "{{ a['item'][1:2][:][{'a': 1, 'b': 2}['a']] }}",
            "{{ a['items' ~ b] }}",
            "{{ \"a['items']\" }}",
            "{{ a[ ] ] }",
        ] {
            assert_eq!(mark(same), same);
        }
    }
}
