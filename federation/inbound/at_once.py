"""The short way: a transaction of messages that continue a room is in it before the transaction is answered: nothing is staged.

What is answered is in the log then, durably, with the transaction's answer in the same commit. Whatever is not plain (a gap, keys
that have to be fetched, a room at work, a database that takes its time) goes the long way, which also takes what was begun here:
an event that is here already is passed over.
spec: server-server-api/#transactions (FED-08, FED-09), #checks-performed-on-receipt-of-a-pdu (FED-10)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from federation.inbound import store
from federation.inbound.service import Inbound
from federation.ports import Checked
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Written
from homeserver.matrix.ids import EventId, ServerName
from homeserver.storage.tx import Pipeline

_log = structlog.get_logger("atrium.federation.inbound")

MAX_BYTES: Final = 256 << 10
"""Of the events. More are long to encode and to write, and may not fit into one append: they are staged."""
PATIENCE: Final = 1.0
"""Seconds; then the transaction is staged."""


class AtOnce:
    """Takes messages without staging them. Owns which rooms it is taking some into."""

    def __init__(self, inbound: Inbound, events: EventCache) -> None:
        self._inbound = inbound
        self._events = events
        self._busy: set[int] = set()

    async def take(
        self, room: Room, events: Sequence[Event], transaction: tuple[ServerName, str, bytes]
    ) -> bool:
        """Whether the events, of one room and the right form, are in it, durably, and the transaction's answer is kept: (origin,
        transaction id, answer). If not, they have to be staged.
        """
        room_nid = room.name.nid
        if not self._may(room, events):
            return False
        self._busy.add(room_nid)
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._receive(room, events, transaction)
        except Exception as error:  # noqa: BLE001  # the long way tells what is wrong
            _log.debug("inbound.not_at_once", room=room.name.room_id, cause=type(error).__name__)
            return False
        finally:
            self._busy.discard(room_nid)

    def _may(self, room: Room, events: Sequence[Event]) -> bool:
        """Whether they are messages on the room's newest events, and nothing else is done there. From memory."""
        room_nid = room.name.nid
        if room_nid in self._busy or self._inbound.works_on(room_nid) or self._inbound.turns.locked():
            return False
        if sum(len(event.pdu) for event in events) > MAX_BYTES:
            return False
        newest = {ref.event_id for ref in room.extremities}
        for event in events:
            if (
                event.key is not None
                or not event.prev_event_ids
                or not newest.issuperset(event.prev_event_ids)
            ):
                return False
            if not all(self._is_here(room, each) for each in event.auth_event_ids):
                return False
            newest.add(event.event_id)
        return True

    def _is_here(self, room: Room, event_id: EventId) -> bool:
        there = self._events.whole(event_id)
        return there is not None and there.room_nid == room.name.nid

    async def _receive(
        self, room: Room, events: Sequence[Event], transaction: tuple[ServerName, str, bytes]
    ) -> bool:
        parts = self._inbound.parts
        results = await parts.checker.check(events, room.name.version)
        checked = [each.event for each in results if isinstance(each, Checked)]
        if [event.event_id for event in checked] != [event.event_id for event in events]:
            return False

        def remember(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.remember(batch, transaction)

        complete = await parts.policy.complete(room, checked)
        async with self._inbound.turns:  # nothing remote is awaited within
            await parts.receiver.receive_many(room.name.nid, complete, alongside=remember)
        return True
