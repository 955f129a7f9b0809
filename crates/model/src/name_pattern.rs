//! Patterns of module and parameter names.

use glob::Pattern;

use crate::error::{ModelError, Result};

/// A name (`lm_head`), its end after a dot (`q_proj`, `mlp.up_proj`), or a pattern for all of it in the manner of
/// Python's `fnmatch` (`model.layers.[0-3].*`): `*` is any run of characters, dots included, `?` any one character,
/// `[…]` one of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePattern {
    text: String,
    wildcards: Option<Pattern>,
}

impl NamePattern {
    /// # Errors
    /// When the wildcards are invalid; `what` names the pattern in the error.
    pub fn new(what: &str, text: &str) -> Result<Self> {
        let wildcards = match text.contains(['*', '?', '[']) {
            true => Some(Pattern::new(text).map_err(|error| {
                ModelError::input(what, "a name, or a pattern with `*`, `?` and `[…]`", format!("`{text}`: {error}"))
            })?),
            false => None,
        };
        Ok(Self { text: text.to_string(), wildcards })
    }

    /// True if the pattern matches `name`.
    pub fn names(&self, name: &str) -> bool {
        match &self.wildcards {
            Some(pattern) => pattern.matches(name),
            None => name == self.text || name.strip_suffix(&self.text).is_some_and(|rest| rest.ends_with('.')),
        }
    }

    /// True if the pattern matches a parameter or a module that contains it.
    pub fn names_part_of(&self, parameter: &str) -> bool {
        let modules = parameter.match_indices('.').map(|(dot, _)| &parameter[..dot]);
        modules.chain([parameter]).any(|name| self.names(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str, name: &str) -> bool {
        NamePattern::new("pattern", pattern).unwrap().names(name)
    }

    #[test]
    fn a_pattern_is_a_name_the_end_of_one_or_all_of_it() {
        let name = "model.layers.12.mlp.up_proj";
        for pattern in [name, "up_proj", "mlp.up_proj", "*", "*.up_proj", "model.layers.1?.*", "model.layers.1[0-4].*"]
        {
            assert!(names(pattern, name), "{pattern}");
        }
        for pattern in ["proj", "p.up_proj", "model.layers.1.*", "model.layers.?.*", "up_*", "model.layers.1[3-9].*"] {
            assert!(!names(pattern, name), "{pattern}");
        }
        let error = NamePattern::new("pattern", "layers.[1").unwrap_err().to_string();
        assert!(error.starts_with("pattern: expected a name, or a pattern with `*`, `?` and `[…]`, got `layers.[1`: "));
    }

    #[test]
    fn a_parameter_is_named_by_any_module_that_it_is_in() {
        let part =
            |pattern| NamePattern::new("pattern", pattern).unwrap().names_part_of("model.layers.1.mlp.up_proj.weight");
        assert!(
            part("model")
                && part("model.layers.1")
                && part("layers.1")
                && part("up_proj")
                && part("up_proj.weight")
                && part("*.mlp")
        );
        assert!(!part("layers.0") && !part("weigh") && !part("up"));
    }
}
