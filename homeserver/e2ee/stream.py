"""Device lists and key counts in `/sync`.

spec: client-server-api/#e2e-extensions-to-sync (SYNC-19 to SYNC-21)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from homeserver.e2ee import store
from homeserver.e2ee.entries import DeviceListEntry, KeyCountEntry, KeysClaimedEntry, KeysSpentEntry
from homeserver.e2ee.tracking import DeviceTracking
from homeserver.graph.entry import EventEntry
from homeserver.log.entries import Entry, Position
from homeserver.matrix import json
from homeserver.rooms.memberships import Memberships
from homeserver.storage.database import Database
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest

CACHED_DEVICES = 50_000
ALWAYS_COUNTED = "signed_curve25519"
"""Clients top up their keys only when they are told that there are none."""


_NO_DEVICE: Final = {
    "device_one_time_keys_count": b"{}",
    "device_unused_fallback_key_types": b"[]",
    "org.matrix.msc2732.device_unused_fallback_key_types": b"[]",
}
"""Of an application service that names no device."""


class KeyCounts:
    """Projection: the counts of devices that sync here, as JSON ready to be sent."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._counts: OrderedDict[tuple[int, str], dict[str, bytes]] = OrderedDict()
        self._version = 0

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {
            KeyCountEntry: self._changed,
            KeysClaimedEntry: self._claimed,
            KeysSpentEntry: lambda _, __: self.reset(),
        }

    def reset(self) -> None:
        self._version += 1
        self._counts.clear()

    def _changed(self, _: Position, entry: KeyCountEntry) -> None:
        self._version += 1
        self._counts.pop((entry.user_nid, entry.device_id), None)

    def _claimed(self, _: Position, entry: KeysClaimedEntry) -> None:
        self._version += 1
        for user_nid, device_id in entry.devices:
            self._counts.pop((user_nid, device_id), None)

    async def of(self, user_nid: int, device_id: str) -> dict[str, bytes]:
        """Members of the answer."""
        key = (user_nid, device_id)
        found = self._counts.get(key)
        if found is not None:
            return found
        version = self._version
        async with self._db.read() as tx, tx.pipeline() as batch:
            count = store.count_keys(batch, user_nid, device_id)
        unused = json.dumps(count.unused_fallback)
        found = {
            "device_one_time_keys_count": json.dumps({ALWAYS_COUNTED: 0, **count.counts}),
            "device_unused_fallback_key_types": unused,
            "org.matrix.msc2732.device_unused_fallback_key_types": unused,
        }
        if version == self._version:
            self._counts[key] = found
            if len(self._counts) > CACHED_DEVICES:
                self._counts.popitem(last=False)
        return found


class KeyCountStream:
    """Key counts stand in every answer. They are no news: a client that waits is not woken for them."""

    always_asked = True

    def __init__(self, counts: KeyCounts) -> None:
        self._counts = counts

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        del rooms
        requester = request.requester
        if requester.device_id is None:
            return Part(always=_NO_DEVICE)
        return Part(always=await self._counts.of(requester.user_nid, requester.device_id))


class DeviceListStream:
    """The device list stream of `/sync`: whose device lists have changed, or are shared no longer."""

    always_asked = False

    def __init__(self, tracking: DeviceTracking, memberships: Memberships) -> None:
        self._tracking = tracking
        self._memberships = memberships

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """A change concerns the user, and everybody in a room with them; so does who comes and goes, which the stream of
        rooms says.
        """

        def of(entry: DeviceListEntry) -> Recipients:
            if entry.seen_by is not None:
                return Recipients((entry.seen_by,))
            user = self._memberships.cached(entry.user_nid)
            if user is None:
                return Recipients(
                    everybody=True
                )  # we do not know in which rooms they are; each looks for themselves
            return Recipients((entry.user_nid,), None, user.joined)

        return {DeviceListEntry: of, EventEntry: lambda _: Recipients()}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        del rooms
        if request.since is None or request.upto == request.since:
            return NO_NEWS
        if (
            request.recent is not None
            and not request.recent.moving
            and DeviceListEntry not in request.recent.kinds
        ):
            return NO_NEWS
        changed, left = await self._tracking.between(
            request.requester, request.since, request.upto, request.recent
        )
        if not changed and not left:
            return NO_NEWS
        return Part(top={"device_lists": json.dumps({"changed": sorted(changed), "left": sorted(left)})})
