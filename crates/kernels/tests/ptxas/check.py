#!/usr/bin/env python3
"""The kernels through nvcc and ptxas, without a GPU.

    check.py WORK

Every warning of nvcc is an error, and so is a kernel that needs a stack or spills registers on any supported GPU. With
cuobjdump and nvdisasm on the path, kernels for tensor cores have to use them and wide ones to load 16 bytes at a time.
Writes a table, WORK/kernels.md. Exits with 75 if there is no nvcc: NVCC, CUDA_HOME, CUDA_PATH or the path.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src/device/cuda"
WIDTHS = [32, 64, 96, 128, 256]  # ATTENTION_WIDTHS of build.rs
TARGETS = [80, 86, 89, 90, 100, 103, 120, 121]
FLAGS = ["--ptx", "--std=c++17", "-O3", "--fmad=true", "--generate-line-info", "--gpu-architecture=compute_80"]

# Kernels that multiply on tensor cores, and kernels that read 16 bytes at a time.
TENSOR_CORES = re.compile(r"attention_(forward|backward_\w+)_\d+_(bf16|f16)$")
WIDE = re.compile(r"(add|rms_norm|rms_norm_backward|swiglu|swiglu_backward|geglu|geglu_backward)_(f32|bf16|f16)$")


def tool(name):
    roots = [os.environ[key] for key in ("CUDA_HOME", "CUDA_PATH") if key in os.environ]
    found = [os.path.join(root, "bin", name) for root in roots]
    return next((path for path in found if os.path.isfile(path)), None) or shutil.which(name)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def modules():
    for source in sorted(SOURCES.glob("*.cu")):
        if source.stem.startswith("attention_"):
            yield from ((f"{source.stem}_{width}", source, [f"-DATTENTION_WIDTH={width}"]) for width in WIDTHS)
        else:
            yield source.stem, source, []


def assemble(ptxas, module, target):
    """Registers, and bytes of stack and spills, of each kernel of a module."""
    log = run(ptxas, "-v", f"-arch=sm_{target}", f"{module}.ptx", "-o", f"{module}.{target}.cubin")
    kernels, name = {}, None
    for line in log.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name = found[1]
            kernels[name] = [0, 0]
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if name in kernels:
                kernels[name][1] += sum(map(int, found.groups()))
        elif found := re.search(r"Used (\d+) registers", line):
            kernels[name][0] = int(found[1])
    return kernels


def instructions(cuobjdump, cubin):
    """Numbers of tensor-core products and of 16-byte loads of each kernel."""
    counts, name = defaultdict(lambda: [0, 0]), None
    for line in run(cuobjdump, "-sass", cubin).splitlines():
        if found := re.search(r"Function : (\w+)", line):
            name = found[1]
        elif "HMMA" in line:
            counts[name][0] += 1
        elif re.search(r"\b(LDG|LDGSTS)\.E\.\S*128", line):
            counts[name][1] += 1
    return counts


def main():
    work = Path(sys.argv[1])
    nvcc = os.environ.get("NVCC") or tool("nvcc")
    if not nvcc:
        print("not run: no nvcc; set NVCC or CUDA_HOME")
        return 75
    ptxas = tool("ptxas") or Path(nvcc).with_name("ptxas")
    work.mkdir(parents=True, exist_ok=True)
    faults = []
    registers, counts = defaultdict(dict), {}
    every = list(modules())

    def compile_one(module):
        name, source, definition = module
        run(nvcc, *FLAGS, "-Werror", "all-warnings", *definition, "-o", work / f"{name}.ptx", source)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, every))
        jobs = [(name, target) for name, _, _ in every for target in TARGETS]
        for (_, target), kernels in zip(jobs, pool.map(lambda job: assemble(ptxas, work / job[0], job[1]), jobs)):
            for kernel, (used, spilled) in kernels.items():
                registers[kernel][target] = used
                if spilled:
                    faults.append(f"{kernel}, sm_{target}: {spilled} bytes of stack and spills")

    cuobjdump = tool("cuobjdump") if tool("nvdisasm") else None
    if cuobjdump:
        for name, _, _ in every:
            counts |= instructions(cuobjdump, work / f"{name}.90.cubin")
        for kernel in registers:
            products, loads = counts.get(kernel, (0, 0))
            if TENSOR_CORES.match(kernel) and products == 0:
                faults.append(f"{kernel}: no product on tensor cores")
            if (TENSOR_CORES.match(kernel) or WIDE.match(kernel)) and loads == 0:
                faults.append(f"{kernel}: no load of 16 bytes")
        for pattern in (TENSOR_CORES, WIDE):
            if not any(map(pattern.match, registers)):
                faults.append(f"no kernel is {pattern.pattern}")

    unknown = "" if cuobjdump else " (no cuobjdump and nvdisasm: not counted)"
    lines = [f"Registers by GPU; instructions on sm_90{unknown}.", ""]
    lines.append("| kernel | " + " | ".join(f"sm_{target}" for target in TARGETS) + " | HMMA | 16-byte loads |")
    lines.append("|---|" + "---|" * (len(TARGETS) + 2))
    for kernel in sorted(registers):
        products, loads = counts.get(kernel, (0, 0)) if cuobjdump else ("", "")
        used = " | ".join(str(registers[kernel].get(target, "missing")) for target in TARGETS)
        lines.append(f"| `{kernel}` | {used} | {products} | {loads} |")
    (work / "kernels.md").write_text("\n".join(lines) + "\n")
    print(f"{len(registers)} kernels for {len(TARGETS)} GPUs{unknown}; table: {work / 'kernels.md'}")
    print("\n".join(faults) or "no spill, no stack, no warning")
    return 1 if faults or not registers else 0


if __name__ == "__main__":
    sys.exit(main())
