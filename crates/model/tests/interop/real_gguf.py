"""A real GGUF file against its readers in Python: python real_gguf.py SMPO MODEL.gguf PAIRS.jsonl [CHAT_TEMPLATE.jinja]

`smpo convert` writes it in bfloat16 and in float32. Compared are the weights in bfloat16, bit for bit, with those that the package
gguf dequantises; the log-probs of all pairs under `smpo logps MODEL.gguf` with those of transformers on the float32 directory; and
greedy text is shown. A file without a template needs one. Prints the greatest differences; exit 1 beyond 1e-4 nats.

gguf 0.19.0, transformers 5.24.0, torch 2.15.0
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

smpo, model, pairs, *template = sys.argv[1:]
work = Path(tempfile.mkdtemp())
run = lambda *arguments: subprocess.run([smpo, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
run("convert", model, work / "bf16", "--dtype", "bfloat16")
run("convert", model, work / "f32", "--dtype", "float32")
if template:
    shutil.copy(template[0], work / "f32/chat_template.jinja")

reader = GGUFReader(model)
architecture = reader.fields["general.architecture"].contents()
config = json.loads((work / "bf16/config.json").read_text())
stored = safe_open(work / "bf16/model.safetensors", "pt")
names = {"embed_tokens": "token_embd", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
         "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm", "lm_head": "output",
         "post_attention_layernorm": "post_attention_norm" if architecture.startswith("gemma") else "ffn_norm"}
tensors = {tensor.name: tensor for tensor in reader.tensors}
for name in stored.keys():
    parts = name.split(".")
    own = names.get(parts[-2], "output_norm")
    tensor = tensors[f"blk.{parts[2]}.{own}.{parts[-1]}" if parts[1] == "layers" else f"{own}.{parts[-1]}"]
    value = torch.from_numpy(np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32))
    if architecture == "llama" and parts[-2] in ("q_proj", "k_proj"):
        heads = config["num_attention_heads" if parts[-2] == "q_proj" else "num_key_value_heads"]
        value = value.reshape(heads, -1, 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
    if architecture.startswith("gemma") and "norm" in name:
        value = value - 1
    same = torch.equal(stored.get_tensor(name).view(torch.int16), value.to(torch.bfloat16).view(torch.int16))
    assert same, f"{name} differs"
print(len(list(stored.keys())), "tensors equal, bit for bit")

base = ["--base", work / "f32"] if template else []
run("logps", model, pairs, "--out", work / "logps.jsonl", "--device", "cpu", "--max-length", 512, *base)
tokenizer = AutoTokenizer.from_pretrained(work / "f32")
peer = AutoModelForCausalLM.from_pretrained(work / "f32", dtype=torch.float32).eval()
worst = tokens = 0
rows = [json.loads(line) for line in open(pairs, encoding="utf8")]
for row, got in zip(rows, map(json.loads, open(work / "logps.jsonl", encoding="utf8"))):
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(prompt, add_special_tokens=False).input_ids
    for side in ("chosen", "rejected"):
        ids = got[side]["ids"]
        if len(prompt) + len(ids) > 512 or not ids:
            continue
        with torch.no_grad():
            logits = peer(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        worst = max(worst, (expected - torch.tensor(got[side]["logps"])).abs().max().item())
        tokens += len(ids)
ids = tokenizer("The capital of France is", return_tensors="pt")
print(repr(tokenizer.decode(peer.generate(**ids, max_new_tokens=8, do_sample=False)[0])))
print(f"{tokens} tokens of {len(rows)} pairs: log-probs differ by at most {worst:.1e} nats")
shutil.rmtree(work)
sys.exit(worst > 1e-4)
