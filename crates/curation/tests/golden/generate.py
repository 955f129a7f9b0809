"""CHES scores of preference pairs of the demo under PyTorch: what tests/ches.rs compares with.

    pip install torch transformers
    python generate.py

Hidden states are transformers' own (`output_hidden_states`, the last of them, after the final norm), in float32; sums in
float64. Nothing is drawn; the versions are in the file.
"""
import json, pathlib
import torch, transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

here = pathlib.Path(__file__).parent
demo = here.parent.parent.parent.parent / "datasets/demo"
torch.set_num_threads(1)
tokenizer = PreTrainedTokenizerFast.from_pretrained(demo / "base")
model = AutoModelForCausalLM.from_pretrained(demo / "base", dtype=torch.float32).eval()


def answer_rows(prompt, answer):
    """Sum of the hidden states that the tokens of an answer are predicted from, and their number."""
    head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    full = tokenizer.apply_chat_template(prompt + answer, return_dict=True)["input_ids"]
    assert full[:len(head)] == head
    ids = full[:full.index(tokenizer.eos_token_id, len(head)) + 1]
    with torch.no_grad():
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].double()
    rows = hidden[len(head) - 1:len(ids) - 1]
    return rows.sum(0), len(rows)


cases = []
for line in list(open(demo / "preferences.jsonl", encoding="utf-8"))[::60]:
    pair = json.loads(line)
    as_messages = lambda value, role: [{"role": role, "content": value}] if isinstance(value, str) else value
    prompt = as_messages(pair["prompt"], "user")
    chosen, of_chosen = answer_rows(prompt, as_messages(pair["chosen"], "assistant"))
    rejected, of_rejected = answer_rows(prompt, as_messages(pair["rejected"], "assistant"))
    both, own = (chosen @ rejected).item(), (chosen @ chosen).item()
    cases.append({
        "pair": {name: pair[name] for name in ("prompt", "chosen", "rejected")},
        "tokens": [of_chosen, of_rejected],
        "ches": both - own,
        "ches_normalized": both / (of_chosen * of_rejected) - own / of_chosen ** 2,
    })
out = {"torch": torch.__version__, "transformers": transformers.__version__, "cases": cases}
(here / "ches.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
