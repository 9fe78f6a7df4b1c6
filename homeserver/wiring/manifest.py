"""What a feature adds to the server, as one frozen value; and how these values are folded into one server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol

from prometheus_client.registry import Collector

from homeserver.accounts.ports import ForgetUser
from homeserver.devices.types import DeviceListener
from homeserver.jobs.service import Handler, Jobs
from homeserver.jobs.types import JobKind
from homeserver.log.entries import Sink, Written
from homeserver.log.readers.types import Reader
from homeserver.log.tail import Projection, Tail
from homeserver.policy.gate import Gate
from homeserver.policy.types import Check
from homeserver.runtime.periodic import Periodic
from homeserver.sync.types import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A feature as the server sees it. Whatever it does not have, it leaves out."""

    name: str
    """Of the package."""
    apis: Sequence[object] = ()
    """Objects that declare endpoints. spec: `web.endpoint.endpoint`"""
    sinks: Sequence[Sink[Any]] = ()
    """Where its kinds of log entries are stored."""
    projections: Sequence[Projection] = ()
    """What it derives from the log in memory, in the order in which they hear of an entry."""
    after_batch: Sequence[Callable[[Sequence[Written[Any]]], None]] = ()
    """Called when all projections have heard of a batch of entries."""
    streams: Sequence[Stream] = ()
    """What it adds to `/sync`."""
    readers: Sequence[Reader] = ()
    """What reads its log once in the cluster."""
    jobs: Mapping[JobKind[Any], Handler[Any]] = field(default_factory=dict)
    """Durable work, and who does it."""
    periodic: Sequence[Periodic] = ()
    """What is done again and again."""
    device_listeners: Sequence[DeviceListener] = ()
    """What must be known when a device ends."""
    forgets: Sequence[ForgetUser] = ()
    """What must be forgotten of a user whose account ends."""
    collectors: Sequence[Collector] = ()
    """What it adds to `/metrics`."""
    policy: Sequence[Check] = ()
    """Checks that acts pass before anything is written, in the order in which they are asked."""
    checks: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What it adds to `/health`: raises where the feature is not well."""
    hints: Mapping[LiteralString, Callable[[str], None]] = field(default_factory=dict)
    """Channels of the database on which it hears other processes, and what is called with each payload (empty: some were lost)."""
    closing: Sequence[Callable[[], None]] = ()
    """The server begins to stop: what waits shall be answered."""
    stop: Sequence[Callable[[], Awaitable[None]]] = ()
    """The server has stopped: what must be written before the database is closed."""


class _Devices(Protocol):
    def listen(self, listener: DeviceListener) -> None: ...


def connect(
    manifests: Iterable[Manifest],
    tail: Tail,
    jobs: Jobs,
    devices: _Devices | None = None,
    *,
    gate: Gate | None = None,
) -> None:
    """Connect features to the log, to durable work and to each other; before the tail is started.

    `gate`: where local users or other servers write to rooms. It asks the checks in the order of the manifests.

    Projections hear of an entry in the order of the manifests, and within one in its own order: who looks into another's
    projection while it handles an entry stands after it.
    """
    manifests = tuple(manifests)
    if gate is not None:
        gate.install(check for manifest in manifests for check in manifest.policy)
    for manifest in manifests:
        for sink in manifest.sinks:
            tail.register(sink)
    for manifest in manifests:
        for projection in manifest.projections:
            tail.attach(projection)
        for call in manifest.after_batch:
            tail.after_batch(call)
        for kind, handler in manifest.jobs.items():
            jobs.handle(kind, handler)
        if devices is not None:
            for listener in manifest.device_listeners:
                devices.listen(listener)
