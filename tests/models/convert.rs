//! GGUF files as commands take them, and `smpo convert`.

use std::fs;
use std::path::PathBuf;

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::Gguf;

use crate::{Desk, base, difference, smpo};

impl Desk {
    /// The demo's base as a GGUF file with its tokenizer.
    fn gguf(&self) -> PathBuf {
        let path = self.path("base.gguf");
        fs::write(&path, Gguf::of_model(&base(), "qwen2").with_tokenizer(&base()).bytes()).unwrap();
        path
    }
}

#[test]
fn a_gguf_file_alone_is_the_model_it_was_made_from() {
    let desk = Desk::new();
    let file = desk.gguf();
    let expected = desk.logps(&base(), &[]);
    assert_eq!(difference(&expected, &desk.logps(&file, &[]), "logps"), 0.0);
    let [first, second] = Gguf::of_model(&base(), "qwen2").with_tokenizer(&base()).split_in_two();
    fs::write(desk.path("s-00001-of-00002.gguf"), first).unwrap();
    fs::write(desk.path("s-00002-of-00002.gguf"), second).unwrap();
    assert_eq!(difference(&expected, &desk.logps(&desk.path("s-00002-of-00002.gguf"), &[]), "logps"), 0.0);

    smpo().args(["model", "info"]).arg(&file).assert().success().stdout(contains("F32").and(contains("chat_template")));
    let out = desk.path("converted");
    let said = smpo().arg("convert").arg(&file).arg(&out).args(["--format", "json"]).assert().success();
    let said: Value = serde_json::from_slice(&said.get_output().stdout).unwrap();
    assert_eq!((said["family"].as_str(), said["dtype"].as_str()), (Some("qwen2"), Some("float32")));
    assert_eq!(difference(&expected, &desk.logps(&out, &[]), "logps"), 0.0);
    smpo().arg("convert").arg(&file).arg(&out).assert().code(2).stderr(contains("not empty"));
    smpo().arg("convert").arg(base()).arg(desk.path("x")).assert().code(2).stderr(contains("expected a GGUF file"));
    smpo().arg("export").arg(&file).arg("--out").arg(desk.path("exported")).assert().success();
    assert_eq!(difference(&expected, &desk.logps(&desk.path("exported"), &[]), "logps"), 0.0);
}

#[test]
fn a_run_on_a_gguf_file_saves_an_adapter_that_finds_it() {
    let desk = Desk::new();
    let file = desk.gguf();
    let config = format!(
        "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\nlearning_rate = 1e-3\nmax_steps = 2\nuse_peft = true\nlora_r = 4\n\
         max_length = 256\n[loss]\nkind = \"dpo\"\n",
        file.display().to_string(),
        desk.path("run").display().to_string(),
        desk.path("pairs.jsonl").display().to_string(),
    );
    fs::write(desk.path("run.toml"), config).unwrap();
    smpo().arg("train").arg(desk.path("run.toml")).assert().success();
    let adapter = desk.path("run/model");
    let saved: Value = serde_json::from_slice(&fs::read(adapter.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(saved["base_model_name_or_path"], file.display().to_string());
    assert!(adapter.join("tokenizer.json").is_file() && adapter.join("chat_template.jinja").is_file());
    let (before, after) = (desk.logps(&file, &[]), desk.logps(&adapter, &[]));
    assert!(difference(&before, &after, "logps") > 0.0);
    // The same command again finds the run finished, on the same base.
    smpo().arg("train").arg(desk.path("run.toml")).assert().success().stdout(contains("already finished"));
}

#[test]
fn a_damaged_file_is_refused_with_its_field() {
    let desk = Desk::new();
    let file = desk.gguf();
    let whole = fs::read(&file).unwrap();
    for (cut, field) in [(3, "magic number"), (60, "bytes that follow"), (whole.len() / 2, "is it truncated?")] {
        fs::write(&file, &whole[..cut]).unwrap();
        for command in [&["model", "info"][..], &["convert"]] {
            let mut run = smpo();
            run.args(command).arg(&file);
            if command == ["convert"] {
                run.arg(desk.path("out"));
            }
            run.assert().code(2).stderr(contains("base.gguf").and(contains(field)));
        }
    }
}
