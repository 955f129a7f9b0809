#!/usr/bin/env bash
# Everything that a GPU machine can prove, in one command: builds, checks every kernel against the CPU, and times
# training beside its Python peers.
#
#   benches/gpu.sh                        # on a GPU machine; needs a CUDA toolkit (docs/cuda.md) and PYTHON's packages
#   DEVICE=cpu SHAPES=tiny benches/gpu.sh # the same script on any machine
#
# PYTHON: an interpreter with torch, transformers, trl, peft, datasets and, for TRL's best, liger-kernel.
# SMPO: a built program; built here when unset. OUT: where the table goes.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
out=${OUT:-target/gpu-bench.md}
mkdir -p "$(dirname "$out")"
: > "$out"
if [ -z "${SMPO:-}" ]; then
  features=()
  case $device in cuda*) features=(--features cuda) ;; esac
  cargo build --release --no-default-features "${features[@]}"
  SMPO=target/release/smpo
fi
case $device in cuda*) nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv ;; esac
"$SMPO" selftest --device "$device"

status=0
bench() {
  "$python" benches/peers/gpu.py --device "$device" --smpo "$SMPO" "$@" | tee -a "$out" || status=1
}
case ${SHAPES:-all} in
  tiny) bench --shape tiny --lora-r 4 --length 64 --batch-size 4 --steps 3 --warmup 1 ;;
  all)
    bench --shape qwen2.5-1.5b --lora-r 128 --length 2048 --batch-size 8
    bench --shape qwen2.5-1.5b --lora-r 128 --length 2048 --batch-size 8 --checkpointing
    bench --shape qwen2.5-1.5b --lora-r 128 --length 8192 --batch-size 2 --checkpointing
    bench --shape qwen2.5-0.5b --length 2048 --batch-size 8
    bench --shape qwen2.5-7b --lora-r 128 --length 2048 --batch-size 4 --checkpointing --trainers smpo
    ;;
  *) echo "SHAPES: expected all or tiny, got $SHAPES" >&2; exit 2 ;;
esac
echo "the tables are in $out"
exit $status
