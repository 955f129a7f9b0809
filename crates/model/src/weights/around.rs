//! Modules that training puts around a model, whose names stand in those of its tensors where the wrapped model was saved.

use crate::lora::PEFT_PREFIX;

/// Around the model or any layer of it: `torch.compile`, FSDP, checkpointing of activations. No model has modules of these
/// names itself.
const ANYWHERE: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Around the whole model: DDP and DeepSpeed, and PEFT after adapters were merged and not unloaded.
const AROUND: [&str; 2] = ["module.", PEFT_PREFIX];

/// The names without those of modules around the model; `None` where no name has any, or two would become one.
///
/// A wrapper in front is left out if all names have it. Beside tensors of adapters it says which are the base's, and stays.
pub(super) fn unwrapped<'a>(names: impl IntoIterator<Item = &'a String>) -> Option<Vec<String>> {
    let names: Vec<&String> = names.into_iter().collect();
    let mut plain: Vec<String> = names.iter().map(|name| without_wrappers(name)).collect();
    if names.is_empty() || names.iter().any(|name| name.contains(".lora_") || name.contains(".base_layer.")) {
        return None;
    }
    while let Some(prefix) = AROUND.into_iter().find(|prefix| plain.iter().all(|name| name.starts_with(*prefix))) {
        plain.iter_mut().for_each(|name| drop(name.drain(..prefix.len())));
    }
    let distinct = plain.iter().collect::<std::collections::BTreeSet<_>>().len() == plain.len();
    (distinct && plain.iter().zip(names).any(|(plain, name)| plain != name)).then_some(plain)
}

fn without_wrappers(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !ANYWHERE.contains(part)).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(names: &[&str]) -> Option<Vec<String>> {
        unwrapped(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn modules_around_a_model_are_left_out_of_names() {
        let expected = Some(vec!["model.norm.weight".to_owned(), "lm_head.weight".to_owned()]);
        for around in ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "base_model.model.", "module._orig_mod."] {
            let names = ["model.norm.weight", "lm_head.weight"].map(|name| format!("{around}{name}"));
            assert_eq!(plain(&[&names[0], &names[1]]), expected, "{around}");
        }
        let within = plain(&["model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.mlp.up_proj.weight"]);
        assert_eq!(within, Some(vec!["model.layers.0.mlp.up_proj.weight".to_owned()]));
    }

    #[test]
    fn names_that_do_not_say_one_thing_stay() {
        assert_eq!(plain(&["model.norm.weight"]), None);
        assert_eq!(plain(&["module.model.norm.weight", "lm_head.weight"]), None);
        assert_eq!(plain(&["_orig_mod.lm_head.weight", "lm_head.weight"]), None);
        let adapted = ["base_model.model.q.base_layer.weight", "base_model.model.q.lora_A.default.weight"];
        assert_eq!(plain(&adapted), None);
    }
}
