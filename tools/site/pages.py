"""What the site does with the pages before they are rendered; MkDocs calls these functions.

README and its neighbours are pages of the site as they stand, and what a page links to outside
docs/ is found in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {
    "README.md": "index.md",
    "README.zh-CN.md": "zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files of the repository's root, and the pages of the site that they are."""

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
LIST = re.compile(r"^(?:[-*]|\d+\.) ")
QUANTITY = re.compile(r"(?<=\d) (?=(?:[µnm]s|[GMK]i?B)\b)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the root's pages to those of docs/."""
    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turns links out of docs/, and writes lists as Python's Markdown wants them."""
    here = page.file.src_uri
    roots = {page: name for name, page in ROOT_PAGES.items()}
    source = Path(roots[here]) if here in roots else Path("docs") / here

    def turned(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        target = (ROOT / source.parent / path).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return match[0]  # MkDocs reports it
        name = target.relative_to(ROOT).as_posix()
        if name in ROOT_PAGES:
            return f"]({up(here)}{ROOT_PAGES[name]}{anchor})"
        if name.startswith("docs/"):
            return f"]({up(here)}{name.removeprefix('docs/')}{anchor})"
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{name}{anchor})"

    def changed(text: str) -> str:
        """A number stays on the line of its unit, too."""
        return with_blank_lines(QUANTITY.sub("\N{NO-BREAK SPACE}", LINK.sub(turned, text)))

    return outside_code(markdown, changed)


def up(page: str) -> str:
    """The way from a page to the top of the site."""
    return "../" * page.count("/")


def outside_code(markdown: str, change: Any) -> str:
    """Applies `change` to all that is no fenced code."""
    out, end = [], 0
    for block in CODE.finditer(markdown):
        out += [change(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*out, change(markdown[end:])])


def with_blank_lines(text: str) -> str:
    """Puts a blank line before each list that follows a paragraph at once.

    On GitHub such a list is one; Python's Markdown takes it for lines of the paragraph.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        begins = LIST.match(line) and before and not LIST.match(before)
        if begins and not before.startswith((" ", "|", "#")) and not in_list(lines):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def in_list(lines: list[str]) -> bool:
    """Whether the last of the lines continues an item of a list."""
    for line in reversed(lines):
        if not line:
            return False
        if LIST.match(line):
            return True
    return False
