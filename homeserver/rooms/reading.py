"""Reading rooms: state, members, single events.

spec: client-server-api/#getting-events-for-a-room (ROOM-18 to ROOM-21)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from homeserver.events.client_format import room_member
from homeserver.events.event import Event, StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible, as_state, plain_after
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, NotFound
from homeserver.matrix.ids import EventId, RoomId
from homeserver.rooms import store
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.memberships import Memberships
from homeserver.rooms.state_answers import EVENTS_AT_ONCE, MEMBER, Asked, StateAnswers
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database
from homeserver.web.auth import Requester


class ReadingService:
    """What clients may read of a room, as bytes ready to be sent."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        access: RoomAccess,
        bundles: Bundles,
        memberships: Memberships,
        interning: Interning,
        events: EventCache,
        visibility: VisibilityFilter,
        answers: StateAnswers,
        clock: Clock,
    ) -> None:
        self._db = db
        self._access = access
        self._bundles = bundles
        self._memberships = memberships
        self._interning = interning
        self._events = events
        self._visibility = visibility
        self._answers = answers
        self._clock = clock

    async def joined_rooms(self, requester: Requester) -> list[RoomId]:
        """Rooms the user is joined to."""
        user = await self._memberships.of(requester.user_nid)
        names = await self._interning.rooms(user.with_membership(JOIN))
        return [name.room_id for name in names.values()]

    async def is_published(self, room: Room) -> bool:
        """Whether the room is in the public directory."""
        async with self._db.read() as tx:
            return await store.is_published(tx, room.name.nid)

    async def state(self, requester: Requester, room_id: RoomId) -> bytes:
        """The whole state, as a JSON array of client events. Raises `Forbidden`."""
        access = await self._access.of(requester, room_id)
        if access.left_at is None:
            return await self._answers.state(*_who(requester), access.room)
        nids = await self._state_nids(requester, access, None)
        return await self._array(requester, access, nids.values())

    async def state_event(
        self, requester: Requester, room_id: RoomId, key: StateKey, *, whole: bool
    ) -> bytes:
        """One state event's content, or with `whole` the event. Raises `Forbidden`, `NotFound`."""
        access = await self._access.of(requester, room_id)
        nids = await self._state_nids(requester, access, [key])
        persisted = await self._events.one(nids[key]) if key in nids else None
        if persisted is None:
            raise NotFound("The room has no such state")
        if not whole:
            return json.dumps(persisted.event.content)
        return self._render(requester, access, [persisted])[0]

    async def members(
        self,
        requester: Requester,
        room_id: RoomId,
        *,
        at: Position | None,
        membership: str | None,
        not_membership: str | None,
    ) -> bytes:
        """Membership events, the whole answer; at a token, now, or as of the requester's leave. Raises `Forbidden`.

        `membership` and `not_membership` combine as OR (ROOM-19).
        """
        access = await self._access.of(requester, room_id, peek=False)
        asked = Asked(membership, not_membership)
        if access.left_at is None and (at is None or at >= access.room.same_since):
            return await self._answers.members(*_who(requester), access.room, asked)
        if at is not None:
            own = await self._access.own_since(requester, access, at)
            access = Access(access.room, await self._state_at(access, at), own[-1].nid if own else 0)
        state = await self._state_nids(requester, access, None)
        nids = [nid for (kind, _), nid in state.items() if kind == MEMBER]
        chunk = await self._array(requester, access, nids, lambda event: asked.wants(event.membership))
        return b'{"chunk":%b}' % chunk

    async def joined_members(self, requester: Requester, room_id: RoomId) -> bytes:
        """Who is joined now, with `display_name` and `avatar_url`: the whole answer (ROOM-20). Raises `Forbidden`."""
        access = await self._access.of(requester, room_id, peek=False)
        if access.left_at is not None:
            raise Forbidden("You are not in this room")
        return await self._answers.joined_members(access.room)

    async def event(self, requester: Requester, room_id: RoomId, event_id: EventId) -> bytes:
        """One event, if visible. Raises `NotFound`, also for what may not be seen: this call knows no 403."""
        viewer = Viewer(requester.user_id, requester.user_nid)
        room, seen = await self._seen(requester, room_id, event_id)
        return (await self._bundles.shown(viewer, requester.device_id, room, [seen]))[0]

    async def one(self, requester: Requester, room_id: RoomId, event_id: EventId) -> PersistedEvent:
        """The event itself. Raises as `event`."""
        return (await self._seen(requester, room_id, event_id))[1].persisted

    # --- inside --------------------------------------------------------------------------------------------------

    async def _seen(self, requester: Requester, room_id: RoomId, event_id: EventId) -> tuple[Room, Visible]:
        try:
            room = (await self._access.of(requester, room_id)).room
        except Forbidden:
            raise NotFound("There is no such event") from None
        persisted = await self._events.by_id(event_id)
        if persisted is None or persisted.room_nid != room.name.nid:
            raise NotFound("There is no such event")
        viewer = Viewer(requester.user_id, requester.user_nid)
        seen = await self._visibility.one(viewer, room, persisted)
        if seen is None:
            raise NotFound("There is no such event")
        return room, seen

    async def _state_nids(
        self, requester: Requester, access: Access, keys: Collection[StateKey] | None
    ) -> dict[StateKey, int]:
        """Numbers of the state events that may be read; all, or those of `keys` that are set."""
        if access.left_at is None:
            state = access.room.state
            return dict(state) if keys is None else {key: state[key] for key in keys if key in state}
        by_nid = await self._access.state(access.left_at)
        if keys is not None:
            numbers = await self._interning.find_key_nids(keys)
            found = {key: by_nid[nid] for key, nid in numbers.items() if nid in by_nid}
        else:
            names = await self._interning.keys(by_nid.keys())
            found = {names[key]: event for key, event in by_nid.items()}
        own: StateKey = (MEMBER, requester.user_id)
        if access.own and (keys is None or own in keys):
            found[own] = access.own  # their own membership is what it is now (HV-02)
        return found

    async def _state_at(self, access: Access, at: Position) -> int:
        """The state of the room when the log was at `at`: that after the last event up to there. Before the room's first
        event nobody was in it, and a whole timeline begins there: then that with its creator, who is in from the start.
        """
        upto = at if access.left_at is None else min(at, access.left_at)
        async with self._db.read() as tx:
            nid = await store.find_last_event(tx, access.room.name.nid, upto)
            if nid is None:
                nid = await store.find_first_member(tx, access.room.name.nid)
        persisted = await self._events.one(nid) if nid is not None else None
        return persisted.state_after_nid if persisted else 0

    async def _array(
        self,
        requester: Requester,
        access: Access,
        nids: Collection[int],
        wanted: Callable[[Event], bool] = lambda _: True,
    ) -> bytes:
        rendered: list[bytes] = []
        for some in pieces(list(nids), EVENTS_AT_ONCE):
            if len(nids) > EVENTS_AT_ONCE:
                await next_turn()
            loaded = await self._events.load(some)
            shown = [loaded[nid] for nid in some if nid in loaded and wanted(loaded[nid].event)]
            rendered += self._render(requester, access, shown)
        return b"[%b]" % b",".join(rendered)

    def _render(self, requester: Requester, access: Access, state: Iterable[PersistedEvent]) -> list[bytes]:
        reader, viewer = _who(requester)
        plain = plain_after(access.room, viewer)
        now_ms = self._clock.now_ms()
        room_id = room_member(access.room.name.room_id)
        return [
            persisted.render(reader, item.membership, now_ms, item.previous, members=room_id)
            for persisted in state
            for item in (as_state(plain, viewer, persisted),)
        ]


def _who(requester: Requester) -> tuple[Reader, Viewer]:
    return Reader(requester.user_nid, requester.device_id), Viewer(requester.user_id, requester.user_nid)
