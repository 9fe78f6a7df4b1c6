"""Branches of a room, as other servers would send them: built here, received like any event from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import EventDraft, build_event, next_depth, reference_to
from homeserver.events.event import Event, StateKey
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import REJECTED
from homeserver.matrix.ids import RoomId, UserId
from homeserver.wiring.core import Core


class Branch:
    """One server's view of a room: what it sends is built on what it sent before."""

    def __init__(self, core: Core, state: Mapping[StateKey, int], tip: PersistedEvent) -> None:
        """`state`: key -> event_nid at the tip."""
        self.tip = tip
        self._core = core
        self._state_before = dict(state)
        self._own: dict[StateKey, Event] = {}

    async def send(
        self, sender: str, kind: str, key: str | None, content: Mapping[str, Any], *others: PersistedEvent
    ) -> PersistedEvent:
        """An event that the rules allow here, received. `others`: further events it stands on."""
        parents = [self.tip.event, *(other.event for other in others)]
        version = parents[0].room_version
        keys = auth_keys_for(kind, key, sender, content, version)
        state = await self._state(keys)
        event = build_event(
            EventDraft(kind, key, UserId(sender), content),
            room_id=RoomId(parents[0].room_id),
            room_version=version,
            prev=[reference_to(parent) for parent in parents],
            auth=[reference_to(state[each]) for each in keys if each in state],
            depth=next_depth([parent.depth for parent in parents], version),
            origin_server_ts=max(parent.origin_server_ts for parent in parents) + 1,
            server_name=self._core.server_name,
            signing_key=self._core.identity.key,
        )
        self.tip = await self._core.receiver.receive(event)
        assert not self.tip.flags & REJECTED
        if key is not None:
            self._own[kind, key] = event
        return self.tip

    async def _state(self, keys: list[StateKey]) -> dict[StateKey, Event]:
        wanted = [
            self._state_before[key] for key in keys if key not in self._own and key in self._state_before
        ]
        loaded = await self._core.events.load(wanted)
        found = {each.event.key: each.event for each in loaded.values() if each.event.key is not None}
        return found | {key: self._own[key] for key in keys if key in self._own}


async def branches(core: Core, room_id: RoomId, count: int) -> list[Branch]:
    """As many branches, all from the room's one extremity."""
    room = await core.rooms.known(room_id)
    (extremity,) = room.extremities
    tip = await core.events.one(extremity.nid)
    assert tip is not None
    return [Branch(core, room.state, tip) for _ in range(count)]
