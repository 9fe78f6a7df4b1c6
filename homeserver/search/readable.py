"""Where somebody may search, and which of the matches they may see.

Rooms they are in, and rooms they have left, up to then; no rooms that are encrypted. What is found is looked at event by event, as
everywhere (`graph.read.visibility`), but for rooms that they see all of.

spec: client-server-api/#server-side-search: "all rooms that the user has been in, including those that they have left. Only events
that the user is allowed to see will be searched" (SRCH-01)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from homeserver.events.event import StateKey
from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.read.visibility import NEVER, Viewer, VisibilityFilter
from homeserver.graph.refs import BAN, JOIN, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix.ids import RoomId
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.turns import next_turn, pieces
from homeserver.search import store
from homeserver.search.indexer import ENCRYPTION
from homeserver.search.matches_store import Match
from homeserver.storage.database import Database

CREATE: StateKey = ("m.room.create", "")
MAX_NAMED: Final = 1_000
"""Rooms of a filter that count."""
MAX_PREDECESSORS: Final = 20
"""Upgrades that are followed back."""
MANY: Final = 20
"""Matches in a room from which it is worth asking whether all of it may be seen."""
AT_ONCE: Final = 200
"""Matches looked at in one turn of the event loop."""


class Readable:
    """Tells where somebody may search, and what of it they may see. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        events: EventCache,
        interning: Interning,
        memberships: Memberships,
        visibility: VisibilityFilter,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._interning = interning
        self._memberships = memberships
        self._visibility = visibility

    async def rooms(self, viewer: Viewer, wanted: RoomEventFilter) -> dict[int, Position]:
        """room_nid -> up to where. Rooms of the filter stand for those that they replaced, too."""
        own = (await self._memberships.of(viewer.user_nid)).rooms
        known = [
            nid for nid, each in own.items() if each.membership in (JOIN, LEAVE, BAN) and not each.forgotten
        ]
        if wanted.chooses_rooms and known:
            known = await self._chosen(known, wanted)
        if not known:
            return {}
        left = [nid for nid in known if own[nid].membership != JOIN]
        keys = await self._interning.find_key_nids([ENCRYPTION])
        async with self._db.read() as tx:
            ends = dict(await store.find_departures(tx, viewer.user_nid, left)) if left else {}
            encrypted = await store.find_encrypted(tx, known, list(keys.values())) if keys else set()
        return {
            nid: NEVER if own[nid].membership == JOIN else ends[nid]
            for nid in known
            if nid not in encrypted and (own[nid].membership == JOIN or nid in ends)
        }

    async def seen(
        self, viewer: Viewer, rooms: Mapping[int, Position], matches: Sequence[Match]
    ) -> list[Match]:
        """Those that the viewer may see, with the edit whose words they have; order kept."""
        before = [each for each in matches if max(each.event_nid, each.edit_nid) <= rooms[each.room_nid]]
        by_room: dict[int, list[Match]] = {}
        for match in before:
            by_room.setdefault(match.room_nid, []).append(match)
        loaded = await self._rooms.get_many(by_room)
        erased = await self._visibility.erased()
        unsure: list[Match] = []
        for nid, some in by_room.items():
            if len(some) >= MANY and await self._visibility.sees_all(viewer, loaded[nid]):
                unsure += [match for match in some if match.sender_nid in erased]
            else:
                unsure += some
        hidden = await self._hidden(viewer, loaded, unsure)
        return [match for match in before if match.event_nid not in hidden]

    async def _hidden(self, viewer: Viewer, rooms: Mapping[int, Room], matches: Sequence[Match]) -> set[int]:
        hidden: set[int] = set()
        for some in pieces(matches, AT_ONCE):
            wanted = {nid for match in some for nid in (match.event_nid, match.edit_nid) if nid}
            events = await self._events.load(wanted)
            pages: dict[Room, list[int]] = {}
            for nid, persisted in events.items():
                pages.setdefault(rooms[persisted.room_nid], []).append(nid)
            seen = await self._visibility.many(
                viewer, {room: [events[nid] for nid in nids] for room, nids in pages.items()}
            )
            # What was stripped for this viewer says nothing that they could search.
            whole = {
                item.persisted.nid
                for items in seen.values()
                for item in items
                if item.persisted is events[item.persisted.nid]
            }
            hidden |= {
                match.event_nid
                for match in some
                if match.event_nid not in whole or (match.edit_nid and match.edit_nid not in whole)
            }
            await next_turn()
        return hidden

    # --- rooms of a filter -------------------------------------------------------------------------------------------

    async def _chosen(self, known: Sequence[int], wanted: RoomEventFilter) -> list[int]:
        """Of the rooms one knows those that a filter wants, with what they have replaced."""
        ids = {name.room_id: nid for nid, name in (await self._interning.rooms(known)).items()}
        unwanted = frozenset(wanted.not_rooms)
        refused = {nid for room_id, nid in ids.items() if room_id in unwanted}
        if wanted.rooms is None:
            return [nid for nid in known if nid not in refused]
        named = dict.fromkeys(ids[RoomId(each)] for each in wanted.rooms if each in ids)
        chosen: dict[int, None] = dict.fromkeys(islice(named, MAX_NAMED))
        newest = list(chosen)
        for _ in range(MAX_PREDECESSORS):
            before = await self._predecessors(newest)
            newest = [ids[each] for each in before if each in ids and ids[each] not in chosen]
            if not newest:
                break
            chosen.update(dict.fromkeys(newest))
        return [nid for nid in chosen if nid not in refused]

    async def _predecessors(self, room_nids: Collection[int]) -> list[RoomId]:
        """Rooms that these say to have replaced. spec: client-server-api/#room-upgrades"""
        keys = await self._interning.find_key_nids([CREATE])
        async with self._db.read() as tx:
            nids = await store.find_state(tx, room_nids, list(keys.values()))
        found = []
        for persisted in (await self._events.load(nids)).values():
            predecessor = persisted.event.content.get("predecessor")
            old = predecessor.get("room_id") if isinstance(predecessor, dict) else None
            if isinstance(old, str):
                found.append(RoomId(old))
        return found
