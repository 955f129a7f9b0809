//! Tables of a recipe as options of a command.

use toml::{Table, Value};

/// `{ min_gap = 0.5, score = ["rule", "judge"], no_fidelity_check = true }` as `--min-gap=0.5 --score=rule --score=judge
/// --no-fidelity-check`; `false` leaves an option out.
///
/// # Errors
/// A value that is a table or a date.
pub(crate) fn arguments(table: &Table) -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    for (name, value) in table {
        let option = format!("--{}", name.replace('_', "-"));
        match value {
            Value::Boolean(true) => arguments.push(option),
            Value::Boolean(false) => {}
            Value::Array(values) => {
                for value in values {
                    arguments.push(format!("{option}={}", scalar(name, value)?));
                }
            }
            value => arguments.push(format!("{option}={}", scalar(name, value)?)),
        }
    }
    Ok(arguments)
}

/// `{ learning_rate = 1e-4, "loss.beta" = 1.2 }` as `learning_rate=0.0001`, `loss.beta=1.2`; a table is its keys with dots, unless
/// it has a `kind`: then it is a whole loss and replaces the file's.
///
/// # Errors
/// A date.
pub(crate) fn settings(table: &Table) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.contains_key("kind") => {
                let dotted = inner.iter().map(|(key, value)| (format!("{name}.{key}"), value.clone())).collect();
                all.extend(settings(&dotted)?);
            }
            // training configurations parse the value as TOML
            Value::Datetime(_) => return Err(format!("`{name}`: expected text, a number or a list, got a date")),
            value => all.push(format!("{name}={value}")),
        }
    }
    Ok(all)
}

fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Array(_) | Value::Table(_) | Value::Datetime(_) => {
            Err(format!("`{name}`: expected text, a number, true, false or a list of them, got {}", value.type_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn tables_become_options() {
        let given = table("cut_chosen = true\nformat = false\nmin_gap = 0.5\nscore = [\"rule\", \"judge@2\"]");
        assert_eq!(arguments(&given).unwrap(), ["--cut-chosen", "--min-gap=0.5", "--score=rule", "--score=judge@2"]);
        assert!(arguments(&table("when = 2026-01-01")).unwrap_err().contains("`when`"));
    }

    #[test]
    fn settings_keep_their_types() {
        let given = table("learning_rate = 1e-4\n\"loss.beta\" = 1\n[loss]\neos_term = \"invert\"\n");
        let whole = table("loss = { kind = \"dpo\", beta = 0.1 }");
        let [whole] = &settings(&whole).unwrap()[..] else { panic!("one setting") };
        assert!(
            whole.starts_with("loss={") && whole.contains("kind = \"dpo\"") && whole.contains("beta = 0.1"),
            "{whole}"
        );
        let expected = ["learning_rate=0.0001", "loss.beta=1", "loss.eos_term=\"invert\""];
        // the order of a table's keys is the toml crate's
        let mut all = settings(&given).unwrap();
        all.sort();
        assert_eq!(all, expected);
    }
}
