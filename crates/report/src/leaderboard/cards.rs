//! Model cards: settings of the training runs behind a board's entries where they differ, and hashes of their parts.
//!
//! A training run is found by the model's path, as the evaluation recorded it: `config.toml` and `origin.json` beside the
//! model's directory. A model from elsewhere, or one that has moved since or cannot be read here, has the hashes of its
//! evaluation alone: a board is no worse for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use smpo_files::sha256_file;
use smpo_results::{ArmCard, Board, BoardEntry, ChangedSetting, PartHash, RunManifest};

/// Values by key, of all training seeds together.
type Settings = BTreeMap<String, String>;

/// Keys that say where a run lies or which of several it is.
const NOT_COMPARED: [&str; 3] = ["output_dir", "token_cache", "seed"];

/// Bytes of a file that are read at most.
const MOST: u64 = 1 << 20;

/// Gives every entry its card.
pub(super) fn fill(board: &mut Board) {
    let settings: Vec<Settings> = board.entries.iter().map(settings_of).collect();
    let named = |name: &String| board.entries.iter().position(|entry| &entry.name == name);
    let trained = |index: &usize| !settings[*index].is_empty();
    let baseline = board.baseline.as_ref().and_then(named).filter(trained);
    let reference = baseline.or_else(|| (0..settings.len()).find(trained));
    let reference_name = reference.map(|index| board.entries[index].name.clone());
    for (index, entry) in board.entries.iter_mut().enumerate() {
        let mut card = ArmCard { hashes: hashes(entry), ..ArmCard::default() };
        if let Some(reference) = reference.filter(|reference| *reference != index && trained(&index)) {
            card.against.clone_from(&reference_name);
            card.settings = changed(&settings[reference], &settings[index]);
        }
        entry.card = Some(card).filter(|card| *card != ArmCard::default());
    }
}

/// Keys whose values differ.
fn changed(against: &Settings, own: &Settings) -> Vec<ChangedSetting> {
    let keys: BTreeSet<&String> = against.keys().chain(own.keys()).collect();
    let setting = |key: &String| (against.get(key).cloned(), own.get(key).cloned());
    let differing = keys.into_iter().map(|key| (key, setting(key))).filter(|(_, (against, value))| against != value);
    differing.map(|(key, (against, value))| ChangedSetting { key: key.clone(), against, value }).collect()
}

/// The run directory of a model that was trained here: its parent, or its grandparent for a checkpoint.
fn training_run(run: &RunManifest) -> Option<PathBuf> {
    let mut dirs = Path::new(&run.model.source).ancestors().skip(1).take(2);
    dirs.find(|dir| dir.join("config.toml").is_file() && dir.join("metrics.jsonl").is_file()).map(Path::to_owned)
}

/// A small file's text.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MOST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Settings of an entry's training runs; values that differ between its seeds stand together.
fn settings_of(entry: &BoardEntry) -> Settings {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let configs = entry.provenance.iter().filter_map(|run| read(&training_run(run)?.join("config.toml")));
    // a file of that name that is no configuration says nothing about the model
    for table in configs.filter_map(|text| toml::from_str::<toml::Table>(&text).ok()) {
        flatten("", &table, &mut |key, value| {
            let of_key = values.entry(key).or_default();
            if !of_key.contains(&value) {
                of_key.push(value);
            }
        });
    }
    values.retain(|key, _| !NOT_COMPARED.contains(&key.as_str()));
    values.into_iter().map(|(key, values)| (key, values.join(", "))).collect()
}

/// Every value of a table with its dotted key.
fn flatten(prefix: &str, table: &toml::Table, found: &mut impl FnMut(String, String)) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, found),
            value => found(key, value.to_string()),
        }
    }
}

/// Hashes of the parts of an entry's first run.
fn hashes(entry: &BoardEntry) -> Vec<PartHash> {
    let Some(run) = entry.provenance.first() else { return Vec::new() };
    let part = |part: &str, hash: &str| PartHash { part: part.to_owned(), hash: hash.to_owned() };
    // of several seeds one is shown
    let seed = run.model.training_seed.filter(|_| entry.provenance.len() > 1);
    let of_seed = seed.map(|seed| format!(" (seed {seed})")).unwrap_or_default();
    let model = Path::new(&run.model.source);
    let weights = if model.join("adapter_config.json").is_file() { "adapter" } else { "weights" };
    let mut hashes = Vec::new();
    hashes.extend(run.model.weights_sha256.as_deref().map(|hash| part(&format!("{weights}{of_seed}"), hash)));
    let tokenizer = Some(model.join("tokenizer.json")).filter(|path| path.is_file());
    hashes.extend(tokenizer.and_then(|path| Some(part("tokenizer", &sha256_file(&path).ok()?))));
    hashes.extend(run.template_sha256.as_deref().map(|hash| part("chat template", hash)));
    let rows = training_run(run).map(|dir| data(&dir.join("origin.json"))).unwrap_or_default();
    hashes.extend(rows.into_iter().map(|rows| PartHash { part: rows.part + &of_seed, ..rows }));
    hashes
}

