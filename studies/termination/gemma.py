"""The SFT stage of Gemma 3 270M, which is a base model without a template; after it the world of real.py, with the model of this stage.

    python3 studies/termination/gemma.py OUT MODEL PAIRS.jsonl
    smpo train OUT/sft.toml && smpo export OUT/sft/model --out OUT/model
    python3 studies/termination/real.py OUT OUT/model PAIRS.jsonl confirm           # and on as real.py says
    smpo run OUT/real-confirm-shorter-0.0002.toml

PAIRS.jsonl is that of real.py. Its development half is the data of this stage: in turn the chosen answer of a prompt and the rejected one of the next, so
that the model learns answers of both lengths and ends them.
"""

import sys
from pathlib import Path

import real
from tiny import toml

ROWS, BATCH = 160, 4
# ChatML without tokens of its own, which this vocabulary lacks; an answer ends with the terminator of the base model.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{{ eos_token if message.role == 'assistant' else '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    out, model, source = Path(sys.argv[1]), *sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    rows = real.pairs(source, "shorter", "development")[:ROWS]
    sides = ["chosen", "rejected"]
    answers = [{"id": row["id"], "prompt": row["prompt"], "completion": row[sides[place % 2]]} for place, row in enumerate(rows)]
    real.write(out / "sft.jsonl", answers)
    (out / "chatml.jinja").write_text(TEMPLATE)
    settings = {
        "model_name_or_path": str(model), "output_dir": f"{out}/sft", "dataset": f"{out}/sft.jsonl", "chat_template": f"{out}/chatml.jinja", "max_length": 768,
        "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "learning_rate": 5e-4, "lr_scheduler_type": "cosine", "min_lr_ratio": 0.1,
        "warmup_ratio": 0.1, "seed": 1, "use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "lora_target_modules": "all-linear",
    }
    lines = [f"{key} = {toml(value)}" for key, value in settings.items()]
    (out / "sft.toml").write_text("\n".join([*lines, "", "[loss]", 'kind = "sft"', ""]))
    print(f"{len(answers)} answers")


if __name__ == "__main__":
    main()
