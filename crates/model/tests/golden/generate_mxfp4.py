"""Makes mxfp4/gpt_oss/, a gpt-oss model whose experts are in MXFP4 as it is published, and what transformers computes with it.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python generate_mxfp4.py

The blocks are random, with every code and scales of 2^-7 to 2^0. expected.safetensors has the fields of generate.py without
gradients, hidden states and continuations, and the experts of the first block as transformers dequantises them, in float32.
"""
import json, pathlib, platform, shutil
import safetensors, torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config
from generate import BASE, CASES, completion_log_probs

SEED = 20252
OUT = pathlib.Path(__file__).parent / "mxfp4" / "gpt_oss"
SIZES = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1)


def main():
    transformers.logging.set_verbosity_error()
    torch.manual_seed(SEED)
    config = AutoConfig.for_model("gpt_oss", **{**BASE, **CASES["gpt_oss"][1], **SIZES})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(torch.bfloat16)
    for key, p in model.named_parameters():
        if p.ndim == 1 or key.endswith("bias"):
            p.data += 0.3 * torch.randn_like(p)
    shutil.rmtree(OUT, ignore_errors=True)
    model.save_pretrained(OUT)
    (OUT / "generation_config.json").unlink(missing_ok=True)
    tensors = load_file(OUT / "model.safetensors")
    for name in [name for name in tensors if name.endswith((".gate_up_proj", ".down_proj")) and ".experts." in name]:
        experts, inputs, outputs = tensors.pop(name).shape
        shape = (experts, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 128, shape, dtype=torch.uint8)
    save_file(tensors, OUT / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads((OUT / "config.json").read_text())
    fields["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    (OUT / "config.json").write_text(json.dumps(fields, indent=2) + "\n")

    model = AutoModelForCausalLM.from_pretrained(OUT, attn_implementation="eager", dtype=torch.float32,
                                                 quantization_config=Mxfp4Config(dequantize=True)).eval()
    experts = model.model.layers[0].mlp.experts
    store = {f"dequantised.{name}": getattr(experts, name).detach().clone() for name in ("gate_up_proj", "down_proj")}
    g = torch.Generator().manual_seed(SEED)
    draw = lambda n: torch.randint(0, config.vocab_size, (n,), generator=g).tolist()
    for i, (prompt, completion) in enumerate([(draw(7), draw(6)), (draw(5), draw(11)), (draw(3), draw(9))]):
        _, logps = completion_log_probs(model, prompt, completion)
        store |= {f"s{i}.prompt": torch.tensor(prompt, dtype=torch.int32), f"s{i}.completion": torch.tensor(completion, dtype=torch.int32),
                  f"s{i}.log_probs": logps.detach().clone(), f"s{i}.weights": torch.randn(len(completion), generator=g)}
    save_file({key: value.contiguous() for key, value in store.items()}, OUT / "expected.safetensors")
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
                "safetensors": safetensors.__version__, "seed": SEED}
    (OUT.parent / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
    print({name: tensor.dtype for name, tensor in store.items() if name.startswith("deq")})


main()
