"""The bytes that are tried first: a file for each target, in hexadecimal, one a line."""

from __future__ import annotations

from tests import ROOT

FOLDER = ROOT / "tests" / "fuzz_bytes" / "corpus"

# What a file holds at most: enough to get everywhere quickly.
MOST = 40


def read_corpus(name: str) -> list[bytes]:
    file = FOLDER / f"{name}.txt"
    lines = file.read_text(encoding="ascii").split() if file.exists() else []
    return [bytes.fromhex(line) for line in lines]


def write_corpus(name: str, kept: list[bytes]) -> None:
    """Those that were kept last: they came after all others, and through them."""
    FOLDER.mkdir(exist_ok=True)
    lines = sorted({data.hex() for data in kept[-MOST:]})
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
