"""masks.json: ids and assistant masks that transformers gives for templates with `{% generation %}` blocks.

    pip install "transformers==5.24.0" "jinja2==3.1.6"
    python masks.py             # no randomness; tokenizers are those of the folders beside this file
    python masks.py --trl DIR   # the same for every training template of the installed trl, whose model directories, with
                                # what the template spells as special tokens, are written to DIR

`apply_chat_template(messages, return_assistant_tokens_mask=True)` marks what the blocks write. The test drops what a block
writes after the terminator (ChatML's line feed): a turn ends in one terminator. The templates below are
this project's own; those of trl are read from where it is installed and are not part of this repository.
"""
import json
import pathlib
import re
import sys

from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).parent
G, E = "{% generation %}", "{% endgeneration %}"

# name: (folder of the tokenizer, template)
TEMPLATES = {
    "chatml": ("chatml", (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
        + G + "{{ m['content'] + '<|im_end|>' }}" + E + "{{ '\\n' }}{% else %}{{ m['content'] + '<|im_end|>\\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")),
    "line feed in the block": ("chatml", (
        "{%- for m in messages %}\n    {{- '<|im_start|>' + m.role + '\\n' }}\n    {%- if m.role == 'assistant' %}\n"
        "        {%- generation %}\n        {{- m.content | trim + '<|im_end|>\\n' }}\n        {%- endgeneration %}\n"
        "    {%- else %}\n        {{- m.content + '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}")),
    "reasoning": ("chatml", (
        "{%- for m in messages %}\n    {{- '<|im_start|>' + m.role + '\\n' }}\n    {%- if m.role == 'assistant' %}\n"
        "        {%- generation %}\n        {%- if m.reasoning_content is defined %}\n"
        "            {{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}\n        {%- endif %}\n"
        "        {{- m.content + '<|im_end|>' }}\n        {%- endgeneration %}\n        {{- '\\n' }}\n"
        "    {%- else %}\n        {{- m.content + '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}")),
    "instructions without an end": ("llama", (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}" + G
        + "{{ ' ' + m['content'] | trim + eos_token }}" + E + "{% else %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}"
        "{% endif %}{% endfor %}")),
    "end of conversation": ("phi", (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' }}{% if m['role'] == 'assistant' %}" + G
        + "{{ m['content'] + '<|end|>' }}" + E + "{{ '\\n' }}{% else %}{{ m['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}")),
}

CONVERSATIONS = [
    [("user", "Two plus two?"), ("assistant", "The answer is 4.")],
    [("user", "Hello there!"), ("assistant", "I am fine, thank you."), ("user", "Как дела?"), ("assistant", "Хорошо. 🙂")],
    [("user", "a"), ("assistant", "b"), ("user", "b"), ("assistant", "b"), ("user", "c"), ("assistant", "def f(x):\n    return x")],
]
REASONED = [("user", "Two plus two?"), ("assistant", "4", "two and two"), ("user", "And?"), ("assistant", "5", "one more")]


def message(role, content, reasoning=None):
    thoughts = {} if reasoning is None else {"reasoning_content": reasoning}
    return {"role": role, "content": content, **thoughts}


def masked(tokenizer, messages, template):
    out = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True,
                                        return_assistant_tokens_mask=True)
    return list(out["input_ids"]), list(out["assistant_masks"])


def cases(name, model, tokenizer, template):
    conversations = CONVERSATIONS + ([REASONED] if "reasoning_content" in template else [])
    for conversation in conversations:
        messages = [message(*turn) for turn in conversation]
        ids, mask = masked(tokenizer, messages, template)
        yield {"template": name, "model": model, "messages": messages, "ids": ids, "mask": mask}


def own():
    for name, (folder, template) in TEMPLATES.items():
        yield from cases(name, folder, AutoTokenizer.from_pretrained(HERE / folder), template)


def of_trl(out):
    """Those that refuse plain text are left out, and named."""
    import trl
    for path in sorted((pathlib.Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        source = path.read_text()
        if not re.search(r"\{%-?\s*generation\s*-?%\}", source):
            continue
        special = sorted(set(re.findall(r"<[|｜/]?[A-Za-z_▁|｜]{2,40}>", re.sub(r"\{#.*?#\}", "", source, flags=re.S))))
        special = [token for token in special if "think" not in token and "tool" not in token]
        tokenizer = AutoTokenizer.from_pretrained(HERE / "chatml")
        tokenizer.add_special_tokens({"additional_special_tokens": special})
        tokenizer.chat_template = source
        folder = pathlib.Path(out) / path.stem
        tokenizer.save_pretrained(folder)
        try:
            yield from cases(path.name, str(folder), tokenizer, source)
        except Exception as error:
            sys.stderr.write(f"{path.name}: {error}\n")


if __name__ == "__main__":
    import transformers
    live = "--trl" in sys.argv
    found = list(of_trl(sys.argv[-1]) if live else own())
    templates = {} if live else {name: source for name, (_, source) in TEMPLATES.items()}
    text = json.dumps({"transformers": transformers.__version__, "templates": templates, "cases": found}, ensure_ascii=False)
    text = text.replace('{"template": ', '\n{"template": ') + "\n"
    sys.stdout.write(text) if live else (HERE / "masks.json").write_text(text)
