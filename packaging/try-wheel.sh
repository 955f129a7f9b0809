#!/usr/bin/env bash
# A wheel as a new user has it: an empty HOME, a fresh virtual environment, a directory outside the repository.
#
#   packaging/try-wheel.sh dist/smpo-*.whl
set -euo pipefail
wheel=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work/home PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir "$HOME"
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet "$wheel"
export PATH=$work/venv/bin:$PATH
smpo --version
smpo doctor --no-speed
case $(smpo demo --help >/dev/null 2>&1 && echo demo) in
  demo) # its exit code is the gate's verdict
    status=0
    smpo demo --seeds 1 --out demo || status=$?
    case $status in 0 | 1 | 3) ;; *) exit "$status" ;; esac
    test -s demo/leaderboard/index.html ;;
  *) echo "without mistral.rs: no demo" ;;
esac
python -c '
import smpo
answers = lambda ends: [{"prompt": f"Q {i}", "completion": f"A {i}", "finish_reason": "stop" if i < ends else "length"} for i in range(60)]
print(smpo.gate(answers(60), answers(10), policy="smoke"))
'
