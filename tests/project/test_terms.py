"""Where a term of the step is written: a new term must not have to touch any other place.

`docs/architecture.md`, "To add a term of the step", names these places.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from subgrad_fast import _core
from tests import ROOT

# What may know a term by its name. Everything else hands all of them on as one value.
PLACES = {
    "csrc/core/sgd_params.h": "the field",
    "csrc/rules/sgd.h": "the formula",
    "csrc/rules/table.h": "which rule it asks for",
    "csrc/rules/threshold.h": "which part of a thresholded step it belongs to",
    "python/subgrad_fast/_core/__init__.pyi": "the stub",
    "python/subgrad_fast/dense/step.py": "sgd_step",
    "python/subgrad_fast/dense/fused.py": "FusedSGD",
    "python/subgrad_fast/rows.py": "row_step",
    "python/subgrad_fast/chosen/step.py": "support_step",
    "python/subgrad_fast/threshold/step.py": "threshold_step",
    "python/subgrad_fast/optim/sgd.py": "SGD",
    "python/subgrad_fast/optim/torchs_step.py": "what torch's own code steps",
    "python/subgrad_fast/optim/operator.py": "the step as an operator, whose schema names all",
    "python/subgrad_fast/optim/threshold_sgd.py": "ThresholdSGD",
    "python/subgrad_fast/optim/support_sgd.py": "SupportSGD",
    "tests/oracles/dense.py": "the oracle",
    "docs/dense.md": "the page",
}
# Files that use a step, or have a word of their own that is spelled like a term.
USERS = {
    "python/subgrad_fast/_demo.py",
    "python/subgrad_fast/bench/loop.py",
    "python/subgrad_fast/bench/own_model.py",
    "python/subgrad_fast/bench/sgd.py",
    "python/subgrad_fast/bench/training.py",
    "python/subgrad_fast/sparsify.py",
}

# `momentum` names a buffer, too, and `lr` may be an array.
TERMS = sorted({*_core.SGD_TERMS} - {"momentum", "lr"})

COMMENT = re.compile(r"//[^\n]*|^\s*#[^\n]*|\"\"\".*?\"\"\"", re.DOTALL | re.MULTILINE)
SUFFIXES = {".h", ".inl", ".cpp", ".cu", ".cuh", ".py", ".pyi"}


def files_with(term: str, root: Path) -> set[str]:
    """The sources whose code, comments apart, has the word."""
    word = re.compile(rf"\b{term}\b")
    found = set()
    for folder in ("csrc", "python/subgrad_fast"):
        for file in (root / folder).rglob("*"):
            if file.suffix in SUFFIXES and word.search(
                COMMENT.sub("", file.read_text(encoding="utf-8"))
            ):
                found.add(file.relative_to(root).as_posix())
    return found - USERS


# Of a bound: its functions of the same name, what judges gradients, a group's value.
CLIP_PLACES = {
    "csrc/bindings/clip/bind.cpp",
    "csrc/cpu/clip/stages.cpp",
    "csrc/cuda/clip.cu",
    "csrc/cuda/launchers.inl",
    "csrc/rules/clip.h",
    "csrc/rules/norm.h",
    "python/subgrad_fast/_core/clip.pyi",
    "python/subgrad_fast/clip.py",
    "python/subgrad_fast/optim/clipping.py",
    "python/subgrad_fast/optim/stages.py",
}

# What a term needs beside the common places, and why: each is a debt to be looked at again.
OWN_PLACES = {
    "nesterov": {
        "csrc/bindings/dense/sgd_params.cpp",  # it needs momentum, and no dampening
        "csrc/bindings/testing/tables.cpp",  # a column of the rules' table
    },
    "dampening": {"csrc/bindings/dense/sgd_params.cpp"},
    "maximize": {
        "python/subgrad_fast/distributed/state.py",  # a step up the gradient: a sum
        "csrc/cpu/rows/history.cpp",  # which sign a gradient of zero has
    },
    "l1": {
        "python/subgrad_fast/optim/stages.py",  # its type, of a group that torch made
        "csrc/bindings/testing/tables.cpp",  # the name of a proximal operator
        "python/subgrad_fast/optim/tensors.py",  # what torch has stepped is shrunk afterwards
    },
    "max_norm": CLIP_PLACES | {"python/subgrad_fast/optim/late_rows.py"},  # an embedding's own
    "clip_value": CLIP_PLACES,
    "ema_decay": {
        "csrc/bindings/dense/bind.cpp",  # whether averages are needed, and made
        "csrc/bindings/dense/plan.cpp",
        "csrc/bindings/dense/sgd_params.cpp",  # it is at most 1
        "csrc/bindings/optimizer/plan.cpp",
        "csrc/cuda/dense.cu",
        "csrc/cuda/dense_staged.cu",
        "csrc/cuda/dense_step.cuh",
        "csrc/cpu/dense/staged.cpp",  # what the rule of the average is made from
        "python/subgrad_fast/optim/averages.py",  # a function that gives it
        "python/subgrad_fast/optim/explain.py",
        "python/subgrad_fast/optim/planned_step.py",  # whether averages are needed, and made
        "python/subgrad_fast/optim/stages.py",
    },
}


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_written_in_few_places(term: str) -> None:
    assert files_with(term, ROOT) <= {*PLACES} | OWN_PLACES.get(term, set())


def test_every_place_exists_and_knows_weight_decay() -> None:
    for place in PLACES:
        assert "weight_decay" in (ROOT / place).read_text(encoding="utf-8"), place
    sources = {p for p in PLACES if p.startswith(("csrc", "python"))}
    assert files_with("weight_decay", ROOT) == sources


def test_a_new_place_is_found(tmp_path: Path) -> None:
    for path, text in {
        "csrc/bindings/dense/plan.cpp": "if (p.weight_decay != 0.0) {}",
        "csrc/cpu/a.h": "// weight_decay in a comment",
        "python/subgrad_fast/b.py": '"""weight_decay in a docstring."""\n# weight_decay\n',
        "python/subgrad_fast/c.py": "def f(weight_decay): ...",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert files_with("weight_decay", tmp_path) == {
        "csrc/bindings/dense/plan.cpp",
        "python/subgrad_fast/c.py",
    }
