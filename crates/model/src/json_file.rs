//! The JSON files of a model's directory.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{ModelError, Result};

/// Reads a JSON file. A byte order mark at its start, which some editors write, says nothing and is left out.
///
/// # Errors
/// When the file cannot be read, or is not JSON of that type.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = smpo_files::read_text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_byte_order_mark_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "\u{feff}{\"a\": 1}").unwrap();
        assert_eq!(read::<Value>(&path).unwrap(), json!({"a": 1}));
        std::fs::write(&path, "{\"a\": \u{feff}1}").unwrap();
        assert!(read::<Value>(&path).unwrap_err().to_string().contains("config.json: not valid JSON"));
    }
}
