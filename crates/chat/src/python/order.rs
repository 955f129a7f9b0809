//! Python's order of values, and the filters that sort by it. Values of different kinds have none, which is an error.

use std::cmp::Ordering;

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use crate::python::arguments::{Arguments, refused};
use crate::python::text;
use crate::python::values::{is_any_tuple, iterate, list, pairs};

/// The order of two values.
pub(crate) fn compare(a: &Value, b: &Value) -> Result<Ordering, Error> {
    compare_nested(a, b, 0)
}

fn compare_nested(a: &Value, b: &Value, depth: usize) -> Result<Ordering, Error> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    let none = || refused("order", &format!("{} and {} have none", a.kind(), b.kind()));
    match (a.kind(), b.kind()) {
        (ValueKind::String, ValueKind::String) => Ok(a.as_str().cmp(&b.as_str())),
        _ if is_number(a) && is_number(b) => {
            let number = |value: &Value| match value.kind() {
                ValueKind::Bool => Value::from(i64::from(value.is_true())),
                _ => value.clone(),
            };
            let is_nan = |value: &Value| f64::try_from(value.clone()).is_ok_and(f64::is_nan);
            if is_nan(a) || is_nan(b) { Err(none()) } else { Ok(number(a).cmp(&number(b))) }
        }
        (ValueKind::Seq, ValueKind::Seq) if depth < text::DEEPEST && is_any_tuple(a) == is_any_tuple(b) => {
            let (mut left, mut right) = (a.try_iter()?, b.try_iter()?);
            loop {
                match (left.next(), right.next()) {
                    (Some(a), Some(b)) if a == b => {}
                    (Some(a), Some(b)) => return compare_nested(&a, &b, depth + 1),
                    (a, b) => return Ok(a.is_some().cmp(&b.is_some())),
                }
            }
        }
        _ => Err(none()),
    }
}

/// `sort(value, reverse=False, case_sensitive=False, attribute=None)`.
pub(crate) fn sort(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("sort", ["value", "reverse", "case_sensitive", "attribute"], args)?;
    let items = iterate("sort", args.required(0)?)?;
    let keyed = items.map(|item| Ok((sort_key(&item, args.value(3), args.truth(2))?, item)));
    let sorted = sort_by_key(keyed.collect::<Result<_, Error>>()?, args.truth(1))?;
    Ok(list(sorted))
}

/// `min` or `max` of `(value, case_sensitive=False, attribute=None)`: the first of the least or greatest.
pub(crate) fn extreme(filter: &str, args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind(filter, ["value", "case_sensitive", "attribute"], args)?;
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(filter, args.required(0)?)? {
        let key = sort_key(&item, args.value(2), args.truth(1))?;
        let is_better = match &best {
            None => true,
            Some((best, _)) if filter == "min" => compare(&key, best)?.is_lt(),
            Some((best, _)) => compare(&key, best)?.is_gt(),
        };
        if is_better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

/// `dictsort(value, case_sensitive=False, by='key', reverse=False)`.
pub(crate) fn dictsort(args: &[Value]) -> Result<Value, Error> {
    let args = Arguments::bind("dictsort", ["value", "case_sensitive", "by", "reverse"], args)?;
    let value = args.required(0)?;
    if value.kind() != ValueKind::Map {
        return Err(args.refuse(&format!("expected a dictionary, got {}", value.kind())));
    }
    let place = match args.value(2).map_or(Ok("key"), |_| args.text(2))? {
        "key" => 0,
        "value" => 1,
        other => return Err(args.refuse(&format!("expected `by` as key or value, got {other:?}"))),
    };
    let keyed = pairs(value).map(|pair| Ok((folded(pair.get_item_by_index(place)?, args.truth(1)), pair)));
    let sorted = sort_by_key(keyed.collect::<Result<_, Error>>()?, args.truth(3))?;
    Ok(list(sorted))
}

/// Items in the order of their keys; equal ones stay in theirs.
fn sort_by_key(mut keyed: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<Value>, Error> {
    let mut failed = None;
    keyed.sort_by(|(a, _), (b, _)| {
        let order = compare(a, b).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            // The engine's order is total, which sorting needs until it ends.
            a.cmp(b)
        });
        if reverse { order.reverse() } else { order }
    });
    failed.map_or(Ok(()), Err)?;
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

/// The key of an item: itself, or its attributes, whose names a comma parts.
fn sort_key(item: &Value, attribute: Option<&Value>, case_sensitive: bool) -> Result<Value, Error> {
    match attribute {
        Some(names) if !names.is_none() => {
            let Some(text) = names.as_str() else { return Ok(folded(item.get_item(names)?, case_sensitive)) };
            let keys = text.split(',').map(|path| Ok(folded(attribute_of(item, path)?, case_sensitive)));
            Ok(Value::from(keys.collect::<Result<Vec<Value>, Error>>()?))
        }
        _ => Ok(folded(item.clone(), case_sensitive)),
    }
}

/// The value that a path such as `function.name` or `0` leads to.
pub(crate) fn attribute_of(item: &Value, path: &str) -> Result<Value, Error> {
    path.split('.').try_fold(item.clone(), |value, part| match part.parse::<usize>() {
        Ok(index) => value.get_item_by_index(index),
        Err(_) => value.get_item(&Value::from(part)),
    })
}

fn folded(key: Value, case_sensitive: bool) -> Value {
    match key.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => key,
    }
}
