"""Branches of a room as other servers would send them: events built on chosen parents, received, never sent from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, build_event, next_depth, reference_to
from homeserver.events.event import Event, StateKey
from homeserver.events.parse import event_from_storage
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.matrix import canonical_json
from homeserver.matrix.ids import RoomId, UserId
from tests.support.graph import Process

State = dict[StateKey, Event]


class Elsewhere:
    """Another server's view: builds events on chosen parents, with the state it believes in."""

    def __init__(self, here: Process, base: State) -> None:
        self._identity = here.core.identity
        self.base = base
        self._now = here.core.clock.now_ms()

    def event(self, room: str, parents: Sequence[Event], state: State, draft: EventDraft) -> Event:
        version = parents[0].room_version
        keys = auth_keys_for(draft.type, draft.state_key, draft.sender, draft.content, version)
        self._now += 1
        return build_event(
            draft,
            room_id=RoomId(room),
            room_version=version,
            prev=[reference_to(parent) for parent in parents],
            auth=[reference_to(state[key]) for key in keys if key in state],
            depth=next_depth((parent.depth for parent in parents), version),
            origin_server_ts=self._now,
            server_name=self._identity.server_name,
            signing_key=self._identity.key,
        )

    def message(
        self, room: str, parent: Event, sender: str, state: State, *also_cited: Event, **more: Any
    ) -> Event:
        """A message that cites what it is given, right or wrong. `more`: `depth`, `event_id` (versions 1 and 2)."""
        version = parent.room_version
        keys = auth_keys_for("m.room.message", None, sender, {}, version)
        cited = [*[state[key] for key in keys if key in state], *also_cited]
        self._now += 1
        built = build_event(
            EventDraft("m.room.message", None, UserId(sender), {"msgtype": "m.text", "body": "x"}),
            room_id=RoomId(room),
            room_version=version,
            prev=[reference_to(parent)],
            auth=[reference_to(event) for event in cited],
            depth=more.get("depth") or next_depth([parent.depth], version),
            origin_server_ts=self._now,
            server_name=self._identity.server_name,
            signing_key=self._identity.key,
        )
        if "event_id" not in more:
            return built
        pdu = canonical_json.encode({**built.fields, "event_id": more["event_id"]})
        return event_from_storage(pdu, more["event_id"], built.room_id, version)

    def create(self, room: str, like: Event) -> Event:
        """Another m.room.create by the same user."""
        return build_event(
            EventDraft("m.room.create", "", like.sender, {**like.content, "again": True}),
            room_id=RoomId(room),
            room_version=like.room_version,
            prev=[],
            auth=[],
            depth=1,
            origin_server_ts=self._now,
            server_name=self._identity.server_name,
            signing_key=self._identity.key,
        )


async def state_of(here: Process, room_id: RoomId) -> State:
    room = await here.core.rooms.known(room_id)
    loaded = await here.core.events.load(room.state.values())
    return {key: loaded[nid].event for key, nid in room.state.items()}


class Fork:
    """A room as it is, and branches that begin there; each branch knows its own state."""

    def __init__(self, here: Process, room_id: RoomId, tip: Event, base: State) -> None:
        self._here = here
        self._room_id = room_id
        self._elsewhere = Elsewhere(here, base)
        self.tip = tip

    @classmethod
    async def of(cls, here: Process, room_id: RoomId) -> Fork:
        room = await here.core.rooms.known(room_id)
        persisted = await here.core.events.one(room.extremities[0].nid)
        assert persisted is not None
        return cls(here, room_id, persisted.event, await state_of(here, room_id))

    def branch(self) -> Branch:
        return Branch(self._elsewhere, self._room_id, self.tip)


class Branch:
    """One line of events; nothing is received here until somebody receives it."""

    def __init__(self, elsewhere: Elsewhere, room_id: RoomId, tip: Event) -> None:
        self._elsewhere = elsewhere
        self._room_id = room_id
        self.tip = tip
        self.state = dict(elsewhere.base)
        self.events: list[Event] = []

    def says(
        self,
        sender: str,
        kind: str,
        state_key: str | None,
        content: dict[str, Any],
        *also: Event,
        sticky_ms: int | None = None,
    ) -> Event:
        """The next event of the branch; `also` names further tips that it joins."""
        draft = EventDraft(kind, state_key, UserId(sender), content, sticky_ms=sticky_ms)
        event = self._elsewhere.event(self._room_id, [self.tip, *also], self.state, draft)
        self.tip = event
        self.events.append(event)
        if event.key is not None:
            self.state[event.key] = event
        return event


async def receive(here: Process, *events: Event) -> list[PersistedEvent]:
    """As if they came from elsewhere, one after the other."""
    return [await here.core.receiver.receive(event) for event in events]


async def receive_together(
    here: Process, room_id: RoomId, *events: Event, **more: Any
) -> list[PersistedEvent]:
    """As if they came from elsewhere, all at once. `more`: of `Receiver.receive_many`."""
    room = await here.core.rooms.known(room_id)
    return await here.core.receiver.receive_many(room.name.nid, events, **more)
