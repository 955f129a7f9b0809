//! Models on disk, suites and options.

use std::fs;
use std::path::Path;

#[cfg(feature = "mistralrs")]
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
#[cfg(feature = "mistralrs")]
use serde_json::Value;
#[cfg(feature = "mistralrs")]
use smpo_fixtures::Gguf;
use smpo_results::Sample;

use crate::{check_complete, copy, demo_base, eval, golden, manifest, samples, suite};

#[test]
fn a_directory_through_either_engine_is_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 12);
    let native = dir.path().join("native");
    eval(demo_base(), &suite, &native).args(["--engine", "native", "--batch", "5"]).assert().success();
    check_complete(&native, 12, 1e-4);
    let again = dir.path().join("again");
    eval(demo_base(), &suite, &again).args(["--engine", "native", "--batch", "1", "--threads", "1"]).assert().success();
    let bytes = |out: &Path| fs::read(out.join("samples.jsonl")).unwrap();
    assert_eq!(bytes(&again), bytes(&native), "batches and threads change no byte");
    if cfg!(feature = "mistralrs") {
        let out = dir.path().join("mistralrs");
        eval(demo_base(), &suite, &out)
            .args(["--engine", "mistralrs", "--instances", "2"])
            .assert()
            .success()
            .stdout(contains("eos_rate"));
        check_complete(&out, 12, 1e-4);
        let ids = |out: &Path| samples(out).into_iter().map(|sample| sample.token_ids).collect::<Vec<_>>();
        assert_eq!(ids(&out), ids(&native));
        assert_eq!(manifest(&out).terminators, manifest(&native).terminators);
        assert_eq!(manifest(&out).template_sha256, manifest(&native).template_sha256);
    }
}

#[test]
fn an_emulated_gpu_samples_what_the_cpu_does() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 5);
    let run = |device: &str| {
        let out = dir.path().join(device);
        let options = ["--engine", "native", "--device", device, "--batch", "3"];
        eval(demo_base(), &suite, &out).args(options).assert().success();
        check_complete(&out, 5, 1e-4);
        out
    };
    let (cpu, gpu) = (run("cpu"), run("emulated"));
    assert_eq!(manifest(&gpu).template_sha256, manifest(&cpu).template_sha256);
    for (expected, got) in samples(&cpu).iter().zip(samples(&gpu)) {
        assert_eq!(got.token_ids, expected.token_ids);
        let logps =
            |sample: &Sample| sample.logps.clone().unwrap().into_iter().zip(sample.terminator_logps.clone().unwrap());
        for (got, expected) in logps(&got).zip(logps(expected)) {
            assert!((got.0 - expected.0).abs() < 1e-4 && (got.1 - expected.1).abs() < 1e-3, "{got:?} {expected:?}");
        }
    }
    eval(demo_base(), &suite, &dir.path().join("none"))
        .args(["--engine", "native", "--device", "emulated,cpu"])
        .assert()
        .code(2)
        .stderr(contains("several devices are several GPUs"));
}

#[test]
fn by_default_the_native_engine_samples_and_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 8);
    let out = dir.path().join("auto");
    eval(demo_base(), &suite, &out).assert().success().stderr(contains("|Δ log-prob| to smpo's forward pass"));
    let manifest = manifest(&out);
    assert!(manifest.versions["engine"].starts_with("native"), "{:?}", manifest.versions);
    let fidelity = manifest.observed.fidelity.unwrap();
    assert!(fidelity.completions >= 5 && fidelity.mean <= fidelity.p95 && fidelity.p95 <= fidelity.max, "{fidelity:?}");
    let other = manifest.observed.cross_check;
    assert_eq!(other.is_some(), cfg!(feature = "mistralrs"));
    assert!(other.is_none_or(|other| other.reference.starts_with("mistral.rs") && other.max < 1e-3));
}

