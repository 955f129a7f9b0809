#!/usr/bin/env python3
"""First inputs of every target: documents that are right, from which a fuzzer makes wrong ones. Standard library alone.

    python3 fuzz/seeds.py        # into fuzz/target/corpus, beside what is there; `fuzz/run minimise` brings them into fuzz/corpus
"""

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
ROOT = FUZZ.parent
CORPUS = FUZZ / "target/corpus"


def put(target, name, content):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def gguf(metadata, tensors=()):
    """A GGUF file of version 3; values are texts, numbers, and lists of them."""

    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def kind(value):
        return {bool: 7, int: 4, float: 6, str: 8, list: 9}[type(value)]

    def scalar(value):
        return {7: lambda v: struct.pack("<B", v), 4: lambda v: struct.pack("<I", v), 6: lambda v: struct.pack("<f", v), 8: text}[
            kind(value)
        ](value)

    def stored(value):
        if isinstance(value, list):
            return struct.pack("<IQ", kind(value[0]), len(value)) + b"".join(map(scalar, value))
        return scalar(value)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + struct.pack("<I", kind(value)) + stored(value) for key, value in metadata.items())
    data = b""
    for name, shape, number, content in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        head += struct.pack("<IQ", number, len(data))
        data += content + b"\0" * (-len(content) % 32)
    return head + b"\0" * (-len(head) % 32) + data


def gguf_files():
    vocabulary = ["<unk>", "<s>", "</s>", "a", "b", "ab", "<0x0A>", "▁"]
    for model in ["gpt2", "llama", "t5"]:
        metadata = {
            "general.architecture": "llama",
            "llama.context_length": 32,
            "tokenizer.ggml.model": model,
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": vocabulary,
            "tokenizer.ggml.token_type": [2, 3, 3, 1, 1, 1, 6, 1],
            "tokenizer.ggml.scores": [-float(i) for i in range(8)],
            "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}</s>{% endfor %}",
        }
        put("gguf", model, gguf(metadata))
    # Numbers of ggml's types with values and bytes of a block.
    blocks = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110),
              12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2), 39: (32, 17)}
    for number, (values, size) in blocks.items():
        tensors = [("t", [values, 2], number, bytes(range(size)) * 2)]
        put("gguf", f"type-{number}", gguf({"general.architecture": "llama"}, tensors))


def tokenizer_files():
    home = ROOT / "crates/tokenizer/tests/golden"
    for model in ["chatml", "llama", "plain", "phi"]:
        for number, name in enumerate(["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json", "chat_template.jinja"]):
            if (home / model / name).is_file():
                put("tokenizer", f"{model}-{number}", str(number).encode() + (home / model / name).read_bytes())
    unknown = {"id": 0, "content": "<unk>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    end = {**unknown, "id": 1, "content": "<|im_end|>"}
    models = {
        "bpe": {"type": "BPE", "vocab": {"<unk>": 0, "<|im_end|>": 1, "a": 2, "b": 3, "ab": 4}, "merges": [["a", "b"]], "unk_token": "<unk>", "byte_fallback": True},
        "unigram": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["<|im_end|>", -1.0], ["▁", -2.0], ["a", -3.0]]},
        "words": {"type": "WordLevel", "vocab": {"<unk>": 0, "<|im_end|>": 1}, "unk_token": "<unk>"},
        "pieces": {"type": "WordPiece", "vocab": {"<unk>": 0, "<|im_end|>": 1, "##a": 2}, "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
    }
    for name, model in models.items():
        document = {
            "version": "1.0",
            "added_tokens": [unknown, end],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "NFC"}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\s+|\\p{N}"}, "behavior": "Isolated", "invert": False}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
            "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": model,
        }
        put("tokenizer", f"kind-{name}", "0" + json.dumps(document, ensure_ascii=False))
    put("tokenizer", "config", '1{"eos_token": "<|im_end|>", "bos_token": {"content": "<s>"}, "add_bos_token": true, "chat_template": [{"name": "default", "template": "{{ messages }}"}]}')
    put("tokenizer", "generation", '2{"eos_token_id": [1, 2], "bos_token_id": 0}')


