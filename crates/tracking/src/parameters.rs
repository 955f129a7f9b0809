//! A configuration as MLflow's parameters: names of keys with their tables, and values as text.

use serde_json::{Value, json};

/// Maximum characters of a value that MLflow 2 and 3 take.
const LONGEST: usize = 6000;

/// The keys of a configuration in TOML; none of a text that is no TOML.
pub(crate) fn parameters(toml: &str) -> Vec<Value> {
    let mut found = Vec::new();
    if let Ok(table) = toml.parse::<toml::Table>() {
        flatten("", &toml::Value::Table(table), &mut found);
    }
    found
}

fn flatten(name: &str, value: &toml::Value, found: &mut Vec<Value>) {
    if let toml::Value::Table(table) = value {
        for (key, value) in table {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            flatten(&name, value, found);
        }
        return;
    }
    let text = match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    found.push(json!({"key": name, "value": text.chars().take(LONGEST).collect::<String>()}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_names() {
        let found = parameters("seed = 1\ndataset = [\"a\", \"b\"]\n[loss]\nkind = \"smpo\"\nbeta = 0.5\n");
        let pairs: Vec<_> = found.iter().map(|p| (p["key"].as_str().unwrap(), p["value"].as_str().unwrap())).collect();
        let expected = [("seed", "1"), ("dataset", "[\"a\", \"b\"]"), ("loss.kind", "smpo"), ("loss.beta", "0.5")];
        assert!(expected.iter().all(|pair| pairs.contains(pair)) && pairs.len() == 4, "{pairs:?}");
        assert!(parameters("not toml").is_empty());
    }
}
