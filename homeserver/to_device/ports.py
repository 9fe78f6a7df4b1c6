"""What sends messages to devices of other servers' users; fulfilled by federation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from homeserver.log.entries import Entry
from homeserver.matrix.ids import ServerName, UserId

Messages = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""user_id -> device_id or `*` -> content."""


class SentElsewhere(NamedTuple):
    """What is to be written, for messages to leave this server."""

    entries: Sequence[Entry]
    size: int
    """Bytes."""


class RemoteDevices(Protocol):
    """Makes the log entries with which messages leave this server, in order and never lost."""

    def entries(
        self, sender: UserId, event_type: str, messages: Mapping[ServerName, Messages], *, perishable: bool
    ) -> SentElsewhere:
        """`messages`: by server. `perishable`: of little use when they are old."""
        ...