def chat_templates():
    for path in sorted((ROOT / "crates/chat/tests/golden/templates").iterdir()):
        put("chat_template", path.name, path.read_bytes())
    for number, text in enumerate([
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(4) %}{% set ns.x = ns.x ~ 'b' %}{% endfor %}{{ ns.x }}",
        "{{ messages | map(attribute='content') | join('-') | upper | replace('A', 'bb') }}{{ 'x' * 3 }}",
        "{% macro f(x, n=2) %}{{ x }}{% if n %}{{ f(x, n - 1) }}{% endif %}{% endmacro %}{{ f('y') }}",
        "{{ messages[-1].content.strip().split('a', 1)[0] | tojson(indent=2) }}{{ '%s' | format(3) if false else '' }}",
        "{{ strftime_now('%Y-%m-%d') }}{{ raise_exception('no') if messages | length > 9 }}{{ range(3) | list | batch(2) | list }}",
        "{% filter upper %}{{ bos_token }}{% endfilter %}{%- for k, v in {'a': 1}.items() %}{{ loop.index }}{{ k.center(9) }}{% break %}{% endfor %}",
        "{{ [1, 2] + [3] }}{{ {'a': [1, {'b': none}]} | tojson }}{{ 7 // 2 ** 3 % 5 }}{{ 'abc'[::-1] }}{{ 'a' in 'abc' and not false }}",
    ]):
        put("chat_template", f"own-{number}", text)


def rows():
    prompt, good, bad = said("user", "2+2?"), said("assistant", "4"), said("assistant", "5")
    documents = {
        "texts": {"prompt": "p", "chosen": "c", "rejected": "r", "system": "s"},
        "messages": {"prompt": [prompt], "chosen": [good], "rejected": [bad]},
        "whole": {"chosen": [prompt, good], "rejected": [prompt, bad], "margin": 1.5},
        "hh": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        "sharegpt": {"conversations": [{"from": "human", "value": "p"}], "chosen": {"from": "gpt", "value": "c"}, "rejected": {"from": "gpt", "value": "r"}},
        "kto": {"prompt": [prompt], "completion": [good], "label": True},
        "group": {"prompt": "p", "completions": ["a", "b"], "scores": [0.5, -1]},
        "ultra": {"instruction": "p", "completions": [{"response": "a", "overall_score": 3}, {"response": "b", "overall_score": 1}]},
        "sft": {"messages": [said("system", "s"), prompt, good]},
        "alpaca": {"instruction": "i", "input": "x", "output": "o"},
        "tools": {"messages": [prompt, said("assistant", None, tool_calls=[{"type": "function", "function": {"name": "f", "arguments": "{}"}}]), said("tool", "3"), good], "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        "parts": {"prompt": [said("user", [{"type": "text", "text": "a"}, {"type": "image"}])], "chosen": [good], "rejected": [bad]},
        "class": {"text": "t", "label": 1, "labels": ["a", "b"]},
        "unfinished": {"prompt": "p", "chosen": "c", "rejected": "r", "rejected_finish_reason": "length"},
        "nan": {"prompt": "p", "completions": ["a"], "scores": [1e308]},
    }
    for name, row in documents.items():
        put("rows", name, lines([row]))
    put("rows", "lines", lines([documents["texts"], documents["whole"]]) + "\n{broken\n" + lines([documents["messages"]]))
    put("rows", "document", json.dumps([documents["texts"], documents["kto"]], indent=1))
    put("rows", "gzip", gzip.compress(lines([documents["texts"]]).encode(), mtime=0))
    put("rows", "wide", "\ufeff".encode("utf-16-le") + lines([documents["texts"]]).encode("utf-16-le"))
    for path in sorted((ROOT / "crates/data/tests/golden/parquet").glob("*.parquet")):
        put("parquet", path.stem, path.read_bytes())


def completions():
    choice = {"index": 0, "message": said("assistant", "a"), "finish_reason": "stop"}
    body = {"id": "x", "model": "m", "choices": [choice], "usage": {"completion_tokens": 1}}
    documents = {
        "own": {"schema": 1, "prompt_id": "p", "slice": "s", "sample": 0, "completion": "c", "finish_reason": "eos", "token_ids": [1, 2], "logps": [-0.5, -0.1]},
        "fastchat": {"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}], "tstamp": 1.0},
        "arena": {"uid": "u", "model": "m", "messages": [said("user", "p"), said("assistant", {"answer": "a"})], "metadata": {}},
        "batch": {"id": "b", "custom_id": "1", "response": {"status_code": 200, "body": body}, "error": None},
        "anthropic-batch": {"custom_id": "1", "result": {"type": "succeeded", "message": {"role": "assistant", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}}},
        "lm-eval": {"doc_id": 0, "doc": {"question": "p"}, "target": "t", "arguments": {"gen_args_0": {"arg_0": "p", "arg_1": {"until": ["\n"]}}}, "resps": [["a"]], "filtered_resps": ["a"], "filter": "none"},
        "inspect": {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}, "samples": [{"id": 1, "epoch": 1, "input": "p", "target": "t", "output": {"model": "m", "choices": [{"message": said("assistant", "a"), "stop_reason": "stop"}]}}]},
        "promptfoo": {"results": {"results": [{"prompt": {"raw": "p"}, "provider": {"id": "m"}, "response": {"output": "a", "finishReason": "stop"}, "vars": {}}]}},
        "helm": {"adapter_spec": {"model": "m"}, "request_states": [{"instance": {"id": "1", "input": {"text": "p"}}, "request": {"prompt": "p", "max_tokens": 5}, "result": {"success": True, "completions": [{"text": "a", "finish_reason": {"reason": "stop"}, "tokens": [{"text": "a", "logprob": -0.1}]}]}}]},
        "evals": {"run_id": "r", "event_id": 0, "sample_id": "s.1", "type": "sampling", "data": {"prompt": [said("user", "p")], "sampled": ["a"]}},
        "api": body,
        "gemini": {"candidates": [{"content": {"parts": [{"text": "a"}], "role": "model"}, "finishReason": "STOP"}], "modelVersion": "m"},
        "ollama": {"model": "m", "message": said("assistant", "a"), "done": True, "done_reason": "stop", "eval_count": 3},
        "responses": {"object": "response", "status": "completed", "model": "m", "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]},
        "alpaca": {"instruction": "p", "output": "a", "generator": "m", "dataset": "d"},
        "plain": {"prompt": "p", "completion": "a", "finish_reason": "length", "max_tokens": 4},
        "talk": {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "a"}]},
    }
    for name, document in documents.items():
        put("score", name, "\xfe".encode("latin-1") + lines([document, document]).encode())
    # Given as one format each: two codes a format.
    for number in range(12):
        put("score", f"given-{number}", bytes([2 * number]) + lines([documents["plain"], documents["api"]]).encode())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("header.json", json.dumps({**documents["inspect"], "samples": None}))
        file.writestr("samples/1_epoch_1.json", json.dumps(documents["inspect"]["samples"][0]))
    put("score", "archive", b"\xff" + archive.getvalue())


