"""How much of this process each client has at once: connections, and behind a proxy requests under way.

Owns the counts. Who the client is, the listener's `TrustedProxies` say: a connection from a proxy is the proxy's, and what the
proxy passes on counts for the address that it names.
"""

from __future__ import annotations

from typing import Final

import structlog

from homeserver.web.addresses import client_network

_log = structlog.get_logger("atrium.web")

TOLD_EVERY: Final = 10.0
"""Seconds between two lines in the log about refusals: they come in thousands."""


class Clients:
    """Counts by address; all of an IPv6 /64 are one client."""

    def __init__(self, most: int | None) -> None:
        """`most`: at once, of one client; None: not bounded."""
        self._most = most
        self._counts: dict[str, int] = {}
        self._refused = 0
        self._told_at = float("-inf")

    def enter(self, address: str) -> str | None:
        """Count one more of an address. Returns what to `leave` with; None if it has as many as it may."""
        client = client_network(address)
        count = self._counts.get(client, 0)
        if self._most is not None and count >= self._most:
            return None
        self._counts[client] = count + 1
        return client

    def leave(self, client: str) -> None:
        """What `enter` has counted is over."""
        count = self._counts[client] - 1
        if count:
            self._counts[client] = count
        else:
            del self._counts[client]

    def refused(self, what: str, now: float) -> None:
        """Somebody was refused; said in the log now and then. `now`: monotonic seconds."""
        self._refused += 1
        if now >= self._told_at + TOLD_EVERY:
            self._told_at = now
            _log.warning(what, refused=self._refused)
            self._refused = 0

    def __len__(self) -> int:
        return len(self._counts)
