//! Training a part of the weights.

use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::layout::{EMBEDDING, HEAD};
use crate::name_pattern::NamePattern;

/// The parameters that patterns match.
pub(crate) struct NamedParameters {
    patterns: Vec<NamePattern>,
    tied_head: Option<String>,
}

impl NamedParameters {
    /// A pattern that names none of `parameters` is refused with the nearest name. `lm_head` is the embedding where the
    /// head is `tied`.
    pub fn new(what: &str, patterns: &[String], parameters: &[&str], tied: bool) -> Result<Self> {
        if patterns.is_empty() {
            return Err(ModelError::input(what, "at least one", "none"));
        }
        let tied_head = tied.then(|| format!("{HEAD}.weight"));
        let mut checked = Self { patterns: Vec::with_capacity(patterns.len()), tied_head };
        for text in patterns {
            let pattern = NamePattern::new(what, text)?;
            if !parameters.iter().any(|parameter| checked.names(&pattern, parameter)) {
                let parts = parameters.iter().flat_map(|name| name.split('.')).filter(|part| *part != "weight");
                let hint = smpo_suggest::did_you_mean(text, parts.chain([HEAD]));
                return Err(ModelError::input(what, "the name of a layer or parameter", format!("`{text}`{hint}")));
            }
            checked.patterns.push(pattern);
        }
        Ok(checked)
    }

    /// True if a pattern matches the parameter or a module that contains it.
    pub fn contain(&self, parameter: &str) -> bool {
        self.patterns.iter().any(|pattern| self.names(pattern, parameter))
    }

    fn names(&self, pattern: &NamePattern, parameter: &str) -> bool {
        let alias = self.tied_head.as_deref().filter(|_| parameter == EMBEDDING);
        pattern.names_part_of(parameter) || alias.is_some_and(|head| pattern.names_part_of(head))
    }
}

impl Decoder {
    /// Makes exactly those parameters trainable that a pattern names, or that lie in a module a pattern names; all
    /// others are frozen. `lm_head` is the embedding where the head is tied.
    ///
    /// A pattern is a name (`model.layers.3`), its end after a dot (`mlp`, `up_proj`), or one with wildcards for the
    /// whole name (`model.layers.[0-3].*`, `*.mlp.up_proj`).
    ///
    /// # Errors
    /// When there is no pattern, or one names nothing; the error has the nearest name, and nothing has changed.
    pub fn train_only(&mut self, patterns: &[String]) -> Result<()> {
        let named = {
            let names: Vec<&str> = self.can_be_trained().into_iter().map(|(name, _)| name).collect();
            NamedParameters::new("unfreeze_layers_patterns", patterns, &names, self.head_is_tied())?
        };
        self.unpack(|name| named.contain(name))?;
        self.make_whole(|name| named.contain(name))?;
        self.set_trainable(|name| named.contain(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(case: &str) -> Decoder {
        Decoder::load(smpo_fixtures::golden("model", case)).unwrap()
    }

    fn trained(case: &str, patterns: &[&str]) -> Vec<String> {
        let mut decoder = decoder(case);
        decoder.train_only(&patterns.iter().map(|p| p.to_string()).collect::<Vec<_>>()).unwrap();
        decoder.trainable().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn exactly_what_the_patterns_name_is_trained() {
        assert_eq!(trained("qwen3", &["model.norm"]), ["model.norm.weight"]);
        assert_eq!(
            trained("qwen3", &["*.mlp.up_proj"]),
            ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
        );
        assert_eq!(trained("qwen3", &["layers.1.mlp", "lm_head"]).len(), 4);
        assert!(trained("qwen3", &["model.layers.[1].*"]).iter().all(|name| name.starts_with("model.layers.1.")));
        assert_eq!(trained("qwen2-tied", &["lm_head"]), ["model.embed_tokens.weight"]);
        assert_eq!(trained("qwen2", &["k_proj.bias", "*"]).len(), decoder("qwen2").trainable().len());
    }

    #[test]
    fn a_pattern_that_names_nothing_is_refused_with_the_nearest_name() {
        let mut decoder = decoder("qwen2");
        let before = decoder.trainable().len();
        let error = decoder.train_only(&["lm_head".into(), "up_prj".into()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "unfreeze_layers_patterns: expected the name of a layer or parameter, got `up_prj` (did you mean `up_proj`?)"
        );
        assert!(decoder.train_only(&["model.layers.2.*".into()]).is_err());
        assert!(decoder.train_only(&[]).is_err());
        assert_eq!(decoder.trainable().len(), before);
    }
}
