"""Log-probs of the shipped base model under PyTorch: what tests/base_model.rs compares with.

    pip install torch transformers
    python tests/golden/generate.py

Written with the versions recorded in the file; regenerate only when the base model changes on purpose.
"""
import json, pathlib
import torch, transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

here = pathlib.Path(__file__).parent
base = here.parent.parent / "datasets/demo/base"
torch.set_num_threads(1)
# By its own class: for a qwen2 model transformers 5 puts Qwen2's digit-splitting rule in place of the file's.
tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
prompts = [json.loads(line) for line in open(base.parent / "ood.jsonl", encoding="utf-8")][::40]
cases = []
for prompt in prompts:
    messages = [{"role": "user", "content": prompt["prompt"]}]
    head = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    full = tokenizer.apply_chat_template(messages + [{"role": "assistant", "content": prompt["reference"]}], return_dict=True)["input_ids"]
    completion = full[len(head):]
    completion = completion[: completion.index(tokenizer.eos_token_id) + 1]
    with torch.no_grad():
        logps = model(torch.tensor([head + completion])).logits[0].double().log_softmax(-1)
        greedy = model.generate(torch.tensor([head]), max_new_tokens=48, do_sample=False)[0, len(head):].tolist()
    rows = range(len(head) - 1, len(head) + len(completion) - 1)
    cases.append({
        "prompt": prompt["prompt"], "reference": prompt["reference"], "prompt_ids": head, "completion_ids": completion,
        "logps": [round(logps[r, t].item(), 7) for r, t in zip(rows, completion)],
        "first_row": [round(x, 6) for x in logps[len(head) - 1].tolist()],
        "greedy": greedy,
    })
out = {"torch": torch.__version__, "transformers": transformers.__version__, "cases": cases}
(here / "base_model.json").write_text(json.dumps(out) + "\n")
