"""Twenty training steps of other trainers' files: the losses that crates/trainer/tests/foreign.rs compares with.

    pip install torch transformers trl==1.16.0 pyyaml
    python crates/trainer/tests/golden/imports/generate.py

`trl-*.yaml` are run by TRL's own trainers, each key of the file and no other but the precision of a CPU; axolotl's DPO is TRL's,
given its β. Rows go to TRL as text that the model's template rendered: it appends the EOS to text, and of conversations it
would also learn the line feed that the template writes after the EOS. Losses of effective_llm_alignment, Halo and LLaMA-Factory are their formulas in a loop of plain PyTorch. Every epoch is
one step, so the order of the rows does not matter. Regenerate only on purpose.
"""
import json, math, os, pathlib, tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch, transformers, trl, yaml
from datasets import load_dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

here = pathlib.Path(__file__).parent
root = here.parents[4]
os.chdir(root)
STEPS, LR = 20, 2e-4
torch.set_num_threads(1)
# By its own class: for a qwen2 model transformers 5 puts Qwen2's digit-splitting rule in place of the file's.
tokenizer = PreTrainedTokenizerFast.from_pretrained("datasets/demo/base")
EOS = tokenizer.eos_token_id


class AnswersOnly(ORPOTrainer):
    """TRL's ORPO with the cross-entropy of the paper: over the answers, where TRL's is over prompts too."""

    def concatenated_forward(self, model, batch):
        found = list(super().concatenated_forward(model, batch))
        labels, logits = batch["chosen_labels"], found[2]
        labels = torch.nn.functional.pad(labels, (0, logits.shape[1] + 1 - labels.shape[1]), value=-100)
        flat = logits.reshape(-1, logits.shape[-1])  # of tokens 0 to n − 2: they tell tokens 1 to n − 1
        found[4] = torch.nn.functional.cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=-100)
        return tuple(found)


def as_text(row):
    """A row of messages as TRL takes text: it appends the EOS itself."""
    text = {"prompt": tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)}
    for side in ["chosen", "rejected", "completion"]:
        if side in row:
            text[side] = row[side][0]["content"]
    return text


def run_trl(config_class, trainer_class, keys):
    keys = dict(keys)
    model, data = keys.pop("model_name_or_path"), keys.pop("dataset_name")
    losses = []

    class Recorded(trainer_class):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            losses.append(loss.item())
            return loss

    with tempfile.TemporaryDirectory() as out:
        cpu = dict(use_cpu=True, bf16=False, report_to="none", output_dir=out, save_strategy="no", logging_steps=1)
        trainer = Recorded(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=config_class(**keys, **cpu),
            train_dataset=load_dataset("json", data_files=data, split="train").map(as_text),
            processing_class=tokenizer,
        )
        trainer.train()
    return losses


def ids(messages, **options):
    return tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"]


def encoded(name, count):
    rows = []
    for line in (here / name).read_text().splitlines()[:count]:
        row = json.loads(line)
        head = ids(row["prompt"], add_generation_prompt=True)
        sides = {}
        for side in ["chosen", "rejected"]:
            completion = ids(row["prompt"] + row[side])[len(head):]
            sides[side] = completion[: completion.index(EOS) + 1]
        rows.append((head, sides))
    return rows


def logps(model, head, completion):
    logits = model(torch.tensor([head + completion])).logits[0, len(head) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def margin(step, first, last):
    return first + (last - first) * step / (STEPS - 1)


def smpo(pairs, step, beta, gamma, rho, delta=None, bounds=None):
    """Mean over pairs, and the token mean of each side."""
    rejected = [r for _, r in pairs]
    if bounds:
        quantile, floor = bounds
        bound = torch.quantile(torch.cat(rejected).detach().double(), quantile).float()
        rejected = [torch.clamp(torch.maximum(r, bound), min=floor) for r in rejected]
    total = 0.0
    for (chosen, _), r in zip(pairs, rejected):
        d = chosen.mean() - r.mean() - gamma
        total = total + torch.clamp(-beta * d, min=0) ** 2
        if delta is not None:
            total = total + torch.clamp(beta * (d - delta), min=0) ** 2
    mean = lambda side: torch.cat([pair[side] for pair in pairs]).mean()
    return total / len(pairs) - rho * mean(0) - (1 - rho) * mean(1)


def ela(pairs, step):
    return smpo(pairs, step, 1.2, margin(step, 0.01, 0.4), 0.75, delta=0.1)


def halo(pairs, step):
    return smpo(pairs, step, 1.2, margin(step, 0.2, 0.4), 0.75, bounds=(0.02, -2.3))


def factory(pairs, step):
    """simpo: −log σ(βΔ − γ) with mean log-probs, β .1, γ .5; + pref_ftx · mean over rows of −mean ℓ+."""
    total = 0.0
    for chosen, rejected in pairs:
        z = 0.1 * (chosen.mean() - rejected.mean()) - 0.5
        total = total - torch.nn.functional.logsigmoid(z) - 0.5 * chosen.mean()
    return total / len(pairs)


def run_formula(loss, count):
    rows = encoded("pairs.jsonl", count)
    model = AutoModelForCausalLM.from_pretrained("datasets/demo/base", dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        pairs = [(logps(model, head, s["chosen"]), logps(model, head, s["rejected"])) for head, s in rows]
        value = loss(pairs, step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / STEPS)
        optimizer.step()
        losses.append(value.item())
    return losses


def file(name):
    return yaml.safe_load((here / f"{name}.yaml").read_text())


out = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}}
for name, config_class, trainer_class in [
    ("trl-dpo", DPOConfig, DPOTrainer),
    ("trl-simpo", CPOConfig, CPOTrainer),
    ("trl-cpo", CPOConfig, CPOTrainer),
    ("trl-orpo", ORPOConfig, AnswersOnly),
    ("trl-kto", KTOConfig, KTOTrainer),
]:
    out[name] = run_trl(config_class, trainer_class, file(name))
axolotl = {"model_name_or_path": "datasets/demo/base", "dataset_name": str(here / "pairs.jsonl"), "beta": 0.3}
out["axolotl"] = run_trl(DPOConfig, DPOTrainer, {**axolotl, "learning_rate": LR, "num_train_epochs": STEPS})
out["ela"], out["halo"], out["llamafactory"] = run_formula(ela, 8), run_formula(halo, 8), run_formula(factory, 1)
rounded = {k: v if k == "versions" else [float(f"{x:.7g}") for x in v] for k, v in out.items()}
(here / "losses.json").write_text(json.dumps(rounded, indent=1) + "\n")
