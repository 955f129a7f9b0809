//! Arguments of Python's functions, given by position or by name.

use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Error, ErrorKind};

/// The largest width or count that a function takes.
pub(crate) const WIDEST: usize = 10_000;
/// The largest text that a function makes of a smaller one, in bytes.
const LARGEST: usize = 100_000_000;

/// The arguments of one call, in the order of the function's parameters.
pub(crate) struct Arguments<'a, const N: usize> {
    function: &'a str,
    given: [Option<Value>; N],
}

impl<'a, const N: usize> Arguments<'a, N> {
    /// Reads a call; a parameter whose name is empty takes no keyword.
    pub fn bind(function: &'a str, names: [&str; N], args: &[Value]) -> Result<Self, Error> {
        let (positional, keywords): (&[Value], Kwargs) = from_args(args)?;
        if positional.len() > N {
            return Err(refused(function, &format!("expected at most {N} arguments, got {}", positional.len())));
        }
        let mut given = [const { None }; N];
        for (index, (slot, name)) in given.iter_mut().zip(names).enumerate() {
            let keyword =
                if keywords.has(name) && !name.is_empty() { Some(keywords.get::<Value>(name)?) } else { None };
            *slot = match (positional.get(index), keyword) {
                (Some(_), Some(_)) => return Err(refused(function, &format!("`{name}` is given twice"))),
                (Some(value), None) => Some(value.clone()),
                (None, keyword) => keyword,
            };
        }
        keywords.assert_all_used()?;
        Ok(Self { function, given })
    }

    /// The argument, if it is given.
    pub fn value(&self, index: usize) -> Option<&Value> {
        self.given[index].as_ref()
    }

    pub fn required(&self, index: usize) -> Result<&Value, Error> {
        self.value(index).ok_or_else(|| self.refuse(&format!("expected at least {} arguments", index + 1)))
    }

    pub fn text(&self, index: usize) -> Result<&str, Error> {
        let value = self.required(index)?;
        value.as_str().ok_or_else(|| self.refuse(&format!("expected a string, got {}", value.kind())))
    }

    /// A text, where `none` is as good as nothing.
    pub fn optional_text(&self, index: usize) -> Result<Option<&str>, Error> {
        match self.value(index) {
            Some(value) if !value.is_none() => self.text(index).map(Some),
            _ => Ok(None),
        }
    }

    /// An integer, where `none` is as good as nothing.
    pub fn optional_whole(&self, index: usize) -> Result<Option<i64>, Error> {
        match self.value(index) {
            Some(value) if !value.is_none() => {
                whole(value).map(Some).ok_or_else(|| self.refuse(&format!("expected an integer, got {value}")))
            }
            _ => Ok(None),
        }
    }

    /// An integer, which cannot be `none`.
    pub fn whole(&self, index: usize, default: i64) -> Result<i64, Error> {
        match self.value(index) {
            Some(value) if value.is_none() => Err(self.refuse("expected an integer, got none")),
            _ => self.optional_whole(index).map(|value| value.unwrap_or(default)),
        }
    }

    /// A width in characters, at most [`WIDEST`].
    pub fn width(&self, index: usize, default: usize) -> Result<usize, Error> {
        let default = i64::try_from(default).unwrap_or(i64::MAX);
        let width = usize::try_from(self.whole(index, default)?.max(0)).unwrap_or(usize::MAX);
        if width > WIDEST {
            return Err(self.refuse(&format!("expected at most {WIDEST}, got {width}")));
        }
        Ok(width)
    }

    /// A value's truth.
    pub fn truth(&self, index: usize) -> bool {
        self.value(index).is_some_and(Value::is_true)
    }

    /// The error of this call.
    pub fn refuse(&self, problem: &str) -> Error {
        refused(self.function, problem)
    }
}

/// An integer as Python has them: `true` is 1.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    use minijinja::value::ValueKind::{Bool, Number};
    match value.kind() {
        Bool => Some(i64::from(value.is_true())),
        Number if value.is_integer() => value.as_i64(),
        _ => None,
    }
}

/// The error of a call.
pub(crate) fn refused(function: &str, problem: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{function}: {problem}"))
}

/// Refuses a text of so many parts of so many bytes, beside as many bytes as it is made of.
pub(crate) fn bound_size(function: &str, parts: usize, bytes: usize, beside: usize) -> Result<(), Error> {
    match parts.checked_mul(bytes).and_then(|size| size.checked_add(beside)) {
        Some(size) if size <= LARGEST => Ok(()),
        _ => Err(refused(function, &format!("expected a result of at most {LARGEST} bytes, got more"))),
    }
}
