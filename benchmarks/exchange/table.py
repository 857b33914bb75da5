"""The figures of a result as tables and sentences, for a terminal and for docs/exchange.md."""

from __future__ import annotations

import statistics
from typing import Any

from subgrad_fast.bench import report

POWER = "powerSGD_hook"
OURS = ("sparse_hook", "the same")


def points(shares: list[float]) -> float:
    """The mean of shares, in per cent."""
    return 100 * statistics.fmean(shares)


def faster(times: dict[str, Any], method: str, peer: str) -> float:
    """How many times the iterations of the peer, by the medians."""
    return float(times[peer]["median_ns"] / times[method]["median_ns"])


def table(world: dict[str, Any], plain: str) -> str:
    """A line a method: an iteration's time behind each limit, what is sent in it, the accuracy."""
    limits = [*world["times"]][::-1]
    header = ["averaged by"]
    for limit in limits:
        header += [limit, "times faster"]
    accuracy = world["accuracy"]
    lines = [[*header, "sent by a rank", *(f"accuracy after {count}" for count in accuracy)]]
    for method in world["times"][limits[0]]:
        line = [method]
        for limit in limits:
            times = world["times"][limit]
            line.append(report.duration(times[method]["median_ns"]))
            line.append(report.number(faster(times, method, plain)))
        # What an iteration sends does not depend on the limit, but for acknowledgements.
        sent = world["times"][limits[0]][method]["sent_bytes"]
        line.append(f"{report.number(sent / 1e6)} MB")
        lines.append([*line, *(f"{points(shares[method]):.1f}%" for shares in accuracy.values())])
    return report.padded(lines)


def against_target(world: dict[str, Any], target: dict[str, Any]) -> str | None:
    """What was asked of ours, and whether it is met; nothing where it was not measured."""
    times = world["times"].get(target["limit"])
    if times is None:
        return None
    reached = faster(times, target["method"], target["peer"])
    met = reached >= target["times"]
    said = (
        f"- {world['world']} ranks at {target['limit']}, {target['method']}: "
        f"{report.number(reached)} times the iterations of {target['peer']} "
        f"(asked: {target['times']:g})"
    )
    # Every length of training counts: the longest is not chosen for us.
    for count, accuracy in world["accuracy"].items():
        lost = points(accuracy[target["peer"]]) - points(accuracy[target["method"]])
        met = met and lost <= target["points"]
        said += f", {abs(lost):.1f} points {'less' if lost > 0 else 'more'} accurate after {count}"
    if world["accuracy"]:
        said += f" iterations (allowed: {target['points']:g} less)"
    return f"{said}: {'met' if met else '**missed**'}."


def against_power(world: dict[str, Any]) -> list[str]:
    """Each of ours beside each PowerSGD, at the lowest limit: time and accuracy."""
    limit, times = [*world["times"].items()][-1]
    accuracy = world["accuracy"]
    lines = []
    for peer in (method for method in times if POWER in method):
        said = []
        for method in (m for m in times if any(word in m for word in OURS)):
            text = f"{method}: {report.number(1 / faster(times, method, peer))} times its time"
            for count, shares in accuracy.items():
                more = points(shares[method]) - points(shares[peer])
                text += f", {more:+.1f} points after {count}"
            said.append(text)
        lines.append(f"- {world['world']} ranks, {limit}, beside {peer}: {'; '.join(said)}.")
    return lines


def figures(result: dict[str, Any]) -> str:
    """Everything that a reader is shown."""
    parts = []
    if result["quick"]:
        parts.append(report.QUICK)
    if result["loopback"]:
        parts.append(f"**Ranks talked by loopback, without a limit** ({result['loopback']}).")
    first = result["worlds"][0]
    parts.append(
        f"A network of {first['parameters'] / 1e6:.1f}M float32 weights; the median time of an "
        f"iteration, forward and backward pass included, on {report.where(result).rstrip('.')}. "
        f"Accuracy after so many iterations, mean of {result['seeds']} seed"
        f"{'s' if result['seeds'] > 1 else ''}."
    )
    plain = result["target"]["peer"]
    for world in result["worlds"]:
        parts.append(f"**{world['world']} ranks**")
        parts.append(table(world, plain))
    notes = [against_target(world, result["target"]) for world in result["worlds"]]
    notes += [line for world in result["worlds"] for line in against_power(world)]
    parts.append("\n".join(note for note in notes if note))
    return "\n\n".join(parts)
