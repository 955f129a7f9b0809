"""Runs every golden generator in a copy of the checkout and compares what it writes with the committed files.

    python .ci/goldens.py DIR        # DIR is created anew; a Python with .ci/nightly-requirements.txt

Numbers may differ by the tolerance below (other versions of PyTorch and of its kernels); everything else has to be equal.
Versions and platforms recorded inside the files are not compared.
"""
import json
import math
import pathlib
import shutil
import subprocess
import sys

import pyarrow.parquet
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
# generator, its arguments, the file that its standard output becomes; in the order in which they need each other
GENERATORS = [
    ("crates/chat/tests/golden/render.py", ["templates"], "golden.json"),
    ("crates/curation/tests/golden/generate.py", [], None),
    ("crates/tokenizer/tests/golden/generate.py", [], None),
    ("crates/data/tests/golden/parquet/generate.py", [], None),
    ("crates/gguf/tests/golden/generate.py", [], None),
    ("crates/inference/tests/golden/generate.py", [], None),
    ("crates/kernels/tests/golden/generate.py", [], None),
    ("crates/losses/tests/golden/generate.py", [], "golden.json"),
    ("crates/losses/tests/golden/generate_divergence.py", [], "golden_divergence.json"),
    ("crates/losses/tests/golden/generate_groups.py", [], "golden_groups.json"),
    ("crates/losses/tests/golden/generate_trl.py", [], "golden_trl.json"),
    ("crates/losses/tests/golden/generate_pooled.py", [], "golden_pooled.json"),
    ("crates/model/tests/golden/generate.py", [], None),
    ("crates/model/tests/golden/generate_bfloat16.py", [], None),
    ("crates/model/tests/golden/generate_peft.py", [], None),
    ("crates/model/tests/golden/generate_gguf.py", [], None),
    ("crates/model/tests/golden/generate_wrapped.py", [], None),
    ("crates/model/tests/golden/generate_bitsandbytes.py", [], None),
    ("crates/model/tests/golden/generate_labels.py", [], None),
    ("crates/stats/tests/golden/generate.py", [], "golden.json"),
    ("crates/trainer/tests/golden/generate.py", [], None),
    ("crates/trainer/tests/golden/generate_reward.py", [], None),
    ("crates/trainer/tests/golden/generate_classification.py", [], None),
    ("crates/trainer/tests/golden/imports/generate.py", [], None),
    ("tests/golden/generate.py", [], None),
]
ABSOLUTE, RELATIVE = 2e-5, 2e-5
UNCOMPARED = {"versions", "platform", "python", "torch", "transformers", "trl", "tokenizers", "jinja2", "peft", "scipy", "numpy",
              "statsmodels", "transformers_version", "peft_version", "created_with"}


def tracked(pattern):
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.split()


def differences(ours, theirs, path=""):
    """Each place where two JSON values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted((ours.keys() | theirs.keys()) - UNCOMPARED):
            if key not in ours or key not in theirs:
                yield f"{path}.{key}: only {'committed' if key in ours else 'generated'}"
            else:
                yield from differences(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{path}[{index}]")
    elif type(ours) in (int, float) and type(theirs) in (int, float):
        if not math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{path}: committed {ours}, generated {theirs}"
    elif ours != theirs:
        yield f"{path}: committed {str(ours)[:80]!r}, generated {str(theirs)[:80]!r}"


def tensor_differences(committed, generated):
    ours, theirs = load_file(committed), load_file(generated)
    if ours.keys() != theirs.keys():
        yield f"tensors {sorted(ours.keys() ^ theirs.keys())} are on one side only"
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = ours[name].double(), theirs[name].double()
        # bfloat16 arithmetic of another kernel rounds elsewhere: one unit in the last place of the largest value.
        rough = name.startswith("bf16.") or ours[name].dtype == torch.bfloat16
        relative = 2.0**-7 if rough else RELATIVE
        scale = a.abs().max().item() if a.numel() else 0.0
        if a.shape != b.shape or (a - b).abs().max().item() > ABSOLUTE + relative * scale:
            yield f"{name}: committed and generated differ by {(a - b).abs().max().item() if a.shape == b.shape else 'shape'}"


def compare(committed, generated):
    if not generated.exists():
        return ["not generated"]
    match committed.suffix:
        case ".safetensors":
            return list(tensor_differences(committed, generated))
        case ".json":
            return list(differences(json.loads(committed.read_text()), json.loads(generated.read_text())))
        case ".parquet":
            same = pyarrow.parquet.read_table(committed).equals(pyarrow.parquet.read_table(generated))
            return [] if same else ["rows differ"]
        case _:
            return [] if committed.read_bytes() == generated.read_bytes() else ["bytes differ"]


def main():
    copy = pathlib.Path(sys.argv[1]).resolve()
    shutil.rmtree(copy, ignore_errors=True)
    for name in tracked("*"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    scripts = {name for name in tracked("*golden/*.py")}
    unlisted = scripts - {generator for generator, _, _ in GENERATORS}
    failures = [f"{name}: not in the list of {pathlib.Path(__file__).name}" for name in sorted(unlisted)]
    folders = set()
    for name, arguments, stdout in GENERATORS:
        script = copy / name
        folders.add(pathlib.Path(name).parent)
        run = subprocess.run([sys.executable, script, *arguments], cwd=script.parent, capture_output=True, text=True)
        if run.returncode:
            failures.append(f"{name}: exit {run.returncode}: {run.stderr.strip()[-300:]}")
        elif stdout:
            (script.parent / stdout).write_text(run.stdout)
    compared = 0
    for folder in sorted(folders):
        for name in tracked(f"{folder}/*"):
            if not name.endswith((".py", "versions.json")):
                compared += 1
                failures += [f"{name}: {difference}" for difference in compare(ROOT / name, copy / name)[:3]]
    print("\n".join(failures))
    print(f"{len(GENERATORS)} generators, {compared} files compared, {len(failures)} differences")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
