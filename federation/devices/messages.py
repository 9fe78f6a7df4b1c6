"""Messages to devices between servers: out in the order of the log and until they are acknowledged, in once each.

spec: server-server-api/#send-to-device-messaging (FED-34, TD-01, TD-02)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from typing_extensions import override

from federation.devices import store
from federation.devices.following import user_of
from federation.devices.store import MessageRow
from federation.inbound.edus import EduDispatcher, InvalidEdu, Rest
from federation.outbound.edus import edu
from federation.outbound.room_servers import Servers
from federation.ports import Partners
from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix import canonical_json
from homeserver.matrix.errors import LimitExceeded, Unavailable
from homeserver.matrix.ids import ServerName, UserId, is_server_name
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline, Tx
from homeserver.to_device.ports import Messages, SentElsewhere
from homeserver.web.rate_limit import Rate, RateLimiter

log = structlog.get_logger(__name__)

EDU_TYPE: Final = "m.direct_to_device"
EDU_BYTES: Final = 64 * 1024
"""Of the messages of one EDU, unless it is a single one."""
MAX_ID: Final = 32
"""Characters. spec: server-server-api/#mdirect_to_device-edu"""
ID_BYTES: Final = 24
"""Unguessable, of our ids: base64 makes `MAX_ID` characters of them."""
MAX_TYPE: Final = 255
KILOBYTES_OF_SERVER: Final = Rate(2_048, 128 * 1024)
"""What one server's users may put into queues here; beyond, it is told to come again. At once goes more than a transaction holds:
of one that comes again what was taken already counts once more.
"""
MOST_MESSAGES: Final = 200_000
MOST_BYTES: Final = 512 * 2**20
"""What may wait for one server."""
SWEEP_EVERY: Final = 600.0


# --- out -----------------------------------------------------------------------------------------------------------------


class DeviceMessageEntry(Entry, frozen=True):
    """Messages of one user to devices of one server's users: one EDU."""

    destination: str
    content: bytes
    """Of the EDU, canonical JSON."""
    perishable: bool = False


class DeviceMessageSink(StructSink[DeviceMessageEntry]):
    """Into `federation_device_messages`."""

    kind = "device_message"
    entry_type = DeviceMessageEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[DeviceMessageEntry]]) -> None:
        store.insert(batch, [MessageRow(at, e.destination, e.content, e.perishable) for at, e in written])


class RemoteMessages:
    """Fulfils `to_device.ports.RemoteDevices`."""

    def __init__(self, partners: Partners, entropy: Entropy) -> None:
        self._partners = partners
        self._entropy = entropy

    def entries(
        self, sender: UserId, event_type: str, messages: Mapping[ServerName, Messages], *, perishable: bool
    ) -> SentElsewhere:
        """See `RemoteDevices.entries`. What is for a server with which we may not speak is passed over."""
        entries = [
            DeviceMessageEntry(server, content, perishable)
            for server, theirs in messages.items()
            if is_server_name(server) and self._partners.may_speak(server)
            for content in self._contents(sender, event_type, theirs)
        ]
        return SentElsewhere(entries, sum(len(entry.content) for entry in entries))

    def _contents(self, sender: UserId, event_type: str, messages: Messages) -> Iterator[bytes]:
        """Contents of EDUs: as few as fit."""
        for some in _split(messages):
            yield canonical_json.encode(
                {
                    "sender": sender,
                    "type": event_type,
                    "message_id": self._entropy.token(ID_BYTES),
                    "messages": some,
                }
            )


def _split(messages: Messages) -> Iterator[dict[str, dict[str, Any]]]:
    some: dict[str, dict[str, Any]] = {}
    size = 0
    for user_id, devices in messages.items():
        for device_id, content in devices.items():
            length = len(user_id) + len(device_id) + len(canonical_json.encode(content))
            if some and size + length > EDU_BYTES:
                yield some
                some, size = {}, 0
            some.setdefault(user_id, {})[device_id] = content
            size += length
    if some:
        yield some


