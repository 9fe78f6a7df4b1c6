"""Presence in `/sync`.

spec: op:sync `presence`, client-server-api/#mpresence (EPH-09, EPH-11)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from homeserver.graph.entry import EventEntry
from homeserver.graph.refs import JOIN
from homeserver.log.entries import Entry
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.presence import store
from homeserver.presence.service import ACTIVE_MS, PresenceService
from homeserver.presence.store import Row
from homeserver.presence.types import PresenceEntry
from homeserver.profiles.entries import ProfileChanged
from homeserver.receipts.types import ReceiptEntry
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.turns import Steps, next_turn
from homeserver.storage.database import Database
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest
from homeserver.typing.entries import TypingEntry

MAX_USERS = 1_000
"""Users told of in one answer."""
MEMBERS_AT_ONCE = 20_000
"""Members of rooms that are looked at in one turn."""


class Names(Protocol):
    """Names and pictures, for presence that follows a change of them."""

    async def membership_fields(self, user_id: UserId) -> Any: ...


class PresenceStream:
    """The presence stream of `/sync`; also the projection by which the service hears of other processes."""

    always_asked = False

    def __init__(
        self, db: Database, service: PresenceService, memberships: Memberships, names: Names
    ) -> None:
        self._db = db
        self._service = service
        self._memberships = memberships
        self._names = names

    def handlers(self) -> dict[type[Entry], Callable[[int, Any], None]]:
        """Presence; and what shows that somebody is active, whichever process they do it at (EPH-09)."""
        acted = self._service.acted
        return {
            PresenceEntry: lambda position, entry: self._service.heard(entry, position),
            EventEntry: lambda _, entry: acted(entry.persisted.sender_nid),
            ReceiptEntry: lambda _, entry: acted(entry.user_nid),
            TypingEntry: lambda _, entry: acted(entry.user_nid) if entry.typing else None,
        }

    def reset(self) -> None:
        """Nothing is kept here."""

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        def of(entry: PresenceEntry | ProfileChanged) -> Recipients:
            if isinstance(entry, PresenceEntry) and entry.beat:
                return Recipients()
            user = self._memberships.cached(entry.user_nid)
            if user is None:  # we do not know in which rooms they are; each looks for themselves
                return Recipients(everybody=True)
            return Recipients((entry.user_nid,), None, user.joined)

        # Of events: who comes into a room comes into sight. The stream of rooms says whom they concern.
        return {PresenceEntry: of, ProfileChanged: of, EventEntry: lambda _: Recipients()}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        if request.recent is not None and not rooms.new and not self._may_have_news(request.recent):
            return NO_NEWS
        rows = await self._rows(request, rooms)
        wanted = request.filter.presence
        events = []
        for row in rows[-MAX_USERS:]:
            if row.user_id in request.ignored or not wanted.matches_parts("m.presence", row.user_id):
                continue
            events.append(
                json.dumps(
                    {
                        "type": "m.presence",
                        "sender": row.user_id,
                        "content": await self._content(request, row),
                    }
                )
            )
        return Part(top={"presence": b'{"events":[%b]}' % b",".join(events)} if events else {})

    @staticmethod
    def _may_have_news(log_slice: LogSlice) -> bool:
        return bool(log_slice.moving) or not log_slice.kinds.isdisjoint((PresenceEntry, ProfileChanged))

    async def _content(self, request: SyncRequest, row: Row) -> dict[str, Any]:
        content: dict[str, Any] = {"presence": row.presence}
        active = self._service.last_active_ms(row.user_nid, row.last_active_ms)
        ago = max(0, request.now_ms - active)
        content["last_active_ago"] = ago
        if row.presence == "online":
            content["currently_active"] = ago < ACTIVE_MS
        if row.status_msg:
            content["status_msg"] = row.status_msg
        names = await self._names.membership_fields(UserId(row.user_id))
        content.update(names)
        return content

    async def _rows(self, request: SyncRequest, rooms: JoinedRooms) -> list[Row]:
        user = request.requester.user_nid
        if request.since is None or request.recent is None:
            async with self._db.read() as tx:
                rows = await store.find_sharing(tx, user, request.since or 0, request.upto, MAX_USERS)
                if request.since is not None:
                    met = await store.find_come_into_sight(tx, user, request.since, request.upto, MAX_USERS)
                    told = {row.user_nid for row in rows}
                    rows = [row for row in met if row.user_nid not in told] + rows
            return rows
        news: dict[int, Row] = {}
        for _, said in request.recent.of(PresenceEntry):
            if not said.beat:
                row = Row(said.user_nid, said.user_id, said.presence, said.status_msg, said.last_active_ms)
                news[said.user_nid] = row
        unknown = {entry.user_nid for _, entry in request.recent.of(ProfileChanged)} - news.keys()
        if unknown:
            async with self._db.read() as tx:
                news |= {row.user_nid: row for row in await store.find_many(tx, sorted(unknown))}
        await self._memberships.prepare(news.keys() - {user})
        found = [row for nid, row in news.items() if nid == user or await self._share(rooms, nid)]
        nids = await _come_into_sight(request, rooms) - news.keys()
        if not nids:
            return found
        async with self._db.read() as tx:
            return await store.find_many(tx, sorted(nids)[-MAX_USERS:]) + found

    async def _share(self, rooms: JoinedRooms, user_nid: int) -> bool:
        theirs = await self._memberships.of(user_nid)
        return any(room in rooms.joined_nids for room in theirs.with_membership(JOIN))


async def _come_into_sight(request: SyncRequest, rooms: JoinedRooms) -> set[int]:
    """Users in rooms the client does not know yet, and those who have come into rooms it knows."""
    met: set[int] = set()
    steps = Steps(MEMBERS_AT_ONCE)
    for nid in rooms.new & rooms.joined.keys():
        members = rooms.joined[nid].members
        if steps.full(len(members)):
            await next_turn()
        met.update(member.user_nid for member in members.values() if member.membership == JOIN)
    for _, entry in request.recent.moving if request.recent is not None else ():
        if entry.persisted.room_nid in rooms.joined_nids:
            met.update(
                change.user_nid
                for change in entry.changes
                if change.user_nid is not None and change.membership == JOIN
            )
    return met - {request.requester.user_nid}
