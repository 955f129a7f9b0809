//! Null as the longest row: no limit in some trainers, and a number of its own in others.

use super::sources::model_config;
use crate::profile::{Fate, Key};
use crate::translation::Translator;

/// `max_length`, where null is no limit.
pub const MAX_LENGTH: Key = Key {
    theirs: "max_length",
    fate: Fate::SetsOrNull {
        ours: "max_length",
        meaning: "no limit but the model's own, and refused where the trainer has 512 for it",
        null: unlimited,
    },
    of_adapters: false,
};
/// Methods whose trainers read null as 512.
const SHORT: [&str; 5] = ["cpo", "simpo", "alphapo", "orpo", "classification"];

/// No limit: the positions that the model has.
fn unlimited(t: &mut Translator<'_>, key: &'static str) {
    let keys = t.keys();
    // those of GPO are the prompt's and the completion's
    if keys.get("max_seq_length").is_some() || t.method.name == "gpo" {
        return;
    }
    let is_short = SHORT.contains(&t.method.name) || (t.profile.name == "ela" && t.method.name == "smpo");
    if is_short {
        let message = format!("`{key}: null` is 512 in the trainer of {}: write a number of tokens", t.method.title);
        return t.refuse(key, message);
    }
    let model = keys.text("model_name_or_path").unwrap_or_default();
    let positions = model_config(model).and_then(|config| {
        let of_text = &config["text_config"];
        [&config, of_text].iter().find_map(|config| config["max_position_embeddings"].as_u64())
    });
    match positions {
        Some(positions) => t.set(key, "max_length", positions),
        None => {
            let message = format!(
                "`{key}: null` is no limit, which is the model's number of positions here: expected it in {model}/config.json \
                 (`max_position_embeddings`), and got no such file or none in it; write a number of tokens"
            );
            t.refuse(key, message);
        }
    }
}
