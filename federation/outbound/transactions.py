"""A transaction: which items of a cursor it takes, and its bytes, which are made once and spliced from those of events.

spec: server-server-api/#transactions (CHECKLIST FED-08)
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from federation.outbound.ephemeral import Said
from homeserver.log.entries import Position
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.ids import EventId, RoomId, ServerName

MAX_PDUS: Final = 50
MAX_EDUS: Final = 100
MAX_BYTES: Final = 1 << 20
"""Of a transaction that holds more than one event; the specification names no limit."""
MAX_PENDING_BYTES: Final = 32 << 20
"""Of transactions kept to be repeated; beyond it those that have waited longest are made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What one request says."""

    txn_id: str
    """Made of the content: another content has another id, also after a restart."""
    body: bytes
    """Canonical JSON."""
    positions: tuple[Position, ...]
    """Of the items of the cursor that it takes, also of those that turned out to say nothing."""
    event_ids: tuple[EventId, ...]
    edus: int
    rooms: tuple[RoomId, ...] = ()
    """Of each event."""
    generation: int = 0
    """By what configuration it was made (`Partners.generation`)."""
    ephemeral: Sequence[Said] = ()
    """What it says beside the items, to be given back if it is not delivered."""


def encode(
    origin: ServerName, ts_ms: int, pdus: Collection[bytes], edus: Collection[bytes]
) -> tuple[str, bytes]:
    """(transaction id, body). `pdus`, `edus`: canonical JSON; at most `MAX_PDUS` and `MAX_EDUS`.

    spec: op:sendTransaction
    """
    body = b'{"edus":[%b],"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (
        b",".join(edus),
        canonical_json.encode_strict(origin),
        ts_ms,
        b",".join(pdus),
    )
    return base64.encode_url_safe(hashlib.blake2b(body, digest_size=18).digest()), body


class Pending:
    """Transactions that were not acknowledged, by destination: they are repeated as they were. Bounded in bytes."""

    def __init__(self, max_bytes: int = MAX_PENDING_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Transaction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def matching(self, destination: str, positions: Sequence[Position]) -> Transaction | None:
        """The one that was not acknowledged, if the next items for the destination are those it takes."""
        kept = self._kept.get(destination)
        if kept is None or tuple(positions[: len(kept.positions)]) != kept.positions:
            return None
        return kept

    def keep(self, destination: str, transaction: Transaction) -> list[tuple[str, Transaction]]:
        """It was not acknowledged. Returns those, with their destinations, that are not kept any more."""
        self.forget(destination)
        self._kept[destination] = transaction
        self._bytes += len(transaction.body)
        gone = []
        while self._bytes > self._max_bytes:
            other, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped.body)
            gone.append((other, dropped))
        return gone

    def forget(self, destination: str) -> Transaction | None:
        """Take it out: it was acknowledged, or is made anew."""
        kept = self._kept.pop(destination, None)
        if kept is not None:
            self._bytes -= len(kept.body)
        return kept
