"""One step of prompt optimisation under PyTorch's autograd: what crates/trainer/tests/prompts.rs compares with.

    pip install torch==2.15.0 transformers==5.24.0
    python crates/trainer/tests/golden/generate_prompts.py

Tiny random models (crates/model/tests/golden): language models under the mean negative log-likelihood of answers, reward models
under the Bradley-Terry loss with centring; of each a family that scales its embeddings. Codebook, noise and rows come from the
seed below; the gradients go through hard + soft - soft.detach(). Written with the versions recorded in the file; regenerate only on
purpose.
"""
import json, pathlib
import torch, transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

SEED = 20260
PROMPTS, LENGTH, TEMPERATURE, DISSIMILARITY, CENTRE = 2, 3, 0.7, 0.3, 0.01
CASES = {"qwen2": "sft", "gemma2": "sft", "labels/reward": "reward", "labels/reward-gemma3": "reward"}
FORBIDDEN = [1, 5, 7]
ROWS = [
    {"before": [2, 4], "after": [4, 9], "chosen": [10, 11, 12], "rejected": [16, 14]},
    {"before": [2], "after": [8], "chosen": [13, 14], "rejected": [15, 10, 17, 18]},
]
here = pathlib.Path(__file__).parent
models = here.parents[2] / "model/tests/golden"
torch.set_num_threads(1)


def case(name, loss):
    torch.manual_seed(SEED)
    kind = AutoModelForCausalLM if loss == "sft" else AutoModelForSequenceClassification
    model = kind.from_pretrained(models / name, dtype=torch.float32, attn_implementation="eager").eval()
    model.requires_grad_(False)
    embedding = model.get_input_embeddings()
    table = embedding.weight
    vocabulary, width = table.shape
    # transformers scales inside the module what it looks up, and not what it is given
    scale = float(getattr(embedding, "scalar_embed_scale", 1.0))
    codebook = (0.1 * torch.randn(PROMPTS * LENGTH, width)).requires_grad_()
    noise = torch.tensor([0.05], requires_grad=True)
    gumbel = -torch.log(-torch.log(torch.rand(PROMPTS * LENGTH, vocabulary)))
    mask = torch.zeros(vocabulary)
    mask[FORBIDDEN] = -torch.inf
    logits = codebook @ table.T
    logits.retain_grad()
    noisy = logits + mask + noise * gumbel
    probabilities = torch.softmax(noisy / TEMPERATURE, -1)
    ids = noisy.argmax(-1)
    soft = probabilities @ table
    embedded = table[ids] + soft - soft.detach()

    def run(row, prompt, side):
        look = lambda ids: table[torch.tensor(ids)]
        inputs = torch.cat([look(row["before"]), prompt, look(row["after"]), look(row[side])])
        return model(inputs_embeds=scale * inputs[None], attention_mask=torch.ones(1, len(inputs)))

    losses = []
    for prompt in embedded.view(PROMPTS, LENGTH, width):
        if loss == "sft":
            total = 0.0
            for row in ROWS:
                logps = run(row, prompt, "chosen").logits[0].log_softmax(-1)
                first = len(logps) - len(row["chosen"])
                total = total - sum(logps[first + at - 1, target] for at, target in enumerate(row["chosen"]))
            losses.append(total / sum(len(row["chosen"]) for row in ROWS))
        else:
            rewards = [[run(row, prompt, side).logits[0, 0] for side in ("chosen", "rejected")] for row in ROWS]
            terms = [CENTRE * (a + b) ** 2 - torch.nn.functional.logsigmoid(a - b) for a, b in rewards]
            losses.append(sum(terms) / len(terms))
    means = codebook.view(PROMPTS, LENGTH, width).mean(1)
    similarity = DISSIMILARITY * torch.cosine_similarity(means[0], means[1], dim=0)
    (torch.stack(losses).mean() + similarity).backward()
    return {
        "model": name, "loss": loss, "codebook": codebook.detach().flatten().tolist(), "noise": noise.item(),
        "gumbel": gumbel.flatten().tolist(), "ids": ids.tolist(), "losses": [value.item() for value in losses],
        "similarity": similarity.item(), "of_logits": logits.grad.flatten().tolist(),
        "of_codebook": codebook.grad.flatten().tolist(), "of_noise": noise.grad.item(),
    }


def short(value):
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, list):
        return [short(item) for item in value]
    return {key: short(item) for key, item in value.items()} if isinstance(value, dict) else value


versions = {"torch": torch.__version__, "transformers": transformers.__version__}
out = {
    "versions": versions, "seed": SEED, "prompts": PROMPTS, "length": LENGTH, "temperature": TEMPERATURE,
    "dissimilarity": DISSIMILARITY, "centre": CENTRE, "forbidden": FORBIDDEN, "rows": ROWS,
    "cases": [case(name, loss) for name, loss in CASES.items()],
}
(here / "prompts.json").write_text(json.dumps(short(out)).replace('}, {"model"', '},\n{"model"') + "\n")
