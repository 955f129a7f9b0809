//! Values that Python tells apart and the engine does not: its lists and dictionaries print as Python's, tuples print with
//! round brackets, a generator is run through once, and has neither length nor items.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Value, ValueIter, ValueKind};
use minijinja::{Error, ErrorKind, State};

use crate::python::arguments::{Arguments, refused};
use crate::python::{slice, text};
use crate::rewriting::subscripts;

/// A value of the context, whose lists and dictionaries print as Python's.
pub(crate) fn from_context(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Seq => list(value.try_iter().into_iter().flatten().map(|item| from_context(&item)).collect()),
        ValueKind::Map => {
            let keys = || value.try_iter().into_iter().flatten();
            let item = |key: &Value| value.get_item(key).unwrap_or_default();
            let is_flat = keys().all(|key| !matches!(item(&key).kind(), ValueKind::Seq | ValueKind::Map));
            let map = match is_flat {
                true => value.clone(),
                false => keys().map(|key| (key.clone(), from_context(&item(&key)))).collect(),
            };
            map.as_object().map_or(Value::UNDEFINED, |object| Value::from_object(Dict(object.clone())))
        }
        _ => value.clone(),
    }
}

pub(crate) fn list(items: Vec<Value>) -> Value {
    Value::from_object(Sequence { items, is_tuple: false })
}

pub(crate) fn tuple(items: Vec<Value>) -> Value {
    Value::from_object(Sequence { items, is_tuple: true })
}

/// The items of a value; an error for what Python cannot run through.
pub(crate) fn iterate(function: &str, value: &Value) -> Result<ValueIter, Error> {
    match value.kind() {
        ValueKind::None => Err(refused(function, "expected something to run through, got none")),
        _ => value.try_iter().map_err(|error| {
            refused(function, &format!("expected something to run through, got {}", value.kind())).with_source(error)
        }),
    }
}

/// Items with their keys, as tuples.
pub(crate) fn pairs(dict: &Value) -> impl Iterator<Item = Value> + use<> {
    let dict = dict.clone();
    let keys: Vec<Value> = dict.try_iter().into_iter().flatten().collect();
    keys.into_iter().map(move |key| {
        let item = dict.get_item(&key).unwrap_or_default();
        tuple(vec![key, item])
    })
}

