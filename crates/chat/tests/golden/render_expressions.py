"""What transformers renders of the small templates in expressions.json, as JSON on stdout: golden of tests/python.rs.

    pip install "transformers==5.24.0" "jinja2==3.1.6"            # torch is not needed
    python render_expressions.py > expressions_golden.json

Each entry: template and text, which is null where it is an error or names an address in memory. Nothing is drawn at random.
"""
import json
import pathlib
import platform
import re
import sys
import unicodedata

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Hi there, «Zoë» <b> & co. "},
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nHello."},
    {"role": "user", "content": "And 2 + 2?"},
]


def render(template):
    try:
        texts, _ = render_jinja_template([MESSAGES], chat_template=template, add_generation_prompt=True)
    except Exception:  # whatever a template raises, no text comes of it
        return None
    return None if re.search(r"\bat 0x[0-9a-f]+>", texts[0]) else texts[0]


def main():
    templates = json.loads((HERE / "expressions.json").read_text(encoding="utf-8"))
    versions = {
        "transformers": transformers.__version__,
        "jinja2": jinja2.__version__,
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
    }
    entries = [{"template": template, "text": render(template)} for template in templates]
    json.dump({"versions": versions, "messages": MESSAGES, "entries": entries}, sys.stdout, ensure_ascii=True, indent=0)
    print()


main()
