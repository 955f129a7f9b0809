#!/usr/bin/env bash
# Everything that a GPU machine can prove, in one command of at most eight minutes: self-test, whole steps of 0.5, 1.5 and 7
# billion parameters (LoRA and QLoRA) beside their Python peers, sampling, compute-sanitizer. One JSON file, one table.
#
#   SMPO=smpo benches/gpu.sh              # on a bare GPU machine, with a program built elsewhere
#   benches/gpu.sh                        # where there are cargo and a CUDA toolkit (docs/cuda.md)
#   DEVICE=cpu SHAPES=tiny benches/gpu.sh # the same on any machine, in small
#
# SMPO: a built program, which may be stripped; built here when unset. PYTHON: an interpreter, 3.9 or newer. The libraries of
# the toolkit are found in the packages nvidia-* of PYTHON (torch brings them) where the system has none; torch,
# transformers, trl, peft, datasets and liger-kernel are used where they are. OUT: directory of gpu.json and gpu.md
# [target/gpu]. SECONDS_LEFT: limit [480]; what does not fit is skipped and named. MODEL: model directory to sample from
# [the demo's].
set -euo pipefail
cd "$(dirname "$0")/.."
export DEVICE=${DEVICE:-cuda} SHAPES=${SHAPES:-all} OUT=${OUT:-target/gpu}
python=${PYTHON:-python3}
case $SHAPES in all | tiny) ;; *) echo "SHAPES: expected all or tiny, got $SHAPES" >&2; exit 2 ;; esac
if [ -z "${SMPO:-}" ]; then
  features=()
  case $DEVICE in cuda*) features=(--features cuda) ;; esac
  cargo build --release --no-default-features "${features[@]}"
  SMPO=target/release/smpo
fi
export SMPO
# The libraries of PyPI's packages: nvidia/cu13/lib, or nvidia/<library>/lib of the packages for CUDA 12.
packages=$("$python" - << 'FIND'
import pathlib, sys
roots = [pathlib.Path(path) / "nvidia" for path in sys.path if path]
found = {library.parent for root in roots if root.is_dir() for library in root.glob("*/lib/lib*.so*")}
print(":".join(sorted(str(path) for path in found)))
FIND
)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$packages
exec "$python" benches/gpu.py
