"""Thirty training steps under PyTorch: the losses that crates/trainer/tests/pytorch.rs compares with.

    UPDATE_GOLDEN=1 cargo test --release --workspace --test pytorch    # writes order.json, the order of the rows
    pip install torch transformers
    python crates/trainer/tests/golden/generate.py

A loop in plain PyTorch, float32, one thread, with transformers' model and tokenizer and torch's AdamW: nothing of this
project but the order of the rows. Written with the versions recorded in the file; regenerate only on purpose.
"""
import json, math, pathlib
import torch, transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

here = pathlib.Path(__file__).parent
demo = here.parents[3] / "datasets/demo"
order = json.loads((here / "order.json").read_text())
STEPS, MICRO, ACCUMULATION = 30, 2, 2
LR, WARMUP, DECAY = 2e-4, 3, 0.01
torch.set_num_threads(1)
torch.manual_seed(0)

# By its own class: for a qwen2 model transformers 5 puts Qwen2's digit-splitting rule in place of the file's.
tokenizer = PreTrainedTokenizerFast.from_pretrained(demo / "base")
EOS = tokenizer.eos_token_id


def ids(messages, **options):
    return tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"]


def encode(row):
    head = ids(row["prompt"], add_generation_prompt=True)
    sides = {}
    for side in ["chosen", "rejected"]:
        full = ids(row["prompt"] + row[side])
        assert full[: len(head)] == head
        completion = full[len(head):]
        sides[side] = completion[: completion.index(EOS) + 1]
    return {"prompt": head, **sides}


lines = open(demo / "preferences.jsonl", encoding="utf-8").read().splitlines()[: order["rows"]]
rows = [encode(json.loads(line)) for line in lines]


def logps(model, row, side):
    prompt, completion = row["prompt"], row[side]
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def smpo(micro, pairs, tokens, step, reference):
    """Modified SMPO on a micro-batch, its share of the step: EOS inverted, winsorized, floored on rejected."""
    beta, gamma, rho = 1.2, 0.35, 0.8
    margin = 0.01 + (gamma - 0.01) * step / (STEPS - 1)
    transformed = []
    for (_, chosen), (row, rejected) in micro:
        eos = torch.tensor([token == EOS for token in row["rejected"]])
        transformed.append(torch.where(eos, -rejected, rejected))
    bound = torch.quantile(torch.cat(transformed).detach().double(), 0.02)
    po = 0.0
    for ((_, chosen), _), rejected in zip(micro, transformed):
        rejected = torch.maximum(torch.maximum(rejected, bound.float()), torch.tensor(-2.3))
        delta = chosen.mean() - rejected.mean() - margin
        po = po + torch.clamp(-beta * delta, min=0) ** 2 / pairs
    sft_chosen = -rho * sum(chosen.sum() for (_, chosen), _ in micro) / tokens["chosen"]
    sft_rejected = -(1 - rho) * sum(rejected.sum() for _, (_, rejected) in micro) / tokens["rejected"]
    return {"po_loss": po, "sft_chosen_loss": sft_chosen, "sft_rejected_loss": sft_rejected}


def dpo(micro, pairs, tokens, step, reference):
    beta, po = 0.1, 0.0
    for (row, chosen), (_, rejected) in micro:
        with torch.no_grad():
            ref_chosen, ref_rejected = (logps(reference, row, side).sum() for side in ["chosen", "rejected"])
        h = (chosen.sum() - ref_chosen) - (rejected.sum() - ref_rejected)
        po = po - torch.nn.functional.logsigmoid(beta * h) / pairs
    return {"po_loss": po}


def train(loss):
    load = lambda: AutoModelForCausalLM.from_pretrained(demo / "base", dtype=torch.float32)
    model, reference = load().train(), load().eval()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}], lr=LR
    )
    batch, records = MICRO * ACCUMULATION, []
    per_epoch = math.ceil(len(rows) / batch)
    for step in range(STEPS):
        epoch, within = divmod(step, per_epoch)
        taken = [rows[i] for i in order["epochs"][epoch][within * batch : (within + 1) * batch]]
        tokens = {side: sum(len(row[side]) for row in taken) for side in ["chosen", "rejected"]}
        record = {}
        optimizer.zero_grad()
        for at in range(0, len(taken), MICRO):
            micro = [
                ((row, logps(model, row, "chosen")), (row, logps(model, row, "rejected"))) for row in taken[at : at + MICRO]
            ]
            parts = loss(micro, len(taken), tokens, step, reference)
            total = sum(parts.values())
            total.backward()
            for name, value in {"loss": total, **parts}.items():
                record[name] = record.get(name, 0.0) + value.item()
        record["grad_norm"] = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        if step < WARMUP:
            lr = LR * (step + 1) / (WARMUP + 1)
        else:
            lr = LR * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        records.append({name: float(f"{value:.7g}") for name, value in record.items()})
    return records


out = {"torch": torch.__version__, "transformers": transformers.__version__, "seed": 0}
out["smpo"], out["dpo"] = train(smpo), train(dpo)
text = json.dumps(out).replace("}, {", "},\n{").replace(": [{", ": [\n{")
(here / "pytorch.json").write_text(text + "\n")
