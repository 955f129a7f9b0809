//! Compiles the kernels of `src/device/cuda`: for the emulator always, for NVIDIA GPUs with the feature `cuda`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernels: each `.cu` file is one module, found by its name.
const SOURCES: &str = "src/device/cuda";

/// The emulator: C++ that runs the kernels on the CPU.
const EMULATOR: &str = "src/device/emulator";

/// Files of this prefix are one module for each padded width of a head: a driver compiles a module as a whole, and a
/// model has one width.
const BY_WIDTH: &str = "attention_";
const ATTENTION_WIDTHS: [u32; 5] = [32, 64, 96, 128, 256];

/// The minimum compute capability: the first with bfloat16 on tensor cores and asynchronous copies.
const MIN_CAPABILITY: u32 = 80;

fn main() {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed={EMULATOR}");
    let result = sources().and_then(|files| {
        emulator(&files)?;
        if env::var_os("CARGO_FEATURE_CUDA").is_some() { gpu(&files) } else { Ok(()) }
    });
    if let Err(reason) = result {
        println!("cargo::error={reason}");
    }
}

/// Files of a directory with an extension, sorted.
fn files(directory: &str, extension: &str) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{directory}: {error}");
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|own| own == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Names of the `.cu` files without extension, sorted.
fn sources() -> Result<Vec<String>, String> {
    let names = files(SOURCES, "cu")?.into_iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    Ok(names.collect())
}

fn out_dir() -> Result<PathBuf, String> {
    Ok(PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?))
}

/// The kernels as C++ for the CPU.
fn emulator(files: &[String]) -> Result<(), String> {
    let out = out_dir()?;
    let includes: String = files.iter().map(|file| format!("#include \"{file}.cu\"\n")).collect();
    fs::write(out.join("kernels.cuh"), includes).map_err(|error| format!("{}: {error}", out.display()))?;
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .define("SMPO_EMULATOR", None)
        .include(&out)
        .include(SOURCES)
        .files(self::files(EMULATOR, "cpp")?)
        // Kernels are CUDA C++: `#pragma unroll` is unknown to a C++ compiler.
        .flag_if_supported("-Wno-unknown-pragmas")
        .flag_if_supported("-ffp-contract=off")
        .try_compile("smpo_emulator")
        .map_err(|error| error.to_string())
}

/// The kernels as PTX, which a driver compiles for the GPU at hand.
fn gpu(files: &[String]) -> Result<(), String> {
    for variable in ["CUDA_COMPUTE_CAP", "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| MIN_CAPABILITY.to_string());
    let number: u32 = capability
        .trim_end_matches(['a', 'f'])
        .parse()
        .map_err(|_| format!("CUDA_COMPUTE_CAP: expected a number such as 90, got `{capability}`"))?;
    if number < MIN_CAPABILITY {
        return Err(format!("CUDA_COMPUTE_CAP: expected at least {MIN_CAPABILITY} (Ampere), got {number}"));
    }
    let nvcc = nvcc();
    let out = out_dir()?;
    let modules = files.iter().flat_map(|file| match file.starts_with(BY_WIDTH) {
        false => vec![(file, file.clone(), None)],
        true => ATTENTION_WIDTHS
            .map(|width| (file, format!("{file}_{width}"), Some(format!("-DATTENTION_WIDTH={width}"))))
            .to_vec(),
    });
    for (file, module, definition) in modules {
        let source = Path::new(SOURCES).join(file).with_extension("cu");
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
