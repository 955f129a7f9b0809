//! Python's `==` and `in`: a list is no tuple, no view and no range, whatever their items.

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use crate::python::arguments::refused;
use crate::python::text::{self, is_engines_own};
use crate::python::values::{View, is_any_tuple, is_lazy_list, iterate};

/// `a == b`.
pub(crate) fn is_equal(a: &Value, b: &Value) -> Result<bool, Error> {
    equal_nested(a, b, 0)
}

fn equal_nested(a: &Value, b: &Value, depth: usize) -> Result<bool, Error> {
    if a.as_object().is_none() || b.as_object().is_none() {
        return Ok(a == b);
    }
    let refuse = |problem: &str| Err(refused("==", problem));
    let is_list = |value: &Value| value.kind() == ValueKind::Seq || is_lazy_list(value);
    let is_dict = |value: &Value| value.kind() == ValueKind::Map && !is_engines_own(value);
    match (is_list(a), is_list(b)) {
        _ if depth >= text::DEEPEST => refuse("the values are nested too deep"),
        (true, true) => {
            if is_any_tuple(a) != is_any_tuple(b) {
                return Ok(false);
            }
            let (mut left, mut right) = (a.try_iter()?, b.try_iter()?);
            loop {
                match (left.next(), right.next()) {
                    (Some(a), Some(b)) if equal_nested(&a, &b, depth + 1)? => {}
                    (None, None) => return Ok(true),
                    _ => return Ok(false),
                }
            }
        }
        _ if is_dict(a) && is_dict(b) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for key in a.try_iter()? {
                let Some(other) = b.as_object().and_then(|map| map.get_value(&key)) else { return Ok(false) };
                if !equal_nested(&a.get_item(&key)?, &other, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (true, false) | (false, true) => Ok(false),
        _ if is_dict(a) != is_dict(b) => Ok(false),
        _ => refuse(&format!("cannot tell whether {} and {} are equal", a.kind(), b.kind())),
    }
}

/// `value in container`.
pub(crate) fn is_in(value: &Value, container: &Value) -> Result<bool, Error> {
    match (container.as_str(), value.as_str()) {
        (Some(text), Some(part)) => return Ok(text.contains(part)),
        (Some(_), None) => return Err(refused("in", &format!("expected a string, got {}", value.kind()))),
        _ => {}
    }
    let has_keys = container.kind() == ValueKind::Map || container.downcast_object_ref::<View>().is_some();
    if has_keys && (!is_key(value) || is_engines_own(container)) {
        return Err(refused("in", &format!("cannot look for {} in {}", value.kind(), container.kind())));
    }
    if container.kind() == ValueKind::Map {
        return Ok(container.as_object().is_some_and(|map| map.get_value(value).is_some()));
    }
    for item in iterate("in", container)? {
        if is_equal(&item, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True for what a dictionary can hold a value under.
fn is_key(value: &Value) -> bool {
    is_any_tuple(value) || !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
}
