"""The workloads that training is measured on: a random-weight model directory and preference pairs for each.

Everything comes from a seed, so that a figure can be repeated anywhere; real pairs can be given instead.
"""
import dataclasses, json, math, pathlib, random

CHATML = ("{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}")


@dataclasses.dataclass(frozen=True)
class Workload:
    """One model, one shape of data, one way to train. Lengths are medians in words, about a token and a half each."""
    text: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    max_length: int
    batch: int
    prompt: int = 24
    chosen: int = 330
    rejected: int = 70
    tied: bool = False
    lora: int = 0
    checkpointing: bool = False
    steps: int = 12
    positions: int = 16384


A = Workload("6 M Qwen2 body, V 8192, batch 8 pairs ≤ 512, full", 256, 672, 6, 8, 2, 8192, 512, 8)
WORKLOADS = {
    "A": A,
    "A-long": dataclasses.replace(A, text=A.text + ", long prompts", prompt=260, chosen=60, rejected=60),
    "B": Workload("≈100 M, V 32k, LoRA r 16, checkpointing, ≤ 1024", 768, 2048, 12, 12, 2, 32768, 1024, 2,
                  prompt=60, chosen=450, rejected=120, tied=True, lora=16, checkpointing=True, steps=6),
    "C": Workload("hidden 256, 6 layers, V 151,936, batch 4 pairs ≤ 512, full", 256, 672, 6, 8, 2, 151936, 512, 4, steps=5),
    "D": Workload("0.5 B, length 8,192, V 151,936, LoRA r 16, checkpointing", 896, 4864, 24, 14, 2, 151936, 8192, 1,
                  prompt=40, chosen=9000, rejected=4000, tied=True, lora=16, checkpointing=True, steps=3),
}


def words(rng, count):
    """Pronounceable words with the frequencies of a language (Zipf)."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    return ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(count)]


def make_pairs(path, workload, seed=0):
    """Enough pairs for all steps, with lengths that scatter like real answers do (log-normal, σ 0.5)."""
    rng = random.Random(seed)
    lexicon = words(rng, 6000)
    weights = [1 / (rank + 3) for rank in range(len(lexicon))]

    def text(median):
        count = max(3, round(median * math.exp(rng.gauss(0, 0.5))))
        return " ".join(rng.choices(lexicon, weights, k=count))

    with open(path, "w", encoding="utf-8") as out:
        for index in range(workload.steps * workload.batch):
            row = {"id": f"p{index}", "prompt": [{"role": "user", "content": text(workload.prompt)}]}
            for side in ("chosen", "rejected"):
                row[side] = [{"role": "assistant", "content": text(getattr(workload, side))}]
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def strings(value):
    if isinstance(value, str):
        yield value
    else:
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from strings(inner)


def make_model(directory, workload, pairs, seed=0):
    """A Qwen2 with random weights and a byte-level BPE tokenizer trained on the pairs."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast, Qwen2Config

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=min(workload.vocabulary, 32768), show_progress=False,
                                  special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    with open(pairs, encoding="utf-8") as lines:
        tokenizer.train_from_iterator((s for line in lines for s in strings(json.loads(line))), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    torch.manual_seed(seed)
    ids = dict(bos_token_id=None, eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
    config = Qwen2Config(vocab_size=workload.vocabulary, hidden_size=workload.hidden,
                         intermediate_size=workload.inner, num_hidden_layers=workload.layers,
                         num_attention_heads=workload.heads, num_key_value_heads=workload.kv_heads,
                         max_position_embeddings=workload.positions, tie_word_embeddings=workload.tied, **ids)
    model = AutoModelForCausalLM.from_config(config).to(torch.float32)
    directory = pathlib.Path(directory)
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    GenerationConfig(eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id).save_pretrained(directory)
    return sum(parameter.numel() for parameter in model.parameters())


def count_tokens(model, pairs, max_length, batch):
    """Tokens of each `batch` of pairs, in file order: prompt and completion, cut to `max_length`, the prompt once a side."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    count = lambda messages: len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
    rows = [json.loads(line) for line in open(pairs, encoding="utf-8")]
    lengths = [sum(min(count(row["prompt"] + row[side]), max_length) for side in ("chosen", "rejected")) for row in rows]
    return [sum(lengths[i:i + batch]) for i in range(0, len(lengths), batch)]
