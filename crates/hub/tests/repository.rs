//! Repositories are read from a server, and from the cache when offline.

use std::path::Path;

use smpo_fixtures::{COMMIT, HubRepo, HubServer};
use smpo_hub::{HubName, Repository, Settings};

fn settings(server: &HubServer, cache: &Path) -> Settings {
    Settings { endpoint: server.url.clone(), cache: cache.to_owned(), token: None, offline: false }
}

fn model(token: Option<&str>) -> HubRepo {
    let files = [
        ("config.json", "{}"),
        ("tokenizer.json", "{\"a\": 1}"),
        ("model.safetensors", "weights"),
        ("onnx/model.json", "no"),
        ("pytorch_model.bin", "no"),
        ("../escape.json", "no"),
    ];
    HubRepo {
        path: "models/org/tiny".into(),
        files: files.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).into(),
        token: token.map(str::to_string),
    }
}

fn open(name: &str, settings: &Settings) -> Result<Repository, String> {
    Repository::open(HubName::parse(name).unwrap(), settings).map_err(|error| error.to_string())
}

#[test]
fn a_model_is_downloaded_once_and_found_offline() {
    let server = HubServer::start(vec![model(None)]);
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&server, cache.path());
    let dir = open("hf://org/tiny", &settings).unwrap().model_dir().unwrap();
    assert_eq!(dir, cache.path().join("models--org--tiny/snapshots").join(COMMIT));
    let mut found: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(std::fs::read_to_string(dir.join("tokenizer.json")).unwrap(), "{\"a\": 1}");
    assert!(!cache.path().join("models--org--tiny/snapshots/escape.json").exists());

    let asked = server.requests().len();
    assert_eq!(open("hf://org/tiny", &settings).unwrap().model_dir().unwrap(), dir);
    assert_eq!(server.requests().len(), asked + 1, "the revision alone is looked up again");

    let offline = Settings { offline: true, ..settings };
    for revision in ["", "@main", &format!("@{COMMIT}")] {
        let name = format!("hf://org/tiny{revision}");
        assert_eq!(open(&name, &offline).unwrap().model_dir().unwrap(), dir);
    }
    assert_eq!(server.requests().len(), asked + 1);
    let error = open("hf://org/other", &offline).err().unwrap();
    assert!(error.contains("HF_HUB_OFFLINE is set") && error.contains("holds no copy"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let server = HubServer::start(vec![model(Some("secret"))]);
    let cache = tempfile::tempdir().unwrap();
    let without = settings(&server, cache.path());
    let error = open("hf://org/tiny", &without).err().unwrap();
    assert!(error.starts_with("hf://org/tiny@main: ") && error.contains("set HF_TOKEN"), "{error}");
    let with = Settings { token: Some("secret".into()), ..without.clone() };
    assert!(open("hf://org/tiny", &with).unwrap().model_dir().is_ok());
    let error = open("hf://org/tiny@v2", &with).err().unwrap();
    assert!(error.contains("no such repository, revision or file"), "{error}");
    let error = open("hf://org/tiny/absent.gguf", &with).unwrap().model_dir().unwrap_err().to_string();
    assert!(error.contains("no file of that name"), "{error}");
    let nowhere = Settings { endpoint: "http://127.0.0.1:9".into(), ..without };
    let error = open("hf://org/tiny", &nowhere).err().unwrap();
    assert!(error.contains("cannot be reached") && error.contains("HF_HUB_OFFLINE=1"), "{error}");
}
