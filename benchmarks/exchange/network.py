"""Network namespaces that are joined by a bridge, each behind a link of limited speed.

This needs root, `ip` and `tc`. Where they are not, ranks talk by loopback, without a limit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

NO_LIMIT = "no limit"
LIMITS = {"1 Gbit/s": "1gbit", "100 Mbit/s": "100mbit"}
"""What is measured, and what `tc` calls it."""


@dataclass
class Network:
    """Where ranks run. Without namespaces there is no limit to set."""

    spaces: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    """The bridge's ends of the links, one a namespace."""

    def command(self, rank: int) -> list[str]:
        """What a rank's command begins with."""
        return ["ip", "netns", "exec", self.spaces[rank]] if self.spaces else []

    @property
    def interface(self) -> str:
        """The interface that a rank talks through."""
        return "eth0" if self.spaces else "lo"

    @property
    def limits(self) -> list[str]:
        """The limits that can be set."""
        return list(LIMITS) if self.spaces else []

    def limit(self, name: str) -> None:
        """Let no link be faster, in either direction."""
        rate = LIMITS[name]
        # A token bucket that holds some milliseconds; the queue takes what a sender has in flight.
        shape = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "200ms"]
        for space, near in zip(self.spaces, self.near, strict=True):
            run("ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", "eth0", *shape)
            run("tc", "qdisc", "replace", "dev", near, *shape)


def run(*command: str) -> None:
    """Run a command.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    subprocess.run(command, check=True, capture_output=True, text=True)


def missing() -> str | None:
    """Say why there can be no namespaces here; None if nothing is in the way."""
    if os.geteuid() != 0:
        return "this is not root"
    absent = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    return f"there is no {' and no '.join(absent)}" if absent else None


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[Network]:
    """Make so many namespaces, and remove them at the end.

    Raises:
        subprocess.CalledProcessError: the kernel does not let us.
    """
    # Interfaces have names of at most 15 characters.
    own = f"sg{os.getpid()}"
    network = Network([f"{own}n{i}" for i in range(count)], [f"{own}v{i}" for i in range(count)])
    try:
        run("ip", "link", "add", own, "type", "bridge")
        run("ip", "link", "set", own, "up")
        for i, (space, near) in enumerate(zip(network.spaces, network.near, strict=True)):
            inside = ["ip", "-n", space]
            run("ip", "netns", "add", space)
            run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", near, "master", own, "up")
            run(*inside, "address", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            run(*inside, "link", "set", "lo", "up")
        yield network
    finally:
        for space in network.spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", own], check=False, capture_output=True)
