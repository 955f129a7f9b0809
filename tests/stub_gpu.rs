//! A program with CUDA whose driver and cuBLAS are stubs: host memory plays the GPU's, so everything but NVIDIA's own
//! libraries runs, its calls are recorded, and its faults can be had at will.
//!
//! `.ci/nightly driver` builds both and sets SMPO_CUDA_PROGRAM, the program, and SMPO_STUB, the directory of the libraries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use smpo_fixtures::demo;
use smpo_results::{Sample, read_jsonl};
use tempfile::TempDir;

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; see `.ci/nightly driver`")).into()
}

/// The program on the stub, with settings such as `("CAPABILITY", "75")`.
fn smpo(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(variable("SMPO_CUDA_PROGRAM"));
    command.env("LD_LIBRARY_PATH", variable("SMPO_STUB"));
    for (name, value) in settings {
        command.env(format!("SMPO_STUB_{name}"), value);
    }
    command
}

/// `bench step` of the smallest shape; its report, and the stub's record.
fn steps(dir: &Path, options: &[&str]) -> (Value, Vec<String>) {
    steps_with(dir, &[], options)
}

/// The same with settings of the stub.
fn steps_with(dir: &Path, settings: &[(&str, &str)], options: &[&str]) -> (Value, Vec<String>) {
    let record = dir.join("record");
    fs::remove_file(&record).ok();
    let mut command = smpo(&[&[("RECORD", record.to_str().unwrap())][..], settings].concat());
    command.args(["bench", "step", "--device", "cuda", "--format", "json", "--shape", "tiny", "--length", "24"]);
    command.args(["--batch-size", "2", "--steps", "2", "--warmup", "1"]).args(options);
    let output = command.assert().success().get_output().clone();
    let record = fs::read_to_string(&record).unwrap().lines().map(str::to_owned).collect();
    (serde_json::from_slice(&output.stdout).unwrap(), record)
}

/// A run of the demo's model in a directory.
struct Run {
    dir: PathBuf,
    config: PathBuf,
}

impl Run {
    fn new(dir: &Path, name: &str, keys: &str) -> Self {
        let run = Self { dir: dir.join(name), config: dir.join(format!("{name}.toml")) };
        let text = format!(
            "model_name_or_path = {:?}\noutput_dir = {:?}\ndataset = {:?}\ndataset_sample = 8\nmax_length = 64\n\
             per_device_train_batch_size = 2\nmax_steps = 4\nlearning_rate = 5e-4\nsave_steps = 1\nseed = 5\n{keys}\n\
             [loss]\nkind = \"smpo\"\n",
            demo("base"),
            run.dir,
            demo("preferences.jsonl"),
        );
        fs::write(&run.config, text).unwrap();
        run
    }

    fn command(&self, settings: &[(&str, &str)], device: &str) -> Command {
        let mut command = smpo(settings);
        command.arg("train").arg(&self.config).args(["--set", &format!("device={device}")]);
        command
    }

    fn losses(&self) -> Vec<f64> {
        let text = fs::read_to_string(self.dir.join("metrics.jsonl")).unwrap();
        let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
        text.lines().filter_map(loss).collect()
    }

