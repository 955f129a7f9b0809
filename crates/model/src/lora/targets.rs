//! Resolution of target names to linear layers.

use crate::error::{ModelError, Result};
use crate::layout::is_head;
use crate::name_pattern::NamePattern;

/// PEFT's name for every linear layer except the head.
const ALL_LINEAR: &str = "all-linear";

/// One flag per module: true if a target names it. A target that names none is refused with the nearest name.
pub(crate) fn resolve(targets: &[String], modules: &[&str]) -> Result<Vec<bool>> {
    if targets.is_empty() {
        return Err(ModelError::input("lora targets", "at least one name", "none"));
    }
    let mut chosen = vec![false; modules.len()];
    for target in targets {
        let pattern = NamePattern::new("lora target", target)?;
        let mut found = false;
        for (chosen, module) in chosen.iter_mut().zip(modules) {
            let named = if target == ALL_LINEAR { !is_head(module) } else { pattern.names(module) };
            *chosen |= named;
            found |= named;
        }
        if !found {
            let ends = modules.iter().filter_map(|m| m.rsplit('.').next());
            let hint = smpo_suggest::did_you_mean(target, ends.chain([ALL_LINEAR]));
            return Err(ModelError::input("lora target", "the name of a linear layer", format!("`{target}`{hint}")));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: [&str; 4] =
        ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj", "lm_head"];

    fn resolved(targets: &[&str]) -> Vec<bool> {
        resolve(&targets.iter().map(|t| t.to_string()).collect::<Vec<_>>(), &MODULES).unwrap()
    }

    #[test]
    fn targets_are_names_ends_of_names_or_patterns() {
        assert_eq!(resolved(&["q_proj"]), [true, false, true, false]);
        assert_eq!(resolved(&["self_attn.q_proj", "lm_head"]), [true, false, true, true]);
        assert_eq!(resolved(&["model.layers.1.self_attn.q_proj"]), [false, false, true, false]);
        assert_eq!(resolved(&["model.layers.0.*"]), [true, true, false, false]);
        assert_eq!(resolved(&["*_proj"]), [true, true, true, false]);
        assert_eq!(resolved(&["*.0.*up*"]), [false, true, false, false]);
        assert_eq!(resolved(&["all-linear"]), [true, true, true, false]);
    }

    #[test]
    fn a_target_that_names_nothing_is_refused_with_the_nearest_name() {
        let refusal = |t: &str| resolve(&[t.to_string()], &MODULES).unwrap_err().to_string();
        assert_eq!(
            refusal("q_prj"),
            "lora target: expected the name of a linear layer, got `q_prj` (did you mean `q_proj`?)"
        );
        // A part of a name is no name: `proj` must not silently match every projection.
        assert!(refusal("proj").contains("got `proj`"));
        assert!(resolve(&[], &MODULES).is_err());
    }
}
