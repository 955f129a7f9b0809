"""Worlds and recipes of the tiny part of the study. run.sh runs all of it.

    python3 studies/termination/tiny.py OUT {smoke|screen|confirm} [SEEDS]     # from the root of the repository
    smpo run OUT/RECIPE.toml                                           # each of them; skips what is done

SEEDS: preference seeds of the confirming runs, 1 to 3 (default 3); with more later, only the new ones are run.
OUT gets one directory per world (generated data, suite, the shape's configuration) and the recipes.
Needs the generator: cargo build --release -p smpo-synth --example world
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import arms
import later

BASE = Path("datasets/demo/base")
GENERATOR = Path("target/release/examples/world")
SLICES = ["closed", "day", "story", "poem", "describe", "list", "steps"]
DEVELOPMENT, CONFIRMATION = 1_000, 2_000  # seeds of the generator, disjoint from the demo's
LEARNING_RATES = [5e-5, 2e-4, 5e-4]

# Configurations of about 0.65 million parameters, as differences from the demo's Qwen2 shape.
SHAPES = {
    "qwen2": {},
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False},
    "gemma2": {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 32,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 512,
        "intermediate_size": 320,
    },
}


def world(out, name, shape, seed, rejected):
    """Data of a world, and a directory with the shape's configuration and the demo's tokenizer."""
    folder = out / "worlds" / name
    if not (folder / "suite.toml").exists():
        subprocess.run([GENERATOR, folder, str(seed), rejected], check=True)
        model = folder / "model"
        model.mkdir(exist_ok=True)
        for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]:
            shutil.copy(BASE / file, model / file)
        config = json.loads((BASE / "config.json").read_text()) | SHAPES[shape]
        (model / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        suite(folder / "suite.toml", name, SLICES, 64)
    return folder


def suite(path, name, slices, cap, pairs=True):
    """Writes a suite of the prompts beside it, and of the held-out pairs."""
    held_out = 'pairs = "held_out.jsonl"\n' if pairs else ""
    path.write_text(
        f'name = "{name}"\nprompts = "ood.jsonl"\n{held_out}slices = {json.dumps(slices)}\ncap = {cap}\nseed = 17\n\n'
        "[sampler]\ntemperature = 0.8\n"
    )


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def arm_table(arm, rate, settings):
    """The lines of an arm of a recipe."""
    lines = ["[[arm]]", f'name = "{arm}_{rate:g}"', 'config = "configs/demo/control.toml"', f"set = {toml(settings)}"]
    if arm in arms.MERGED:
        lines.append(f"merge = {arms.MERGED[arm]}")
    return [*lines, ""]


def recipe(out, name, folder, cells, sft_seeds, seeds):
    """Writes a recipe. `cells` are pairs of an arm's name and a learning rate."""
    lines = [
        f'model = "{folder}/model"',
        f'out = "{out}/{name}"',
        f"seeds = {toml(seeds)}",
        "jobs = 2",
        "",
        "[sft]",
        'config = "configs/demo/sft.toml"',
        f"seeds = {toml(sft_seeds)}",
        "",
    ]
    for arm, rate in cells:
        settings = {"loss": (arms.ARMS | later.LATER)[arm], "learning_rate": rate, "dataset": f"{folder}/preferences.jsonl"}
        lines += arm_table(arm, rate, settings)
    lines += ["[eval]", f'suites = ["{folder}/suite.toml"]', ""]
    (out / f"{name}.toml").write_text("\n".join(lines))


def smoke(out, _):
    """Six arms, one seed, minutes."""
    folder = world(out, "dev-shortest", "qwen2", DEVELOPMENT, "shortest")
    cells = [(arm, 5e-4) for arm in ["sft", "smpo", "smpo-invert", "smpo-published", "smpo-mask-anchor0.1", "smpo-met-mask-anchor0.1"]]
    recipe(out, "smoke", folder, cells, [1], [1])


def screen(out, _):
    """Every arm at every rate against short rejected answers; some against others."""
    every = [(arm, rate) for arm in [*arms.ARMS, *later.LATER] for rate in LEARNING_RATES]
    folder = world(out, "dev-shortest", "qwen2", DEVELOPMENT, "shortest")
    recipe(out, "screen", folder, every, [1, 2], [1])
    some = [cell for cell in every if cell[0] in [*arms.SCREENED_BY_KIND, *later.LATER]]
    for offset, kind in enumerate(["longest", "equal", "cut"], 1):
        folder = world(out, f"dev-{kind}", "qwen2", DEVELOPMENT + offset, kind)
        recipe(out, f"screen-{kind}", folder, some, [1], [1])


def confirm(out, seeds):
    """The arms to confirm at their frozen rates and some at a steeper one, in worlds that no choice was made on."""
    frozen = json.loads((Path(__file__).parent / "frozen.json").read_text())
    cells = [(arm, frozen[arm]) for arm in arms.CONFIRMED]
    cells += [cell for arm in arms.STEEPER if (cell := (arm, arms.STEEPER_RATE)) not in cells]
    cells += [(arm, rate) for arm in later.CONFIRMED_LATER for rate in (5e-5, arms.STEEPER_RATE)]
    worlds = [(shape, "shortest") for shape in SHAPES] + [("qwen2", kind) for kind in ["longest", "equal", "cut"]]
    for offset, (shape, kind) in enumerate(worlds):
        folder = world(out, f"confirm-{shape}-{kind}", shape, CONFIRMATION + offset, kind)
        recipe(out, f"confirm-{shape}-{kind}", folder, cells, [11, 12, 13, 14, 15], [21, 22, 23][:seeds])


def main():
    tasks = {"smoke": smoke, "screen": screen, "confirm": confirm}
    if len(sys.argv) not in (3, 4) or sys.argv[2] not in tasks:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    tasks[sys.argv[2]](out, int(sys.argv[3]) if len(sys.argv) == 4 else 3)


if __name__ == "__main__":
    main()
