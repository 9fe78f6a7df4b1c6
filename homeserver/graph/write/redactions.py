"""Redactions that come from elsewhere: they take effect, and are shown, when both events are here and the rules allow it.

Either may come first. A redaction that waits is kept from clients, and so is one that nobody was entitled to.
spec: rooms/v3/#handling-redactions (RED-02)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.events.auth_rules.redaction import may_apply
from homeserver.events.ended_stays import asks_to_redact, may_redact_all
from homeserver.events.event import Event, StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import HIDDEN, INTERNAL
from homeserver.graph.state.states import StateMap, StateStore
from homeserver.matrix.ids import EventId
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline

REDACTION = "m.room.redaction"
CREATE: StateKey = ("m.room.create", "")
MAX_WAITING = 20
"""Redactions of one event that are looked at when it comes, oldest first."""


class Effect(NamedTuple):
    """What a redaction does now."""

    target: PersistedEvent | None = None
    """It takes effect on this."""
    flags: int = 0
    waits_for: EventId | None = None
    """It waits for this event."""


def effect_of(
    event: Event, target: PersistedEvent | None, room_nid: int, state: Mapping[StateKey, Event]
) -> Effect:
    """Of an event that was accepted; `state`: what the rules look at of that before it. `target`: what it redacts, if that is here.

    Nothing for what is no redaction.
    """
    if event.type != REDACTION or event.redacts is None:
        return Effect()
    if target is None:
        return Effect(flags=INTERNAL, waits_for=event.redacts)
    if target.room_nid != room_nid or not may_apply(event, target.event, state, event.room_version):
        return Effect(flags=INTERNAL)
    return Effect(None if target.redaction is not None else target)


def ends(ended: PersistedEvent | None, stay: PersistedEvent | None) -> bool:
    """Whether a membership event followed on another one of the same user."""
    if ended is None or ended.replaced is None or stay is None:
        return False
    return ended.replaced.event_id == stay.event.event_id


class Redactions:
    """Finds redactions that were here before their targets. Keeps nothing in memory."""

    def __init__(self, db: Database, events: EventCache, states: StateStore, interning: Interning) -> None:
        self._db = db
        self._events = events
        self._states = states
        self._interning = interning

    @staticmethod
    def waited_for(
        batch: Pipeline, room_nid: int, event_ids: Collection[EventId]
    ) -> Later[list[tuple[EventId]]]:
        """Those of the events that redactions wait for."""
        return batch.all(
            """
            SELECT DISTINCT redacts FROM waiting_redactions
            WHERE redacts = ANY(%(ids)s::text[]) AND room_nid = %(room)s
            """,
            ids=list(event_ids),
            room=room_nid,
        )

    async def waiting_for(self, room_nid: int, event: Event) -> PersistedEvent | None:
        """The redaction that was here before the event and takes effect on it."""
        async with self._db.read() as tx:
            nids: list[int] = await tx.column(
                """
                SELECT event_nid FROM waiting_redactions WHERE redacts = %(id)s AND room_nid = %(room)s
                ORDER BY event_nid LIMIT %(limit)s
                """,
                id=event.event_id,
                room=room_nid,
                limit=MAX_WAITING,
            )
        for redaction in (await self._events.load(nids)).values():
            state = await self._states.load(redaction.state_before.nid)
            if redaction.flags & HIDDEN == INTERNAL and await self._allowed(redaction.event, event, state):
                return redaction
        return None

    async def by_ended_stay(self, because: PersistedEvent) -> bool:
        """Whether an event that is shown redacts what its target has said: a kick or ban that says so, by who may. spec: MSC4293"""
        if because.flags & HIDDEN or not asks_to_redact(because.event):
            return False
        state = await self._states.load(because.state_before.nid)
        known = await relevant(self._interning, self._events, because.event, state)
        return may_redact_all(known, because.event.sender, because.event.room_version)

    async def _allowed(self, redaction: Event, target: Event, state: StateMap) -> bool:
        known = await relevant(self._interning, self._events, redaction, state)
        return may_apply(redaction, target, known, redaction.room_version)


async def relevant(
    interning: Interning, events: EventCache, event: Event, state: StateMap
) -> dict[StateKey, Event]:
    """What of a state the rules look at for an event."""
    keys = await interning.find_key_nids([*auth_keys_of(event), CREATE])
    loaded = await events.load([state[nid] for nid in keys.values() if nid in state])
    return {
        persisted.event.key: persisted.event
        for persisted in loaded.values()
        if persisted.event.key is not None
    }
