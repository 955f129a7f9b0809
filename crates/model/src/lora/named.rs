//! The layers that an adapter's `target_modules` names, against those that its file has matrices of.

use std::path::Path;

use super::peft::CONFIG;
use crate::error::{ModelError, Result, list};
use crate::fields::Fields;

const FIELD: &str = "target_modules";

/// The names in a list of `target_modules`; none where it is a pattern, or where other fields take layers out again.
pub(super) struct NamedTargets(Vec<String>);

impl NamedTargets {
    pub fn read(fields: &Fields) -> Self {
        const LIMITS: [&str; 3] = ["exclude_modules", "layers_to_transform", "layers_pattern"];
        let is_limited = LIMITS.iter().any(|name| fields.get(name).is_some());
        let names = fields.strings(FIELD).ok().flatten().filter(|_| !is_limited).unwrap_or_default();
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// Refuses a name that is one of `bare`, the layers without an adapter in the file: PEFT would give them new ones, so the
    /// file is not what was trained.
    pub fn check(&self, weights: &Path, bare: &[String]) -> Result<()> {
        for target in &self.0 {
            let is_named = |module: &&String| module.strip_suffix(target.as_str()).is_some_and(ends_a_name);
            let absent: Vec<&String> = bare.iter().filter(is_named).collect();
            if !absent.is_empty() {
                return Err(ModelError::Field {
                    path: weights.with_file_name(CONFIG),
                    field: FIELD.to_owned(),
                    expected: "names of layers whose matrices are in adapter_model.safetensors: fetch that file again, or leave \
                               out what was not trained"
                        .to_owned(),
                    got: format!("`{target}`, and no matrices of {}", list(&absent)),
                });
            }
        }
        Ok(())
    }
}

/// True for what stands before a whole name.
fn ends_a_name(before: &str) -> bool {
    before.is_empty() || before.ends_with('.')
}
