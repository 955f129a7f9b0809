//! Another trainer's file as a file of this project.

use std::path::Path;

use smpo_imports::{Origin, Setting, Translation};
use toml::{Table, Value};

/// Tables that a translation may set, as they are written.
const TABLES: [&str; 2] = ["prompt", "loss"];

/// TOML text: the settings in the order of the trainer's table, a comment at each adopted default, then what was set beside
/// the file. The loss is the last table.
pub(super) fn text(translation: &Translation, table: &Table, origin: &Path) -> String {
    let title = translation.profile.title;
    let mut text = format!("# {title} {} configuration {}\n", translation.method.title, origin.display());
    for note in &translation.notes {
        text += &format!("# {}\n", note.replace('\n', " "));
    }
    text += "\n";
    text += &section(translation, table, "", title);
    for name in TABLES {
        if let Some(inner) = table.get(name).and_then(Value::as_table) {
            text += &format!("\n[{name}]\n");
            text += &section(translation, inner, &format!("{name}."), title);
        }
    }
    text
}

fn section(translation: &Translation, table: &Table, prefix: &str, title: &str) -> String {
    let mut text = String::new();
    let mut written = Vec::new();
    for Setting { key, value, origin } in &translation.settings {
        let Some(key) = key.strip_prefix(prefix).filter(|key| !key.contains('.')) else { continue };
        let Some(now) = table.get(key) else { continue };
        let adopted = *origin == Origin::Default && Value::try_from(value).is_ok_and(|value| value == *now);
        let comment = if adopted { format!("  # default of {title}") } else { String::new() };
        text += &format!("{key} = {now}{comment}\n");
        written.push(key);
    }
    let mut others: Vec<(&String, &Value)> =
        table.iter().filter(|(key, _)| !written.contains(&key.as_str()) && !TABLES.contains(&key.as_str())).collect();
    others.sort_by_key(|(key, _)| *key);
    for (key, value) in others {
        text += &format!("{key} = {value}\n");
    }
    text
}
