"""The public answer files of the validation sample, read from clones of their repositories; none of their text is here.

    git clone https://github.com/VikhrModels/ru_llm_arena CLONES/ru_llm_arena    # and the others of SOURCES
    python answers.py CLONES RAW      # writes the answer files and their questions, for `smpo score`
"""
import hashlib
import json
import pathlib
import subprocess
import sys
from dataclasses import dataclass

SOURCES = {
    "VikhrModels/ru_llm_arena": "501ab65d54bc92789d9a1f974a5841a4aab96b74",
    "tatsu-lab/alpaca_eval": "cd543a149df89434d8a54582c0151c0b945c3d20",
    "lmarena/arena-hard-auto": "196f6b826783b3da7310e361a805fa36f0be83f3",
}
# The models that the detectors' bounds were set on, and files made from their answers.
SEEN = ("gpt-4-1106", "gpt4_1106", "it-5.4-fp16-sft", "it-5.4-fp16-orpo-v1", "vikhr-nemo-12b", "phi-2", "Qwen1.5-1.8B-Chat", "gemma-2-9b-it-SimPO")
LONG = 1000  # characters (code points)


@dataclass
class Answer:
    source: str
    file: str
    model: str
    question: str  # question_id, uid, or the position in an AlpacaEval file
    prompt: str
    text: str

    @property
    def sha256(self):
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def git(clone, *args):
    return subprocess.run(["git", "-C", clone, *args], check=True, capture_output=True).stdout


def files(clone, commit):
    """Names of the answer files of one repository, in order; a snapshot may lack the largest."""
    for line in git(clone, "ls-tree", "-r", "-l", commit).decode().splitlines():
        meta, name = line.split("\t")
        answers = "/model_answer/" in name or name.endswith("/model_outputs.json")
        if answers and meta.split()[-1] != "BAD" and not any(seen in name for seen in SEEN):
            yield name


def text_of(turn):
    while isinstance(turn, dict):
        turn = turn.get("content", turn.get("answer"))
    return turn if isinstance(turn, str) else ""


def question_file(file):
    """Beside the folder of the answers; AlpacaEval keeps the prompts in the answer files."""
    return str(pathlib.PurePosixPath(file).parent.parent / "question.jsonl") if file.endswith(".jsonl") else None


def prompt_of(row):
    return row["prompt"] if "prompt" in row else text_of(row["turns"][0])


def answers(source, file, raw, prompts):
    if file.endswith(".json"):
        for index, row in enumerate(json.loads(raw)):
            yield Answer(source, file, pathlib.PurePosixPath(file).parent.name, str(index), row["instruction"], row["output"] or "")
        return
    for line in raw.decode().split("\n"):
        if not line.strip():
            continue
        row = json.loads(line)
        question = str(row.get("question_id", row.get("uid")))
        model = pathlib.PurePosixPath(file).stem
        if "choices" in row:
            text = text_of(row["choices"][0]["turns"][0])
        else:
            text = text_of(row["messages"][-1])
        yield Answer(source, file, model, question, prompts.get(question, ""), text)


def read_all(clones, keep=None):
    """Every answer of every file; `keep` is a folder to write the files to."""
    for source, commit in SOURCES.items():
        clone = pathlib.Path(clones) / source.split("/")[1]

        def read(name):
            raw = git(clone, "show", f"{commit}:{name}")
            if keep is not None:
                path = pathlib.Path(keep) / source.split("/")[1] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
            return raw

        prompts = {}
        for file in files(clone, commit):
            asked = question_file(file)
            if asked is not None and asked not in prompts:
                rows = [json.loads(line) for line in read(asked).decode().split("\n") if line.strip()]
                prompts[asked] = {str(row.get("question_id", row.get("uid"))): prompt_of(row) for row in rows}
            yield from answers(source, file, read(file), prompts.get(asked, {}))


if __name__ == "__main__":
    print(sum(1 for _ in read_all(sys.argv[1], keep=sys.argv[2])), "answers")
