"""Servers of one room without network or storage: each keeps the graph and computes states as the specification says.

A server that receives an event before its parents keeps it until they are there. What its auth events or the state before it
do not allow is rejected: it stays in the graph, changes no state, and nothing new is built on it.
"""

from __future__ import annotations

from typing import Any

from homeserver.events.auth_rules import Rejected, check, check_auth_events
from homeserver.events.event import Event, StateKey
from homeserver.events.state_resolution import StateMap, resolve
from homeserver.matrix.ids import EventId
from tests.support.factory import RoomFactory


class SimulatedServer:
    """One server's view of a room that exists elsewhere as a `RoomFactory`."""

    def __init__(self, room: RoomFactory) -> None:
        """Begin with the room as it is."""
        self._room = room
        self.version = room.version
        self.events: dict[EventId, Event] = dict(room.events)
        self.state_after: dict[EventId, StateMap] = {room.heads[0]: room.state_ids}
        self.heads: set[EventId] = set(room.heads)
        self.rejected: set[EventId] = set()
        self._waiting: list[Event] = []

    @property
    def state(self) -> StateMap:
        """The state this server believes in."""
        return self._resolve(self.heads)

    def create(self, event_type: str, content: dict[str, Any], *, by: str, key: str | None, ts: int) -> Event:
        """Build an event on all heads, allowed or not, and take it in."""
        branch = self._room.fork()
        branch.events, branch.state_ids = self.events, dict(self.state)
        branch.heads = tuple(sorted(self.heads))
        event = branch.draft(event_type, content, by=by, key=key, origin_server_ts=ts)
        self.receive(event)
        return event

    def receive(self, event: Event) -> None:
        """Take an event in, and whatever waited for it."""
        self._waiting.append(event)
        ready = True
        while ready:
            ready = [e for e in self._waiting if all(p in self.state_after for p in e.prev_event_ids)]
            for next_event in ready:
                self._waiting.remove(next_event)
                self._take_in(next_event)

    def _take_in(self, event: Event) -> None:
        if event.event_id in self.events:
            return
        self.events[event.event_id] = event
        before = self._resolve(event.prev_event_ids)
        if self._is_allowed(event, before):
            after = before if event.key is None else {**before, event.key: event.event_id}
            self.heads = (self.heads - set(event.prev_event_ids)) | {event.event_id}
        else:
            after = before
            self.rejected.add(event.event_id)
        self.state_after[event.event_id] = after

    def _is_allowed(self, event: Event, before: StateMap) -> bool:
        auth_events = [self.events[event_id] for event_id in event.auth_event_ids]
        by_auth_events = {auth_event.key: auth_event for auth_event in auth_events}
        by_auth_events[("m.room.create", "")] = self._room.create
        try:
            check_auth_events(event, auth_events, self.rejected)
            check(event, by_auth_events, self.version)  # type: ignore[arg-type]  # only state events pass the line above
            check(event, self._events_of(before), self.version)
        except Rejected:
            return False
        return True

    def _events_of(self, state: StateMap) -> dict[StateKey, Event]:
        return {key: self.events[event_id] for key, event_id in state.items()}

    def _resolve(self, event_ids: Any) -> StateMap:
        states = [self.state_after[event_id] for event_id in event_ids]
        return resolve(states, self.events, self.version, rejected=self.rejected)
