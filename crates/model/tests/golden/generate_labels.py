"""Makes the models with a head of labels in labels/*, and what transformers and PEFT compute with them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0
    python generate.py && python generate_labels.py      # or the names of some cases

A case is a folder: a ...ForSequenceClassification on a base model of generate.py as transformers saves it, or a PEFT
adapter of one (`SEQ_CLS`), and expected.safetensors with
    s<i>.ids       the token ids of a sequence, padding at its end included
    s<i>.values    what the head gives it
    grad.<name>    gradient of sum of s<i>.weights * s<i>.values, by the parameter's name (without PEFT's prefix)
"""
import json, pathlib, shutil, sys
import peft, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

SEED = 20252
HERE = pathlib.Path(__file__).parent
# base, options of the configuration, options of LoRA
CASES = {
    "reward": ("qwen2-tied", dict(num_labels=1, pad_token_id=3), None),
    "reward-gemma3": ("gemma3", dict(num_labels=1, pad_token_id=0), None),
    "classes": ("llama", dict(id2label={0: "calm", 1: "angry", 2: "sad"}, pad_token_id=None), None),
    "several": ("phi3", dict(num_labels=2, pad_token_id=1, problem_type="multi_label_classification"), None),
    "peft": ("qwen2", dict(num_labels=1, pad_token_id=3), dict(r=2, lora_alpha=5, target_modules=["q_proj", "down_proj"])),
}


def main():
    transformers.logging.set_verbosity_error()
    for name in sys.argv[1:] or CASES:
        base, options, lora = CASES[name]
        torch.manual_seed(SEED)
        model = AutoModelForSequenceClassification.from_pretrained(
            HERE / base, attn_implementation="eager", dtype=torch.float32, **options
        )
        model.score.weight.data = 0.5 * torch.randn_like(model.score.weight)
        if lora:
            model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", lora_dropout=0.0, **lora))
            for key, p in model.named_parameters():
                if "lora_B" in key:
                    p.data = 0.3 * torch.randn_like(p)
        model.eval()
        out = HERE / "labels" / name
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out)
        (out / "README.md").unlink(missing_ok=True)
        if lora:
            config = json.loads((out / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = f"../../{base}"  # not a path of the machine this ran on
            for key in ("target_modules", "modules_to_save"):
                config[key] = sorted(config[key])
            (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

        sequences = load_file(HERE / base / "expected.safetensors")
        pad = options["pad_token_id"]
        store, total = {}, 0.0
        for i in range(3):
            ids = sequences[f"s{i}.prompt"].tolist() + sequences[f"s{i}.completion"].tolist()
            ids += [pad] * (2 - i) if pad is not None else []  # the head reads the token before
            values = model(input_ids=torch.tensor([ids])).logits[0]
            weights = torch.randn(len(values))
            total = total + (weights * values).sum()
            store |= {f"s{i}.ids": torch.tensor(ids, dtype=torch.int32), f"s{i}.values": values.detach().clone(), f"s{i}.weights": weights}
        total.backward()
        for key, p in model.named_parameters():
            key = key.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
            if p.grad is not None and ("score" in key or "layers.0" in key or key == "model.norm.weight"):
                store["grad." + key] = p.grad.clone()
        save_file({k: v.contiguous() for k, v in store.items()}, out / "expected.safetensors")
        print(name, [k for k in store if k.startswith("grad")][:3], store["s0.values"])
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__, "seed": SEED}
    (HERE / "labels" / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


main()