def suites():
    put("suite", "suite", '0name = "s"\nprompts = "prompts.jsonl"\nslices = ["a"]\ncap = 8\nsamples_per_prompt = 2\nseed = 3\n[sampler]\ntemperature = 0.7\ntop_p = 0.9\ntop_k = 5\nmin_p = 0.1\n')
    for number, row in enumerate([
        {"id": "1", "slice": "a", "prompt": "one", "reference": "r", "language": "en"},
        {"id": "1", "slice": "a", "messages": [said("system", "s"), said("user", "p")], "closed": True},
        {"question_id": 81, "category": "writing", "turns": ["a", "b"], "reference": ["x", "y"]},
        {"instruction": "p", "dataset": "d"},
        {"custom_id": "1", "body": {"messages": [said("user", "p")], "max_tokens": 9}},
        {"id": "1", "slice": "a", "prompt": "p", "tools": [{"type": "function"}], "chat_template_kwargs": {"enable_thinking": False}},
    ]):
        put("suite", f"row-{number}", "1" + lines([row]))
    for path in sorted((ROOT / "evals/gates").glob("*.toml")):
        put("policy", path.stem, path.read_bytes())
    for path in sorted((ROOT / "recipes").glob("*.toml")):
        put("recipe", path.stem, path.read_bytes())
    put("recipe", "small", 'name = "r"\nseeds = [1, 2]\njobs = 2\n[[arm]]\nname = "a"\nconfig = "a.toml"\nset = { learning_rate = 1e-5 }\n[[evaluation]]\nsuite = "s.toml"\n[[gate]]\npolicy = "default"\n')


