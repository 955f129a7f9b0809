//! Multimodal models whose text half is a model of a supported family: its configuration is `text_config`, its tensors
//! have a prefix, and everything else is kept as it is.

use std::fmt;

use crate::error::{ModelError, Result, found};
use crate::layout::{EMBEDDING, HEAD};
use crate::weights::WeightFiles;

/// A kind of multimodal model that gives its text half text embeddings and nothing else where there is no image.
#[derive(Debug)]
pub(crate) struct WrapperKind {
    pub model_type: &'static str,
    pub architecture: &'static str,
    /// `model_type` of a `text_config` that has none.
    pub text: &'static str,
}

const fn kind(model_type: &'static str, architecture: &'static str, text: &'static str) -> WrapperKind {
    WrapperKind { model_type, architecture, text }
}

/// Every kind that is read. Others compute something else than their text model: Aya Vision does not scale the logits,
/// PaliGemma lets the prompt look ahead.
pub(crate) const WRAPPERS: [WrapperKind; 5] = [
    kind("gemma3", "Gemma3ForConditionalGeneration", "gemma3_text"),
    kind("mistral3", "Mistral3ForConditionalGeneration", "mistral"),
    kind("llava", "LlavaForConditionalGeneration", "llama"),
    kind("internvl", "InternVLForConditionalGeneration", "qwen2"),
    kind("qwen3_5", "Qwen3_5ForConditionalGeneration", "qwen3_5_text"),
];

/// Names of a text half's tensors: what stands for `model.` and for `lm_head` of a text model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextNames {
    model: &'static str,
    head: &'static str,
}

impl TextNames {
    /// As transformers 5 has the modules in memory, and PEFT names them.
    pub const IN_MEMORY: Self = Self { model: "model.language_model.", head: "lm_head" };
    /// As files have them.
    const IN_FILES: Self = Self { model: "language_model.model.", head: "language_model.lm_head" };
    /// Every layout of a text half.
    pub const ALL: [Self; 2] = [Self::IN_MEMORY, Self::IN_FILES];

    /// Name of a text model's tensor or module within the wrapper.
    pub fn wrapped(self, name: &str) -> String {
        match (name.strip_prefix("model."), name.strip_prefix(HEAD)) {
            (Some(rest), _) => format!("{}{rest}", self.model),
            (None, Some(rest)) => format!("{}{rest}", self.head),
            (None, None) => name.to_string(),
        }
    }

    /// The text model's own name of a wrapper's tensor or module; `None` for what is not of the text half.
    pub fn unwrapped(self, name: &str) -> Option<String> {
        if let Some(rest) = name.strip_prefix(self.model) {
            return Some(format!("model.{rest}"));
        }
        let rest = name.strip_prefix(self.head)?;
        rest.starts_with('.').then(|| format!("{HEAD}{rest}"))
    }

    /// The layout of a wrapper's weights.
    pub fn of(files: &WeightFiles) -> Option<Self> {
        Self::ALL.into_iter().find(|names| files.contains(&names.wrapped(EMBEDDING)))
    }

    /// As [`TextNames::of`]; weights without a text half are refused.
    pub fn require(files: &WeightFiles) -> Result<Self> {
        Self::of(files).ok_or_else(|| {
            let names = Self::ALL.map(|names| format!("`{}`", names.wrapped(EMBEDDING)));
            let found = found(files.names());
            ModelError::MissingTensors { path: files.dir().to_path_buf(), names: names.join(" or "), found }
        })
    }
}

/// Weights of a wrapper, open so that saving can copy what is not of the text half.
pub(crate) struct Wrapped {
    pub names: TextNames,
    pub files: WeightFiles,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped").field("names", &self.names).field("dir", &self.files.dir()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for names in TextNames::ALL {
            for name in [EMBEDDING, "model.layers.3.self_attn.q_proj", "lm_head.weight", "model.norm.weight"] {
                assert_eq!(names.unwrapped(&names.wrapped(name)).as_deref(), Some(name), "{names:?}");
            }
            assert_eq!(names.unwrapped("vision_tower.layers.0.weight"), None);
            assert_eq!(names.unwrapped("lm_head_of_another_kind.weight"), None);
        }
        assert_eq!(TextNames::IN_FILES.wrapped("lm_head.weight"), "language_model.lm_head.weight");
        assert_eq!(TextNames::IN_MEMORY.wrapped("lm_head.weight"), "lm_head.weight");
    }
}
