//! The version of a server, where it has a page for it.

use serde_json::Value;

/// Pages beside the API, with the field that names the version: vLLM, SGLang, text-generation-inference, llama.cpp.
pub(super) const PAGES: [(&str, &str); 4] =
    [("version", "version"), ("get_server_info", "version"), ("info", "version"), ("props", "build_info")];

/// Characters of a version.
const LONGEST: usize = 80;

/// The version on a page.
pub(super) fn of_page(page: &Value, field: &str) -> Option<String> {
    let version = page.get(field)?.as_str()?.trim();
    (!version.is_empty() && version.chars().count() <= LONGEST).then(|| format!("version {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_is_a_short_text() {
        assert_eq!(of_page(&json!({"version": "0.11.0"}), "version"), Some("version 0.11.0".into()));
        for page in [json!({"version": 3}), json!({"version": " "}), json!([]), json!({"version": "x".repeat(81)})] {
            assert_eq!(of_page(&page, "version"), None, "{page}");
        }
    }
}
