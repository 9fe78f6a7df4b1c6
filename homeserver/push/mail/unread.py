"""What a user has not read, as a letter tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import INVITE, OUTLIER
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.push import store
from homeserver.push.counts import unread_query
from homeserver.push.evaluators import Evaluators
from homeserver.push.mail.plan import NewEvent
from homeserver.push.mail.texts import fit_name, text_of
from homeserver.push.mail.types import (
    MAX_MESSAGES,
    MAX_ROOMS,
    Contents,
    Message,
    RoomPart,
    RoomTold,
)
from homeserver.push.past_rules import unheard_by
from homeserver.push.pushers.badges import Badge, Badges
from homeserver.push.pushers.deciding import Deciding
from homeserver.push.recent import RecentEvents
from homeserver.storage.database import Database
from homeserver.sync.selection.stripped import StrippedRoom, described, told_elsewhere
from homeserver.sync.selection.summary import NAMES, heroes_of, naming_events

MAX_LOOKED_AT: Final = 50
"""Rooms that one look goes through: those with the newest messages. The others are for the next letter."""
MAX_LOADED: Final = 200
"""Events that one look loads, the newest: of those beyond, it knows only how many there are."""
MAX_INVITES: Final = 20


class New(NamedTuple):
    """What is unread and was in no letter."""

    badge: Badge
    events: list[PersistedEvent]
    """Those that notify, in order."""
    counts: Mapping[int, int]
    """room_nid -> how many there are, loaded or not."""

    def reasons(self) -> list[NewEvent]:
        """For `plan.decide`."""
        return [NewEvent(each.room_nid, each.nid, each.event.origin_server_ts) for each in self.events]

    def still_told(self, room: RoomTold) -> bool:
        """Whether something is unread that letters have told of a room already."""
        return self.badge.unread.get(room.room_nid, 0) > self.counts.get(room.room_nid, 0)


class UnreadForMail:
    """Finds it. Keeps nothing."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        evaluators: Evaluators,
        badges: Badges,
        deciding: Deciding,
        recent: RecentEvents,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._evaluators = evaluators
        self._badges = badges
        self._deciding = deciding
        self._recent = recent

    async def of(self, user_nid: int, since: Position, told: Mapping[int, RoomTold], upto: Position) -> New:
        """What came in (since, upto] and was not told of its room. `told`: by room_nid."""
        badge = await self._badges.of(user_nid)
        after = {nid: max(since, told[nid].told_upto if nid in told else 0) for nid in badge.rooms.rooms}
        unread = await self._unread(badge, after, upto)
        invites = [
            own.event_nid
            for nid, own in badge.rooms.rooms.items()
            if own.membership == INVITE and not own.forgotten and after[nid] < own.event_nid <= upto
        ]
        nids = [each.event_nid for each in unread[:MAX_LOADED]] + sorted(invites)[-MAX_INVITES:]
        loaded = await self._events.load(nids) if nids else {}
        events = [each for each in loaded.values() if await self._deciding.of(badge, each) is not None]
        counts: dict[int, int] = {}
        for room_nid in [each.room_nid for each in unread[MAX_LOADED:]] + [each.room_nid for each in events]:
            counts[room_nid] = counts.get(room_nid, 0) + 1
        return New(badge, sorted(events, key=lambda each: each.nid), counts)

    async def _unread(
        self, badge: Badge, after: Mapping[int, Position], upto: Position
    ) -> Sequence[store.UnreadEvent]:
        """Messages that notify, or may, the newest first. Two flights, and what is asked of whom one ignores."""
        loud = sorted(
            (nid for nid, count in badge.unread.items() if count), key=self._recent.newest, reverse=True
        )[:MAX_LOOKED_AT]
        if not loud:
            return ()
        user = await self._evaluators.of(badge.user_nid, badge.user_id)
        names = await self._interning.rooms(loud)
        unheard = await unheard_by(self._db, self._interning, badge.user_nid, badge.unwanted)
        async with self._db.read() as tx:
            async with tx.pipeline() as batch:
                joins = store.find_joins(batch, badge.user_nid, loud)
                read = store.find_read(batch, badge.user_nid, loud)
            query = unread_query(badge.user_nid, unheard, upto, dict(joins.result), read.result)
            query = query._replace(rooms={nid: max(at, after[nid]) for nid, at in query.rooms.items()})
            found = await store.find_unread(tx, query)
        rules = {nid: user.evaluator.in_room(name.room_id) for nid, name in names.items()}
        outcomes = [
            (each, rules[each.room_nid].by_fact(each.bits, each.mentioned, each.thread)) for each in found
        ]
        return [each for each, outcome in outcomes if outcome is None or outcome.notify]

    # --- for people ------------------------------------------------------------------------------------------------

    async def contents(self, new: New, *, content: bool) -> Contents:
        """What the letter shows. `content`: also what messages say, where this server can read it."""
        by_room: dict[int, list[PersistedEvent]] = {}
        for each in reversed(new.events):
            by_room.setdefault(each.room_nid, []).append(each)
        parts = [
            await self._part(nid, events, new, content=content)
            for nid, events in islice(by_room.items(), MAX_ROOMS)
        ]
        return Contents(parts, len(new.counts) - len(parts))

    async def _part(
        self, room_nid: int, events: Sequence[PersistedEvent], new: New, *, content: bool
    ) -> RoomPart:
        """`events`: the newest first."""
        room = await self._rooms.get(room_nid)
        shown = events[:MAX_MESSAGES]
        senders = {each.event.sender for each in shown}
        people = await self._names(room, senders)
        messages = [self._message(each, people, content=content) for each in reversed(shown)]
        invite = new.badge.rooms.rooms[room_nid].membership == INVITE
        if events[0].flags & OUTLIER:
            name = await self._name_elsewhere(events[0])
        else:
            name = await self._room_name(room, new.badge.user_id)
        room_id = (await self._interning.rooms([room_nid]))[room_nid].room_id
        return RoomPart(room_id, name, messages, new.counts[room_nid] - len(shown), invite)

    def _message(self, persisted: PersistedEvent, people: Mapping[str, str], *, content: bool) -> Message:
        event = persisted.event
        text, kind = text_of(event)
        return Message(
            event.event_id,
            people[event.sender],
            text if content else None,
            kind,
            event.origin_server_ts,
        )

    async def _names(self, room: Room, user_ids: set[UserId]) -> dict[str, str]:
        """What people are called in a room; their ids where they are called nothing."""
        keys = {user_id: room.state.get(("m.room.member", user_id), 0) for user_id in user_ids}
        loaded = await self._events.load([nid for nid in keys.values() if nid])
        return {
            user_id: fit_name(_string(loaded.get(nid), "displayname")) or fit_name(user_id) or "?"
            for user_id, nid in keys.items()
        }

    async def _name_elsewhere(self, invite: PersistedEvent) -> str | None:
        """Of a room that this server is not in, as the other server has told it with the invite."""
        told = await told_elsewhere(self._db, [invite.nid])
        name = described(StrippedRoom(invite, list(told.get(invite.nid, ())))).get("name")
        return fit_name(json.loads(name)) if name is not None else None

    async def _room_name(self, room: Room, reader: UserId) -> str | None:
        """spec: client-server-api/#calculating-the-display-name-for-a-room"""
        naming = await self._events.load(naming_events(room))
        for key, property_name in NAMES.items():
            if name := fit_name(_string(naming.get(room.state.get(key, 0)), property_name)):
                return name
        heroes = heroes_of(room, reader, naming)
        names = await self._names(room, set(heroes))
        return fit_name(", ".join(names[user_id] for user_id in heroes))


def _string(persisted: PersistedEvent | None, name: str) -> str:
    value: Any = persisted.event.content.get(name) if persisted is not None else None
    return value if isinstance(value, str) else ""
