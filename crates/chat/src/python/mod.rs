//! Python's values, methods of `str`, filters and tests, as far as chat templates meet them.

pub(crate) mod arguments;
pub(crate) mod arithmetic;
pub(crate) mod case;
pub(crate) mod classes;
pub(crate) mod clock;
pub(crate) mod equality;
pub(crate) mod filters;
pub(crate) mod format;
pub(crate) mod jinja_tests;
pub(crate) mod numbers;
pub(crate) mod operators;
pub(crate) mod order;
pub(crate) mod slice;
pub(crate) mod strings;
pub(crate) mod text;
pub(crate) mod values;
