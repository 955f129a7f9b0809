//! Functions that a template's operators become where the engine's own do something else than Python's.

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error};

use crate::python::arguments::refused;
use crate::python::equality::{is_equal, is_in};
use crate::python::order::compare;
use crate::python::values::{is_any_tuple, is_lazy_list};
use crate::python::{arithmetic, text};
use crate::rewriting::operators::{ADDEND, COMPARE, CONCAT, DIVIDE};

/// Adds the functions.
pub(crate) fn add(environment: &mut Environment<'static>) {
    environment.add_function(CONCAT, |values: Rest<Value>| concat(&values));
    environment
        .add_function(DIVIDE, |left: &Value, operator: &str, right: &Value| arithmetic::divided(left, operator, right));
    environment.add_function(COMPARE, |chain: Rest<Value>| compared(&chain));
    environment.add_function(ADDEND, addend);
}

/// The texts of values, joined.
fn concat(values: &[Value]) -> Result<String, Error> {
    let mut out = String::new();
    for value in values {
        match value.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&text::str_of(value)?),
        }
    }
    Ok(out)
}

/// A chain of comparisons: values with operators between them.
fn compared(chain: &[Value]) -> Result<bool, Error> {
    for link in chain.windows(3).step_by(2) {
        let [left, operator, right] = link else { continue };
        let holds = match operator.as_str().unwrap_or_default() {
            "==" => is_equal(left, right)?,
            "!=" => !is_equal(left, right)?,
            "<" => compare(left, right)?.is_lt(),
            "<=" => compare(left, right)?.is_le(),
            ">" => compare(left, right)?.is_gt(),
            ">=" => compare(left, right)?.is_ge(),
            "in" => is_in(left, right)?,
            "not in" => !is_in(left, right)?,
            other => return Err(refused(other, "expected a comparison")),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A value that the engine adds and multiplies as Python does: tuples would become lists, and Python adds no views.
fn addend(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if is_any_tuple(&value) => {
            Err(refused("+", "tuples are not added or repeated here"))
        }
        ValueKind::Iterable if !is_lazy_list(&value) => Err(refused("+", "expected a list, got another iterable")),
        _ => Ok(value),
    }
}