class DeviceMessageEdus:
    """See `DurableEdus`. In memory is which server each is for; what it says is read when it is sent."""

    entry_type = DeviceMessageEntry

    def __init__(self, db: Database) -> None:
        self._db = db

    def take(self, entry: DeviceMessageEntry) -> str:
        """See `Source.take`."""
        return entry.destination

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        rows = await store.list_waiting(tx, after, upto, limit)
        return Slice([Item(*row) for row in rows], rows[-1][0] if len(rows) == limit else upto)

    async def concerned(self, items: Sequence[Item[str]]) -> Sequence[Servers]:
        """See `DurableEdus.concerned`."""
        return [frozenset([destination]) for _, destination in items]

    async def edus(self, destination: ServerName, items: Sequence[Item[str]]) -> Sequence[Sequence[bytes]]:
        """See `DurableEdus.edus`."""
        del destination
        async with self._db.read() as tx:
            found = dict(await store.find(tx, [position for position, _ in items]))
        return [
            [edu(EDU_TYPE, content)] if (content := found.get(position)) is not None else []
            for position, _ in items
        ]

    async def resume(
        self, tx: Tx, destination: ServerName, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        """See `DurableEdus.resume`."""
        rows = await store.list_for(tx, destination, bounds, limit)
        return Slice([Item(row, destination) for row in rows], rows[-1] if len(rows) == limit else bounds[1])

    async def delivered(self, destination: ServerName, items: Sequence[Item[str]]) -> None:
        """See `DurableEdus.delivered`."""
        del destination
        async with self._db.transaction() as tx:
            await tx.execute("SET LOCAL synchronous_commit = off")  # what is sent again is known by its id
            await store.delete(tx, [position for position, _ in items])

    async def sweep(self) -> None:
        """Drop what is too much for servers that are away: perishable messages first, the oldest first."""
        async with self._db.read() as tx:
            overfull = await store.find_overfull(tx, MOST_MESSAGES, MOST_BYTES)
        for destination, messages, size in overfull:
            async with self._db.transaction() as tx:
                gone = await store.drop(tx, destination, messages - MOST_MESSAGES, size - MOST_BYTES)
            log.warning("devices.messages_dropped", destination=destination, messages=gone)


# --- in ------------------------------------------------------------------------------------------------------------------


class ToDevice(Protocol):
    """Puts messages into the queues of devices."""

    async def hear(
        self, origin: ServerName, message_id: str, sender: UserId, event_type: str, messages: Messages
    ) -> Rest | None:
        """Once for each id of the origin. Raises `MatrixError`."""
        ...


class MessagesHeard:
    """The handler of `m.direct_to_device`. Keeps in memory how much has come, in bounded size."""

    def __init__(self, to_device: ToDevice, clock: Clock) -> None:
        self._to_device = to_device
        self._limiter = RateLimiter(clock, {"server": KILOBYTES_OF_SERVER}, max_keys=10_000)

    def register(self, edus: EduDispatcher) -> None:
        """Say what is handled here."""
        edus.register(EDU_TYPE, self.hear)

    async def hear(self, origin: ServerName, content: Mapping[str, Any]) -> Rest | None:
        """See `EduHandler`."""
        sender = user_of(origin, content.get("sender"))
        event_type, message_id = content.get("type"), content.get("message_id")
        if not isinstance(event_type, str) or not 0 < len(event_type) <= MAX_TYPE:
            raise InvalidEdu("type: missing or malformed")
        if not isinstance(message_id, str) or not 0 < len(message_id) <= MAX_ID or "\0" in message_id:
            raise InvalidEdu(f"message_id: no string of at most {MAX_ID} characters")
        messages = content.get("messages")
        if not isinstance(messages, Mapping) or not all(map(_is_devices, messages.values())):
            raise InvalidEdu("messages: not by user and device")
        try:
            size = len(canonical_json.encode(messages))
        except ValueError as error:
            raise InvalidEdu(f"messages: {error}") from None
        try:
            self._limiter.hit("server", origin, cost=size / 1024)
        except LimitExceeded:
            raise Unavailable("So much cannot be taken from one server, try again") from None
        return await self._to_device.hear(origin, message_id, sender, event_type, messages)


def _is_devices(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in value.values())
