//! Compiles the kernels of `src/device/cuda`: for the emulator always, for NVIDIA GPUs with the feature `cuda`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that are one module each.
const MODULES: [&str; 10] =
    ["adamw", "column_sums", "dropout", "elementwise", "gated", "head", "rms_norm", "rotary", "rows", "weighted_sum"];

/// Files that are one module for each padded width of a head: a driver compiles a module as a whole, and a model has one
/// width.
const ATTENTION: [&str; 2] = ["attention_backward", "attention_forward"];
const ATTENTION_WIDTHS: [u32; 5] = [32, 64, 96, 128, 256];

/// The minimum compute capability: the first with bfloat16 on tensor cores and asynchronous copies.
const MIN_CAPABILITY: u32 = 80;

fn main() {
    println!("cargo::rerun-if-changed=src/device/cuda");
    println!("cargo::rerun-if-changed=src/device/emulator");
    emulator();
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
        println!("cargo::rerun-if-env-changed=NVCC");
        println!("cargo::rerun-if-env-changed=CUDA_HOME");
        println!("cargo::rerun-if-env-changed=CUDA_PATH");
        if let Err(reason) = gpu() {
            println!("cargo::error={reason}");
        }
    }
}

/// The kernels as C++ for the CPU.
fn emulator() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .define("SMPO_EMULATOR", None)
        .file("src/device/emulator/emulator.cpp")
        // Kernels are CUDA C++: `#pragma unroll` is unknown to a C++ compiler.
        .flag_if_supported("-Wno-unknown-pragmas")
        .flag_if_supported("-ffp-contract=off")
        .compile("smpo_emulator");
}

/// The kernels as PTX, which a driver compiles for the GPU at hand.
fn gpu() -> Result<(), String> {
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| MIN_CAPABILITY.to_string());
    let number: u32 = capability
        .trim_end_matches(['a', 'f'])
        .parse()
        .map_err(|_| format!("CUDA_COMPUTE_CAP: expected a number such as 90, got `{capability}`"))?;
    if number < MIN_CAPABILITY {
        return Err(format!("CUDA_COMPUTE_CAP: expected at least {MIN_CAPABILITY} (Ampere), got {number}"));
    }
    let nvcc = nvcc();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let plain = MODULES.iter().map(|module| (*module, module.to_string(), None));
    let by_width = ATTENTION.iter().flat_map(|module| {
        ATTENTION_WIDTHS.map(|width| (*module, format!("{module}_{width}"), Some(format!("-DATTENTION_WIDTH={width}"))))
    });
    for (file, module, definition) in plain.chain(by_width) {
        let source = Path::new("src/device/cuda").join(file).with_extension("cu");
        let ptx = out.join(module).with_extension("ptx");
        let status = Command::new(&nvcc)
            .args(definition)
            .args(["--ptx", "--std=c++17", "-O3", "--fmad=true", "--generate-line-info"])
            .arg(format!("--gpu-architecture=compute_{capability}"))
            .arg("--output-file")
            .arg(&ptx)
            .arg(&source)
            .output();
        match status {
            Err(error) => {
                return Err(format!("{}: {error}; install the CUDA toolkit or set NVCC or CUDA_HOME", nvcc.display()));
            }
            Ok(output) if !output.status.success() => {
                let message = String::from_utf8_lossy(&output.stderr).replace('\n', " | ");
                return Err(format!("{} {}: {message}", nvcc.display(), source.display()));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|root| Path::new(&root).join("bin/nvcc"))
        .find(|nvcc| nvcc.is_file())
        .unwrap_or_else(|| "nvcc".into())
}
