"""Links of the rendered book: python3 .ci/book.py BOOK_DIR

Checks each page that `mdbook build` wrote: files and anchors that links name, pictures, scripts and styles, identifiers that
occur twice, code blocks that were meant as such, and the files of this repository that links to the project's site name.
Reads files only; prints what is wrong as page: what, and exits with 1 if anything is.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = re.compile(r"https://github\.com/smpo/smpo/(?:blob|tree|raw|edit)/main/([^#?]+)")
# Without these a page is no page of a book: a change of mdBook that empties them must not pass.
AT_LEAST_PAGES, AT_LEAST_LINKS = 30, 1000


class Page(HTMLParser):
    """Links, identifiers and the text outside code of one page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.identifiers, self.twice, self.prose, self.code = [], set(), set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        for key in ("href", "src"):
            if found.get(key) is not None:
                self.links.append((self.getpos()[0], found[key]))
        for name in {found.get("id"), found.get("name") if tag == "a" else None} - {None}:
            (self.twice if name in self.identifiers else self.identifiers).add(name)
        self.code += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag):
        self.code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data):
        if not self.code:
            self.prose.append((self.getpos()[0], data))


def target(book, page, link):
    """The file that a link names, and the anchor in it; no file for addresses elsewhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        named = SITE.match(link)
        return (ROOT / unquote(named[1]) if named else None), ""
    path = unquote(parts.path)
    file = book / path.lstrip("/") if path.startswith("/") else page.parent / path if path else page
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def complaints(book, pages):
    for path, page in pages.items():
        for line, link in page.links:
            file, anchor = target(book, path, link)
            if file is None:
                continue
            file = file.resolve()
            if not file.exists():
                yield path, line, f"{link} leads to no file"
            elif anchor and file in pages and anchor not in pages[file].identifiers:
                yield path, line, f"{link} leads to no heading"
            elif book in file.parents and file.suffix == ".md":
                yield path, line, f"{link} is not a chapter: docs/SUMMARY.md lacks it"
        for name in sorted(page.twice):
            yield path, 0, f"two elements are called {name}"
        for line, text in page.prose:
            if left := re.search(r"```|\*\*|\]\(|^\s*\|.*\|", text):
                yield path, line, f"Markdown is left as text: {left[0]!r} in {text.strip()[:60]!r}"


def main(book):
    book = Path(book).resolve()
    # print.html is every chapter once more; its links are those of the chapters, rewritten.
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(book.rglob("*.html"))}
    links = sum(len(page.links) for page in pages.values())
    found = [f"{path.relative_to(book)}:{line}: {what}" for path, line, what in complaints(book, pages)]
    if len(pages) < AT_LEAST_PAGES or links < AT_LEAST_LINKS:
        found.append(f"{book}: {len(pages)} pages with {links} links; expected at least {AT_LEAST_PAGES} and {AT_LEAST_LINKS}")
    print("\n".join(found + [f"{len(pages)} pages, {links} links, {len(found)} complaints"]))
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
