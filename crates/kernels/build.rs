//! Compiles the kernels of `src/device/cuda`: for the emulator always, for NVIDIA GPUs with the feature `cuda`.

#[path = "build/targets.rs"]
mod targets;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// The kernels: each `.cu` file is one module, found by its name.
const SOURCES: &str = "src/device/cuda";

/// The emulator: C++ that runs the kernels on the CPU.
const EMULATOR: &str = "src/device/emulator";

/// Files of this prefix are one module for each padded width of a head: a driver compiles a module as a whole, and a
/// model has one width.
const BY_WIDTH: &str = "attention_";
const ATTENTION_WIDTHS: [u32; 5] = [32, 64, 96, 128, 256];

fn main() {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed={EMULATOR}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
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

/// A module: its source, its name, and nvcc's definition for it.
struct Module<'a> {
    source: &'a str,
    name: String,
    definition: Option<String>,
}

/// The kernels as machine code of several GPUs and as PTX, a file for each module.
fn gpu(files: &[String]) -> Result<(), String> {
    for variable in ["CUDA_COMPUTE_CAP", "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let minimum = targets::minimum(env::var("CUDA_COMPUTE_CAP").ok().as_deref())?;
    let nvcc = nvcc();
    let known = run(Command::new(&nvcc).arg("--list-gpu-code"))?;
    let machine_code = targets::machine_code(minimum, &known)?;
    let generate = targets::gencode(&machine_code).ok_or("no GPU to compile for")?;
    let out = out_dir()?;
    let modules: Vec<Module<'_>> = files
        .iter()
        .flat_map(|source| match source.starts_with(BY_WIDTH) {
            false => vec![Module { source, name: source.clone(), definition: None }],
            true => ATTENTION_WIDTHS
                .map(|width| Module {
                    source,
                    name: format!("{source}_{width}"),
                    definition: Some(format!("-DATTENTION_WIDTH={width}")),
                })
                .into_iter()
                .collect(),
        })
        .collect();
    let compile = |module: &Module<'_>| {
        let mut command = Command::new(&nvcc);
        command
            .args(&module.definition)
            .args(["--fatbin", "--std=c++17", "-O3", "--fmad=true", "--generate-line-info", "-Xfatbin=--compress-all"])
            .arg(&generate)
            .arg("--output-file")
            .arg(out.join(&module.name).with_extension("fatbin"))
            .arg(Path::new(SOURCES).join(module.source).with_extension("cu"));
        run(&mut command).map(drop)
    };
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let (next, failure) = (Mutex::new(modules.iter()), Mutex::new(None));
    let take = || next.lock().ok().and_then(|mut modules| modules.next());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(module) = take() {
                    if let (Err(reason), Ok(mut failure)) = (compile(module), failure.lock()) {
                        failure.get_or_insert(reason);
                    }
                }
            });
        }
    });
    match failure.into_inner() {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(reason),
        Err(_) => Err("a thread of the build panicked".into()),
    }
}

/// Output of a command of the CUDA toolkit.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}; install the CUDA toolkit or set NVCC or CUDA_HOME"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let last = command.get_args().last().unwrap_or_default().to_string_lossy().into_owned();
    Err(format!("{name} {last}: {}", String::from_utf8_lossy(&output.stderr).replace('\n', " | ")))
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
