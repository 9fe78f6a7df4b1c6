"""Changes of our users' devices and cross-signing keys, as EDUs to the servers that share a room with them.

spec: server-server-api/#mdevice_list_update, #msigning_key_update (FED-30, FED-33)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from federation.devices.own import described, signing_keys
from federation.devices.stream_ids import last_stream_id, stream_id
from federation.outbound.edus import edu
from federation.outbound.room_servers import NOBODY, RoomServers, Servers
from homeserver.e2ee.entries import DeviceListEntry
from homeserver.e2ee.merge import UserKeys
from homeserver.e2ee.query import KeyQueries
from homeserver.e2ee.source import DeviceListSource, DeviceVersions
from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix import canonical_json, json
from homeserver.matrix.ids import ServerName, domain_of
from homeserver.rooms.memberships import Memberships
from homeserver.storage.tx import Tx

SIGNING_KEYS: Final = ("m.signing_key_update", "org.matrix.signing_key_update")
"""What it is called, and what it was called before it was in the specification: others listen for that."""


class DeviceListEdus:
    """See `DurableEdus`. What is said of a device is how it is now; a newer change says it again."""

    entry_type = DeviceListEntry

    def __init__(
        self,
        queries: KeyQueries,
        versions: DeviceVersions,
        servers: RoomServers,
        memberships: Memberships,
        server_name: ServerName,
        *,
        named: bool,
    ) -> None:
        """`named`: whether others are told what people call their devices."""
        self._named = named
        self._queries = queries
        self._versions = versions
        self._servers = servers
        self._memberships = memberships
        self._server_name = server_name
        self._source = DeviceListSource()

    def take(self, entry: DeviceListEntry) -> DeviceListEntry | None:
        """See `Source.take`."""
        ours = domain_of(entry.user_id) == self._server_name
        return entry if ours and entry.seen_by is None and entry.devices is not None else None

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        found = await self._source.read(tx, after, upto, limit)
        return Slice([item for item in found.items if self.take(item.value)], found.upto)

    async def concerned(self, items: Sequence[Item[DeviceListEntry]]) -> Sequence[Servers]:
        """See `DurableEdus.concerned`."""
        found: dict[int, Servers] = {}
        await self._memberships.prepare({entry.user_nid for _, entry in items})
        for _, entry in items:
            if entry.user_nid not in found:
                rooms = (await self._memberships.of(entry.user_nid)).joined
                found[entry.user_nid] = NOBODY.union(*[await self._servers.now(room) for room in rooms])
        return [found[entry.user_nid] for _, entry in items]

    async def edus(
        self, destination: ServerName, items: Sequence[Item[DeviceListEntry]]
    ) -> Sequence[Sequence[bytes]]:
        """See `DurableEdus.edus`."""
        del destination
        keys = await self._queries.of({entry.user_id for _, entry in items})
        before = await self._versions.before(
            [(entry.user_nid, position) for position, entry in items if entry.devices]
        )
        return [
            [*self._edus(position, entry, keys[entry.user_id], before.get((entry.user_nid, position)))]
            for position, entry in items
        ]

    async def resume(
        self, tx: Tx, destination: ServerName, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        """See `DurableEdus.resume`."""
        rows = await self._source.for_server(tx, destination, bounds, limit)
        upto = rows[-1].position if len(rows) == limit else bounds[1]
        return Slice([item for item in rows if self.take(item.value)], upto)

    async def delivered(self, destination: ServerName, items: Sequence[Item[DeviceListEntry]]) -> None:
        """Nothing is kept for it."""

    def _edus(
        self, position: Position, entry: DeviceListEntry, keys: UserKeys, before: tuple[Position, int] | None
    ) -> Iterator[bytes]:
        """What one change is told as: each of its devices, one after the other, or the cross-signing keys."""
        if not entry.devices:
            yield from signing_edus(entry.user_id, keys)
            return
        previous = last_stream_id(before)
        there = keys.by_device()
        for number, device_id in enumerate(entry.devices):
            raw = there.get(device_id)
            told: Mapping[str, Any] = {"device_id": device_id, "deleted": True}
            if raw is not None:
                told = described(device_id, raw, named=self._named)
            version = stream_id(position, number)
            yield list_edu(entry.user_id, told, version, previous)
            previous = version


def list_edu(user_id: str, told: Mapping[str, Any], version: int, previous: int | None) -> bytes:
    """The EDU about one device. `previous`: the version that this one follows."""
    chain = {"user_id": user_id, "stream_id": version, "prev_id": [] if previous is None else [previous]}
    return edu("m.device_list_update", _encode({**told, **chain}))


def signing_edus(user_id: str, keys: UserKeys) -> list[bytes]:
    """The EDUs about a user's cross-signing keys; none where there are no keys."""
    signing = signing_keys(keys)
    if not signing:
        return []
    content = _encode({"user_id": user_id, **signing})
    return [edu(edu_type, content) for edu_type in SIGNING_KEYS]


def _encode(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON of what may hold JSON that is not."""
    return canonical_json.encode(json.loads(msgspec.json.encode(content)))
