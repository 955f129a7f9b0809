"""Makes the adapters in peft-*/ on the base models of generate.py, and what PEFT computes with them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0
    python generate.py && python generate_peft.py      # or the names of some cases

A case is a folder: adapter_config.json and adapter_model.safetensors as PEFT saves them, and expected.safetensors with
the fields of generate.py (no hidden states, no continuations); grad.<name> is by the adapter's names without PEFT's prefix.
"""
import json, pathlib, shutil, sys
import peft, torch, transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

SEED = 20251
HERE = pathlib.Path(__file__).parent
CASES = {
    "peft-lora": ("qwen2", dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj", "lm_head"])),
    "peft-dora": ("qwen2-tied", dict(r=2, lora_alpha=5, use_dora=True, use_rslora=True,
                                     target_modules=["k_proj", "o_proj", "up_proj"])),
    "peft-fused": ("phi3", dict(r=2, lora_alpha=4, target_modules=["qkv_proj", "model.layers.1.mlp.gate_up_proj"])),
    # keys are regular expressions for the end of a name; the first that fits counts
    "peft-patterns": ("qwen2", dict(r=2, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
                                    rank_pattern={r"layers\.1\..*_proj": 3, "q_proj": 4, "o_proj": 9},
                                    alpha_pattern={"v_proj": 10, "layers.0.self_attn.q_proj": 2.5})),
    "peft-bias": ("qwen2", dict(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], bias="all")),
    "peft-bias-lora": ("qwen2", dict(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], bias="lora_only")),
    # adapters that start with a part of the base, which is taken out of it
    "peft-olora": ("qwen2", dict(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], init_lora_weights="olora")),
    "peft-pissa": ("qwen2", dict(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], rank_pattern={"q_proj": 2},
                                 init_lora_weights="pissa")),
    "peft-delta": ("qwen3_5", dict(r=2, lora_alpha=5, use_dora=True, target_modules=["in_proj_qkv", "in_proj_z", "in_proj_a",
                                   "in_proj_b", "out_proj", "q_proj"])),
    # PEFT fuses the adapters of all experts, and those of gate and up
    "peft-experts": ("qwen3_moe", dict(r=2, lora_alpha=3, target_modules=["q_proj", "gate", "gate_proj", "up_proj",
                                                                          "down_proj"])),
    # experts that are one parameter for all, and so a router
    "peft-stacked": ("gpt_oss", dict(r=2, lora_alpha=3, target_modules=["q_proj"], target_parameters=[
        "mlp.router.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"])),
}


def gradients(name, grad, experts, interleaved):
    """Gradients of an adapter by our names: those of experts one by one. The A that gate and up share is `gate_up_proj`'s."""
    module, _, part = name.partition(".lora_")
    if not module.removesuffix(".base_layer").endswith(".mlp.experts"):
        return {name.replace(".base_layer", ""): grad}
    down, module = not module.endswith(".base_layer"), module.removesuffix(".base_layer")
    if part.startswith("A"):
        layers = {"down_proj" if down else "gate_up_proj": grad.reshape(experts, -1, grad.shape[1])}
    else:
        whole = grad.reshape(grad.shape[0], -1, experts).permute(2, 0, 1)
        halves = (whole[:, ::2], whole[:, 1::2]) if interleaved else whole.chunk(2, 1)
        layers = {"down_proj": whole} if down else dict(zip(("gate_proj", "up_proj"), halves))
    return {f"{module}.{i}.{layer}.lora_{part}": of[i] for layer, of in layers.items() for i in range(experts)}


def main():
    transformers.logging.set_verbosity_error()
    for name in sys.argv[1:] or CASES:
        base, options = CASES[name]
        torch.manual_seed(SEED)
        model = AutoModelForCausalLM.from_pretrained(HERE / base, attn_implementation="eager", dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options)).eval()
        for key, p in model.named_parameters():  # B starts at zero, where nothing would be seen of it
            if "lora_B" in key:
                p.data = 0.3 * torch.randn_like(p)
            if "magnitude" in key:
                p.data *= 1 + 0.2 * torch.randn_like(p)
            if key.endswith("bias") and p.requires_grad:
                p.data += 0.2 * torch.randn_like(p)
        out = HERE / name
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out)
        (out / "README.md").unlink(missing_ok=True)
        config = json.loads((out / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = base  # not a path of the machine this ran on
        config["target_modules"] = sorted(config["target_modules"])
        config["target_parameters"] = sorted(config["target_parameters"] or []) or None
        (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

        sequences = load_file(HERE / base / "expected.safetensors")
        store, total = {}, 0.0
        for i in range(3):
            prompt, completion = (sequences[f"s{i}.{part}"].tolist() for part in ("prompt", "completion"))
            ids = torch.tensor([prompt + completion])
            logps = torch.log_softmax(model(input_ids=ids).logits[0].float(), -1)
            logps = logps[torch.arange(len(prompt) - 1, ids.shape[1] - 1), torch.tensor(completion)]
            total = total + (sequences[f"s{i}.weights"] * logps).sum()
            store |= {f"s{i}.{part}": sequences[f"s{i}.{part}"] for part in ("prompt", "completion", "weights")}
            store[f"s{i}.log_probs"] = logps.detach().clone()
        total.backward()
        for key, p in model.named_parameters():
            if p.requires_grad:
                key = key.removeprefix("base_model.model.").replace(".default", "")
                key = key.replace("magnitude_vector.weight", "magnitude_vector")
                experts = getattr(model.config, "num_experts", None)
                interleaved = model.config.model_type == "gpt_oss"
                store |= {"grad." + name: grad.clone() for name, grad in gradients(key, p.grad, experts, interleaved).items()}
        save_file({k: v.contiguous() for k, v in store.items()}, out / "expected.safetensors")
        print(name, sorted(k for k in store if k.startswith("grad"))[:3], sorted(load_file(out / "adapter_model.safetensors"))[:4])
    versions = json.loads((HERE / "versions.json").read_text())
    (HERE / "versions.json").write_text(json.dumps({**versions, "peft": peft.__version__, "peft_seed": SEED}, indent=2) + "\n")


main()
