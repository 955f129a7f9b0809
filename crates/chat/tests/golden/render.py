"""What transformers renders, as JSON on stdout: the reference of this crate's golden and peer tests.

    pip install "transformers==5.23.0" "jinja2==3.1.6" trl        # torch is not needed
    python render.py templates > golden.json                      # the templates beside this script
    python render.py --trl                                        # the templates that the trl package carries

Each entry: template (file name), source (only with --trl), case (its name in cases.json), and text or error (what kind).
"""
import importlib.util
import json
import pathlib
import sys

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def render(source, case):
    messages = [{k: v for k, v in m.items() if v is not None} for m in case["messages"]]  # as apply_chat_template does
    try:
        texts, _ = render_jinja_template(
            [messages], tools=case.get("tools"), chat_template=source,
            add_generation_prompt=case["add_generation_prompt"], **SPECIAL)
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"error": "refused" if raised else "failed", "message": str(error)}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        return {"error": "failed", "message": str(error)}


def main():
    trl = sys.argv[1] == "--trl"
    if trl:
        folder = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
    else:
        folder = HERE / sys.argv[1]
    cases = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    out = []
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for case in cases:
            entry = {"template": path.name, "case": case["name"], **render(source, case)}
            if trl:
                entry["source"] = source
            out.append(entry)
    versions = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    json.dump({"versions": versions, "special_tokens": SPECIAL, "entries": out}, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
