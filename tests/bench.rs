//! `smpo bench`, the whole program, and devices that are not there.

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

fn smpo(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("smpo").unwrap().args(arguments).assert()
}

const TINY: [&str; 10] = ["bench", "step", "--shape", "tiny", "--length", "16", "--batch-size", "2", "--steps", "3"];

#[test]
fn a_step_is_timed_and_counted() {
    let report = smpo(&[&TINY[..], &["--device", "cpu", "--format", "json"]].concat()).success();
    let report: Value = serde_json::from_slice(&report.get_output().stdout).unwrap();
    // Two pairs of 2 × 16 tokens; each prompt of 8 enters once, and no completion's last token does.
    assert_eq!((&report["tokens"], &report["packed_tokens"]), (&64.into(), &44.into()));
    assert_eq!((&report["device"], &report["dtype"], &report["steps"]), (&"cpu".into(), &"float32".into(), &3.into()));
    let number = |name: &str| report[name].as_f64().unwrap();
    // Of an odd number of steps, one is the median of both.
    let rate = report["tokens_per_s"]["median"].as_f64().unwrap();
    assert!((rate * report["seconds"]["median"].as_f64().unwrap() - 64.0).abs() < 1e-6);
    assert!(number("mfu") > 0.0 && number("flops") > 1e6 && number("peak_memory_bytes") > 1e6);
    // The same by hand, for people.
    let adapted = [&TINY[..], &["--device", "cpu", "--lora-r", "2", "--checkpointing"]].concat();
    smpo(&adapted).success().stdout(contains("tokens/s").and(contains("LoRA r 2")));
}

#[test]
fn a_step_of_sampling_is_timed_against_the_bandwidth() {
    let options = ["bench", "decode", "--batch-size", "2", "--context", "8", "--steps", "3", "--device"];
    let report = smpo(&[&options[..], &["cpu", "--format", "json"]].concat()).success();
    let report: Value = serde_json::from_slice(&report.get_output().stdout).unwrap();
    let number = |name: &str| report[name].as_f64().unwrap();
    assert_eq!((&report["batch_size"], &report["context"], &report["steps"]), (&2.into(), &8.into(), &3.into()));
    assert!((number("share") * number("bandwidth_bytes_per_s") - number("bytes_per_s")).abs() < 1.0);
    smpo(&[&options[..], &["emulated"]].concat())
        .success()
        .stdout(contains("tokens/s").and(contains("to read a step")));
    let why = "'--batch-size <N>': 0 is not in 1..=65536";
    smpo(&["bench", "decode", "--batch-size", "0", "--device", "cpu"]).code(2).stderr(contains(why));
}

#[test]
fn the_device_that_was_left_open_is_named() {
    smpo(&TINY).success().stderr(contains("device: "));
}

#[test]
fn wrong_options_are_refused() {
    let refused = |more: &[&str], why: &str| {
        smpo(&[&TINY[..], more].concat()).code(2).stderr(contains(why));
    };
    refused(&["--device", "gpu"], "expected auto, cpu, cuda, cuda:N or emulated, got `gpu`");
    refused(&["--device", "cpu", "--dtype", "float16"], "--dtype: expected float32");
    refused(&["--lora-r", "0"], "'--lora-r <RANK>': 0 is not in 1..=8192");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    let why = "cuda:0: this program was built without CUDA; build it with `--features cuda`";
    smpo(&[&TINY[..], &["--device", "cuda"]].concat()).code(2).stderr(contains(why));
}

/// Without a GPU only: with one, the other tests use it.
#[cfg(feature = "cuda")]
#[test]
fn a_device_that_is_not_there_is_refused_in_one_line() {
    let assert = smpo(&[&TINY[..], &["--device", "cuda:99"]].concat()).failure();
    let told = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(told.starts_with("error: cuda:99: ") && told.trim_end().lines().count() == 1, "{told}");
}
