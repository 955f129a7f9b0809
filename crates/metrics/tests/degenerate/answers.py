"""The public answer files of both samples, read from clones of their repositories; none of their text is here.

    git clone https://github.com/VikhrModels/ru_llm_arena CLONES/ru_llm_arena    # and the others of SOURCES
    python answers.py SAMPLE CLONES RAW.jsonl    # `first` or `second`: writes its answers and prompts, for `smpo score`
"""
import hashlib
import json
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).parent
ARENAS = {
    "VikhrModels/ru_llm_arena": "501ab65d54bc92789d9a1f974a5841a4aab96b74",
    "tatsu-lab/alpaca_eval": "cd543a149df89434d8a54582c0151c0b945c3d20",
    "lmarena/arena-hard-auto": "196f6b826783b3da7310e361a805fa36f0be83f3",
}
# Other prompts and other models, of the second sample alone.
OTHERS = {
    "artidoro/qlora": "7f4e95a68dc076bea9b3a413d2b512eca6d004e5",
    "kaistAI/FLASK": "3b4e22bc34aa9dc15ea0c51be3cbf5f3c8b1b5e5",
    "FreedomIntelligence/LLMZoo": "cf70d9cd7a34808681ebe58e652f697420d7b055",
}
SOURCES = {"first": ARENAS, "second": ARENAS | OTHERS}
# The models that the detectors' bounds were set on, and files made from their answers.
SEEN = ("gpt-4-1106", "gpt4_1106", "it-5.4-fp16-sft", "it-5.4-fp16-orpo-v1", "vikhr-nemo-12b", "phi-2", "Qwen1.5-1.8B-Chat", "gemma-2-9b-it-SimPO")
# Of OTHERS: models that the first sample had under another name.
AGAIN = re.compile(r"guanaco|gpt|bard|claude|davinci|^vicuna")
ANSWERS = re.compile(r"/model_answer/|/model_outputs\.json$|^eval/generations/|^model_output/outputs/|^llmzoo/eval/answers/")
LONG = 1000  # characters (code points)


@dataclass
class Answer:
    source: str
    file: str
    model: str
    question: str  # question_id, uid, or the position in a file that has none
    prompt: str
    text: str

    @property
    def sha256(self):
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def git(clone, *args):
    return subprocess.run(["git", "-C", clone, *args], check=True, capture_output=True).stdout


def rows(raw):
    return [json.loads(line) for line in raw.decode().split("\n") if line.strip()]


def first_sample():
    """Rows of the first sample, which is development data of the second."""
    return [row for name in ("labels.jsonl", "flags.jsonl") for row in rows((HERE / "first" / name).read_bytes())]


def model_of(file):
    path = pathlib.PurePosixPath(file)
    if file.endswith("model_outputs.json"):
        return path.parent.name
    return re.sub(r"^answer_|-(vicuna|oa)-generations.*$", "", path.stem)


def files(sample, source, clone, commit):
    """Names of the answer files of one repository, in order; a snapshot may lack the largest."""
    read = {row["model"].lower() for row in first_sample()} if sample == "second" else set()
    for line in git(clone, "ls-tree", "-r", "-l", commit).decode().splitlines():
        meta, name = line.split("\t")
        if not ANSWERS.search(name) or meta.split()[-1] == "BAD" or any(seen in name for seen in SEEN):
            continue
        if model_of(name).lower() not in read and not (source in OTHERS and AGAIN.search(model_of(name).lower())):
            yield name


def text_of(turn):
    while isinstance(turn, dict):
        turn = turn.get("content", turn.get("answer"))
    return turn if isinstance(turn, str) else ""


def questions(source, file, read):
    """Prompts by question id, for files that have none of their own."""
    if "/model_answer/" in file:
        asked = rows(read(str(pathlib.PurePosixPath(file).parent.parent / "question.jsonl")))
        return {str(row.get("question_id", row.get("uid"))): row["prompt"] if "prompt" in row else text_of(row["turns"][0]) for row in asked}
    if source == "kaistAI/FLASK":
        return {str(row["idx"]): row["instruction"] for row in rows(read("evaluation_set/flask_evaluation.jsonl"))}
    if source == "FreedomIntelligence/LLMZoo":
        asked = [row for lang in ("en", "zh") for row in rows(read(f"llmzoo/eval/questions/questions-{lang}.jsonl"))]
        return {str(row["question_id"]): row["text"] for row in asked}
    return {}


def answers(source, file, raw, prompts):
    model = model_of(file)
    for index, row in enumerate(json.loads(raw) if file.endswith(".json") else rows(raw)):
        question = str(row.get("question_id", row.get("uid", index)))
        prompt = row.get("instruction", row.get("input", row.get("prompt", prompts.get(question, ""))))
        if "choices" in row:
            text = text_of(row["choices"][0]["turns"][0])
        elif "messages" in row:
            text = text_of(row["messages"][-1])
        else:
            text = row.get("generation", row.get("output", row.get("text"))) or ""
        yield Answer(source, file, model, question, prompt, text)


def read_all(sample, clones):
    """Every answer of every file of a sample."""
    for source, commit in SOURCES[sample].items():
        clone = pathlib.Path(clones) / source.split("/")[1]

        def read(name):
            return git(clone, "show", f"{commit}:{name}")

        prompts = {}
        for file in files(sample, source, clone, commit):
            folder = pathlib.PurePosixPath(file).parent
            if folder not in prompts:
                prompts[folder] = questions(source, file, read)
            yield from answers(source, file, read(file), prompts[folder])


def different(sample, clones):
    """Every answer once, by its text."""
    seen = set()
    for answer in read_all(sample, clones):
        if answer.sha256 not in seen:
            seen.add(answer.sha256)
            yield answer


if __name__ == "__main__":
    with open(sys.argv[3], "w") as out:
        for answer in different(sys.argv[1], sys.argv[2]):
            out.write(json.dumps({"id": answer.sha256, "prompt": answer.prompt, "completion": answer.text}) + "\n")
