"""Plain text from extracted packages: `python plain.py FOLDER OUT`; FOLDER has one folder a package, so has OUT.

HTML and DocBook lose their tags, man pages their requests, what is packed is unpacked. It needs the standard library
alone.
"""

import bz2
import gzip
import hashlib
import lzma
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

OPEN = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
MARKED = {".html", ".htm", ".xml", ".page", ".docbook", ".en"}
PLAIN = {".txt", ".rst", ".md", ".pod", ".adoc", ".asc", ".texi", ".org", ".scm", ""}
MANUAL = re.compile(r"\.[1-8]\w*")
SKIPPED = re.compile(r"genindex|searchindex|/search|copyright$|changelog|/_static/|/fonts?/|/src/|/js/|examples", re.I)
OTHER_LANGUAGE = re.compile(  # as in index.html.de, html/de-DE/, help/de/
    r"\.(da|de|es|fr|it|ja|ko|pt-br|ru|tr|zh-cn)(\.\S+)?$|/(?!en)[a-z]{2,3}-[A-Z]{2}/|/help/(?!C/)"
)
SMALLEST, LARGEST = 2000, 2_000_000  # characters of a file
A_PACKAGE = 3_000_000  # most characters of one package
BREAKS = {"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "pre", "dt", "dd", "para", "title", "table", "section"}
SILENT = {"script", "style", "head", "nav"}


class Stripper(HTMLParser):
    """Collects the text of a page in `parts`."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.silent += tag in SILENT
        if tag in BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.silent = max(0, self.silent - (tag in SILENT))
        if tag in BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)


def without_tags(text: str) -> str:
    stripper = Stripper()
    stripper.feed(text)
    return "".join(stripper.parts)


def without_requests(text: str) -> str:
    """A man page's words: headings and emphasised words stay, other requests go."""
    lines = []
    for line in text.splitlines():
        found = re.match(r"[.'](SH|SS|B|I|BR|IR|BI|RB|TP|PP|IP)?\b(.*)", line)
        if found is None:
            lines.append(line)
        elif found[1]:
            lines.append(found[2].strip().replace('"', "") if found[1] not in ("TP", "PP", "IP") else "")
    return re.sub(r"\\f[A-Z]|\\&|\\\(..|\\", "", "\n".join(lines))


def text_of(file: Path) -> str:
    """Plain text; empty if there is none in the file."""
    data, name = file.read_bytes(), file.name
    if file.suffix in OPEN:
        data, name = OPEN[file.suffix](data), file.stem
    suffix = Path(name).suffix
    if not (suffix in MARKED | PLAIN or MANUAL.fullmatch(suffix)) or b"\0" in data[:4096]:
        return ""
    text = data.decode(errors="replace")
    if suffix in MARKED or text.lstrip()[:100].lower().startswith(("<!doctype", "<html", "<?xml")):
        text = without_tags(text)
    elif MANUAL.fullmatch(suffix):
        text = without_requests(text)
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    odd = sum(not 9 <= ord(character) < 127 for character in text[:5000])
    return text[:LARGEST] if len(text) >= SMALLEST and odd < 250 else ""


def main(source: Path, target: Path) -> None:
    """Files in the order of their paths' digests, so that a large package is cut evenly; each text once."""
    seen = set()
    for package in sorted(source.iterdir()):
        size, files = 0, 0
        found = [file for file in package.rglob("*") if file.is_file() and not file.is_symlink()]
        for file in sorted(found, key=lambda f: hashlib.sha256(str(f.relative_to(source)).encode()).digest()):
            where = str(file.relative_to(source))
            text = "" if SKIPPED.search(where) or OTHER_LANGUAGE.search(where) or size > A_PACKAGE else text_of(file)
            key = hashlib.sha256(text.encode(errors="replace")).digest()
            if not text or key in seen:
                continue
            seen.add(key)
            out = target / package.name / (where.split("/", 2)[-1].replace("/", "_") + ".txt")
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text, errors="replace")
            size, files = size + len(text), files + 1
        print(f"{package.name}: {files} files, {size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
