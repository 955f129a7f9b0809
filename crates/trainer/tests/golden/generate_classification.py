"""Twenty steps of transformers' Trainer with a head of labels, in float32: the losses that
crates/trainer/tests/classification.rs compares with, with one label a text and with several.

    pip install torch==2.15.0 transformers==5.24.0
    python crates/trainer/tests/golden/generate_classification.py

The texts are the chosen sides of the rows of order.json, in its order, as whole conversations, every fourth one as a plain
text; labels are a function of the row's number, and the head's first values a formula, which the test has too. Written
with the versions recorded in the file; regenerate only on purpose.
"""
import json, math, pathlib, tempfile
import torch, transformers
from torch.utils.data import SequentialSampler
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerFast
from transformers import Trainer, TrainingArguments

here = pathlib.Path(__file__).parent
demo = here.parents[3] / "datasets/demo"
order = json.loads((here / "order.json").read_text())
SEED, STEPS, BATCH, LR = 20261129, 20, 4, 3e-4
torch.set_num_threads(1)
tokenizer = PreTrainedTokenizerFast.from_pretrained(demo / "base")


def ids(number, row):
    if number % 4 == 3:
        return tokenizer(row["chosen"][0]["content"])["input_ids"]
    text = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False, add_generation_prompt=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def label(number, several):
    if not several:
        return number % 3
    return [1.0 if number % 2 == 0 else 0.0, 1.0 if number % 3 == 0 else 0.0]


lines = open(demo / "preferences.jsonl", encoding="utf-8").read().splitlines()[: order["rows"]]
rows = [json.loads(line) for line in lines]
per_epoch = math.ceil(len(rows) / BATCH)
taken = []
for step in range(STEPS):
    epoch, within = divmod(step, per_epoch)
    taken += order["epochs"][epoch][within * BATCH : (within + 1) * BATCH]
assert len(taken) == STEPS * BATCH, "whole batches only"


class Collator(DataCollatorWithPadding):
    def __call__(self, rows):
        batch = super().__call__(rows)
        if batch["labels"].dim() == 2:
            batch["labels"] = batch["labels"].float()
        return batch


def steps(several):
    torch.manual_seed(SEED)
    problem = "multi_label_classification" if several else "single_label_classification"
    model = AutoModelForSequenceClassification.from_pretrained(
        demo / "base", num_labels=2 if several else 3, problem_type=problem, dtype=torch.float32
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        count, width = model.score.weight.shape
        values = [[0.05 * math.sin(1 + i + label * width) for i in range(width)] for label in range(count)]
        model.score.weight.copy_(torch.tensor(values))
    records = []

    class Recorded(Trainer):
        def _get_train_sampler(self, dataset=None):
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
            found = (outputs.logits > 0).float() if several else outputs.logits.argmax(-1)
            right = found == inputs["labels"]
            right = right.all(-1) if several else right
            values = {"loss": loss, "accuracy": right.float().mean()}
            records.append({name: float(f"{value.item():.7g}") for name, value in values.items()})
            return (loss, outputs) if return_outputs else loss

    data = [{"input_ids": ids(i, rows[i]), "labels": label(i, several)} for i in taken]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=LR,
            lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, bf16=False, fp16=False, use_cpu=True,
            save_strategy="no", report_to=[], seed=SEED, disable_tqdm=True, remove_unused_columns=False,
        )
        Recorded(model=model, args=arguments, train_dataset=data, data_collator=Collator(tokenizer)).train()
    return records


versions = {"torch": torch.__version__, "transformers": transformers.__version__}
out = {"versions": versions, "seed": SEED, "pad_token_id": tokenizer.pad_token_id, "one": steps(False), "several": steps(True)}
text = json.dumps(out).replace("}, {", "},\n{").replace(": [{", ": [\n{")
(here / "classification.json").write_text(text + "\n")
