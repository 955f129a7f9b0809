"""Five tiny model directories and, in golden.json, the token ids that transformers gives for conversations with them.

    pip install "transformers==5.23.0" "tokenizers==0.23.3"
    python generate.py          # no randomness: the tokenizers are trained on the text below

Expected ids: `prompt` is apply_chat_template(prompt, add_generation_prompt=True). A side is found from
apply_chat_template(prompt + side): offsets give the first token past the prompt's text, and everything after the first
terminator of the last turn's end is cut.
"""
import json
import pathlib

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The quick brown fox jumps over the lazy dog. Two plus two is four.\n\nThe answer is 4.\n",
    "user assistant system question answer think Hello there! How are you? I am fine, thank you.",
    "Привет, как дела? Хорошо, спасибо. Два плюс два равно четыре.",
    "def f(x):\n    return x + 1\n\n\n- a\n- b\n",
] * 3

CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LLAMA = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}"
         "{% else %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}")
PHI = ("{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
       "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}")
PLAIN = ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n\\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}")
THINK = ("{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}"
         "{{ m['content'].split('</think>')[-1].lstrip() + eos_token }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}")


def byte_level(special):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False,
                                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return tok


def metaspace(special):
    tok = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=420, show_progress=False,
                                                      special_tokens=special + [f"<0x{b:02X}>" for b in range(256)]))
    return tok


def model_dirs():
    yield "chatml", byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), CHATML, dict(eos_token="<|im_end|>", pad_token="<|endoftext|>")
    yield "llama", metaspace(["<unk>", "<s>", "</s>"]), LLAMA, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    names = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    yield "phi", byte_level([AddedToken(n, rstrip=n != "<|endoftext|>", normalized=False, special=True) for n in names]), PHI, dict(eos_token="<|endoftext|>")
    yield "plain", byte_level(["<|endoftext|>"]), PLAIN, dict(eos_token="<|endoftext|>")
    yield "think", byte_level(["<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>"]), THINK, dict(bos_token="<|bos|>", eos_token="<|eos|>")


# generation_config.json and config.json beside it: lists, single ids, and ids that disagree with the tokenizer's
CONFIGS = {
    "chatml": ({"eos_token_id": [2, 0]}, {"eos_token_id": 2}),
    "llama": ({}, {"eos_token_id": 2}),
    "phi": ({"eos_token_id": [4, 0]}, {"eos_token_id": 0}),
    "plain": ({"eos_token_id": 0}, {}),
    "think": ({}, {}),
}
TERMINATORS = {"chatml": [2, 0], "llama": [2], "phi": [4, 0], "plain": [0], "think": [1]}

PAIRS = [
    ([("user", "Two plus two?")], "The answer is 4.", "The quick brown fox"),
    ([("system", "Be brief."), ("user", "Как дела?")], "Хорошо, спасибо. 🙂", "Привет"),
    ([("user", "a"), ("assistant", "b"), ("user", "c")], "\n\n\nThe answer", "\nThe"),
    ([("user", "code")], "def f(x):\n    return x + 1\n\n\n", "  - a\n- b  "),
    ([("user", "e\u0301 cafe\u0301")], "e\u0301", ""),
    ([("user", "Say nothing.")], "", " "),
]


def turn_cut(name, ids, start):
    """Up to and with the first terminator of the last turn's end; appended where the template writes none."""
    ends = TERMINATORS[name]
    last = len(ids)
    if name == "plain":
        return ids + [0]
    if name == "phi":  # <|end|> <|endoftext|>: the first of the two ends the turn
        last = len(ids) - 1
    while ids[last - 1] not in ends:
        last -= 1
    return ids[:last]


def main():
    out = []
    for name, tok, template, special in model_dirs():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        fast = PreTrainedTokenizerFast(tokenizer_object=tok, **special)
        fast.chat_template = template
        fast.save_pretrained(folder)
        config = folder / "tokenizer_config.json"
        settings = {k: v for k, v in json.loads(config.read_text()).items() if k.endswith("_token")}
        if name == "llama":  # the older places for a template: one string, and a list of named ones
            settings["chat_template"] = template
        if name == "phi":
            settings["chat_template"] = [{"name": "tool_use", "template": "{{ raise_exception('no') }}"}, {"name": "default", "template": template}]
        if "chat_template" in settings:
            (folder / "chat_template.jinja").unlink()
        config.write_text(json.dumps(settings, indent=1) + "\n")
        for file, values in zip(("generation_config.json", "config.json"), CONFIGS[name]):
            if values:
                (folder / file).write_text(json.dumps(values) + "\n")
        for prompt, chosen, rejected in PAIRS:
            if name == "llama":
                prompt = [turn for turn in prompt if turn[0] != "system"]
            messages = [{"role": r, "content": c} for r, c in prompt]
            ids = fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
            opened = fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            if name == "think":
                opened = opened.removesuffix("<think>\n")
            sides = []
            for side in (chosen, rejected):
                whole = messages + [{"role": "assistant", "content": side}]
                text = fast.apply_chat_template(whole, tokenize=False)
                assert text.startswith(opened), (name, text, opened)
                if name == "plain":
                    text = text.removesuffix("\n\n")  # the template's own blank line between turns
                read = fast(text, add_special_tokens=False, return_offsets_mapping=True)
                full = fast.apply_chat_template(whole, tokenize=True, return_dict=False)
                assert name == "plain" or full == read["input_ids"]
                special_ids = set(fast.all_special_ids) | set(range(5))
                split = 0
                for token, (start, end) in zip(read["input_ids"], read["offset_mapping"]):
                    if end <= len(opened) or (start < len(opened) and token in special_ids):
                        split += 1
                    else:
                        break
                sides.append((turn_cut(name, read["input_ids"], split), split))
            shared = min(split for _, split in sides)
            a, b = sides[0][0], sides[1][0]
            while a[:shared] != b[:shared]:
                shared -= 1
            out.append({
                "model": name, "messages": messages, "chosen_text": chosen, "rejected_text": rejected, "opened": ids,
                "prompt": a[:shared], "chosen": a[shared:], "rejected": b[shared:]})
    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    (HERE / "golden.json").write_text(
        json.dumps({"versions": versions, "terminators": TERMINATORS, "pairs": out}, ensure_ascii=False) + "\n", encoding="utf-8")


main()
