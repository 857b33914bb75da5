"""The border: what may come in, through which door, and how what may not is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import LAYOUTS, RULE, special_arrays
from tests.oracles.dense import sgd

# Every pair of these is tried, so of layouts that are alike there is one.
ORDERS = ("c", "f", "every_other", "reversed_rows", "reversed_all", "window", "unaligned")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_one_element_that_is_not_aligned(shape: tuple[int, ...]) -> None:
    w, g, m = (LAYOUTS["unaligned"](np.full(shape, x, np.float32)) for x in (1, 2, 4))
    sf.sgd_step(w, g, m, lr=0.5, momentum=0.25)
    assert m[...] == 3 and w[...] == -0.5


@pytest.mark.parametrize("shape", [(6, 35), (3, 5, 7), (1, 513), (2, 1, 600)], ids=str)
@pytest.mark.parametrize("layout", list(itertools.product(ORDERS, ORDERS)), ids="-".join)
def test_layouts(isa: str, layout: tuple[str, str], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    n = int(np.prod(shape))
    for types in (
        ("float32",) * 3,
        ("bfloat16", "float32", "float32"),
        ("float64", "float16", "float64"),
    ):
        w, g, m = (x.reshape(shape) for x in special_arrays(types, n, rng))
        if types[0] == "float64":
            w, g, m = w[:1, :20], g[:1, :20], m[:1, :20]  # a slow oracle
        want_w, want_m = sgd(w, g, m, **RULE)
        for momentum_layout in ("c", layout[0], layout[1]):
            names = (layout[0], layout[1], momentum_layout)
            ws, gs, ms = (LAYOUTS[k](x.copy()) for k, x in zip(names, (w, g, m), strict=True))
            sf.sgd_step(ws, gs, ms, **RULE)
            assert_same_bits(ws, want_w)
            assert_same_bits(ms, want_m)
            assert_same_bits(gs, g)


def test_strided_write_stays_in_its_elements() -> None:
    wide = np.zeros((8, 10), np.float32)
    sf.sgd_step(wide[1:7, 2:9:3], np.ones((6, 3), np.float32), lr=1.0)
    want = np.zeros_like(wide)
    want[1:7, 2:9:3] = -1
    assert_same_bits(wide, want)


def test_broadcast_gradient(isa: str) -> None:
    w = np.zeros((5, 40), np.float32)
    row = np.arange(40, dtype=np.float32)
    sf.sgd_step(w, np.broadcast_to(row, w.shape), lr=1.0)
    assert_same_bits(w, np.tile(-row, (5, 1)) + np.float32(0))


def test_scalars_and_empty_arrays(isa: str) -> None:
    w = np.array(2.0, np.float32)
    sf.sgd_step(w, np.array(1.0, np.float32), lr=0.5)
    assert w == 1.5
    empty = np.zeros((3, 0, 2), np.float32)
    sf.sgd_step([empty, w], [empty, np.array(1.0, np.float32)], lr=0.5)
    assert w == 1.0
    sf.sgd_step([], [], lr=0.5)


def test_one_call_takes_a_mixed_list(isa: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal((4, 9)).astype(d) for d in (np.float32, np.float64, np.float16)]
    grads = [rng.standard_normal((4, 9)).astype(d) for d in (np.float32, np.float64, np.float16)]
    want = [sgd(w, g, lr=0.1)[0] for w, g in zip(arrays, grads, strict=True)]
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    low = torch.zeros(11, dtype=torch.bfloat16)
    sf.sgd_step(
        [*arrays, *tensors, low], [*grads, *map(torch.from_numpy, grads), torch.ones(11)], lr=0.1
    )
    for w, t, expected in zip(arrays, tensors, want, strict=True):
        assert_same_bits(w, expected)
        assert_same_bits(t.numpy(), expected)
    assert (low == torch.tensor(-0.1, dtype=torch.bfloat16)).all()


class Producer:
    """A DLPack producer that is neither NumPy nor torch."""

    def __init__(self, array: np.ndarray, *, versioned: bool = True) -> None:
        self.array, self.versioned = array, versioned
        self.shape = array.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: object) -> object:
        if not self.versioned:
            if kwargs:
                raise TypeError("unexpected keyword")
            return self.array.__dlpack__()
        return self.array.__dlpack__(**kwargs)  # type: ignore[arg-type]


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy without DLPack 1.0"
)
def test_dlpack_producers() -> None:
    w, g = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)
    sf.sgd_step(Producer(w), Producer(g), lr=0.5)
    assert (w == 0.5).all()
    sf.sgd_step(w, Producer(g.T.copy().T, versioned=False), lr=0.5)
    assert (w == 0).all()
    # The older protocol cannot say that memory is read-only; so it does not say so.
    sf.sgd_step(Producer(w, versioned=False), g, lr=0.5)
    assert (w == -0.5).all()
    sf.soft_threshold_(Producer(w, versioned=False), 0.5)
    assert (w == 0).all()


def test_the_older_protocol_and_pythons_buffers() -> None:
    class Frozen(bytes):
        """Shows its memory read-only, as libraries whose arrays do not change do."""

        array: np.ndarray

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

        def __dlpack__(self) -> object:
            return self.array.__dlpack__()

    class Open(bytearray):
        array: np.ndarray
        __dlpack_device__ = Frozen.__dlpack_device__
        __dlpack__ = Frozen.__dlpack__

    w, g = np.ones(4, np.float32), np.ones(4, np.float32)
    for cls in (Frozen, Open):
        shown = cls(b"0123")
        shown.array = w
        if cls is Frozen:
            with pytest.raises(ValueError, match="params: is read-only"):
                sf.sgd_step(shown, g, lr=0.5)
            assert (w == 1).all()
        else:
            sf.sgd_step(shown, g, lr=0.5)
            assert (w == 0.5).all()
        assert sf.total_norm(shown) > 0


# --- what is refused ----------------------------------------------------------------------------

ones = np.ones((3, 4), np.float32)
frozen = np.ones((3, 4), np.float32)
frozen.flags.writeable = False
line = np.ones(100, np.float32)

REFUSED = {
    "integers": (np.ones((3, 4), int), ones, None, TypeError, r"params: expected float32.*got int64"),
    "complex": (ones, np.ones((3, 4), complex), None, TypeError, r"grads: .*got complex128"),
    "strings": (ones, "gradient", None, TypeError, r"grads: expected an array or a sequence.*got str"),
    "none": ([ones], [None], None, TypeError, r"grads\[0\]: expected a NumPy array.*got NoneType"),
    "lists of numbers": ([[1.0, 2.0]], [ones], None, TypeError, r"params\[0\]: .*got list"),
    "big-endian": (ones.astype(">f4"), ones, None, TypeError, r"params: expected native byte order"),
    "read-only": ([ones, frozen], [ones, ones], None, ValueError, r"params\[1\]: is read-only"),
    "shape": (ones, np.ones((4, 3), np.float32), None, ValueError, r"grads: expected shape \(3, 4\) like params, got float32 of shape \(4, 3\)"),
    "ndim": (ones, np.ones(12, np.float32), None, ValueError, r"grads: expected shape \(3, 4\).*\(12,\)"),
    "length": ([ones], [ones, ones], None, ValueError, r"grads: expected 1 arrays like params, got 2"),
    "momentum length": ([ones], [ones], [], ValueError, r"momentum_buffers: expected 1 arrays"),
    "momentum shape": ([ones], [ones], [np.ones(3, np.float32)], ValueError, r"momentum_buffers\[0\]: expected shape \(3, 4\) like params\[0\]"),
    "momentum dtype": (ones, ones, np.ones((3, 4)), TypeError, r"momentum_buffers: expected float32 like params or float32, got float64"),
    "broadcast param": (np.lib.stride_tricks.as_strided(line, (3, 4), (0, 4)), ones, None, ValueError, r"params: its elements share memory"),
    "same array twice": ([ones, ones], [ones, ones], None, ValueError, r"params\[1\]: shares memory with params\[0\]|params\[0\]: shares memory with params\[1\]"),
    "overlapping views": ([line[:60], line[40:]], [np.ones(60, np.float32)] * 2, None, ValueError, r"shares memory"),
    "momentum is the param": (ones, np.ones((3, 4), np.float32), ones, ValueError, r"shares memory"),
    "shifted gradient": (line[1:51], line[0:50], None, ValueError, r"grads: shares memory with params"),
    "another's gradient": ([line[:20], line[20:40]], [np.ones(20, np.float32), line[:20]], None, ValueError, r"grads\[1\]: shares memory with params\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(case: str) -> None:
    params, grads, momenta, error, message = REFUSED[case]
    before = [a.copy() for a in (ones, line)]
    # A good tensor in front must stay untouched as well.
    good = np.zeros(5, np.float32)
    rule = {"lr": 0.1, "momentum": 0.9 if momenta is not None else 0.0}
    with pytest.raises(error, match=message):
        sf.sgd_step(params, grads, momenta, **rule)
    if isinstance(params, list) and isinstance(grads, list) and momenta is None:
        with pytest.raises(error):
            sf.sgd_step([good, *params], [np.ones(5, np.float32), *grads], **rule)
        assert (good == 0).all()
    for a, old in zip((ones, line), before, strict=True):
        assert_same_bits(a, old)


def test_interleaved_views_do_not_overlap() -> None:
    table = np.zeros((10, 6), np.float32)
    left, right = table[:, :3], table[:, 3:]
    sf.sgd_step([left, right], [np.ones((10, 3), np.float32)] * 2, lr=1.0)
    assert (table == -1).all()
    even, odd = line.copy()[::2], line.copy()[1::2]
    sf.sgd_step([even, odd], [np.ones(50, np.float32)] * 2, lr=1.0)
    with pytest.raises(ValueError, match="shares memory"):
        sf.sgd_step(
            [table[:, :3], table[:, 2:]],
            [np.ones((10, 3), np.float32), np.ones((10, 4), np.float32)],
            lr=1.0,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr: expected a number >= 0, got -1.0"),
        ({"lr": float("nan")}, "lr: expected a number >= 0, got nan"),
        ({"lr": 0.1, "momentum": -0.1}, "momentum: expected"),
        ({"lr": 0.1, "weight_decay": -1}, "weight_decay: expected"),
        ({"lr": 0.1, "nesterov": True}, "nesterov: needs momentum > 0 and dampening == 0"),
        ({"lr": 0.1, "momentum": 0.9}, "momentum_buffers: needed, since momentum is not 0"),
    ],
)
def test_hyperparameters_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sf.sgd_step(np.ones(3, np.float32), np.ones(3, np.float32), **arguments)


def test_infinity_and_nan_pass_through(isa: str) -> None:
    w, g = np.ones(3, np.float32), np.float32([np.nan, np.inf, -np.inf])
    sf.sgd_step(w, g, lr=1.0)
    assert np.isnan(w[0]) and w[1] == -np.inf and w[2] == np.inf


def test_indices_are_written_where_no_number_is_aligned() -> None:
    """(On x86 a store there works; in C++ it is undefined, and UBSan says so.)"""
    out = np.zeros(8 * 60 + 1, np.uint8)[1:].view(np.int64)
    sf.choose(100, 60, seed=3, out=out)
    assert np.array_equal(out, sf.choose(100, 60, seed=3))
    order = sf.Permutation(100, seed=3)
    order.slice(5, 65, out=out)
    assert np.array_equal(out, order[5:65])
    order.take(np.arange(60), out=out)
    assert np.array_equal(out, order[:60])
    for replacement in (True, False):
        samplers = [sf.WeightedSampler(np.ones(99), replacement=replacement) for _ in range(2)]
        samplers[0].draw(60, out=out)
        assert np.array_equal(out, samplers[1].draw(60))
    sf.WeightedSampler(np.ones(9)).draw(0, out=out[:0])  # nothing, at an odd address


def test_elements_are_selected_where_none_is_aligned() -> None:
    x = np.random.default_rng(1).standard_normal(80_000).astype(np.float16)  # sampled, with ties
    odd = np.zeros(2 * x.size + 1, np.uint8)[1:].view(np.float16)
    odd[:] = x
    for k in (1, 5, 4000, 79_999):
        assert sf.kth_magnitude(odd, k=k) == sf.kth_magnitude(x, k=k)
        got, expected = sf.select(odd, k=k), sf.select(x, k=k)
        assert np.array_equal(got.indices, expected.indices)
        assert np.array_equal(got.values, expected.values)
