"""Hosts of their own on one machine: network namespaces, each with one link to the machine that all share.

Needs root, `ip` and `iptables`. The network between a host and the database can be cut: what is sent is not refused but gone.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from typing import Self


def missing() -> str | None:
    """What this machine lacks, in words; None if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "iptables"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: iproute2, iptables)"
    probe = f"atrium-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return None if made.returncode == 0 else "this machine allows no network namespaces"


class NamespaceHost:
    """A host: `address` is its own, `gateway` the machine's address on the link to it."""

    def __init__(self, network: str, number: int) -> None:
        """`network`: three numbers of an address; `number`: of the host in it, from 0."""
        self.name = f"atrium-{os.getpid()}-{number}"
        self._link = f"atr{os.getpid() % 100_000}-{number}"
        self.gateway, self.address = (f"{network}.{4 * number + place}" for place in (1, 2))

    @property
    def command(self) -> tuple[str, ...]:
        """What a program begins with that runs there."""
        return ("ip", "netns", "exec", self.name)

    def __enter__(self) -> Self:
        inside = f"{self._link}i"
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", inside, "netns", self.name)
        _run("ip", "addr", "add", f"{self.gateway}/30", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")
        self.run("ip", "addr", "add", f"{self.address}/30", "dev", inside)
        self.run("ip", "link", "set", inside, "up")
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def run(self, *command: str) -> None:
        """A program of the host, until it ends."""
        _run(*self.command, *command)

    def cut(self, port: int) -> None:
        """Nothing that is sent to or comes from this port of other machines arrives any more."""
        for rule in self._rules(port):
            self.run("iptables", "-A", *rule)

    def heal(self, port: int) -> None:
        """The end of `cut`."""
        for rule in self._rules(port):
            self.run("iptables", "-D", *rule)

    @staticmethod
    def _rules(port: int) -> Sequence[tuple[str, ...]]:
        return (
            ("OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"),
            ("INPUT", "-p", "tcp", "--sport", str(port), "-j", "DROP"),
        )


def two_hosts() -> tuple[NamespaceHost, NamespaceHost]:
    """In a network that nobody else uses; to be entered."""
    network = f"10.{random.randrange(64, 250)}.{random.randrange(250)}"  # no secret
    return NamespaceHost(network, 0), NamespaceHost(network, 1)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
