"""One Python peer's training steps, timed: `python peer.py JOB.json`, as `step.py` writes it. Prints one JSON line.

`torch-smpo` is a plain PyTorch loop over the regular SMPO loss: both sides padded into one batch with full logits, as the
published trainer does it. `trl-simpo` and `trl-dpo` are TRL's trainers as they come.
"""
import json, sys, tempfile, time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

job = json.load(open(sys.argv[1]))
torch.set_num_threads(job["threads"])
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(job["model"])
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
batch, steps = job["batch"], job["steps"]
rows = [json.loads(line) for line in open(job["pairs"], encoding="utf-8")][: batch * steps]
times = []


def encode(row, side):
    """Prompt and completion ids; the completion ends in the terminator, also when it is cut to `max_length`."""
    ids = lambda messages, **more: tokenizer.apply_chat_template(messages, return_dict=True, **more)["input_ids"]
    head = ids(row["prompt"], add_generation_prompt=True)
    body = ids(row["prompt"] + row[side])[len(head):]
    end = tokenizer.eos_token_id
    body = body[: body.index(end)] if end in body else body
    return head, body[: job["max_length"] - len(head) - 1] + [end]


def lora():
    if not job["lora"]:
        return None
    from peft import LoraConfig
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(r=job["lora"], lora_alpha=job["lora"], target_modules=modules, task_type="CAUSAL_LM")


def torch_smpo(model):
    if job["lora"]:
        from peft import get_peft_model
        model = get_peft_model(model, lora())
    if job["checkpointing"]:
        model.gradient_checkpointing_enable()
        if job["lora"]:
            model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    model.train()
    for step in range(steps):
        pairs = [(encode(r, "chosen"), encode(r, "rejected")) for r in rows[step * batch: (step + 1) * batch]]
        began = time.perf_counter()
        sequences = [c for c, _ in pairs] + [r for _, r in pairs]
        width = max(len(h) + len(b) for h, b in sequences)
        x = torch.full((len(sequences), width), tokenizer.pad_token_id)
        y, seen = torch.full_like(x, -100), torch.zeros_like(x)
        for i, (head, body) in enumerate(sequences):
            end = len(head) + len(body)
            x[i, :end] = torch.tensor(head + body)
            y[i, len(head):end] = torch.tensor(body)
            seen[i, :end] = 1
        logits = model(x, attention_mask=seen).logits[:, :-1].float()
        y = y[:, 1:]
        mask = y != -100
        logps = torch.gather(logits.log_softmax(-1), 2, y.clamp(min=0).unsqueeze(2)).squeeze(2) * mask
        n = len(pairs)
        score = logps.sum(1) / mask.sum(1)
        preference = torch.relu(-1.2 * (score[:n] - score[n:] - 0.35)).pow(2).mean()
        sft = -0.8 * logps[:n].sum() / mask[:n].sum() - 0.2 * logps[n:].sum() / mask[n:].sum()
        (preference + sft).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - began)


def trl(model, kind):
    from datasets import Dataset
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.began = time.perf_counter()

        def on_step_end(self, *_, **__):
            times.append(time.perf_counter() - self.began)

    common = dict(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch, max_steps=steps, learning_rate=1e-5,
                  max_length=job["max_length"], report_to="none", save_strategy="no", logging_steps=1000, use_cpu=True,
                  gradient_checkpointing=job["checkpointing"], bf16=False, fp16=False)
    data = Dataset.from_list([{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in rows])
    more = dict(model=model, train_dataset=data, processing_class=tokenizer, peft_config=lora(), callbacks=[Clock()])
    if kind == "trl-simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer
        args = CPOConfig(loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0, **common)
        CPOTrainer(args=args, **more).train()
    else:
        from trl import DPOConfig, DPOTrainer
        DPOTrainer(args=DPOConfig(beta=0.1, **common), **more).train()


if job["trainer"] == "torch-smpo":
    torch_smpo(model)
else:
    trl(model, job["trainer"])
print(json.dumps({"seconds": times}))
