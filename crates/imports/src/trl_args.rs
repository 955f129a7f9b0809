//! The flags of TRL's command line as the keys of its files: `dpo --model_name_or_path M --learning_rate 1e-6 …`.

use serde_json::{Map, Value};

/// A command line of TRL.
#[derive(Debug, Clone, PartialEq)]
pub struct TrlArgs {
    /// The subcommand.
    pub method: Option<String>,
    /// The file named by `--config`.
    pub config: Option<String>,
    /// The flags.
    pub keys: Map<String, Value>,
}

/// Reads the words after `trl`; `trl` itself and `accelerate launch` options are not among them.
///
/// # Errors
/// At a word that is neither a flag nor the value of one.
pub fn trl_args(words: &[String]) -> Result<TrlArgs, String> {
    let mut words = words.iter().map(String::as_str).peekable();
    words.next_if_eq(&"trl");
    let method = words.next_if(|word| !word.starts_with('-')).map(str::to_owned);
    let mut read = TrlArgs { method, config: None, keys: Map::new() };
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            return Err(format!("expected a flag such as --learning_rate, got {word}"));
        };
        let (flag, mut values) = match flag.split_once('=') {
            Some((flag, value)) => (flag, vec![value.to_owned()]),
            None => (flag, Vec::new()),
        };
        while let Some(value) = words.next_if(|word| !is_flag(word)) {
            values.push(value.to_owned());
        }
        let key = flag.replace('-', "_");
        match (key.as_str(), &values[..]) {
            ("config", [file]) => read.config = Some(file.clone()),
            // transformers' flags of booleans that are on by default
            (_, []) if key.starts_with("no_") && key != "no_cuda" => {
                read.keys.insert(key["no_".len()..].to_owned(), Value::Bool(false));
            }
            (_, []) => drop(read.keys.insert(key, Value::Bool(true))),
            (_, [value]) => drop(read.keys.insert(key, parsed(value))),
            (_, several) => drop(read.keys.insert(key, several.iter().map(|value| parsed(value)).collect())),
        }
    }
    Ok(read)
}

/// True for a flag and not a negative number.
fn is_flag(word: &str) -> bool {
    word.starts_with("--") || (word.starts_with('-') && word.parse::<f64>().is_err())
}

/// A value as JSON where it is a number, a boolean, null, a list or a table; text otherwise.
fn parsed(value: &str) -> Value {
    match value {
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        "None" => Value::Null,
        _ => serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_are_keys() {
        let line = "trl dpo --model_name_or_path m --learning-rate 5e-7 --max_steps -1 --loss_type sigmoid sft --use_peft \
                    --no_remove_unused_columns --config c.yaml --beta=0.2";
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let read = trl_args(&words).unwrap();
        assert_eq!((read.method.as_deref(), read.config.as_deref()), (Some("dpo"), Some("c.yaml")));
        let expected = json!({
            "model_name_or_path": "m", "learning_rate": 5e-7, "max_steps": -1, "loss_type": ["sigmoid", "sft"],
            "use_peft": true, "remove_unused_columns": false, "beta": 0.2
        });
        assert_eq!(Value::Object(read.keys), expected);
        assert!(trl_args(&["dpo".into(), "stray".into()]).unwrap_err().contains("got stray"));
    }
}
