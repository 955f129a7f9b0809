//! `smpo export`.

use std::fs;
use std::path::Path;

use predicates::str::contains;
use serde_json::{Value, json};

use crate::{Desk, base, difference, json_of, smpo};

#[test]
fn an_adapter_is_exported_as_the_full_weights_it_means() {
    let desk = Desk::new();
    for (name, dora) in [("rslora", false), ("dora", true)] {
        let adapter = desk.adapter(name, dora, &base().display().to_string());
        let before = desk.logps(&adapter, &[]);
        assert!(difference(&before, &desk.logps(&base(), &[]), "logps") > 0.1, "the adapter does something");
        let out = desk.path(&format!("{name}-full"));
        smpo()
            .arg("export")
            .arg(&adapter)
            .arg("--out")
            .arg(&out)
            .assert()
            .success()
            .stdout(contains("full weights of 779904 parameters in float32"));
        let names = ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"];
        for file in names.into_iter().chain(["tokenizer.json", "tokenizer_config.json"]) {
            assert!(out.join(file).is_file(), "{file}");
        }
        // The head was adapted, and is no longer the embedding.
        let config: Value = serde_json::from_str(&fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["tie_word_embeddings"], false);
        let difference = difference(&desk.logps(&out, &[]), &before, "logps");
        assert!(difference < 2e-5, "{name}: {difference:e}");
    }
    let out = desk.path("half");
    let written = json_of(
        smpo()
            .arg("export")
            .arg(desk.path("dora"))
            .args(["--dtype", "bfloat16", "--max-shard-size", "0.0005", "--out"])
            .arg(&out),
    );
    assert_eq!((&written["kind"], &written["dtype"]), (&json!("full"), &json!("bfloat16")));
    let size = |dir: &Path| -> u64 {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        files
            .filter(|e| e.path().extension().is_some_and(|x| x == "safetensors"))
            .map(|e| e.metadata().unwrap().len())
            .sum()
    };
    assert!(size(&out) < size(&desk.path("dora-full")) * 51 / 100);
    assert!(out.join("model.safetensors.index.json").is_file());
    assert!(difference(&desk.logps(&out, &[]), &desk.logps(&desk.path("dora-full"), &[]), "logps") < 0.2);
}

#[test]
fn an_adapter_is_exported_as_one() {
    let desk = Desk::new();
    let adapter = desk.adapter("adapter", false, "somewhere/else");
    smpo().arg("logps").arg(&adapter).arg(desk.path("pairs.jsonl")).arg("--out").arg(desk.path("l")).assert().code(2).stderr(
        contains("adapter_config.json: field `base_model_name_or_path`: expected the directory of the base model; name it with --base, got \"somewhere/else\""),
    );
    let out = desk.path("out");
    smpo()
        .arg("export")
        .arg(&adapter)
        .args(["--as", "adapter", "--base"])
        .arg(base())
        .arg("--out")
        .arg(&out)
        .assert()
        .success()
        .stdout(contains("an adapter of"));
    let config: Value = serde_json::from_str(&fs::read_to_string(out.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["base_model_name_or_path"], base().display().to_string());
    let base_name = base().display().to_string();
    let given = desk.logps(&adapter, &["--base", &base_name]);
    assert_eq!(desk.logps(&out, &[]), given, "it finds its base by itself now");
    let full = smpo().arg("export").arg(base()).args(["--as", "adapter", "--out"]).arg(desk.path("x")).assert();
    full.code(2).stderr(contains("expected an adapter to export as one, got full weights"));
    assert!(!desk.path("x").exists());
}
