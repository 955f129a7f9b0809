//! `smpo selftest`: a device against the CPU. The GPU's kernels are emulated here; `--device cuda` runs the same.

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::Value;

fn smpo(args: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_smpo")).args(args).assert()
}

#[test]
fn the_emulated_kernels_agree_with_the_cpu() {
    let report = smpo(&["selftest", "--device", "emulated", "--format", "json"]).success();
    let report: Value = serde_json::from_slice(&report.get_output().stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    for dtype in ["f32", "bf16", "f16"] {
        for operation in ["attention", "rms_norm", "rotary", "swiglu", "linear", "head", "adamw"] {
            let found = checks.iter().filter(|check| check["dtype"] == dtype);
            let found = found.filter(|check| check["name"].as_str().unwrap().starts_with(operation)).count();
            assert!(found > 0, "{operation} in {dtype} is not compared");
        }
    }
    let steps = checks.iter().filter(|check| check["name"] == "10 training steps").collect::<Vec<_>>();
    assert_eq!(steps.len(), 2);
    // Not the CPU against itself: the kernels add in another order.
    assert!(steps.iter().all(|check| check["largest_difference"].as_f64().unwrap() > 0.0), "{steps:?}");
}

#[test]
fn what_cannot_be_tested_is_refused() {
    #[cfg(not(feature = "cuda"))]
    smpo(&["selftest", "--device", "cuda"]).code(2).stderr(contains("built without CUDA"));
    smpo(&["selftest", "--device", "cpu"]).code(2).stderr(contains("expected cuda, cuda:N or emulated"));
    smpo(&["selftest", "--device", "gpu"]).code(2).stderr(contains("expected auto, cpu, cuda"));
}

#[test]
fn half_precision_trains_as_float32_does() {
    let dir = tempfile::tempdir().unwrap();
    let loss = |device: &str, precision: &str| {
        let out = dir.path().join(format!("{device}-{precision}"));
        let out_key = format!("output_dir={}", out.display());
        let (device, precision) = (format!("device={device}"), format!("{precision}=true"));
        let sets = [&out_key, &device, &precision, "model_name_or_path=datasets/demo/base", "max_steps=2"];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        smpo(&["train", "configs/demo/modified.toml"].into_iter().chain(sets).collect::<Vec<_>>()).success();
        let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        last["loss"].as_f64().unwrap()
    };
    // The CPU has no 16-bit dtypes and says so.
    let expected = loss("cpu", "bf16");
    for precision in ["bf16", "fp16"] {
        let got = loss("emulated", precision);
        assert!(got != expected && (got - expected).abs() < 0.01 * expected, "{precision}: {got}, float32 {expected}");
    }
}
