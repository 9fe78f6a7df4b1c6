"""What each room is to the user in this sync."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.graph.entry import ADOPTS
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import BAN, INVITE, JOIN, LEAVE, MEMBERSHIPS
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.sync.selection import store
from homeserver.sync.types import SyncRequest


class Classified(NamedTuple):
    """room_nids by what they are."""

    joined: frozenset[int]
    new: frozenset[int]
    """Joined, and the client knows nothing of them yet."""
    left: dict[int, Position]
    """Left or banned, to be reported; position of the event with which it happened."""
    invited: list[int]
    knocked: list[int]
    passed: frozenset[int] = frozenset()
    """Left, and the client knows nothing of the stay that is over: the user has come and gone since it was here."""


class Classifier:
    """Tells what each room is to the user in one answer. Keeps nothing in memory."""

    def __init__(self, db: Database, interning: Interning) -> None:
        self._db = db
        self._interning = interning

    async def classify(self, request: SyncRequest) -> Classified:
        """Sort the user's rooms. At most two queries beside naming rooms for a filter that names some."""
        if _same_memberships(request):
            return Classified(await self._joined(request), frozenset(), {}, [], [])
        wanted = await self._wanted(request)
        changed = {
            room
            for room in wanted
            if request.since is not None and request.memberships[room].position > request.since
        }
        before = await self._before(request, changed)
        again = [room for room, membership in before.items() if membership == JOIN]
        adopted = await self._adopted_since(
            request, [room for room in again if request.memberships[room].membership == JOIN]
        )
        joined: set[int] = set()
        new: set[int] = set()
        left: dict[int, Position] = {}
        invited: list[int] = []
        knocked: list[int] = []
        for room in wanted:
            own = request.memberships[room]
            initial = request.since is None
            if own.membership == JOIN:
                joined.add(room)
                if initial or (room in changed and (before.get(room) != JOIN or room in adopted)):
                    new.add(room)
            elif own.forgotten and (initial or room not in changed):
                continue  # but that it was left is told to every device, also if it was forgotten before they asked
            elif own.membership in (LEAVE, BAN):
                # spec: op:sync: in an initial sync only with include_leave (SYNC-14)
                if (initial and request.filter.room.include_leave) or room in changed:
                    left[room] = own.position
            elif initial or room in changed or request.full_state or request.other_invites:
                (invited if own.membership == INVITE else knocked).append(room)
        strange = [room for room in left if room in changed and before.get(room) != JOIN]
        passed = await self._joined_since(request, strange)
        return Classified(frozenset(joined), frozenset(new), left, invited, knocked, passed)

    async def _joined(self, request: SyncRequest) -> frozenset[int]:
        if request.filter.room.rooms is None and not request.filter.room.not_rooms:
            return request.joined
        return request.joined.intersection(await self._wanted(request))

    async def _wanted(self, request: SyncRequest) -> list[int]:
        rooms = list(request.memberships)
        if request.filter.room.rooms is None and not request.filter.room.not_rooms:
            return rooms
        names = await self._interning.rooms(rooms)
        return [
            room for room in rooms if room in names and request.filter.room.wants_room(names[room].room_id)
        ]

    async def _before(self, request: SyncRequest, changed: set[int]) -> dict[int, int]:
        """The user's membership at `since` in rooms where it has changed."""
        if not changed or request.since is None:
            return {}
        if request.recent is None:
            async with self._db.read() as tx:
                return await store.memberships_at(tx, request.requester.user_nid, changed, request.since)
        found: dict[int, int] = {}
        seen: set[int] = set()
        resolved: set[int] = set()
        for _, entry in request.recent.moving:
            room = entry.persisted.room_nid
            if room not in changed or room in seen:
                continue
            if any(change.user_nid == request.requester.user_nid for change in entry.changes):
                seen.add(room)
                if any(change.user_nid == request.requester.user_nid for change in entry.by_resolution):
                    resolved.add(room)  # no event says what was before
                    continue
                replaced = entry.persisted.replaced
                content = json.loads(replaced.content) if replaced else {}
                found[room] = MEMBERSHIPS.get(str(content.get("membership")), 0)
        if resolved:
            async with self._db.read() as tx:
                found |= await store.memberships_at(tx, request.requester.user_nid, resolved, request.since)
        return found

    async def _adopted_since(self, request: SyncRequest, rooms: Sequence[int]) -> Collection[int]:
        """Those of the rooms that were taken from another server since: what the client knows of them may not be so any more."""
        if not rooms or request.since is None:
            return ()
        if request.recent is not None:
            return {e.persisted.room_nid for _, e in request.recent.moving if e.place == ADOPTS}
        async with self._db.read() as tx:
            return await store.rooms_with_gaps(tx, rooms, request.since)

    async def _joined_since(self, request: SyncRequest, rooms: Sequence[int]) -> frozenset[int]:
        """Those of the rooms which the user has been joined to at some time after `since`."""
        if not rooms or request.since is None:
            return frozenset()
        if request.recent is None:
            async with self._db.read() as tx:
                return frozenset(
                    await store.rooms_joined(
                        tx, request.requester.user_nid, rooms, request.since, request.upto
                    )
                )
        user_nid = request.requester.user_nid
        return frozenset(
            entry.persisted.room_nid
            for _, entry in request.recent.moving
            if entry.persisted.room_nid in rooms
            and any(change.user_nid == user_nid and change.membership == JOIN for change in entry.changes)
        )


def is_whole(request: SyncRequest, kinds: Classified, room: int) -> bool:
    """Whether the room's state is told whole, not as a change."""
    return request.since is None or request.full_state or room in kinds.new or room in kinds.passed


def ends_stay(persisted: PersistedEvent | None, user_id: UserId) -> bool:
    """Whether with this event the user, who was a member until then, left or was banned."""
    if persisted is None or persisted.event.key != ("m.room.member", user_id) or persisted.replaced is None:
        return False
    return bool(json.loads(persisted.replaced.content).get("membership") == "join")


def _same_memberships(request: SyncRequest) -> bool:
    """Whether the user's rooms are to the client what they were at `since`, as far as memory reaches."""
    if request.recent is None or request.full_state or request.other_invites:
        return False
    return request.requester.user_nid not in request.recent.moved
