//! Jinja as `transformers` sets it up, on minijinja.

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};

use crate::json_text;
use crate::python::{clock, filters, jinja_tests, operators, strings, text, values};
use crate::rewriting::{constants, namespaces, tuples};

/// Instructions a template may run: a conversation of a thousand turns needs some hundred thousand, and at this
/// bound a template that loops is refused within a second.
pub(crate) const FUEL: u64 = 5_000_000;

/// The environment of chat templates.
pub(crate) fn python_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    environment.set_unknown_method_callback(|_, value, method, args| match value.as_str() {
        Some(text) => strings::call(value, text, method, args),
        None => values::call(value, method, args),
    });
    environment.set_formatter(|out, state: &State<'_, '_>, value| {
        if !matches!(state.auto_escape(), AutoEscape::None) {
            return Err(Error::new(ErrorKind::InvalidOperation, "`autoescape` is not supported"));
        }
        match value.as_str() {
            Some(text) => out.write_str(text)?,
            None => out.write_str(&text::str_of(value)?)?,
        }
        Ok(())
    });
    filters::add(&mut environment);
    jinja_tests::add(&mut environment);
    operators::add(&mut environment);
    namespaces::add_check(&mut environment);
    constants::add_variable(&mut environment);
    tuples::add_function(&mut environment);
    environment.add_filter("tojson", json_text::tojson);
    environment.remove_global("debug");
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(text::str_of(&message)?)))
    });
    environment.add_function("strftime_now", |format: &str| clock::strftime(&chrono::Local::now(), format));
    environment
}

/// Argument of `raise_exception`; distinguishes a refusal from the engine's own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// The message that a template refuses its conversation with.
pub(crate) fn refusal(error: &Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(Refusal(message)) = cause.downcast_ref() {
            return Some(message.clone());
        }
        next = cause.source();
    }
    None
}