def runs():
    manifest = {"schema": 1, "kind": "score", "model": {"source": "f", "name": "candidate"}, "suite": {"name": "f", "sha256": "0" * 64, "prompts": 5},
                "cap": None, "samples_per_prompt": 1, "seed": 0, "versions": {"smpo": "0.1.0"}, "observed": {"untold": {"tokens": 5}}}
    rows = [{"schema": 1, "prompt_id": str(n), "slice": "a" if n < 3 else "b", "values": {"eos_rate": [float(n % 2)], "loop_rate": [0.0], "length": [n * 3.5], "exact_match": [1.0]}} for n in range(1, 6)]
    estimate = {"metric": "eos_rate", "slice": "all", "value": 0.6, "ci_low": 0.2, "ci_high": 0.9, "n": 5, "unit": "share", "better": "higher", "primary": True}
    put("run_directory", "manifest", "0" + json.dumps(manifest))
    put("run_directory", "measurements", "1" + lines(rows))
    put("run_directory", "metrics", "2" + json.dumps({"schema": 1, "metrics": [estimate, {**estimate, "metric": "length", "unit": "tokens", "better": "neither", "primary": False}]}))
    put("run_directory", "samples", "3" + lines([{"schema": 1, "prompt_id": str(n), "slice": "a", "sample": 0, "completion": "x " * n, "finish_reason": "eos"} for n in range(1, 6)]))
    put("curves", "steps", lines([{"step": n, "loss": 0.5 / n, "lr": 1e-5, "name": "x"} for n in range(1, 4)]))
    verdict = {
        "schema": 1, "verdict": "fail", "exit_code": 1, "not_judged": [{"subject": "a | b", "reason": "`r`"}], "baseline": "sft", "candidate": "<b>smpo</b>",
        "baseline_runs": ["r"], "candidate_runs": ["c"], "claim": "checkpoints", "policy": "default", "policy_sha256": "0", "alpha": 0.05, "seed": 1, "resamples": 100,
        "metrics": [{"metric": "eos_rate", "slice": "all", "primary": True, "requirement": "non_inferior", "margin": 0.02, "baseline": 0.9, "candidate": 0.8, "difference": -0.1,
                     "ci_low": -0.2, "ci_high": 0.0, "level": 0.9, "p": 0.01, "p_harm": 0.01, "test": "paired bootstrap", "adjustment": "holm", "pairs": {"both": 1, "baseline_only": 2, "candidate_only": 3, "neither": 4},
                     "flips": {"worse": [{"slice": "a", "prompt_id": "p|q", "baseline": 1.0, "candidate": 0.0}], "worse_total": 3, "better": [], "better_total": 0},
                     "verdict": "fail", "reason": "beyond\nthe margin", "n": 9, "power": 0.8, "n_needed": 100, "better": "higher", "unit": "share"}],
        "skipped": [{"metric": "loop_rate", "slice": "b", "reason": "absent", "primary": True}], "notes": ["](javascript:x) ```"],
    }
    sample = {"schema": 1, "prompt_id": "p", "slice": "a", "sample": 0, "messages": [said("user", "</script>")], "completion": "a b a b a b \u202e", "finish_reason": "length"}
    entry = {"name": "m", "rank_band": [1, 1], "metrics": [estimate], "comparisons": [{"metric": "eos_rate", "difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "margin": 0.02}],
             "survival": [{"t": 1.0, "y": 1.0}, {"t": 5.0, "y": 0.2}], "hazard": [{"t": 1.0, "y": 0.1}],
             "worst": [{"sample": sample, "omitted_bytes": 0, "flags": ["loop_rate"], "loop_span": {"start": 0, "end": 9, "period": 4}}], "provenance": [manifest], "sample_files": ["samples/m.jsonl"]}
    board = {"schema": 1, "title": "t", "boards": [{"title": "b", "baseline": "m", "metrics": [{"id": "eos_rate", "unit": "share", "better": "higher", "primary": True, "description": "d"}], "entries": [entry]}], "verdicts": [verdict]}
    put("reports", "verdict", json.dumps(verdict))
    put("reports", "board", json.dumps(board))


def texts():
    for number, text in enumerate(["a b c a b c a b c " * 3, "Ünï 日本語です 💖💖 ёж #GrandOpeningOfTheYear2031", "<think>x</think>1 2 3\n\n```py\nx\n```\nUser: hi", "\x00\x01" * 40]):
        for choice in "0123456789":
            put("metrics", f"{number}-{choice}", choice + text)


def models():
    home = ROOT / "crates/model/tests/golden"
    for config in sorted(home.glob("**/config.json")):
        name = str(config.parent.relative_to(home)).replace("/", "-")
        put("weights", f"{name}-0", b"0" + config.read_bytes())
        weights = config.with_name("model.safetensors")
        if weights.is_file() and weights.stat().st_size < 32768:
            put("weights", f"{name}-1", b"1" + weights.read_bytes())
    for config in sorted(home.glob("peft-*/adapter_config.json")):
        put("adapter", f"{config.parent.name}-0", b"0" + config.read_bytes())
        weights = config.with_name("adapter_model.safetensors")
        if weights.stat().st_size < 32768:
            put("adapter", f"{config.parent.name}-1", b"1" + weights.read_bytes())


def train_configs():
    endings = {".toml": 0, ".yaml": 1, ".yml": 1, ".json": 2}
    profiles = 5
    # The last code names no profile: the file's own keys tell it.
    for path in sorted([*(ROOT / "configs").glob("**/*"), *(ROOT / "crates/trainer/tests/golden/imports").glob("**/*")]):
        if path.suffix in endings and path.stat().st_size < 32768:
            name = str(path.relative_to(ROOT)).replace("/", "-")
            put("train_config", name, bytes([48 + 3 * profiles + endings[path.suffix]]) + path.read_bytes())
    documents = [
        {"beta": 0.1, "loss_type": "sigmoid", "model_name_or_path": "m", "dataset_name": "d", "output_dir": "o", "learning_rate": 1e-5, "bf16": True},
        {"stage": "dpo", "pref_loss": "simpo", "pref_beta": 2.0, "model_name_or_path": "m", "dataset": "d", "output_dir": "o", "finetuning_type": "lora", "lora_target": "all"},
        {"model_name_or_path": "m", "train_datasets_path": "d", "loss_type": "smpo", "margin": 1.0, "output_dir": "o", "generate_eval_examples": False, "max_length": 100},
        {"base_model": "m", "rl": "dpo", "datasets": [{"path": "d", "type": "chatml.intel"}], "sequence_len": 128, "micro_batch_size": 1},
    ]
    for number, document in enumerate(documents):
        for profile in range(profiles + 1):
            put("train_config", f"{number}-{profile}", bytes([48 + 3 * profile + 2]) + json.dumps(document).encode())
        put("train_config", f"{number}-yaml", bytes([48 + 3 * profiles + 1]) + "".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items()).encode())


def answers():
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": None}]}
    message = {"role": "assistant", "content": "a", "reasoning_content": "r", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}
    chat = {"id": "x", "object": "chat.completion", "model": "served", "system_fingerprint": "fp", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "stop_reason": 1, "message": message, "logprobs": {"content": [token, token]}}]}
    prompt = {"model": "served", "usage": usage, "choices": [{"text": "a<|im_end|>", "finish_reason": "length", "token_ids": [2, 1],
              "logprobs": {"tokens": ["a", "<|im_end|>"], "token_logprobs": [-0.5, -1.0], "top_logprobs": [{"a": -0.5}, None], "text_offset": [0, 1]}}]}
    vectors = {"object": "list", "model": "e", "data": [{"index": 1, "embedding": [0.5, -1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]}
    refusal = {"error": {"message": "Unrecognized request argument supplied: min_p, top_k", "type": "invalid_request_error", "param": "min_p", "code": 400}}
    for status in range(6):
        for kind, document in enumerate([chat, prompt, vectors]):
            put("answers", f"{status}-{kind}", bytes([48 + 3 * status + kind]) + json.dumps(document if status == 0 else refusal).encode())
    put("answers", "pydantic", bytes([48 + 3 * 2]) + json.dumps({"detail": [{"loc": ["body", "top_k"], "msg": "extra fields not permitted", "type": "value_error.extra"}]}).encode())
    put("answers", "text", bytes([48]) + b"<html>busy</html>")
    put("answers", "in-success", bytes([48]) + json.dumps({"error": "no logprobs here", "choices": []}).encode())


if __name__ == "__main__":
    for make in [models, train_configs, answers, gguf_files, tokenizer_files, chat_templates, rows, completions, suites, runs, texts]:
        make()
    for target in sorted(CORPUS.iterdir()):
        print(target.name, sum(1 for _ in target.iterdir()))
