//! LLaMA-Factory's `dataset_info.json`: names of data sets with their files, columns and tags.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::dataset_rows::{Source, draw};
use super::run::names;
use super::sources::dataset;
use crate::translation::Translator;

const INFO: &str = "dataset_info.json";
/// The name of a column there, and of the key of `dataset_columns` here.
const COLUMNS: [(&str, &str); 10] = [
    ("prompt", "prompt"),
    ("query", "query"),
    ("response", "response"),
    ("history", "history"),
    ("messages", "messages"),
    ("system", "system"),
    ("tools", "tools"),
    ("chosen", "chosen"),
    ("rejected", "rejected"),
    ("kto_tag", "label"),
];
const MEDIA: [&str; 3] = ["images", "videos", "audios"];
/// The tag of a speaker there, its default, and the speaker here.
const SPEAKERS: [(&str, &str); 5] = [
    ("user_tag", "user"),
    ("assistant_tag", "assistant"),
    ("observation_tag", "tool"),
    ("function_tag", "function_call"),
    ("system_tag", "system"),
];
/// The tag of a message's key there, and the key of `dataset_columns` here.
const MESSAGE: [(&str, &str); 2] = [("role_tag", "role"), ("content_tag", "content")];
/// Keys of an entry.
const ENTRY: [&str; 15] = [
    "hf_hub_url",
    "ms_hub_url",
    "om_hub_url",
    "script_url",
    "cloud_file_name",
    "file_name",
    "formatting",
    "ranking",
    "subset",
    "split",
    "folder",
    "num_samples",
    "columns",
    "tags",
    // of earlier releases, which checked files by it
    "file_sha1",
];
const FORMATS: [&str; 3] = ["alpaca", "sharegpt", "openai"];

/// `dataset`.
pub fn train(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    if let Some(sources) = resolve(t, key, value) {
        draw(t, key, &sources);
        t.set(key, "dataset", files(sources));
    }
}

/// `eval_dataset`.
pub fn evaluation(t: &mut Translator<'_>, key: &'static str, value: &Value) {
    let Some(sources) = resolve(t, key, value) else { return };
    if let Some(Source { file, .. }) = sources.iter().find(|source| source.samples.is_some()) {
        let message = format!(
            "`{key}`: `num_samples` of {file} is not supported: every row of `eval_dataset` is evaluated on here; write so \
             many rows into a file"
        );
        return t.refuse(key, message);
    }
    t.set(key, "eval_dataset", files(sources));
}

fn files(sources: Vec<Source>) -> Vec<String> {
    sources.into_iter().map(|source| source.file).collect()
}

/// The files of data sets by their names; adds their columns.
fn resolve(t: &mut Translator<'_>, key: &str, value: &Value) -> Option<Vec<Source>> {
    let wanted = names(value);
    if wanted.is_empty() {
        t.expected(key, "names of data sets", value);
        return None;
    }
    let dir = t.keys().text("dataset_dir").unwrap_or("data").to_owned();
    if dir == "ONLINE" {
        let whole = |name: &String| Source { file: dataset(name, None, None), samples: None };
        return Some(wanted.iter().map(whole).collect());
    }
    if dir.starts_with("REMOTE:") {
        t.refuse("dataset_dir", format!("`dataset_dir: {dir}` is not supported: save the directory and name it"));
        return None;
    }
    let path = Path::new(&dir).join(INFO);
    let info = match read(&path) {
        Ok(info) => info,
        Err(message) => {
            t.refuse(
                key,
                format!("`{key}`: {}: {message}; set `dataset_dir` to the directory of {INFO}", path.display()),
            );
            return None;
        }
    };
    let mut sources = Vec::new();
    for name in &wanted {
        let Some(entry) = info.get(name).and_then(Value::as_object) else {
            let hint = smpo_suggest::did_you_mean(name, info.keys().map(String::as_str));
            t.refuse(key, format!("`{key}`: {} has no data set `{name}`{hint}", path.display()));
            return None;
        };
        let at = Entry { name, entry, path: &path, dir: Path::new(&dir) };
        match at.source() {
            Ok(source) => {
                at.columns(t, key, &source.file)?;
                sources.push(source);
            }
            Err(message) => {
                t.refuse(key, format!("`{key}`: `{name}` in {}: {message}", path.display()));
                return None;
            }
        }
    }
    Some(sources)
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("line {}: {error}", error.line()))
}

/// An error at the first key that is not a known one.
fn known<'a>(table: &Map<String, Value>, keys: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let keys: Vec<&str> = keys.into_iter().collect();
    match table.keys().find(|name| !keys.contains(&name.as_str())) {
        None => Ok(()),
        Some(strange) => {
            Err(format!("unknown key `{strange}`{}", smpo_suggest::did_you_mean(strange, keys.iter().copied())))
        }
    }
}

