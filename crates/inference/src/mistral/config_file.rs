//! `config.json` in the form that mistral.rs 0.8.1 reads.
//!
//! transformers 5 moved the rotary base into `rope_parameters`. mistral.rs expects it at the top level; without it some
//! families fail to load and others (Llama, Mistral) silently take 10000. So a directory
//! that transformers 5 wrote is loaded with a rewritten copy of this one file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::checkpoint::read_json;
use crate::InferenceError;

/// A checked config.json.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConfigFile {
    pub path: PathBuf,
    /// Replacement for mistral.rs; `None` where the file can be used unchanged.
    pub rewritten: Option<Value>,
    /// `max_position_embeddings`.
    pub position_limit: Option<usize>,
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<Self, InferenceError> {
        let original = read_json(path)?;
        let invalid = |problem: String, remedy: &str| InferenceError::InvalidFile {
            path: path.to_path_buf(),
            problem,
            remedy: remedy.into(),
        };
        let Some(fields) = original.as_object() else {
            return Err(invalid("expected a JSON object, got another value".into(), "restore the file"));
        };
        if fields.get("architectures").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(invalid(
                "expected `architectures`, got none".into(),
                "name the model class, [\"Qwen2ForCausalLM\"] for example",
            ));
        }
        if fields.get("text_config").is_some_and(Value::is_object) {
            let class = &fields["architectures"][0];
            return Err(invalid(
                format!("{class} is a wrapper around a text model (`text_config`), which is not read from a directory"),
                "`smpo model info` says if --engine native reads it; else serve the model and give the server's URL",
            ));
        }
        // mistral.rs 0.8.1 computes Gemma 2's logits with the embedding whatever the head holds: 1 nat off.
        if fields.get("model_type") == Some(&"gemma2".into())
            && fields.get("tie_word_embeddings") == Some(&false.into())
        {
            return Err(invalid(
                "`tie_word_embeddings` is false, and mistral.rs would use the embedding as Gemma 2's head".into(),
                "evaluate this model through another engine or server",
            ));
        }
        let mut rewritten = fields.clone();
        lift_rotary_parameters(&mut rewritten).map_err(|(problem, remedy)| invalid(problem, remedy))?;
        drop_unused_window(&mut rewritten);
        let position_limit = fields.get("max_position_embeddings").and_then(Value::as_u64).map(|limit| limit as usize);
        let rewritten = (rewritten != *fields).then_some(Value::Object(rewritten));
        Ok(ConfigFile { path: path.to_path_buf(), rewritten, position_limit })
    }
}

/// `rope_parameters` → `rope_theta`, `rope_scaling`, `partial_rotary_factor`.
fn lift_rotary_parameters(fields: &mut Map<String, Value>) -> Result<(), (String, &'static str)> {
    const REMEDY: &str = "add the rotary base the model was trained with, \"rope_theta\": 10000.0 for example";
    if fields.get("rope_theta").is_some_and(Value::is_number) {
        return Ok(());
    }
    let Some(parameters) = fields.get("rope_parameters").and_then(Value::as_object).cloned() else {
        return Err(("expected `rope_theta` or `rope_parameters`, got neither".into(), REMEDY));
    };
    let Some(theta) = parameters.get("rope_theta").filter(|theta| theta.is_number()) else {
        return Err((
            "expected one `rope_theta` in `rope_parameters`, got none (or one per kind of layer)".into(),
            "mistral.rs 0.8.1 reads one rotary base; add it as top-level `rope_theta`, or use another engine",
        ));
    };
    fields.insert("rope_theta".into(), theta.clone());
    if let Some(factor) = parameters.get("partial_rotary_factor") {
        fields.entry("partial_rotary_factor").or_insert_with(|| factor.clone());
    }
    let kind = parameters.get("rope_type").and_then(Value::as_str).unwrap_or("default");
    if kind != "default" && !fields.get("rope_scaling").is_some_and(Value::is_object) {
        let mut scaling = parameters.clone();
        scaling.retain(|key, _| key != "rope_theta" && key != "partial_rotary_factor");
        // Families read the name under either key.
        scaling.insert("type".into(), kind.into());
        fields.insert("rope_scaling".into(), Value::Object(scaling));
    }
    Ok(())
}

/// Qwen 2 names a window it does not use; mistral.rs would use it.
fn drop_unused_window(fields: &mut Map<String, Value>) {
    if fields.get("use_sliding_window") == Some(&Value::Bool(false)) {
        fields.insert("sliding_window".into(), Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: &Value) -> Result<ConfigFile, InferenceError> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("config.json");
        std::fs::write(&path, config.to_string()).expect("writable");
        ConfigFile::read(&path)
    }

    fn with(extra: Value) -> Value {
        let mut config = json!({"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 64});
        config.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
        config
    }

    #[test]
    fn a_version_4_file_is_left_alone() {
        let config = read(&with(json!({"rope_theta": 1e6, "sliding_window": 8}))).expect("valid");
        assert_eq!((config.rewritten, config.position_limit), (None, Some(64)));
    }

    #[test]
    fn version_5_parameters_move_up() {
        let parameters = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "partial_rotary_factor": 0.5});
        let config = read(&with(json!({"rope_parameters": parameters}))).expect("valid");
        let rewritten = config.rewritten.expect("rewritten");
        assert_eq!(rewritten["rope_theta"], 5e5);
        assert_eq!(rewritten["partial_rotary_factor"], 0.5);
        assert_eq!(rewritten["rope_scaling"], json!({"rope_type": "llama3", "factor": 8.0, "type": "llama3"}));
        let plain =
            read(&with(json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}))).expect("valid");
        let plain = plain.rewritten.expect("rewritten");
        assert_eq!(plain["rope_theta"], 1e4);
        assert_eq!(plain.get("rope_scaling"), None);
    }

    #[test]
    fn an_unused_window_is_dropped() {
        let config =
            read(&with(json!({"rope_theta": 1e4, "use_sliding_window": false, "sliding_window": 4}))).expect("valid");
        assert_eq!(config.rewritten.expect("rewritten")["sliding_window"], Value::Null);
    }

    #[test]
    fn what_mistral_would_get_wrong_is_refused_with_the_file_and_a_remedy() {
        let per_layer = json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}});
        for (config, expected) in [
            (with(json!({})), "rope_theta"),
            (with(per_layer), "one per kind of layer"),
            (with(json!({"rope_theta": 1e4, "model_type": "gemma2", "tie_word_embeddings": false})), "Gemma 2"),
            (json!({"rope_theta": 1e4}), "architectures"),
            (json!([1]), "JSON object"),
        ] {
            let error = read(&config).expect_err("refused").to_string();
            assert!(error.contains("config.json") && error.contains(expected), "{error}");
        }
    }
}
