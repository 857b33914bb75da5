"""Random calls of `Permutation` and `choose`."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.fuzz import wrong
from tests.fuzz.life import Life, brief
from tests.fuzz.memory import Layout, guarded
from tests.oracles.sampling import permutation

_NUMPY = Layout(library="numpy")


def one_order(life: Life) -> None:
    """An order, read in several ways that must agree; a small one is read as a whole."""
    n = life.pick((1, 2, 63, 64, 65, life.number(1, 500), 2**32, 2**63 - 1, 2**63))
    seed, epoch = (life.pick((0, 1, life.number(0, 2**64 - 1))) for _ in range(2))
    options: dict[str, Any] = {"seed": seed, "epoch": epoch}
    if life.chance(0.3):
        options |= {"block_size": life.number(1, 50), "blocks_together": life.number(1, 6)}
    if life.chance(0.2):
        options["reverse_pairs"] = True
    if life.chance(0.1):
        options[life.pick(list(options))] = wrong.number(life)
        life.call(f"Permutation({n}, {brief(options)})", lambda: sf.Permutation(n, **options),
                  spoiled=True)  # fmt: skip
        return
    order = life.call(f"Permutation({n}, {options})", lambda: sf.Permutation(n, **options)).value
    positions = np.array([life.number(0, min(n, 2**63 - 1) - 1) for _ in range(20)])
    _read(life, order, positions)
    if n <= 500:
        _read_all(life, order, options)
    if life.chance(0.3):
        value = wrong.array(life, np.zeros(3)) if life.chance(0.5) else wrong.number(life)
        for name in ("__getitem__", "position", "take"):
            life.call(f"{name}({brief(value)})", lambda m=name: getattr(order, m)(value),
                      spoiled=True)  # fmt: skip


def _read(life: Life, order: sf.Permutation, positions: np.ndarray) -> None:
    n = order.n
    rows = life.call("take", lambda: order.take(positions)).value
    life.check(((rows >= 0) & (rows < min(n, 2**63 - 1) + (n == 2**63))).all(), "rows out of range")
    back = life.call("position", lambda: order.position(rows)).value
    life.check(np.array_equal(back, positions), f"positions {back[:5]}, not {positions[:5]}")
    at = life.rng.randrange(len(positions))
    life.check(order[int(positions[at])] == rows[at], "one position")
    life.check(order[int(positions[at]) - n] == rows[at], "a position from the end")
    life.check(order.position(int(rows[at])) == positions[at], "one row")
    start = int(positions[at])
    step = life.pick((1, 1, 2, -1, -7))
    count = life.number(0, 30)
    stop = start + step * count
    inside = [p for p in range(start, stop, step) if 0 <= p < n]
    out = guarded(life, np.zeros(count, np.int64), _NUMPY)
    plain = out.view.flags.c_contiguous and out.view.flags.aligned
    outcome = life.call(
        f"slice({start}, {stop}, {step})",
        lambda: order.slice(start, stop, step, out=out.array),
        written=[out],
        spoiled=len(inside) < count or not plain,
    )
    if outcome.done:
        life.check(len(inside) == count, "positions out of range were read")
        want = np.array([order[p] for p in inside], np.int64)
        life.check(np.array_equal(np.array(out.view), want), "a slice")


def _read_all(life: Life, order: sf.Permutation, options: dict[str, Any]) -> None:
    n, every = order.n, order[:]
    life.check(np.array_equal(np.sort(every), np.arange(n)), "not every row once")
    life.check(list(order) == every.tolist(), "iteration")
    life.check(np.array_equal(pickle.loads(pickle.dumps(order))[::-1], every[::-1]), "pickle")
    if set(options) == {"seed", "epoch"}:
        want = permutation(n, options["seed"], options["epoch"])
        life.check(np.array_equal(every, want), "not the order of its formula")
    elif "reverse_pairs" in options:
        twin = options | {"epoch": options["epoch"] ^ 1}
        life.check(np.array_equal(sf.Permutation(n, **twin)[::-1], every), "no pair")
    window = options.get("block_size", n) * options.get("blocks_together", 1)
    if "block_size" in options and "reverse_pairs" not in options and n % window == 0:
        for part in np.split(every, n // window):
            blocks = np.unique(part // options["block_size"])
            life.check(blocks.size == options["blocks_together"], "blocks")


def one_choice(life: Life) -> None:
    n = life.pick((1, 5, life.number(1, 200), life.number(1, 10**6), 2**63))
    k = life.number(0, min(n, life.pick((3, 200))))
    seed, draw = life.number(0, 2**64 - 1), life.number(0, 99)
    call: dict[str, Any] = {"n": n, "k": k, "seed": seed, "draw": draw}
    if spoiled := life.chance(0.2):
        call[life.pick(list(call))] = wrong.number(life)
    if spoiled and not isinstance(call["k"], int):
        call["k"] = 3
    elif spoiled and isinstance(call["k"], int) and call["k"] > 2**20 > 0:
        call["n"] = 5  # or there would be that many
    outcome = life.call(f"choose({brief(call)})", lambda: sf.choose(**call), spoiled=spoiled)
    if outcome.done and not spoiled:
        rows = outcome.value
        life.check(rows.size == k == np.unique(rows).size, "not k different rows")
        life.check(((rows >= 0) & (rows <= n - 1)).all(), "rows out of range")
        again = sf.choose(**call, out=np.empty(k, np.int64))
        life.check(np.array_equal(rows, again), "another choice the second time")
