//! Values by patterns of module names, as PEFT's `rank_pattern` and `alpha_pattern` hold them.

use regex_automata::meta::Regex;
use serde_json::Value;

use crate::error::Result;
use crate::fields::Fields;

/// Values by regular expressions for the end of a module's name; the first that fits counts.
#[derive(Debug)]
pub(super) struct NamePatterns<T>(Vec<(Regex, T)>);

impl<T: Copy> NamePatterns<T> {
    /// Reads a field that may be absent; `value` gives a value or, of one that does not fit, nothing.
    pub fn read(fields: &Fields, field: &str, expected: &str, value: impl Fn(&Value) -> Option<T>) -> Result<Self> {
        let object = match fields.get(field) {
            None | Some(Value::Null) => return Ok(Self(Vec::new())),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(fields.wrong(field, "an object", other)),
        };
        let pattern = |(key, given): (&String, &Value)| -> Result<(Regex, T)> {
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$"))
                .map_err(|_| fields.unsupported(format!("the regular expression `{key}` in `{field}`")))?;
            Ok((regex, value(given).ok_or_else(|| fields.wrong(field, expected, given))?))
        };
        Ok(Self(object.iter().map(pattern).collect::<Result<_>>()?))
    }

    /// The value of a module.
    pub fn of(&self, module: &str) -> Option<T> {
        self.0.iter().find(|(regex, _)| regex.is_match(module)).map(|(_, value)| *value)
    }
}