#[test]
fn what_the_own_reader_refuses_about_values_no_engine_samples() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 4);
    let engines: &[&str] = if cfg!(feature = "mistralrs") { &["auto", "native", "mistralrs"] } else { &["native"] };
    for (field, value, expected) in [
        ("init_lora_weights", "\"loftq\"", "init_lora_weights"),
        ("lora_alpha", "0", "lora_alpha"),
        ("velora_rank", "3", "velora_rank"),
    ] {
        let adapter = dir.path().join(field);
        copy(&golden("adapter"), &adapter);
        let path = adapter.join("adapter_config.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config[field] = serde_json::from_str(value).unwrap();
        fs::write(&path, config.to_string()).unwrap();
        for engine in engines {
            let out = dir.path().join(format!("{field}-{engine}"));
            let mut command = eval(&adapter, &suite, &out);
            command.args(["--engine", engine]).arg("--base").arg(golden("qwen2"));
            command.assert().code(2).stderr(contains(expected));
            assert!(!out.join("samples.jsonl").exists());
        }
    }
    let pointer = dir.path().join("pointer");
    copy(&golden("qwen2"), &pointer);
    fs::write(pointer.join("model.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:07\n")
        .unwrap();
    eval(&pointer, &suite, &dir.path().join("p")).assert().failure().stderr(contains("Git LFS pointer"));
}

#[test]
fn an_adapter_is_checked_and_measured_on_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let engines: &[&str] = if cfg!(feature = "mistralrs") { &["native", "mistralrs"] } else { &["native"] };
    let mut ids = Vec::new();
    for engine in engines {
        let out = dir.path().join(engine);
        eval(golden("adapter"), &suite, &out).args(["--engine", engine]).assert().success();
        check_complete(&out, 6, 1e-3);
        ids.push(samples(&out).into_iter().map(|sample| sample.token_ids).collect::<Vec<_>>());
    }
    let base = dir.path().join("base");
    eval(golden("qwen2"), &suite, &base).args(["--engine", "native"]).assert().success();
    ids.dedup();
    assert_eq!(ids.len(), 1, "both engines sample the same");
    assert_ne!(ids[0], samples(&base).into_iter().map(|sample| sample.token_ids).collect::<Vec<_>>());
}

#[test]
#[cfg(feature = "mistralrs")]
fn what_mistralrs_would_get_wrong_runs_natively() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let adapter = dir.path().join("rslora");
    copy(&golden("adapter"), &adapter);
    let path = adapter.join("adapter_config.json");
    let config = fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["use_rslora"] = true.into();
    fs::write(&path, config.to_string()).unwrap();
    let out = dir.path().join("out");
    let run = |engine: &str| {
        let mut command = eval(&adapter, &suite, &out);
        command.args(["--engine", engine]).arg("--base").arg(golden("qwen2"));
        command
    };
    run("mistralrs").assert().code(2).stderr(contains("use_rslora").and(contains("--engine native")));
    run("native").assert().success();
    check_complete(&out, 6, 1e-3);
}

#[test]
#[cfg(feature = "mistralrs")]
fn a_gguf_file_is_checked_against_the_directory_it_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let file = dir.path().join("tiny.gguf");
    let whole = Gguf::of_model(&golden("qwen2"), "qwen2").bytes();
    fs::write(&file, &whole).unwrap();
    let out = dir.path().join("out");
    let tokenizer = golden("qwen2");
    let gguf = |weights: &Path, out: &Path| {
        let mut command = eval(&file, &suite, out);
        command.arg("--base").arg(&tokenizer).arg("--weights").arg(weights);
        command
    };
    gguf(&golden("qwen2"), &out).assert().success();
    check_complete(&out, 6, 1e-3);
    assert_eq!(manifest(&out).model.name, "tiny");

    // Another model's weights: the check says so, by how much, and nothing is measured. The native engine samples the file,
    // too, not what it is compared with.
    let other = dir.path().join("other");
    copy(&golden("qwen2"), &other);
    scale_norm(&other.join("model.safetensors"), 1.5);
    for engine in ["native", "mistralrs"] {
        let wrong = dir.path().join(format!("wrong-{engine}"));
        gguf(&other, &wrong)
            .args(["--engine", engine])
            .assert()
            .code(4)
            .stderr(contains("nats").and(contains("does not reproduce this model's log-probs")));
        assert!(!wrong.join("metrics.json").exists());
    }
    let (compared, unchecked) = (dir.path().join("compared"), dir.path().join("unchecked"));
    gguf(&golden("qwen2"), &compared).args(["--engine", "native"]).assert().success();
    gguf(&other, &unchecked).args(["--engine", "native", "--no-fidelity-check"]).assert().success();
    let texts = |out: &Path| {
        let mut texts: Vec<_> = samples(out).into_iter().map(|one| (one.prompt_id, one.completion)).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&compared), texts(&unchecked));

    // Without them the file's own weights are read, by the native engine too.
    for engine in ["native", "mistralrs"] {
        let alone = dir.path().join(engine);
        eval(&file, &suite, &alone).arg("--base").arg(&tokenizer).args(["--engine", engine]).assert().success();
        check_complete(&alone, 6, 1e-3);
    }

    // A tokenizer that is not there, and a file that is cut.
    eval(&file, &suite, &dir.path().join("x")).assert().code(2).stderr(contains("tokenizer.json"));
    for (cut, backtrace) in [(60, "0"), (whole.len() / 2, "0"), (60, "1"), (whole.len() / 2, "1")] {
        fs::write(&file, &whole[..cut]).unwrap();
        let mut command = eval(&file, &suite, &dir.path().join("x"));
        command.arg("--base").arg(&tokenizer).env("RUST_BACKTRACE", backtrace);
        let output = command.assert().failure().stderr(contains("tiny.gguf")).get_output().clone();
        let told = String::from_utf8_lossy(&output.stderr);
        for mark in ["RUST_BACKTRACE", "Stack backtrace", "   0: "] {
            assert!(!told.contains(mark), "neither a panic nor a backtrace reaches the user: {told}");
        }
    }
}

