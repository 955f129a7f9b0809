//! Small templates against `transformers`: expressions, filters, tests, methods and tags, each rendered as there or refused.
//! Templates that are refused although they are rendered there, and those rendered otherwise, stand in golden/differences.json.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use smpo_chat::{ChatTemplate, Message};

#[derive(Deserialize)]
struct Reference {
    messages: Vec<Message>,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    template: String,
    text: Option<String>,
}

#[derive(Deserialize, Debug, Default, PartialEq)]
struct Differences {
    /// Rendered there, and refused here.
    refused: BTreeSet<String>,
    /// Rendered with other text than there.
    other: BTreeSet<String>,
}

fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn small_templates_render_as_there_but_for_the_listed_ones() {
    let reference: Reference = golden("expressions_golden.json");
    assert!(reference.entries.len() > 900);
    let mut found = Differences::default();
    for Entry { template, text } in reference.entries {
        let rendered =
            ChatTemplate::from_source(&*template, "t").and_then(|made| made.render(&reference.messages[..], true));
        match (text, rendered) {
            (Some(expected), Ok(text)) if expected == text => {}
            (None, Err(_)) => {}
            (Some(expected), Err(error)) => {
                println!("refused {template:?} | {expected:?} | {error}");
                found.refused.insert(template);
            }
            (expected, Ok(text)) => {
                println!("OTHER {template:?} | {expected:?} | {text:?}");
                found.other.insert(template);
            }
        }
    }
    assert_eq!(found, golden::<Differences>("differences.json"));
}
