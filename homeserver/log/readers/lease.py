"""The right to run a reader, as this process knows it."""

from __future__ import annotations

import asyncio

from homeserver.log.entries import Position

LEASE = 3.0
"""Seconds of the database's clock after which a process that does not renew is taken to be dead."""
RENEW = 0.75
"""Seconds between renewals, and between looks for leases that are free."""


class LeaseLost(Exception):
    """Another process runs the reader by now."""


class Lease:
    """Owned by the service, which renews it; what runs under it asks whether it is still valid."""

    __slots__ = ("_until", "owner", "position", "renewed_every")

    def __init__(self, owner: str, position: Position, asked_at: float) -> None:
        """`position`: the reader's scan position; `asked_at`: when the lease was asked for, by the event loop's clock."""
        self.owner = owner
        self.position = position
        self.renewed_every = RENEW
        self._until = asked_at + LEASE

    def renewed(self, asked_at: float) -> None:
        """It was renewed by what was asked at that moment."""
        self._until = asked_at + LEASE

    @property
    def valid(self) -> bool:
        """Whether nobody else can have it yet."""
        return asyncio.get_running_loop().time() < self._until