/// A method of a list or a dictionary; an unknown method is the error of that kind.
pub(crate) fn call(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let is_list = value.kind() == ValueKind::Seq || is_lazy_list(value);
    match (value.kind(), method) {
        (ValueKind::Map, "keys" | "values" | "items") => {
            Arguments::bind(method, [], args)?;
            let of = match method {
                "keys" => Of::Keys,
                "values" => Of::Values,
                _ => Of::Items,
            };
            Ok(Value::from_object(View { dict: value.clone(), of }))
        }
        (ValueKind::Map, "get") => {
            let args = Arguments::bind(method, ["", ""], args)?;
            let found = value.as_object().and_then(|object| object.get_value(args.required(0).ok()?));
            args.required(0)?;
            Ok(found.unwrap_or_else(|| args.value(1).cloned().unwrap_or_else(|| Value::from(()))))
        }
        (ValueKind::Map, subscripts::ITEM) if !text::is_engines_own(value) => {
            let args = Arguments::bind(method, [""], args)?;
            let found = value.as_object().and_then(|object| object.get_value(args.value(0)?));
            Ok(found.or_else(|| self::method(value.clone(), args.value(0)?.as_str()?)).unwrap_or_default())
        }
        (_, subscripts::SLICE) if is_list => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let sliced = slice::items(&items, args)?;
            Ok(if is_tuple(value) { tuple(sliced) } else { list(sliced) })
        }
        (ValueKind::Map, "copy") => Arguments::bind(method, [], args).map(|_| value.clone()),
        _ if !is_list => Err(Error::from(ErrorKind::UnknownMethod)),
        (_, "copy") if !is_tuple(value) => Arguments::bind(method, [], args).map(|_| value.clone()),
        (_, "count") => {
            let args = Arguments::bind(method, [""], args)?;
            let wanted = args.required(0)?;
            Ok(Value::from(value.try_iter()?.filter(|item| item == wanted).count()))
        }
        (_, "index") => {
            let args = Arguments::bind(method, [""], args)?;
            let wanted = args.required(0)?;
            let found = value.try_iter()?.position(|item| item == *wanted);
            found.map(Value::from).ok_or_else(|| args.refuse("the value is not in the list"))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// A method of `dict`.
pub(crate) fn is_dict_method(name: &str) -> bool {
    method_of_dict(name).is_some()
}

/// True for a method of `dict` that changes nothing, false for one that does, which a template may not name.
fn method_of_dict(name: &str) -> Option<bool> {
    match name {
        "copy" | "fromkeys" | "get" | "items" | "keys" | "values" => Some(true),
        "clear" | "pop" | "popitem" | "setdefault" | "update" => Some(false),
        _ => None,
    }
}

/// A dictionary's method that is not called; undefined, as in Jinja's sandbox, where it is none that a template may name.
fn method(dict: Value, name: &str) -> Option<Value> {
    Some(match method_of_dict(name)? {
        true => Value::from_object(Method { dict, name: name.to_string() }),
        false => Value::UNDEFINED,
    })
}

fn print(this: Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&text::str_of(&this).unwrap_or_else(|error| error.to_string()))
}

/// A Python `list` or `tuple`.
#[derive(Debug)]
struct Sequence {
    items: Vec<Value>,
    is_tuple: bool,
}

impl Object for Sequence {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// True for tuples.
pub(crate) fn is_tuple(value: &Value) -> bool {
    value.downcast_object_ref::<Sequence>().is_some_and(|sequence| sequence.is_tuple)
}

/// True for tuples, and for those that the engine makes.
pub(crate) fn is_any_tuple(value: &Value) -> bool {
    is_tuple(value) || value.as_object().is_some_and(|object| object.type_name().ends_with("::GroupTuple"))
}

/// A Python `dict`. Its methods come before items of the same names where a template asks for an attribute.
#[derive(Debug)]
pub(crate) struct Dict(DynObject);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get_value(key)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match method_of_dict(key) {
            Some(_) => method(Value::from_dyn_object(Arc::clone(self)), key),
            None => self.0.get_value_by_str(key),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.0.enumerate()
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        self.0.enumerator_len()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// A method of a dictionary that is not called: true, and of no text.
#[derive(Debug)]
struct Method {
    dict: Value,
    name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        call(&self.dict, &self.name, args)
    }
}

#[derive(Debug)]
enum Of {
    Keys,
    Values,
    Items,
}

/// A view of a dictionary, as `dict.items()` returns.
#[derive(Debug)]
pub(crate) struct View {
    dict: Value,
    of: Of,
}

impl View {
    /// The name of its type.
    pub fn name(&self) -> &'static str {
        match self.of {
            Of::Keys => "dict_keys",
            Of::Values => "dict_values",
            Of::Items => "dict_items",
        }
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let items = pairs(&self.dict);
        let at = |index: usize| move |pair: Value| pair.get_item_by_index(index).unwrap_or_default();
        Enumerator::Values(match self.of {
            Of::Keys => items.map(at(0)).collect(),
            Of::Values => items.map(at(1)).collect(),
            Of::Items => items.collect(),
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        self.dict.len()
    }
}

/// A Python generator, or another iterator: what was taken from it is gone.
pub(crate) struct Generator(Mutex<VecDeque<Value>>);

impl Generator {
    pub fn of(items: impl IntoIterator<Item = Value>) -> Value {
        Value::from_object(Generator(Mutex::new(items.into_iter().collect())))
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<generator>")
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from(Error::new(ErrorKind::InvalidOperation, "a generator has no items")))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(Left(Arc::clone(self))))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// The rest of a generator.
struct Left(Arc<Generator>);

impl Iterator for Left {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.left().pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.left().len();
        (left, Some(left))
    }
}

/// True for generators.
pub(crate) fn is_generator(value: &Value) -> bool {
    value.downcast_object_ref::<Generator>().is_some()
}

/// The items of a value that is run through, none taken from it; `None` for one that cannot be looked through.
pub(crate) fn look_through(value: &Value) -> Option<Vec<Value>> {
    match value.downcast_object_ref::<Generator>() {
        Some(generator) => Some(generator.left().iter().cloned().collect()),
        None if is_lazy_list(value) || value.downcast_object_ref::<View>().is_some() => {
            Some(value.try_iter().ok()?.collect())
        }
        None => None,
    }
}

/// True for sequences that the engine makes item by item, where Python has a list: slices, sums and products.
pub(crate) fn is_lazy_list(value: &Value) -> bool {
    let named = |name: &str| {
        ["::ops::slice::", "::ops::repeat_iterable::", "::MergeSeq", "::groupby::"]
            .iter()
            .any(|part| name.contains(part))
    };
    value.kind() == ValueKind::Iterable && value.as_object().is_some_and(|object| named(object.type_name()))
}
