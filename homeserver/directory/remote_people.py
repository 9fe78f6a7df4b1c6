"""Users of other servers who can be found: those who are in rooms with ours, by the names they have there.

A reader of the log keeps a table of them. spec: client-server-api/#user-directory (CHECKLIST USER-06)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from homeserver.directory import store
from homeserver.directory.store import RemotePerson
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.event_source import EventSource
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.readers.types import WHOLE, Item, Reader
from homeserver.matrix.folding import VERSION, fold
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database

MEMBER: Final = "m.room.member"
AT_ONCE: Final = 500
MAX_TEXT: Final = 1_000
"""Characters of a name or of a picture's address; what is longer is no name."""


class RemotePeople:
    """Keeps the table of them. Keeps nothing in memory."""

    def __init__(
        self, db: Database, rooms: Rooms, events: EventCache, interning: Interning, server_name: ServerName
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._server_name = server_name

    def reader(self) -> Reader:
        """As the log knows it."""
        return Reader(
            name="directory.remote_people",
            sources=[EventSource(self._events)],
            deliver=self.deliver,
            interest=_interest,
            from_beginning=True,
            repeatable=True,
        )

    async def deliver(self, _: str, items: Sequence[Item[PersistedEvent]]) -> None:
        """Learn the names in these events; in rooms that ours have joined, those of all members who are not known yet."""
        joins = [item.value for item in items if _is_join(item.value)]
        await self._learn([each.event for each in joins if not self._is_ours(each.event)])
        for room_nid in {each.room_nid for each in joins if self._is_ours(each.event)}:
            await self._learn_room(room_nid)

    def _is_ours(self, event: Event) -> bool:
        return domain_of(event.state_key or "") == self._server_name

    async def _learn_room(self, room_nid: int) -> None:
        room = await self._rooms.get(room_nid)
        if room.joined_count <= len(room.local_joined):
            return
        members = {
            member.user_nid: member.event_nid
            for member in room.members.values()
            if member.membership == JOIN and not member.local
        }
        for some in pieces(members, AT_ONCE):
            await next_turn()
            async with self._db.read() as tx:
                known = await store.find_known_people(tx, some)
            unknown = [members[user] for user in some if user not in known]
            loaded = await self._events.load(unknown)
            await self._learn([persisted.event for persisted in loaded.values()])

    async def _learn(self, events: Collection[Event]) -> None:
        if not events:
            return
        newest = {UserId(event.state_key or ""): event for event in events}
        numbers = await self._interning.user_nids(newest)
        people = [_person(numbers[user_id], event) for user_id, event in newest.items()]
        async with self._db.transaction() as tx:
            await store.write_people(tx, sorted(people))


async def _interest(items: Sequence[Item[PersistedEvent]]) -> Sequence[Collection[str]]:
    return [(WHOLE,) if _is_join(item.value) else () for item in items]


def _is_join(persisted: PersistedEvent) -> bool:
    return not persisted.hidden and persisted.event.type == MEMBER and persisted.event.membership == "join"


def _person(user_nid: int, event: Event) -> RemotePerson:
    name = _text(event.content.get("displayname"))
    return RemotePerson(user_nid, name, _text(event.content.get("avatar_url")), fold(name or ""), VERSION)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT and "\0" not in value else None