    fn weights(&self) -> Vec<u8> {
        fs::read(self.dir.join("model/model.safetensors")).unwrap()
    }
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_passes_the_self_test() {
    let dir = TempDir::new().unwrap();
    let record = dir.path().join("record");
    let mut command = smpo(&[("RECORD", record.to_str().unwrap())]);
    command.args(["selftest", "--device", "cuda"]).assert().success();
    let record = fs::read_to_string(record).unwrap();
    // This project's kernels come as machine code; nothing that runs was missing or out of place.
    assert!(record.contains("module machine code"));
    let wrong: Vec<&str> =
        record.lines().filter(|line| line.starts_with("missing") || line.starts_with("fault")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let products: Vec<&str> = record.lines().filter(|line| line.starts_with("gemm")).collect();
    // Sums of split products are float32, and float32 is not TF32.
    assert!(!products.is_empty() && products.iter().all(|line| line.ends_with("compute 68 mode 16")));
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_calls_are_those_that_are_meant() {
    let dir = TempDir::new().unwrap();
    let (report, record) = steps(dir.path(), &["--dtype", "bfloat16"]);
    let tokens = report["packed_tokens"].as_u64().unwrap();
    let product = |line: &&String| line.starts_with("gemm") || line.starts_with("lt");
    let products: BTreeSet<&str> = record.iter().filter(product).map(String::as_str).collect();
    let has = |call: String| {
        assert!(products.iter().any(|product| product.starts_with(&call)), "no `{call}` among {products:#?}");
    };
    // Row by row x (N, I) times W (O, I) transposed is, column by column, W (I, O) transposed times x (I, N).
    let types = "types 14 14 14";
    for (outputs, inputs) in [(64, 64), (32, 64), (128, 64), (64, 128)] {
        // Keys and values have biases.
        let call = if outputs == 32 { "lt" } else { "gemm" };
        has(format!("{call} TN m {outputs} n {tokens} k {inputs} {types} strides {inputs} {inputs} {outputs} alpha 1"));
        // dx = dy W, in the dtype of activations.
        has(format!("gemm NN m {inputs} n {tokens} k {outputs} {types} strides {inputs} {outputs} {inputs} alpha 1"));
        // dW = dyᵀ x, a float32 sum.
        let sums = "types 14 14 0";
        has(format!("gemm NT m {inputs} n {outputs} k {tokens} {sums} strides {inputs} {outputs} {inputs} alpha 1"));
    }
    // Activations of a pack, in two bytes a value.
    let allocated: BTreeSet<&str> =
        record.iter().filter(|line| line.starts_with("allocate")).map(String::as_str).collect();
    for width in [64, 128] {
        let call = format!("allocate {}", tokens * width * 2);
        assert!(allocated.contains(&call[..]), "no `{call}`");
    }
    assert!(!allocated.contains("allocate 0"));
    // float32 moments and master copies of the embedding's 512 rows.
    assert!(allocated.contains(&format!("allocate {}", 512 * 64 * 4)[..]));
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_adds_biases_as_epilogues_or_where_there_is_none_before_the_product() {
    let dir = TempDir::new().unwrap();
    let options = ["--dtype", "bfloat16", "--lora-r", "4"];
    let (report, record) = steps(dir.path(), &options);
    let tokens = report["packed_tokens"].as_u64().unwrap();
    let epilogues =
        |record: &[String]| record.iter().filter(|line| line.starts_with("lt")).cloned().collect::<Vec<_>>();
    let filled = |record: &[String]| record.iter().filter(|line| line.contains("launch repeat_row")).count();
    // The update of each adapter, of whose stacked products 4 of 12 columns are read, with the layer's bias.
    let found = epilogues(&record);
    for outputs in [64, 32] {
        let call = format!("lt TN m {outputs} n {tokens} k 4 types 14 14 14 strides 4 12 {outputs} alpha");
        assert!(found.iter().any(|line| line.starts_with(&call)), "no `{call}` among {found:#?}");
    }
    assert!(found.iter().all(|line| line.ends_with("beta 0 bias compute 68 workspace 4194304")), "{found:#?}");
    // Queries, keys and values of two layers, in three steps.
    assert_eq!((found.len(), filled(&record)), (18, 0));
    let (without, record) = steps_with(dir.path(), &[("LT", "0")], &options);
    assert_eq!((epilogues(&record).len(), filled(&record)), (0, 18));
    assert_eq!(without["losses"].as_array().unwrap().len(), report["losses"].as_array().unwrap().len());
    let losses = |report: &Value| -> Vec<f64> {
        report["losses"].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
    };
    for (one, other) in losses(&report).iter().zip(losses(&without)) {
        assert!((one - other).abs() < 1e-3, "{one} {other}");
    }
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_multiplies_by_the_stacked_a_of_adapters_with_one_input() {
    let dir = TempDir::new().unwrap();
    let (report, record) = steps(dir.path(), &["--dtype", "bfloat16", "--lora-r", "4"]);
    let tokens = report["packed_tokens"].as_u64().unwrap();
    let has = |call: String| assert!(record.iter().any(|line| line.starts_with(&call)), "no `{call}`");
    // Of queries, keys and values, and of gate and up: x Aᵀ, dA and dx.
    for ranks in [12, 8] {
        has(format!("gemm TN m {ranks} n {tokens} k 64 types 14 14 14 strides 64 64 {ranks} alpha 1 beta 0"));
        has(format!("gemm NT m 64 n {ranks} k {tokens} types 14 14 0 strides 64 {ranks} 64 alpha 1 beta 0"));
        has(format!("gemm NN m 64 n {tokens} k {ranks} types 14 14 14 strides 64 {ranks} 64 alpha 1 beta 1"));
    }
    // A layer's own columns of them: dy B to some, and dB from some.
    has(format!("gemm NN m 4 n {tokens} k 128 types 14 14 14 strides 4 128 8"));
    has(format!("gemm NT m 4 n 128 k {tokens} types 14 14 0 strides 8 128 4"));
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_takes_steps_in_every_way_of_training() {
    let dir = TempDir::new().unwrap();
    for options in [
        &["--dtype", "float32"][..],
        &["--dtype", "bfloat16", "--checkpointing"],
        &["--dtype", "float16", "--lora-r", "4"],
        &["--dtype", "bfloat16", "--lora-r", "4", "--checkpointing"],
        &["--dtype", "bfloat16", "--lora-r", "4", "--base", "nf4"],
        &["--dtype", "bfloat16", "--lora-r", "4", "--max-tokens-per-pack", "40"],
    ] {
        let (report, record) = steps(dir.path(), options);
        let losses: Vec<f64> = report["losses"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        // Three steps at 1e-5 are less than bfloat16 rounds.
        assert!(losses[1] < losses[0] + 1e-3 && losses[1] > losses[0] - 0.1, "{options:?}: {losses:?}");
        assert!(!record.iter().any(|line| line.starts_with("missing") || line.starts_with("fault")), "{options:?}");
    }
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_trains_as_the_cpu_does() {
    let dir = TempDir::new().unwrap();
    let adapters = "use_peft = true\nlora_r = 4\nuse_dora = true\n";
    for (name, keys) in [("full", ""), ("dora", adapters)] {
        let (cpu, gpu) = (Run::new(dir.path(), &format!("{name}-cpu"), keys), Run::new(dir.path(), name, keys));
        cpu.command(&[], "cpu").assert().success();
        gpu.command(&[], "cuda").assert().success().stderr(contains("packs of up to"));
        for (expected, got) in cpu.losses().iter().zip(gpu.losses()) {
            assert!((expected - got).abs() < 1e-4, "{name}: {expected} {got}");
        }
        let half = Run::new(dir.path(), &format!("{name}-bf16"), &format!("bf16 = true\n{keys}"));
        half.command(&[], "cuda").assert().success();
        let (expected, got) = (cpu.losses()[0], half.losses()[0]);
        assert!((expected - got).abs() < 0.01 * expected.abs(), "{name}: {expected} {got}");
    }
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_that_cannot_be_used_is_refused_with_the_reason() {
    let refused = |settings: &[(&str, &str)], message: &str| {
        let arguments = ["bench", "step", "--shape", "tiny", "--device", "cuda"];
        smpo(settings).args(arguments).assert().code(4).stderr(contains(message));
    };
    refused(
        &[("VERSION", "12080")],
        "cuda:0: the driver supports CUDA up to 12.8, this program was built with CUDA 13",
    );
    refused(&[("CAPABILITY", "75")], "cuda:0: Stub GPU has compute capability 7.5, this program was built for 8.0");
    refused(&[("DEVICES", "0")], "cuda:0: no device: the driver finds no GPU");
    refused(&[("INIT", "999")], "cuda:0: the driver failed with CUDA_ERROR_UNKNOWN (999)");
    refused(&[("EXCLUSIVE", "1")], "cuda:0: other processes leave no room on it");
    refused(&[("MEBIBYTES", "64"), ("TAKEN", "64")], "cuda:0: other processes leave no room on it");
    let second = ["bench", "step", "--shape", "tiny", "--device", "cuda:1"];
    smpo(&[]).args(second).assert().code(2).stderr(contains("cuda:1: no such device: expected an index below 1"));
    smpo(&[("DEVICES", "2")]).args(second).args(["--steps", "1", "--warmup", "0"]).assert().success();
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_that_is_too_small_is_told_before_training_and_while_it_trains() {
    let dir = TempDir::new().unwrap();
    let run = Run::new(dir.path(), "small", "");
    let refused = |settings: &[(&str, &str)], free: &str, remedy: &str| {
        run.command(settings, "cuda").assert().code(4).stderr(contains(free).and(contains(remedy)));
    };
    let remedy = "a smaller model or a GPU with more memory: no other setting is enough";
    refused(&[("MEBIBYTES", "32")], "32.0 MiB of the GPU's 32.0 MiB are free", remedy);
    // Another process has most of it.
    let taken = [("MEBIBYTES", "8192"), ("TAKEN", "8146")];
    refused(&taken, "46.0 MiB of the GPU's 8.0 GiB are free", "use_peft = true");
    let unchecked = Run::new(dir.path(), "unchecked", "memory_check = \"off\"\n");
    let full = contains("the GPU is out of memory").and(contains("lower max_tokens_per_pack or max_length"));
    unchecked.command(&[("MEBIBYTES", "12")], "cuda").assert().code(4).stderr(full);
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_needs_about_the_memory_that_is_estimated() {
    let dir = TempDir::new().unwrap();
    let adapters = "use_peft = true\nlora_r = 8\n";
    for (name, keys) in [
        ("full", String::new()),
        ("half", "bf16 = true\n".into()),
        ("recomputed", "bf16 = true\ngradient_checkpointing = true\n".into()),
        ("adapted", format!("bf16 = true\n{adapters}")),
        ("packed", format!("bf16 = true\nload_in_4bit = true\n{adapters}")),
    ] {
        let run = Run::new(dir.path(), name, &keys);
        let text = fs::read_to_string(&run.config).unwrap().replace("batch_size = 2", "batch_size = 8");
        fs::write(&run.config, text.replace("max_steps = 4", "max_steps = 1")).unwrap();
        let output =
            run.command(&[], "cuda").args(["--check", "--format", "json"]).assert().success().get_output().clone();
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        // cuBLAS' workspace is not the stub's.
        let estimate = plan["memory"]["total_bytes"].as_f64().unwrap() - f64::from(32 << 20);
        let record = dir.path().join(format!("{name}.record"));
        run.command(&[("RECORD", record.to_str().unwrap())], "cuda").assert().success();
        let record = fs::read_to_string(record).unwrap();
        let peak = record.lines().find_map(|line| line.strip_prefix("peak ")).unwrap().parse::<f64>().unwrap();
        let ratio = estimate / peak;
        assert!((0.9..1.8).contains(&ratio), "{name}: {estimate} estimated, {peak} used");
    }
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_that_is_lost_leaves_checkpoints_to_resume_from() {
    let dir = TempDir::new().unwrap();
    let (whole, lost) = (Run::new(dir.path(), "whole", ""), Run::new(dir.path(), "lost", ""));
    let record = dir.path().join("record");
    whole.command(&[("RECORD", record.to_str().unwrap())], "cuda").assert().success();
    let record = fs::read_to_string(record).unwrap();
    let work = record.lines().filter(|line| ["launch", "gemm", "lt"].iter().any(|kind| line.starts_with(kind)));
    let work = work.count();
    // After more than half of the steps.
    let limit = (2 * work / 3).to_string();
    let message = contains("the GPU is lost").and(contains("the same command resumes from the last one"));
    lost.command(&[("LOST_AFTER", &limit)], "cuda").assert().code(4).stderr(message);
    assert!(fs::read_dir(lost.dir.join("checkpoints")).unwrap().count() > 0);
    lost.command(&[], "cuda").assert().success();
    assert!(lost.weights() == whole.weights(), "a resumed run ends with other weights");
}

/// Token ids and log-probs of an evaluation's samples, in the order of its prompts.
fn samples(out: &Path) -> Vec<(Vec<u32>, Vec<f32>)> {
    let samples: Vec<Sample> = read_jsonl(&out.join("samples.jsonl"), "sample").unwrap();
    samples.into_iter().map(|sample| (sample.token_ids.unwrap(), sample.logps.unwrap())).collect()
}

/// A suite of every fortieth of the demo's prompts.
fn suite(dir: &Path, sampler: &str) -> PathBuf {
    let prompts = fs::read_to_string(demo("ood.jsonl")).unwrap();
    let some: Vec<&str> = prompts.lines().step_by(40).take(9).collect();
    let slice = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["slice"].as_str().unwrap().to_owned();
    let slices: Vec<String> = some.iter().map(slice).collect::<BTreeSet<_>>().into_iter().collect();
    fs::write(dir.join("prompts.jsonl"), some.join("\n")).unwrap();
    let text = format!(
        "name = \"some\"\nprompts = \"prompts.jsonl\"\nslices = {slices:?}\ncap = 30\nseed = 4\n[sampler]\n{sampler}\n"
    );
    fs::write(dir.join("some.toml"), text).unwrap();
    dir.join("some.toml")
}

fn eval(settings: &[(&str, &str)], model: &Path, suite: &Path, out: &Path, device: &str) -> Command {
    let mut command = smpo(settings);
    command.arg("eval").arg(model).arg("--suite").arg(suite).arg("--out").arg(out);
    command.args(["--engine", "native", "--device", device, "--batch", "4"]);
    command
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_samples_as_the_cpu_does() {
    let dir = TempDir::new().unwrap();
    for (index, sampler) in
        ["temperature = 0.0", "temperature = 1.0", "temperature = 1.3\ntop_k = 40\ntop_p = 0.9\nmin_p = 0.01"]
            .into_iter()
            .enumerate()
    {
        let suite = suite(dir.path(), sampler);
        let out = |device: &str| dir.path().join(format!("{index}-{}", device.replace([':', ','], "-")));
        let record = dir.path().join("record");
        eval(&[], &demo("base"), &suite, &out("cpu"), "cpu").assert().success();
        for device in ["cuda", "auto", "cuda:0,cuda:1"] {
            let settings = [("RECORD", record.to_str().unwrap()), ("DEVICES", "2")];
            eval(&settings, &demo("base"), &suite, &out(device), device).assert().success();
            let record = fs::read_to_string(&record).unwrap();
            assert!(!record.lines().any(|line| line.starts_with("missing") || line.starts_with("fault")), "{record}");
            assert!(record.contains("cached_attention_f32"), "sampled elsewhere");
            for (expected, got) in samples(&out("cpu")).iter().zip(samples(&out(device))) {
                assert_eq!(got.0, expected.0, "{sampler}, {device}");
                let largest = got.1.iter().zip(&expected.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest < 1e-4, "{sampler}, {device}: {largest}");
            }
        }
    }
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_samples_in_the_memory_that_it_has() {
    let dir = TempDir::new().unwrap();
    let suite = suite(dir.path(), "temperature = 1.0");
    let refused = |mebibytes: &str, message: &str| {
        let out = dir.path().join("refused");
        let settings = [("MEBIBYTES", mebibytes)];
        eval(&settings, &demo("base"), &suite, &out, "cuda").assert().code(4).stderr(contains(message));
    };
    refused("1", "its weights take");
    // Weights and no more; then a cache for some sequences at a time.
    refused("4", "sampling takes at least");
    let out = |name: &str| dir.path().join(name);
    eval(&[], &demo("base"), &suite, &out("all"), "cuda").assert().success();
    eval(&[("MEBIBYTES", "40")], &demo("base"), &suite, &out("few"), "cuda").assert().success();
    let ids = |name: &str| samples(&out(name)).into_iter().map(|(ids, _)| ids).collect::<Vec<_>>();
    assert_eq!(ids("few"), ids("all"));
}

#[test]
#[ignore = "needs a build with CUDA and the stub: .ci/nightly driver"]
fn stub_gpu_probes_as_the_cpu_does() {
    let dir = TempDir::new().unwrap();
    let probe = |keys: &str| {
        let prompts = demo("ood.jsonl");
        let table = format!("[probe]\nprompts = {prompts:?}\nsteps = 2\nmax_prompts = 6\nmax_new_tokens = 12\n");
        (keys.to_owned(), table)
    };
    for (name, (keys, table)) in [("whole", probe("")), ("adapters", probe("use_peft = true\nlora_r = 4\n"))] {
        let runs = ["cpu", "cuda"].map(|device| {
            let run = Run::new(dir.path(), &format!("{name}-{device}"), &keys);
            let text = fs::read_to_string(&run.config).unwrap();
            fs::write(&run.config, text + &table).unwrap();
            run.command(&[], device).assert().success();
            run
        });
        for step in [0, 2, 4] {
            let [cpu, gpu] =
                runs.each_ref().map(|run| fs::read_to_string(run.dir.join(format!("probe/step-{step}.jsonl"))));
            assert_eq!(cpu.unwrap(), gpu.unwrap(), "{name}, step {step}");
        }
    }
}
