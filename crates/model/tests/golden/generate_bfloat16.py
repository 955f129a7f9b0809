"""Makes bfloat16/<case>/ from the float32 models of generate.py: the directory as transformers saves it in bfloat16, and
what PyTorch computes with it.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python generate.py && python generate_bfloat16.py
    python generate_bfloat16.py CASE …    # only these, with the versions of versions.json

expected.safetensors has the prompts, completions and weights of generate.py, its s<i>.hidden, s<i>.log_probs and
grad.<name> from arithmetic in float32 on the rounded weights, and the same fields with the prefix "bf16." from PyTorch's
own arithmetic in bfloat16.
"""
import json, pathlib, platform, shutil, sys
import safetensors, torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
import generate

HERE = pathlib.Path(__file__).parent
CASES = list({family: name for name, (family, _) in reversed(generate.CASES.items())}.values())  # the first of each family


def compute(model, sequences):
    store, total = {}, 0.0
    for i in range(3):
        prompt, completion = (sequences[f"s{i}.{part}"].tolist() for part in ("prompt", "completion"))
        ids = torch.tensor([prompt + completion])
        out = model(input_ids=ids, output_hidden_states=True)
        logps = torch.log_softmax(out.logits[0].float(), -1)
        logps = logps[torch.arange(len(prompt) - 1, ids.shape[1] - 1), torch.tensor(completion)]
        total = total + (sequences[f"s{i}.weights"] * logps).sum()
        store[f"s{i}.hidden"], store[f"s{i}.log_probs"] = out.hidden_states[-1][0].detach().float(), logps.detach()
    total.backward()
    return store | {name: grad.float() for name, grad in generate.gradients(model).items()}


def main():
    transformers.logging.set_verbosity_error()
    for case in sys.argv[1:] or CASES:
        out = HERE / "bfloat16" / case
        shutil.rmtree(out, ignore_errors=True)
        load = lambda path, dtype: AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager", dtype=dtype).eval()
        load(HERE / case, torch.bfloat16).save_pretrained(out)
        (out / "generation_config.json").unlink(missing_ok=True)
        sequences = load_file(HERE / case / "expected.safetensors")
        store = {key: value for key, value in sequences.items() if key.split(".")[-1] in ("prompt", "completion", "weights")
                 and key.startswith("s")}
        store |= compute(load(out, torch.float32), sequences)
        store |= {"bf16." + key: value for key, value in compute(load(out, torch.bfloat16), sequences).items()}
        save_file({key: value.contiguous() for key, value in store.items()}, out / "expected.safetensors")
        print(case, sum(f.stat().st_size for f in out.iterdir()))
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
                "safetensors": safetensors.__version__, "attention": "eager"}
    if not sys.argv[1:]:
        (HERE / "bfloat16" / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


main()
