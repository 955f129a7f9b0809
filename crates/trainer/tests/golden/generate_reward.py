"""Twenty steps of TRL's RewardTrainer in float32: the losses that crates/trainer/tests/reward.rs compares with.

    pip install torch==2.15.0 transformers==5.24.0 trl==1.16.0
    python crates/trainer/tests/golden/generate_reward.py

The rows are those of order.json, each with a margin by its number, in its order; the head's first values are a formula,
which the test has too. Written with the versions recorded in the file; regenerate only on purpose.
"""
import json, math, pathlib, tempfile
import torch, transformers, trl
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

here = pathlib.Path(__file__).parent
demo = here.parents[3] / "datasets/demo"
order = json.loads((here / "order.json").read_text())
SEED, STEPS, BATCH, LR, CENTRE = 20261128, 20, 4, 3e-4, 0.01
torch.set_num_threads(1)
torch.manual_seed(SEED)
tokenizer = PreTrainedTokenizerFast.from_pretrained(demo / "base")

lines = open(demo / "preferences.jsonl", encoding="utf-8").read().splitlines()[: order["rows"]]
rows = [json.loads(line) for line in lines]
rows = [
    {"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"], "margin": 0.25 * (number % 3)}
    for number, row in enumerate(rows)
]
per_epoch = math.ceil(len(rows) / BATCH)
taken = []
for step in range(STEPS):
    epoch, within = divmod(step, per_epoch)
    taken += [rows[i] for i in order["epochs"][epoch][within * BATCH : (within + 1) * BATCH]]
assert len(taken) == STEPS * BATCH, "whole batches only"

model = AutoModelForSequenceClassification.from_pretrained(demo / "base", num_labels=1, dtype=torch.float32)
with torch.no_grad():
    width = model.score.weight.shape[1]
    model.score.weight.copy_(torch.tensor([[0.05 * math.sin(i + 1) for i in range(width)]]))


class Recorded(RewardTrainer):
    records = []

    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        chosen, rejected = torch.chunk(outputs.logits.squeeze(-1), chunks=2)
        values = {
            "loss": loss,
            "accuracy": (chosen > rejected).float().mean(),
            "margin": (chosen - rejected).mean(),
            "mean": outputs.logits.mean(),
        }
        self.records.append({name: float(f"{value.item():.7g}") for name, value in values.items()})
        return (loss, outputs) if return_outputs else loss


with tempfile.TemporaryDirectory() as scratch:
    config = RewardConfig(
        output_dir=scratch, per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=LR,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, bf16=False, fp16=False,
        gradient_checkpointing=False, use_cpu=True, save_strategy="no", report_to=[], seed=SEED,
        center_rewards_coefficient=CENTRE, max_length=None, disable_tqdm=True,
    )
    Recorded(model=model, args=config, train_dataset=Dataset.from_list(taken), processing_class=tokenizer).train()

versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
out = {"versions": versions, "seed": SEED, "pad_token_id": model.config.pad_token_id, "steps": Recorded.records}
text = json.dumps(out).replace("}, {", "},\n{").replace(": [{", ": [\n{")
(here / "reward.json").write_text(text + "\n")
