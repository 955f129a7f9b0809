//! A server's own part in what it returns.

use std::collections::BTreeSet;

/// A server's part in the completions so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Names of the models that answered, as the server gives them.
    pub models: BTreeSet<String>,
    /// Versions and names of the server's build (`system_fingerprint`), where it gives any.
    pub fingerprints: BTreeSet<String>,
    /// Sampler fields that it refused, so that its own defaults apply.
    pub own_defaults: BTreeSet<String>,
}

impl Served {
    /// The models that answered under a name that is not `requested`, nor a longer or shorter form of it
    /// (`gpt-4o` and `gpt-4o-2024-08-06`, `org/name` and `name`).
    pub fn other_models(&self, requested: &str) -> Vec<&str> {
        let plain = |name: &str| name.trim_end_matches('/').to_lowercase();
        let requested = plain(requested);
        let same = |name: &str| {
            let name = plain(name);
            name.is_empty() || name.contains(&requested) || requested.contains(&name)
        };
        self.models.iter().map(String::as_str).filter(|name| !same(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_is_told_from_another_form_of_the_name() {
        let served = |name: &str| Served { models: [name.to_owned()].into(), ..Served::default() };
        for (requested, answered) in [
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("Qwen/Qwen3-8B", "qwen3-8b"),
            ("llama", "/models/llama-3.gguf"),
            ("m", ""),
        ] {
            assert!(served(answered).other_models(requested).is_empty(), "{requested} {answered}");
        }
        assert_eq!(served("old-model-Q4_K_M.gguf").other_models("new-model"), ["old-model-Q4_K_M.gguf"]);
    }
}