/// An entry of dataset_info.json.
struct Entry<'a> {
    name: &'a str,
    entry: &'a Map<String, Value>,
    path: &'a Path,
    dir: &'a Path,
}

impl Entry<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.entry.get(key).and_then(Value::as_str)
    }

    fn source(&self) -> Result<Source, String> {
        known(self.entry, ENTRY)?;
        let samples = match self.given("num_samples") {
            None => None,
            Some(number) => Some(
                number
                    .as_u64()
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("`num_samples`: expected a number of rows, got {number}"))?,
            ),
        };
        Ok(Source { file: self.file()?, samples })
    }

    fn given(&self, key: &str) -> Option<&Value> {
        self.entry.get(key).filter(|value| !value.is_null())
    }

    fn file(&self) -> Result<String, String> {
        if let Some(split) = self.text("split").filter(|split| split.contains(['[', '+'])) {
            return Err(format!(
                "`split`: expected the name of a split, got {split}: `num_samples` takes a part of it"
            ));
        }
        if let Some(url) = self.text("hf_hub_url") {
            let split = self.text("split").filter(|split| *split != "train");
            let part: Vec<&str> = [self.text("folder"), self.text("subset"), split].into_iter().flatten().collect();
            return Ok(dataset(url, None, (!part.is_empty()).then(|| part.join("/")).as_deref()));
        }
        if let Some(file) = self.text("file_name") {
            if let Some(split) = self.text("split").filter(|split| *split != "train") {
                return Err(format!("`split`: expected train, the one split of a file, got {split}"));
            }
            let path: PathBuf = self.dir.join(file);
            return Ok(path.display().to_string());
        }
        let kinds = ["script_url", "ms_hub_url", "om_hub_url", "cloud_file_name"];
        match kinds.iter().find(|kind| self.entry.contains_key(**kind)) {
            Some(kind) => Err(format!("`{kind}` is not read: expected `file_name` or `hf_hub_url`")),
            None => Err("expected `file_name` or `hf_hub_url`, got neither".to_owned()),
        }
    }

    /// Adds the columns of the data set, where it names any; `None` where it cannot be read.
    fn columns(&self, t: &mut Translator<'_>, key: &str, file: &str) -> Option<()> {
        let problem = |t: &mut Translator<'_>, message: String| {
            t.refuse(key, format!("`{key}`: `{}` in {}: {message}", self.name, self.path.display()));
            None
        };
        let format = self.text("formatting").unwrap_or("alpaca");
        if !FORMATS.contains(&format) {
            let hint = smpo_suggest::did_you_mean(format, FORMATS);
            return problem(t, format!("`formatting`: expected alpaca, sharegpt or openai, got \"{format}\"{hint}"));
        }
        let ranking = self.entry.get("ranking").and_then(Value::as_bool).unwrap_or(false);
        let needs = t.method.kind.is_some_and(|kind| kind != "sft" && kind != "kto");
        if needs != ranking {
            let message = format!("`ranking`: expected {needs} for stage {}, got {ranking}", t.method.title);
            return problem(t, message);
        }
        let none = Map::new();
        let table = |name: &str| self.entry.get(name).and_then(Value::as_object).unwrap_or(&none);
        let (columns, tags) = (table("columns"), table("tags"));
        if let Some(media) = MEDIA.iter().find(|media| columns.contains_key(**media)) {
            return problem(t, format!("`{media}`: text models have no place for it"));
        }
        let mut ours = Map::new();
        for (theirs, name) in COLUMNS {
            if let Some(column) = columns.get(theirs).filter(|column| column.is_string()) {
                ours.insert(name.to_owned(), column.clone());
            }
        }
        let of_columns = COLUMNS.iter().map(|(theirs, _)| *theirs);
        let of_tags = MESSAGE.iter().chain(&SPEAKERS).map(|(theirs, _)| *theirs);
        if let Err(message) = known(columns, of_columns) {
            return problem(t, format!("`columns`: {message}"));
        }
        if let Err(message) = known(tags, of_tags) {
            return problem(t, format!("`tags`: {message}"));
        }
        for (theirs, name) in MESSAGE {
            if let Some(tag) = tags.get(theirs).filter(|tag| tag.is_string()) {
                ours.insert(name.to_owned(), tag.clone());
            }
        }
        let mut roles = Map::new();
        for (theirs, speaker) in SPEAKERS {
            if let Some(tag) = tags.get(theirs).and_then(Value::as_str) {
                roles.insert(tag.to_owned(), speaker.into());
            }
        }
        if !roles.is_empty() {
            ours.insert("roles".to_owned(), Value::Object(roles));
        }
        if !ours.is_empty() {
            ours.insert("files".to_owned(), json!([file]));
            t.add_to_list(key, "dataset_columns", Value::Object(ours));
        }
        Some(())
    }
}
