"""Pages of HTML that need nothing else: a style, tables, lists."""

from __future__ import annotations

import html
from collections.abc import Sequence

STYLE = """<style>
.sgf{font:14px system-ui,sans-serif;max-width:75em}
.sgf table{border-collapse:collapse;margin:1em 0}
.sgf td,.sgf th{padding:.2em .8em;text-align:right;border-top:1px solid #8884}
.sgf td:first-child,.sgf th:first-child{text-align:left}
.sgf .bar{display:flex;height:1.4em;margin:.15em 0 .6em}
.sgf .key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}
</style>"""


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is the header. Cells may have Markdown's `code` and **weight**."""
    header, *rows = lines

    def row(cells: Sequence[str], tag: str) -> str:
        inner = "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    return f"<table>{row(header, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def text(cell: str) -> str:
    """A cell's text, escaped; pairs of marks become elements."""
    escaped = html.escape(cell)
    for mark, tag in (("**", "b"), ("`", "code")):
        pieces = escaped.split(mark)
        if len(pieces) % 2:
            escaped = "".join(
                f"<{tag}>{piece}</{tag}>" if i % 2 else piece for i, piece in enumerate(pieces)
            )
    return escaped


def notes(sentences: Sequence[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{text(each)}</li>' for each in sentences)}</ul>"


def page(title: str, body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title>{body}</html>\n"
    )
