"""Finds links that lead nowhere, in the documents and in the API reference.

python docs/check_links.py README.md docs build/docs
"""

import pathlib
import re
import sys
import urllib.parse
from collections.abc import Iterator

_MARKDOWN = re.compile(r"\]\(([^()\s]+)\)")
_HTML = re.compile(r'\b(?:href|src)="([^"]+)"')
_CODE = re.compile(r"```.*?```|<pre.*?</pre>|<script.*?</script>|`[^`\n]*`", re.DOTALL)


def dead_links(path: pathlib.Path) -> Iterator[str]:
    """`FILE: LINK` for each link of a file, or of a folder's files, whose target is not there.

    Addresses with a scheme (https, data) are not looked up.

    Args:
        path: A `.md` or `.html` file, or a folder of such files.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file.suffix in (".md", ".html"):
            yield from (f"{file}: {link}" for link in _links(file) if not _leads(file, link))


def _links(file: pathlib.Path) -> list[str]:
    text = _CODE.sub("", file.read_text("utf-8"))
    pattern = _MARKDOWN if file.suffix == ".md" else _HTML
    return [link for link in pattern.findall(text) if not urllib.parse.urlsplit(link).scheme]


def _leads(file: pathlib.Path, link: str) -> bool:
    name, _, anchor = urllib.parse.unquote(link).partition("#")
    target = file if not name else file.parent / name
    if not target.exists():
        return False
    return not anchor or target.suffix not in (".md", ".html") or anchor in _anchors(target)


def _anchors(file: pathlib.Path) -> set[str]:
    text = file.read_text("utf-8")
    if file.suffix == ".html":
        found = set(re.findall(r'\bid="([^"]+)"', text))
        return found | {f"{name}.__init__" for name in found}  # As pdoc names constructors.
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


if __name__ == "__main__":
    found = [line for path in sys.argv[1:] for line in dead_links(pathlib.Path(path))]
    print("\n".join(found) or "no dead links")
    sys.exit(bool(found))
