"""Writes the tiny model `qwen2/`, a LoRA adapter of it `adapter/`, and `expected.json`: what transformers computes with
them, and what the seeded sampler must draw, by an implementation of its own.

    pip install torch transformers tokenizers safetensors numpy peft
    python generate.py            # the versions are recorded in expected.json; seed below

The model is random, with weights large enough for peaked distributions and a head that likes its two terminators.
"""
import hashlib, json, pathlib
import numpy as np
import peft, torch, transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast, Qwen2Config

SEED = 3
HERE = pathlib.Path(__file__).parent
CHATML = ("{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}")
TEXT = ["The quick brown fox jumps over the lazy dog.", "What is the capital of France? Paris is.", "Count to ten: one two",
        "Привет, как дела? Хорошо, спасибо!", "def add(a, b):\n    return a + b", "Tell me a story about a ship at sea."] * 4

PROMPTS = {
    "plain": [("user", "What is the capital of France?")],
    "russian": [("user", "Привет, как дела?")],
    "turns": [("system", "Be brief."), ("user", "Count to ten"), ("assistant", "one two"), ("user", " go on\n\n")],
    "code": [("user", "def add(a, b):\n    return")],
    "long": [("user", "Tell me a story about a ship at sea. " * 12)],
    "empty": [("user", "")],
}


