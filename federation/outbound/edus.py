"""What is told to other servers beside events: two kinds of sources of EDUs, and where features register theirs.

A *durable* source is part of the reader: its entries stand in the log between the events, come to a destination in the order
of the log and under the same cursor, and are repeated until they are acknowledged, however long the destination is away
(to-device messages, device lists, signing keys). An *ephemeral* source is heard as entries are written; what it says is kept
in memory, one value for each key and destination, and may be lost (typing, receipts, presence).

spec: server-server-api/#edus
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from homeserver.log.entries import Entry, Position
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix import canonical_json
from homeserver.matrix.ids import ServerName
from homeserver.storage.tx import Tx

MAX_EDU_BYTES: Final = 256 * 1024
"""Of one EDU; a larger one is left out. The specification names no limit."""

MAX_EDUS_OF_ITEM: Final = 50
"""They travel together."""

Servers = frozenset[str]


class DurableEdus(Protocol):
    """A source whose EDUs are never lost. Its table keeps what is not delivered; `delivered` says what may go."""

    @property
    def entry_type(self) -> type[Entry]:
        """Which entries of the log it reads; no two sources may read the same."""
        ...

    def take(self, entry: Any) -> Any | None:
        """See `Source.take`."""
        ...

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        ...

    async def concerned(self, items: Sequence[Item[Any]]) -> Sequence[Servers]:
        """For each item the destinations that it is for."""
        ...

    async def edus(self, destination: ServerName, items: Sequence[Item[Any]]) -> Sequence[Sequence[bytes]]:
        """For each item its EDUs, at most `MAX_EDUS_OF_ITEM`, made with `edu`; none: by now there is nothing to be said."""
        ...

    async def resume(
        self, tx: Tx, destination: ServerName, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        """The oldest items for one destination in (after, upto], at most `limit`, in order, as `Source.read` has them."""
        ...

    async def delivered(self, destination: ServerName, items: Sequence[Item[Any]]) -> None:
        """The destination has acknowledged these. If the process dies before this has returned they come again."""
        ...


class News(NamedTuple):
    """What an ephemeral source has to say of one entry."""

    key: Hashable
    """A later value with the same key takes the place of this one."""
    value: Any
    servers: Servers


class EphemeralEdus(Protocol):
    """A source whose EDUs are of worth for a moment."""

    @property
    def edu_type(self) -> str:
        """`m.typing` and the like."""
        ...

    @property
    def entry_type(self) -> type[Entry]:
        """Which entries of the log it hears of."""
        ...

    @property
    def delay(self) -> float:
        """Seconds for which what it says may wait for more, or for an event to travel with."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether what could not be sent is of worth later."""
        ...

    async def news(self, entry: Any) -> News | None:
        """Whom an entry concerns; None: nobody elsewhere. Answered from memory as far as possible."""
        ...

    def contents(self, values: Sequence[Any], now_ms: int) -> Sequence[Any]:
        """The `content` of as few EDUs as can say what these values say, in their order."""
        ...


class Durable(NamedTuple):
    """What the reader is handed for an entry of a durable source."""

    source: DurableEdus
    value: Any


class DurableSource:
    """A durable source as a source of the reader."""

    def __init__(self, source: DurableEdus) -> None:
        self._source = source
        self.entry_type = source.entry_type

    def take(self, entry: Any) -> Durable | None:
        """See `Source.take`."""
        value = self._source.take(entry)
        return None if value is None else Durable(self._source, value)

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        return self._wrapped(await self._source.read(tx, after, upto, limit))

    async def resume(
        self, tx: Tx, destination: ServerName, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        """See `DurableEdus.resume`."""
        return self._wrapped(await self._source.resume(tx, destination, bounds, limit))

    def _wrapped(self, found: Slice) -> Slice:
        items = [Item(item.position, Durable(self._source, item.value)) for item in found.items]
        return Slice(items, found.upto)


class EduSources:
    """The registry. Features register before the server starts; the order does not matter."""

    def __init__(self) -> None:
        self.durable: list[DurableSource] = []
        self.ephemeral: dict[type[Entry], EphemeralEdus] = {}

    def add_durable(self, source: DurableEdus) -> None:
        """Its EDUs are sent from now on."""
        assert all(each.entry_type is not source.entry_type for each in self.durable)
        self.durable.append(DurableSource(source))

    def add_ephemeral(self, source: EphemeralEdus) -> None:
        """Its EDUs are sent from now on."""
        assert source.entry_type not in self.ephemeral
        self.ephemeral[source.entry_type] = source


def edu(edu_type: str, content: bytes) -> bytes:
    """One EDU, canonical JSON. `content`: canonical JSON."""
    return b'{"content":%b,"edu_type":%b}' % (content, canonical_json.encode_strict(edu_type))
