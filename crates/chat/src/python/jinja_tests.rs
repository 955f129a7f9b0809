//! Jinja's tests, where the engine's own tell something else.

use std::cmp::Ordering;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error};

use crate::python::arguments::{refused, whole};
use crate::python::classes;
use crate::python::equality::{is_equal, is_in};
use crate::python::order::compare;
use crate::python::text::str_of;
use crate::python::values::is_lazy_list;

/// Adds them, and removes those that Jinja has not.
pub(crate) fn add(environment: &mut Environment<'static>) {
    for name in ["int", "safe", "startingwith", "endingwith"] {
        environment.remove_test(name);
    }
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    // In Jinja a string has a length and items, so it is a sequence; so is a mapping.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
            || is_lazy_list(value)
            || is_range(value)
            || value.is_undefined()
    });
    environment.add_test("iterable", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Iterable)
            || value.is_undefined()
    });
    environment.add_test("callable", |value: &Value| {
        let is_called = |name: &str| name.ends_with("::Macro") || name.ends_with("::Loop");
        value.is_undefined()
            || value.kind() == ValueKind::Plain
            || value.as_object().is_some_and(|object| is_called(object.type_name()))
    });
    environment.add_test("lower", |value: &Value| classes::is("islower", &str_of(value)?));
    environment.add_test("upper", |value: &Value| classes::is("isupper", &str_of(value)?));
    environment.add_test("divisibleby", divisible_by);
    environment.add_test("in", is_in);
    for name in ["eq", "equalto", "=="] {
        environment.add_test(name, is_equal);
    }
    for name in ["ne", "!="] {
        environment.add_test(name, |a: &Value, b: &Value| is_equal(a, b).map(|equal| !equal));
    }
    environment.add_test("odd", |value: &Value| Ok::<_, Error>(rest_of_two("odd", value)? == 1.0));
    environment.add_test("even", |value: &Value| Ok::<_, Error>(rest_of_two("even", value)? == 0.0));
    type Wanted = fn(Ordering) -> bool;
    let orders: [([&str; 3], Wanted); 4] = [
        (["lt", "lessthan", "<"], Ordering::is_lt),
        (["le", "le", "<="], Ordering::is_le),
        (["gt", "greaterthan", ">"], Ordering::is_gt),
        (["ge", "ge", ">="], Ordering::is_ge),
    ];
    for (names, wanted) in orders {
        for name in names {
            environment.add_test(name, move |a: &Value, b: &Value| compare(a, b).map(wanted));
        }
    }
}

/// True for what `range` returns.
fn is_range(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().contains("::range::"))
}

fn divisible_by(value: &Value, by: &Value) -> Result<bool, Error> {
    let given = (whole(value), whole(by));
    let (Some(value), Some(by)) = given else {
        return Err(refused("divisibleby", "expected integers"));
    };
    value.checked_rem(by).map(|rest| rest == 0).ok_or_else(|| refused("divisibleby", "expected no zero"))
}

/// A number modulo two.
fn rest_of_two(test: &str, value: &Value) -> Result<f64, Error> {
    match (whole(value), value.kind()) {
        (Some(whole), _) => Ok(whole.rem_euclid(2) as f64),
        (None, ValueKind::Number) if !value.is_integer() => Ok(f64::try_from(value.clone())?.rem_euclid(2.0)),
        (None, kind) => Err(refused(test, &format!("expected a number, got {kind}"))),
    }
}
