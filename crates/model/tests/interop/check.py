"""Loads what `tests/interop.rs` wrote with transformers and PEFT and compares log-probabilities.

    pip install torch transformers peft
    python check.py DIR
"""
import json, pathlib, sys
import torch, transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

transformers.logging.set_verbosity_error()
worst = 0.0
ADAPTERS = ("adapter", "dora", "modules", "tokens", "new-tokens")
KINDS = ("full", "sharded", "merged", "merged-modules", "merged-tokens", "merged-new-tokens", *ADAPTERS)
root = pathlib.Path(sys.argv[1])
TEXT = [(case, KINDS, AutoModelForCausalLM) for case in sorted(root.iterdir()) if case.name != "wrapped"]
WRAPPED = [(case, ("full", "merged", "adapter"), AutoModelForImageTextToText) for case in sorted((root / "wrapped").glob("*"))]
for case, kinds, kind_of_model in TEXT + WRAPPED:
    for kind in (kind for kind in kinds if (case / kind).exists()):
        load = lambda path: kind_of_model.from_pretrained(path, attn_implementation="eager", output_loading_info=True)
        model, info = load(case / ("full" if kind in ADAPTERS else kind))
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        assert model.dtype == torch.float32
        if kind in ADAPTERS:
            if kind == "new-tokens":  # as PEFT wants it: the base is resized first
                model.resize_token_embeddings(model.config.vocab_size + 2, mean_resizing=False)
            model = PeftModel.from_pretrained(model, case / kind)
        model.eval()
        for side in json.loads((case / kind / "expected.json").read_text()):
            ids = torch.tensor([side["prompt"] + side["completion"]])
            with torch.no_grad():
                logps = torch.log_softmax(model(input_ids=ids).logits[0], -1)
            rows = torch.arange(len(side["prompt"]) - 1, ids.shape[1] - 1)
            theirs = logps[rows, torch.tensor(side["completion"])]
            ours = torch.tensor(side["log_probs"])
            difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
            worst = max(worst, difference)
            assert difference < 1e-5, (case.name, kind, difference)
print(f"transformers {transformers.__version__}: all equal, largest relative difference {worst:.1e}")