def chacha8(key: bytes, stream: int, words: int) -> np.ndarray:
    """The first `words` 32-bit words of a ChaCha stream of 8 rounds (Bernstein 2008), 64-bit counter and stream."""
    blocks = -(-words // 16)
    state = np.zeros((16, blocks), dtype=np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", dtype="<u4")[:, None]
    state[4:12] = np.frombuffer(key, dtype="<u4")[:, None]
    state[12] = np.arange(blocks)
    state[14], state[15] = stream & 0xFFFFFFFF, stream >> 32
    x = state.copy()

    def quarter(a, b, c, d):
        for p, q, r, s in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] += x[q]
            x[r] ^= x[p]
            x[r] = (x[r] << np.uint32(s)) | (x[r] >> np.uint32(32 - s))

    for _ in range(4):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for diagonal in range(4):
            quarter(diagonal, 4 + (diagonal + 1) % 4, 8 + (diagonal + 2) % 4, 12 + (diagonal + 3) % 4)
    return (x + state).T.reshape(-1)[:words]


def gumbel(seed: int, prompt_id: str, sample: int, step: int, vocabulary: int) -> np.ndarray:
    key = hashlib.sha256(b"smpo sampler 1" + seed.to_bytes(8, "little") + sample.to_bytes(4, "little") + prompt_id.encode()).digest()
    words = chacha8(key, step, 2 * vocabulary).astype(np.uint64)
    uniform = (((words[0::2] | (words[1::2] << np.uint64(32))) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform))


def filtered(scores: np.ndarray, top_k, top_p, min_p) -> np.ndarray:
    """`scores` (V), tempered, with −∞ for what the filters drop."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    kept = order[:top_k] if top_k else order
    p = np.exp(scores[kept] - scores[kept].max())
    p /= p.sum()
    if top_p is not None:
        kept = kept[: int(np.searchsorted(np.cumsum(p), top_p)) + 1]
    if min_p is not None:
        kept = kept[np.exp(scores[kept] - scores.max()) >= min_p]
    out = np.full_like(scores, -np.inf)
    out[kept] = scores[kept]
    return out


def build(path: pathlib.Path):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tok.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    torch.manual_seed(SEED)
    # The vocabulary is padded beyond the tokenizer's, as real models' are.
    config = Qwen2Config(vocab_size=len(fast) + 8, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False, bos_token_id=None,
                         eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id, use_sliding_window=False)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "bias" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * {"embed_tokens": 1.0, "lm_head": 0.35}.get(name.split(".")[-2], 0.25))
        model.lm_head.weight[[0, 2]] *= 1.6
    model.save_pretrained(path)
    fast.save_pretrained(path)
    # Two terminators here, one of them the tokenizer's as well.
    GenerationConfig(eos_token_id=[0, 2], pad_token_id=0).save_pretrained(path)
    return fast, model


def adapt(model, path: pathlib.Path):
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(path)
    fields = json.loads((path / "adapter_config.json").read_text())
    fields["target_modules"].sort()
    fields["base_model_name_or_path"] = "../qwen2"  # relative to the adapter
    (path / "adapter_config.json").write_text(json.dumps(dict(sorted(fields.items())), indent=2) + "\n")
    (path / "README.md").unlink()
    return adapted.eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double()


def generate(model, prompt, cap, pick):
    """Without a cache: every step is a forward pass over the whole text."""
    ids, logps, terminating = [], [], []
    while len(ids) < cap:
        logits = logits_of(model, prompt + ids)[-1]
        token = pick(logits.numpy(), len(ids))
        logp = torch.log_softmax(logits, -1)
        ids.append(int(token)), logps.append(float(logp[token])), terminating.append(float(torch.logsumexp(logp[[0, 2]], 0)))
        if token in (0, 2):
            return ids, logps, terminating, "eos"
    return ids, logps, terminating, "length"


SAMPLERS = [dict(temperature=0.0), dict(temperature=1.0), dict(temperature=0.8), dict(temperature=1.3, top_k=20),
            dict(temperature=1.0, top_p=0.9), dict(temperature=1.2, min_p=0.05), dict(temperature=1.0, top_k=30, top_p=0.8, min_p=0.02)]


def cases_of(fast, model, samplers):
    cases = []
    for prompt_id, turns in PROMPTS.items():
        messages = [dict(role=role, content=content) for role, content in turns]
        prompt = fast(fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=False), add_special_tokens=False)["input_ids"]
        for sampler in samplers:
            for sample in range(1 if sampler["temperature"] == 0 else 2):
                def pick(logits, step):
                    if sampler["temperature"] == 0:
                        return int(np.argmax(logits))
                    scores = filtered(logits / sampler["temperature"], sampler.get("top_k"), sampler.get("top_p"), sampler.get("min_p"))
                    return int(np.argmax(scores + gumbel(11, prompt_id, sample, step, len(scores))))
                ids, logps, terminating, finish = generate(model, prompt, 24, pick)
                spoken = ids[:-1] if finish == "eos" else ids
                cases.append(dict(prompt_id=prompt_id, messages=messages, prompt_ids=prompt, sampler=sampler, sample=sample, seed=11,
                                  cap=24, token_ids=ids, logps=[round(x, 7) for x in logps], finish=finish,
                                  terminator_logps=[round(x, 7) for x in terminating],
                                  text=fast.decode(spoken, skip_special_tokens=False, clean_up_tokenization_spaces=False)))
    return cases


def main():
    fast, model = build(HERE / "qwen2")
    cases = cases_of(fast, model, SAMPLERS)
    adapted = cases_of(fast, adapt(model, HERE / "adapter"), SAMPLERS[:2])[:12]
    versions = dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__, numpy=np.__version__, seed=SEED)
    lines = lambda cases: ",\n".join("  " + json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    text = '{"versions": %s,\n "cases": [\n%s\n],\n "adapted": [\n%s\n]}\n' % (json.dumps(versions), lines(cases), lines(adapted))
    (HERE / "expected.json").write_text(text, encoding="utf-8")
    print({finish: sum(case["finish"] == finish for case in cases) for finish in ("eos", "length")},
          "ended by", {i: sum(case["token_ids"][-1] == i for case in cases) for i in (0, 2)},
          "distinct greedy tokens", [len(set(c["token_ids"])) for c in cases if c["sampler"]["temperature"] == 0],
          "changed by the adapter", sum(a["token_ids"] != b["token_ids"] for a, b in zip(adapted, (c for c in cases if c["sampler"] in SAMPLERS[:2]))))


main()
