#!/usr/bin/env bash
# The study, from the root of the repository: studies/termination/run.sh {smoke|screen|confirm} [OUT [SEEDS]]
# smoke: minutes. screen: about an hour on two idle cores. confirm: a night; needs frozen.json (report.py freeze).
# Interrupted, the same command goes on.
set -euo pipefail
here=studies/termination
task=${1:?smoke, screen or confirm} out=${2:-runs/termination} seeds=${3:-3}
cargo build --release --bin smpo
cargo build --release -p smpo-synth --example world
python3 "$here/tiny.py" "$out" "$task" "$seeds"
for recipe in "$out/$task"*.toml; do
  name=$(basename "$recipe" .toml)
  target/release/smpo run "$recipe"
  if [ "$task" = smoke ]; then
    python3 "$here/collect.py" "$out" "$name" > "$out/smoke.csv"
    column -s, -t < "$out/smoke.csv" | cut -c1-230
  else
    python3 "$here/collect.py" "$out" "$name" > "$here/results/$name.csv"
  fi
done
