//! `smpo model info`, `merge`, `export` and `logps` as a user meets them: what they print, write and refuse.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use smpo_model::{AdapterSaveOptions, Decoder, Element, LoraConfig};
use tempfile::TempDir;

fn smpo() -> Command {
    Command::cargo_bin("smpo").unwrap()
}

fn base() -> PathBuf {
    smpo_fixtures::demo("base")
}

/// A directory to work in, with an adapter on the demo's base and a few pairs.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: TempDir::new().unwrap() };
        let pairs = fs::read_to_string(base().parent().unwrap().join("held_out.jsonl")).unwrap();
        let few: Vec<&str> = pairs.lines().take(5).collect();
        fs::write(desk.path("pairs.jsonl"), few.join("\n")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names of what is there, hidden files too.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// An adapter that changes the model, rsLoRA or DoRA, saved as `name`.
    fn adapter(&self, name: &str, dora: bool, base_model: &str) -> PathBuf {
        let mut decoder = Decoder::load(base()).unwrap();
        let targets = vec!["q_proj".into(), "down_proj".into(), "lm_head".into()];
        decoder.add_lora(&LoraConfig { r: 4, alpha: 8.0, dropout: 0.0, rslora: !dora, dora, targets }, 1).unwrap();
        let path = self.path(name);
        let options = AdapterSaveOptions { base_model: base_model.into(), ..AdapterSaveOptions::default() };
        decoder.save_adapter(&path, &options).unwrap();
        shift(&path.join("adapter_model.safetensors"), 0.02);
        path
    }

    /// The base, moved a little: another model of the same shapes.
    fn tuned(&self, name: &str, by: f32) -> PathBuf {
        let path = self.copy(name);
        shift(&path.join("model.safetensors"), by);
        path
    }

    /// A copy of the base that a test may damage.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        for entry in fs::read_dir(base()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        path
    }

    /// What `smpo logps` writes for a model.
    fn logps(&self, model: &Path, more: &[&str]) -> Vec<Value> {
        let out = self.path("logps.jsonl");
        let pairs = self.path("pairs.jsonl");
        smpo().arg("logps").arg(model).arg(pairs).arg("--out").arg(&out).args(more).assert().success();
        let lines = fs::read_to_string(&out).unwrap();
        fs::remove_file(out).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Moves every float32 of a safetensors file by up to `by`.
fn shift(file: &Path, by: f32) {
    let mut bytes = fs::read(file).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for (index, value) in bytes[data..].chunks_exact_mut(4).enumerate() {
        let moved = f32::from_le_bytes((&*value).try_into().unwrap()) + by * ((7 * index + 1) as f32).sin();
        value.copy_from_slice(&moved.to_le_bytes());
    }
    fs::write(file, bytes).unwrap();
}

fn json_of(command: &mut Command) -> Value {
    let output = command.args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The largest difference between log-probs of the same tokens.
fn difference(ours: &[Value], theirs: &[Value], key: &str) -> f64 {
    let logps = |line: &Value, side: &str, key: &str| -> Vec<f64> {
        serde_json::from_value(line[side][key].clone()).unwrap_or_else(|_| panic!("no {key} in {line}"))
    };
    let mut largest = 0f64;
    for (a, b) in ours.iter().zip(theirs) {
        for side in ["chosen", "rejected"] {
            let (a, b) = (logps(a, side, "logps"), logps(b, side, key));
            assert_eq!(a.len(), b.len());
            largest = a.iter().zip(&b).fold(largest, |largest, (a, b)| largest.max((a - b).abs()));
        }
    }
    largest
}

#[test]
fn info_says_what_a_model_is_and_what_training_it_takes() {
    let facts = json_of(smpo().args(["model", "info"]).arg(base()));
    let expect = json!({
        "family": "qwen2", "architecture": "Qwen2ForCausalLM", "parameters": 648_832, "tied": true, "layers": 3,
        "hidden_size": 128, "intermediate_size": 320, "heads": 4, "kv_heads": 2, "head_dim": 32, "vocab_size": 1024,
        "context": 1024, "dtypes": ["float32"], "stored_bytes": 4 * 648_832, "shards": 1
    });
    for (key, value) in expect.as_object().unwrap() {
        assert_eq!(&facts[key], value, "{key}");
    }
    assert_eq!(facts["terminators"]["entries"][0]["token"], "<|im_end|>");
    assert_eq!(facts["terminators"]["entries"][0]["id"], 2);
    let plans = facts["memory"].as_array().unwrap();
    assert_eq!(plans.len(), 4);
    for plan in plans {
        let parts = ["weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes"];
        let sum: u64 = parts.iter().map(|part| plan[*part].as_u64().unwrap()).sum();
        assert_eq!(plan["total_bytes"], sum);
    }
    assert_eq!(plans[0]["optimizer_bytes"], 8 * 648_832);

    smpo()
        .args(["model", "info"])
        .arg(base())
        .assert()
        .success()
        .stdout(contains("family       qwen2 (Qwen2ForCausalLM)"))
        .stdout(contains("parameters   648,832, the head is the embedding"))
        .stdout(contains("'<|im_end|>' 2: the template's turn end, eos_token, generation_config.json, config.json"))
        .stdout(contains("Memory to train in float32, a pack of 2048 tokens, 1024 of them completions"))
        .stdout(contains("all weights, checkpointing"));
}

#[test]
fn info_estimates_a_training_configuration() {
    let config = smpo_fixtures::repository().join("configs/demo/modified.toml");
    let facts = json_of(smpo().args(["model", "info"]).arg(base()).arg("--config").arg(&config));
    let plans = facts["memory"].as_array().unwrap();
    // 16 pairs of prompts of 256 tokens and two completions of 256 go through the model in packs of 2,048 tokens.
    assert_eq!(plans.len(), 1);
    assert_eq!((&plans[0]["tokens"], &plans[0]["completion_tokens"]), (&json!(2048), &json!(2048 * 2 / 3 + 1)));
    assert_eq!(plans[0]["training"], "all weights");
    // The same with the keys that train less.
    let desk = Desk::new();
    let text = fs::read_to_string(&config).unwrap();
    for (keys, training, trained) in [
        ("use_peft = true\nlora_r = 8\nlora_target_modules = [\"q_proj\"]", "LoRA r 8", 3 * 8 * (128 + 128)),
        (
            "unfreeze_layers_patterns = [\"model.norm\", \"layers.2.mlp.down_proj\"]",
            "model.norm, layers.2.mlp.down_proj",
            128 + 320 * 128,
        ),
    ] {
        let path = desk.path("train.toml");
        fs::write(&path, format!("{keys}\n{text}")).unwrap();
        let facts = json_of(smpo().args(["model", "info"]).arg(base()).arg("--config").arg(&path));
        let plan = &facts["memory"][0];
        assert_eq!((&plan["training"], &plan["gradients_bytes"]), (&json!(training), &json!(4 * trained)));
    }
    smpo()
        .args(["model", "info"])
        .arg(base())
        .args(["--tokens", "64", "--config"])
        .arg(&config)
        .assert()
        .code(2)
        .stderr(contains("cannot be used with"));
}

#[test]
fn info_describes_an_adapter_on_its_base() {
    let desk = Desk::new();
    let adapter = desk.adapter("adapter", true, &base().display().to_string());
    let facts = json_of(smpo().args(["model", "info"]).arg(&adapter));
    assert_eq!((&facts["parameters"], &facts["adapter"]["use_dora"]), (&json!(648_832), &json!(true)));
    assert_eq!(facts["adapter"]["modules"].as_array().unwrap().len(), 7);
    assert_eq!(facts["memory"][2]["training"], "DoRA r 4");
    smpo().args(["model", "info"]).arg(&adapter).assert().success().stdout(contains("DoRA, r 4, alpha 8, dropout 0"));
}

#[test]
fn info_names_what_is_wrong_with_the_chat_files_and_goes_on() {
    let desk = Desk::new();
    let model = desk.copy("model");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    smpo()
        .args(["model", "info"])
        .arg(&model)
        .assert()
        .success()
        .stdout(contains("parameters  648,832"))
        .stdout(contains("no chat").and(contains("tokenizer.json")));
}

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

#[test]
fn logps_scores_under_a_reference_too() {
    let desk = Desk::new();
    let adapter = desk.adapter("adapter", false, &base().display().to_string());
    let (policy, reference) = (desk.logps(&base(), &[]), desk.logps(&adapter, &[]));
    let both = desk.logps(&base(), &["--reference", &adapter.display().to_string()]);
    assert_eq!(both.len(), 5);
    assert_eq!(difference(&policy, &both, "logps"), 0.0);
    assert_eq!(difference(&reference, &both, "ref_logps"), 0.0);
    assert!(policy[0]["chosen"].get("ref_logps").is_none());
    // `smpo explain` takes them as they are.
    let lines: Vec<String> = both.iter().map(Value::to_string).collect();
    fs::write(desk.path("both.jsonl"), lines.join("\n")).unwrap();
    fs::write(desk.path("dpo.toml"), "[loss]\nkind = \"dpo\"\n").unwrap();
    smpo().arg("explain").arg(desk.path("dpo.toml")).arg(desk.path("both.jsonl")).assert().success();
}

#[test]
fn models_are_merged_by_each_method() {
    let desk = Desk::new();
    let (one, two) = (desk.tuned("one", 0.01), desk.tuned("two", -0.02));
    let merge = |out: &str, options: &[&str]| {
        let out = desk.path(out);
        let written = json_of(
            smpo().arg("merge").arg(&one).arg(&two).arg("--out").arg(&out).args(options).args(["--threads", "2"]),
        );
        assert_eq!((&written["parameters"], &written["shards"]), (&json!(648_832), &json!(1)));
        desk.logps(&out, &[])
    };
    let (first, second) = (desk.logps(&one, &[]), desk.logps(&two, &[]));
    assert_eq!(difference(&merge("all-one", &["--weights", "1,0"]), &first, "logps"), 0.0);
    assert_eq!(difference(&merge("slerp", &["--method", "slerp", "--t", "0"]), &first, "logps"), 0.0);
    // Two thirds of +0.01 and one of −0.02 are the base.
    let back = merge("back", &["--weights", "2,1"]);
    assert!(difference(&back, &desk.logps(&base(), &[]), "logps") < 1e-4);
    let base_name = base().display().to_string();
    let ties = merge("ties", &["--method", "ties", "--base", &base_name, "--density", "0.5", "--lambda", "0.5"]);
    assert!(difference(&ties, &first, "logps") > 0.0 && difference(&ties, &second, "logps") > 0.0);
    smpo()
        .arg("merge")
        .arg(&one)
        .arg(&two)
        .args(["--dtype", "bfloat16", "--out"])
        .arg(desk.path("half"))
        .assert()
        .success()
        .stdout(contains("half: 38 tensors, 648832 parameters, 1 file"));
}

#[test]
fn a_merge_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let desk = Desk::new();
    let (one, two) = (desk.tuned("one", 0.01), desk.tuned("two", -0.02));
    let adapter = desk.adapter("adapter", false, &base().display().to_string());
    let other = smpo_fixtures::golden("model", "qwen3");
    let before = desk.names();
    let base_name = base().display().to_string();
    let cases: [(&[&Path], &[&str], &str); 9] = [
        (&[&one, &two], &["--t", "0.5"], "--t: is no option of --method linear"),
        (&[&one, &two], &["--method", "slerp", "--weights", "1,2"], "--weights: is no option of --method slerp"),
        (&[&one, &two], &["--method", "ties"], "--base: --method ties needs the model that all were tuned from"),
        (&[&one, &two], &["--weights", "1,2,3"], "merge weights: expected 2, one a model, got 3"),
        (&[&one], &["--method", "slerp"], "models to merge by slerp: expected 2, got 1"),
        (&[&one, &two], &["--method", "ties", "--base", &base_name, "--density", "2"], "ties density: expected"),
        (&[&one, &adapter], &[], "expected full weights, got an adapter; `smpo export` folds it into its base"),
        (&[&one, &other], &[], "tensors: `"),
        (&[&one, &desk.path("absent")], &[], "absent: expected a model directory, got nothing of that name"),
    ];
    for (models, options, expected) in cases {
        let mut command = smpo();
        command.arg("merge").args(models).args(options).arg("--out").arg(desk.path("out"));
        command.assert().code(2).stdout("").stderr(contains(expected));
        assert_eq!(desk.names(), before, "{expected}");
    }
    fs::write(two.join("tokenizer.json"), "{}").unwrap();
    smpo()
        .arg("merge")
        .arg(&one)
        .arg(&two)
        .arg("--out")
        .arg(desk.path("out"))
        .assert()
        .success()
        .stderr(contains("warning: tokenizer.json of"));
    smpo()
        .arg("merge")
        .arg(&one)
        .arg(&two)
        .arg("--out")
        .arg(desk.path("out"))
        .assert()
        .code(2)
        .stderr(contains("not empty"));
}

/// What is wrong with a model, and what must be said about it.
struct Damage {
    name: &'static str,
    harm: fn(&Path),
    said: &'static str,
}

fn edit_config(model: &Path, key: &str, value: Value) {
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

fn edit_weights(model: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = model.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const DAMAGES: [Damage; 9] = [
    Damage {
        name: "truncated",
        harm: |model| edit_weights(model, |bytes| bytes.truncate(bytes.len() - 1000)),
        said: "model.safetensors: not a readable safetensors file: its header promises 2595328 bytes of data, but 2594328 follow; truncated?",
    },
    Damage {
        name: "header",
        harm: |model| edit_weights(model, |bytes| bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes())),
        said: "model.safetensors: not a readable safetensors file: its header is said to take 1099511627776 bytes",
    },
    Damage {
        name: "dtype",
        harm: |model| {
            edit_weights(model, |bytes| {
                let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
                let at = text.find("\"model.norm.weight\"").unwrap();
                let dtype = 8 + at + text[at..].find("F32").unwrap();
                bytes[dtype..dtype + 3].copy_from_slice(b"I32");
            });
        },
        said: "model.safetensors: tensor `model.norm.weight`: expected float32, bfloat16 or float16, got I32",
    },
    Damage {
        name: "layers",
        harm: |model| edit_config(model, "num_hidden_layers", json!(4)),
        said: "missing tensors: `model.layers.3.self_attn.q_proj.weight`",
    },
    Damage {
        name: "heads",
        harm: |model| edit_config(model, "num_key_value_heads", json!(4)),
        said: "model.safetensors: tensor `model.layers.0.self_attn.k_proj.weight`: expected shape [128, 128], got [64, 128]",
    },
    Damage {
        name: "vocabulary",
        harm: |model| edit_config(model, "vocab_size", json!(1000)),
        said: "model.safetensors: tensor `model.embed_tokens.weight`: expected shape [1000, 128], got [1024, 128]",
    },
    Damage {
        name: "family",
        harm: |model| edit_config(model, "model_type", json!("qwen2_moe")),
        said: "config.json: model family `qwen2_moe` is not supported (did you mean `qwen2`?)",
    },
    Damage {
        name: "weights",
        harm: |model| fs::remove_file(model.join("model.safetensors")).unwrap(),
        said: "model.safetensors: No such file",
    },
    Damage {
        name: "config",
        harm: |model| fs::write(model.join("config.json"), "{").unwrap(),
        said: "EOF while parsing an object at line 1 column 1",
    },
];

#[test]
fn damaged_models_are_refused_by_every_command_with_file_and_tensor() {
    let desk = Desk::new();
    for Damage { name, harm, said } in DAMAGES {
        let model = desk.copy(name);
        harm(&model);
        let before = desk.names();
        let out = desk.path("out");
        let refused = |command: &mut Command| {
            command.assert().code(2).stdout("").stderr(contains(said));
            assert_eq!(desk.names(), before, "{name}: nothing is written");
        };
        refused(smpo().args(["model", "info"]).arg(&model));
        refused(smpo().arg("export").arg(&model).arg("--out").arg(&out));
        refused(smpo().arg("logps").arg(&model).arg(desk.path("pairs.jsonl")).arg("--out").arg(&out));
        // Merging knows no family, and refuses what contradicts the other model.
        if !matches!(name, "layers" | "heads" | "vocabulary" | "family") {
            refused(smpo().arg("merge").arg(base()).arg(&model).arg("--out").arg(&out));
        }
    }
}

#[test]
fn a_missing_tokenizer_and_another_base_are_refused() {
    let desk = Desk::new();
    let model = desk.copy("model");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let logps = |model: &Path| {
        let mut command = smpo();
        command.arg("logps").arg(model).arg(desk.path("pairs.jsonl")).arg("--out").arg(desk.path("out"));
        command.assert().code(2).stdout("")
    };
    logps(&model).stderr(contains("tokenizer.json"));

    let other = desk.tuned("other", 0.01);
    let adapter = desk.adapter("adapter", false, &other.display().to_string());
    let said = "adapter_model.safetensors: tensor `model.layers.0.self_attn.q_proj.weight`: the adapter was trained on another base";
    logps(&adapter).stderr(contains(said));
    smpo().arg("export").arg(&adapter).arg("--out").arg(desk.path("out")).assert().code(2).stderr(contains(said));
    let golden = smpo_fixtures::golden("model", "");
    smpo()
        .arg("export")
        .arg(golden.join("peft-lora"))
        .arg("--base")
        .arg(base())
        .arg("--out")
        .arg(desk.path("out"))
        .assert()
        .code(2)
        .stderr(contains("tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: expected shape [3, 128], got [3, 16]"));
    assert!(!desk.path("out").exists());
}

#[test]
fn half_precision_models_are_read_by_every_command() {
    let desk = Desk::new();
    let exact = desk.logps(&base(), &[]);
    for (dtype, element) in [("bfloat16", Element::Bf16), ("float16", Element::F16)] {
        let out = desk.path(dtype);
        smpo().arg("export").arg(base()).args(["--dtype", dtype, "--out"]).arg(&out).assert().success();
        let facts = json_of(smpo().args(["model", "info"]).arg(&out));
        assert_eq!((&facts["dtypes"], &facts["stored_bytes"]), (&json!([element.name()]), &json!(2 * 648_832)));
        assert!(difference(&exact, &desk.logps(&out, &[]), "logps") < 0.2);
    }
}