/// Hashes of the rows that a run was trained on, as it recorded them: as its loss reads them, so that another loss has others of
/// the same file.
fn data(origin: &Path) -> Vec<PartHash> {
    let recorded: serde_json::Value =
        read(origin).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let files = recorded["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let file = |file: &serde_json::Value| {
        let name = Path::new(file["file"].as_str()?).file_name()?.to_string_lossy().into_owned();
        Some(PartHash {
            part: format!("rows of {name} as the loss reads them"),
            hash: file["rows"].as_str()?.to_owned(),
        })
    };
    files.iter().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tables_are_dotted_and_differences_are_both_sides() {
        let read = |text: &str| {
            let mut settings = Settings::new();
            flatten("", &text.parse().unwrap(), &mut |key, value| drop(settings.insert(key, value)));
            settings
        };
        let before = read("learning_rate = 0.1\nuse_peft = true\n[loss]\nkind = \"smpo\"\n");
        let after = read("learning_rate = 0.1\n[loss]\nkind = \"smpo\"\neos_term = \"invert\"\n");
        let differing = |key: &str, against: Option<&str>, value: Option<&str>| ChangedSetting {
            key: key.to_owned(),
            against: against.map(str::to_owned),
            value: value.map(str::to_owned),
        };
        let expected =
            [differing("loss.eos_term", None, Some("\"invert\"")), differing("use_peft", Some("true"), None)];
        assert_eq!(changed(&before, &after), expected);
    }

    /// An entry of the model in `dir/model`, whose run wrote `config`; no run where it is empty.
    fn entry(dir: &Path, name: &str, config: &str) -> BoardEntry {
        let run = dir.join(name);
        std::fs::create_dir_all(run.join("model")).unwrap();
        std::fs::write(run.join("model/tokenizer.json"), "{}").unwrap();
        if !config.is_empty() {
            std::fs::write(run.join("config.toml"), config).unwrap();
            std::fs::write(run.join("metrics.jsonl"), "").unwrap();
            std::fs::write(run.join("origin.json"), "{\"files\": [{\"file\": \"a/pairs.jsonl\", \"rows\": \"91e0\"}]}")
                .unwrap();
        }
        let manifest = serde_json::json!({
            "schema": 1, "kind": "eval", "samples_per_prompt": 1, "seed": 1, "versions": {},
            "model": {"source": run.join("model"), "name": name, "weights_sha256": "ab12"},
            "suite": {"name": "s", "sha256": "", "prompts": 1},
        });
        BoardEntry {
            name: name.to_owned(),
            rank_band: (1, 1),
            prompts: None,
            metrics: Vec::new(),
            comparisons: Vec::new(),
            survival: Vec::new(),
            hazard: Vec::new(),
            worst: Vec::new(),
            provenance: vec![serde_json::from_value(manifest).unwrap()],
            card: None,
            sample_files: Vec::new(),
        }
    }

    fn cards(baseline: &str, entries: Vec<BoardEntry>) -> Vec<ArmCard> {
        let baseline = Some(baseline.to_owned());
        let title = String::new();
        let mut board = Board { title, apart: None, common_prompts: None, baseline, metrics: Vec::new(), entries };
        fill(&mut board);
        board.entries.into_iter().map(|entry| entry.card.unwrap()).collect()
    }

    #[test]
    fn an_arm_says_how_it_differs_from_the_baseline_and_what_it_is_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |name: &str, config: &str| entry(dir.path(), name, config);
        let regular = "output_dir = \"a\"\nseed = 1\n[loss]\nkind = \"smpo\"\n";
        let modified = "output_dir = \"b\"\nseed = 2\n[loss]\nkind = \"smpo\"\neos_term = \"invert\"\n";
        let found = cards("regular", vec![entry("start", ""), entry("modified", modified), entry("regular", regular)]);
        let keys = |card: &ArmCard| card.settings.iter().map(|setting| setting.key.clone()).collect::<Vec<_>>();
        assert_eq!((keys(&found[1]), found[1].against.as_deref()), (vec!["loss.eos_term".to_owned()], Some("regular")));
        assert_eq!((keys(&found[0]), keys(&found[2])), (Vec::new(), Vec::new()));
        let parts = |card: &ArmCard| card.hashes.iter().map(|part| part.part.clone()).collect::<Vec<_>>();
        assert_eq!(parts(&found[1]), ["weights", "tokenizer", "rows of pairs.jsonl as the loss reads them"]);
        assert_eq!(parts(&found[0]), ["weights", "tokenizer"]);
        // The first that was trained here stands in for a baseline that was not.
        let found = cards("start", vec![entry("start", ""), entry("regular", regular), entry("modified", modified)]);
        assert_eq!(found[2].against.as_deref(), Some("regular"));
        // An adapter's weights are its own; a file that is no configuration says nothing.
        std::fs::write(dir.path().join("regular/model/adapter_config.json"), "{}").unwrap();
        let found = cards("start", vec![entry("start", "= ["), entry("regular", regular), entry("modified", modified)]);
        assert_eq!(parts(&found[1])[0], "adapter");
        assert_eq!(found[2].against.as_deref(), Some("regular"));
    }
}