/// Scales the last norm: the same tokens, other probabilities.
#[cfg(feature = "mistralrs")]
fn scale_norm(weights: &Path, factor: f32) {
    let mut bytes = fs::read(weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset =
        |index: usize| json["model.norm.weight"]["data_offsets"][index].as_u64().unwrap() as usize + 8 + header;
    for at in (offset(0)..offset(1)).step_by(4) {
        let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) * factor;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    fs::write(weights, bytes).unwrap();
}

#[test]
fn any_file_of_prompts_is_a_suite() {
    let dir = tempfile::tempdir().unwrap();
    for (name, line) in [
        ("plain.jsonl", r#"{"prompt": "What is six times seven?"}"#),
        ("question.jsonl", r#"{"question_id": 81, "category": "writing", "turns": ["Write a poem."]}"#),
        ("alpaca.jsonl", r#"{"instruction": "Name a fruit.", "dataset": "helpful_base"}"#),
        ("batch.jsonl", r#"{"custom_id": "r1", "body": {"messages": [{"role": "user", "content": "Hi"}]}}"#),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, line).unwrap();
        let out = dir.path().join("out").join(name);
        eval(demo_base(), &file, &out).args(["--engine", "native", "--cap", "8"]).assert().success();
        let samples = samples(&out);
        assert_eq!((samples.len(), samples[0].cap), (1, Some(8)), "{name}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_said_with_file_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let out = dir.path().join("out");
    let engines: &[&str] = if cfg!(feature = "mistralrs") { &["native", "mistralrs"] } else { &["native"] };
    for engine in engines {
        for (missing, word) in [("chat_template.jinja", "template"), ("tokenizer.json", "tokenizer.json")] {
            let model = dir.path().join(format!("{engine}-{missing}"));
            copy(&golden("qwen2"), &model);
            fs::remove_file(model.join(missing)).unwrap();
            let run = eval(&model, &suite, &out).args(["--engine", engine]).assert().code(2);
            run.stderr(contains(word));
        }
        let model = dir.path().join("no-such-model");
        let run = eval(&model, &suite, &out).args(["--engine", engine]).assert().code(2);
        run.stderr(contains("no-such-model"));
    }
    let lines = fs::read_to_string(dir.path().join("prompts.jsonl")).unwrap();
    let first = lines.lines().next().unwrap();
    for (bad, word) in [
        (format!("{lines}\n{first}"), "already taken by line 1"),
        (first.replacen(":\"closed\"", ":\"clsoed\"", 1), "did you mean `closed`"),
        ("{\"prompt\": ".into(), "prompts.jsonl:1"),
        (String::new(), "empty"),
    ] {
        fs::write(dir.path().join("prompts.jsonl"), bad).unwrap();
        eval(demo_base(), &suite, &out).assert().code(2).stderr(contains(word));
    }
}

#[test]
fn an_option_that_would_change_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), 6);
    let url = "http://127.0.0.1:9/v1";
    let base = demo_base();
    let base = base.to_str().unwrap();
    for (model, options, word) in [
        (base, vec!["--model", "x"], "--model"),
        (base, vec!["--api", "completions"], "--api"),
        (base, vec!["--weights", base], "--weights"),
        (base, vec!["--engine", "native", "--instances", "2"], "--instances"),
        (base, vec!["--engine", "native", "--batch", "0"], "--batch"),
        (base, vec!["--fidelity-tolerance=-1"], "--fidelity-tolerance"),
        (url, vec!["--model", "m", "--engine", "native"], "--engine"),
        (url, vec!["--model", "m", "--threads", "2"], "--threads"),
        (url, vec!["--model", "m", "--api", "completions"], "--template"),
        (url, vec!["--model", "m", "--template", base], "--api completions"),
        (url, vec!["--model", "m", "--extra-body", "[1]"], "--extra-body"),
        (url, vec![], "--model"),
    ] {
        let mut command = eval(model, &suite, &dir.path().join("out"));
        command.args(options).assert().code(2).stderr(contains(word));
    }
}
