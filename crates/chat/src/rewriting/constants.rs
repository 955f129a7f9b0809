//! `and` between constants: the engine works it out before a template runs, as `false` where Python keeps the operand.
//!
//! Between two operands that may be constants comes a variable that is true, so that none is left to work out early.

use minijinja::Environment;

use crate::rewriting::tags::{map_code, words};

/// The variable.
const TRUE: &str = "__true";

/// Puts the variable where it is needed; a template without such an `and` is unchanged.
pub(crate) fn guard(source: &str) -> String {
    map_code(source, |piece| {
        let text = piece.text();
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for (at, word) in words(text) {
            let end = at + word.len();
            if word == "and" && may_end_constant(&text[..at]) && may_start_constant(&text[end..]) {
                out.push_str(&text[done..end]);
                out.push_str(&format!(" {TRUE} and"));
                done = end;
            }
        }
        out + &text[done..]
    })
}

/// Adds the variable.
pub(crate) fn add_variable(environment: &mut Environment<'static>) {
    environment.add_global(TRUE, true);
}

const NAMED: [&str; 6] = ["true", "false", "none", "True", "False", "None"];

fn may_end_constant(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with(['\'', '"', ')', ']', '}'])
        || before.ends_with(|c: char| c.is_ascii_digit())
        || NAMED.iter().any(|name| before.ends_with(name))
}

fn may_start_constant(after: &str) -> bool {
    let after = after.trim_start();
    after.starts_with(['\'', '"', '(', '[', '{', '-'])
        || after.starts_with(|c: char| c.is_ascii_digit())
        || after.starts_with("not")
        || NAMED.iter().any(|name| after.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::guard;

    #[test]
    fn only_what_may_be_constant_is_guarded() {
        assert_eq!(guard("{{ '' and 'x' }}"), "{{ '' and __true and 'x' }}");
        assert_eq!(guard("{% if 1 and not 2 and none %}"), "{% if 1 and __true and not 2 and __true and none %}");
        for same in ["{{ a and 1 }}", "{{ 1 and a }}", "1 and 2", "{# 1 and 2 #}", "{{ '1 and 2' }}", "{{ 1 or 2 }}"] {
            assert_eq!(guard(same), same);
        }
    }
}
