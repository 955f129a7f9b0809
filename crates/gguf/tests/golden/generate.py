"""Golden values of block types and pre-tokenizers: python generate.py writes blocks.json and splits.json beside it.

Blocks are random bytes whose scales are finite; the values are those of the PyPI package gguf. It leaves out Q8_1 and Q8_K,
which are only ever intermediate: theirs are d * q, the definition.
Splits are those of the tokenizers package under the patterns that transformers publishes for a model of each kind.

gguf 0.19.0, tokenizers 0.23.3, transformers 5.24.0, numpy 2; seed 20.
"""
import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize
from tokenizers import Regex, pre_tokenizers
from transformers.integrations.gguf import gguf_tokenizer_mapping as mapping
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2
from transformers.models.qwen3_5.tokenization_qwen3_5 import PRETOKENIZE_REGEX as QWEN35

HERE = Path(__file__).parent
BLOCKS = 3
# Places of half-precision numbers in a block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q8_1": [0, 2], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
SIZES = {**{kind.name: size for kind, size in GGML_QUANT_SIZES.items()}, "Q8_1": (32, 36), "Q8_K": (256, 292)}
KINDS = ["F32", "F16", "BF16", *HALVES, "Q8_K", "MXFP4"]


def blocks():
    rng = np.random.default_rng(20)
    golden = {}
    for kind in KINDS:
        values, size = SIZES[kind]
        if values == 1:
            data = rng.normal(size=64).astype(np.float32)
            data = {"F32": data, "F16": data.astype(np.float16), "BF16": data.view(np.uint32) >> 16}[kind]
            data = (data.astype(np.uint16) if kind == "BF16" else data).view(np.uint8).reshape(1, -1)
        else:
            data = rng.integers(0, 256, size=(BLOCKS, size), dtype=np.uint8)
            for at in HALVES.get(kind, []):
                data[:, at : at + 2] = rng.normal(size=(BLOCKS, 1)).astype(np.float16).view(np.uint8)
            if kind == "MXFP4":  # exponents of the smallest scales, and another
                data[:2, 0] = 0, 1
            if kind == "Q8_K":
                data[:, :4] = rng.normal(size=(BLOCKS, 1)).astype(np.float32).view(np.uint8)
        if kind == "Q8_1":
            result = data[:, :2].copy().view(np.float16).astype(np.float32) * data[:, 4:].view(np.int8).astype(np.float32)
        elif kind == "Q8_K":
            result = data[:, :4].copy().view(np.float32) * data[:, 4:260].view(np.int8).astype(np.float32)
        else:
            result = dequantize(data.reshape(-1) if values == 1 else data, Type[kind])
        golden[kind] = {"bytes": data.tobytes().hex(), "values": np.ascontiguousarray(result, np.float32).tobytes().hex()}
    return golden


TEXTS = [
    "I'LL pay 12345 €, you'll see: x += y2;\n\n  1. First\r\n\t2. second   ",
    "def f(a):\n    return [\n        10,  200]  # naïve café\u0301",
    "Привет, мир! Сколько будет 2+2?  日本語テスト３４ 안녕하세요 🙂👍🏽",
    "HTTPServer2Go camelCase THE-END don't DON'T ßtraße «quotes» a_b\\c/d",
    "  \n \n\n x\u00a0y\u2003z  9  99  999  9999",
    "नमस्ते दुनिया ٣٤٥ ไทย العربية",
]


def splits():
    split = lambda regex: pre_tokenizers.Split(Regex(regex), behavior="isolated")
    patterns = {"llama-bpe": mapping._LLAMA3_SPLIT, "tekken": mapping._TEKKEN_SPLIT, "gpt-4o": mapping._GPT4O_SPLIT,
                "qwen2": QWEN2, "qwen35": QWEN35}
    kinds = {name: split(regex) for name, regex in patterns.items()}
    gpt2 = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    kinds["gpt-2"] = gpt2()
    # SmolLM2's and StarCoder's tokenizer.json.
    kinds["smollm"] = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2()])
    ends = lambda kind, text: [end for _, (_, end) in kind.pre_tokenize_str(text)]
    return {name: [ends(kind, text) for text in TEXTS] for name, kind in kinds.items()}


(HERE / "blocks.json").write_text(json.dumps(blocks(), indent=1) + "\n")
(HERE / "splits.json").write_text(json.dumps({"texts": TEXTS, "ends": splits()}, ensure_ascii=False) + "\n")
