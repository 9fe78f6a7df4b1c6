"""What events of others wait for may come by other ways than they are asked for: in a transaction of another server, beside a join
of ours, as history that a client has paged to. The log tells of it here, and the rooms that wait are looked at again.

spec: server-server-api/#checks-performed-on-receipt-of-a-pdu, #backfilling-and-retrieving-missing-events (FED-10, FED-14)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from homeserver.graph.entry import ADOPTS, BackfillEntry, EventEntry
from homeserver.log.entries import Entry, Position
from homeserver.matrix.ids import EventId

MAX_WANTED: Final = 50_000
"""Event ids that are remembered; the oldest make room. Who waits for them is tried again later, as if nothing had come."""
MAX_ROOMS: Final = 10_000
"""Rooms with something that waits, likewise."""


class Awaited:
    """A projection. Owns which events are waited for, as far as this process knows, and in which rooms some have come."""

    def __init__(self) -> None:
        self._wanted: OrderedDict[EventId, int] = OrderedDict()
        """Event id -> room_nid."""
        self._rooms: OrderedDict[int, None] = OrderedDict()
        self._come: dict[int, None] = {}

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._apply, BackfillEntry: self._apply_older}

    def reset(self) -> None:
        """Some may have come that were not heard of."""
        self._come.update(self._rooms)

    def wait(self, room_nid: int, event_ids: Iterable[EventId]) -> None:
        """Something of the room waits for these."""
        for event_id in event_ids:
            self._wanted[event_id] = room_nid
        self._rooms[room_nid] = None
        while len(self._wanted) > MAX_WANTED:
            self._wanted.popitem(last=False)
        while len(self._rooms) > MAX_ROOMS:
            self._rooms.popitem(last=False)

    def learn(self, waiting: Mapping[int, Collection[EventId]]) -> None:
        """room_nid -> what is waited for there, as all processes have noted it; what had come before counts, too."""
        for room_nid, event_ids in waiting.items():
            self.wait(room_nid, event_ids)
            self._come[room_nid] = None

    def unknown(self, room_nids: Iterable[int]) -> list[int]:
        """Which of these rooms were not known to wait."""
        return [each for each in room_nids if each not in self._rooms]

    def keep(self, room_nids: Collection[int]) -> None:
        """In no others anything waits."""
        for each in [each for each in self._rooms if each not in room_nids]:
            del self._rooms[each]

    def come(self, most: int) -> list[int]:
        """Rooms in which something has come that was waited for; each is told once."""
        found = [*islice(self._come, most)]
        for each in found:
            del self._come[each]
        return found

    def again(self, room_nids: Iterable[int]) -> None:
        """These could not be looked at."""
        self._come.update(dict.fromkeys(room_nids))

    def _apply(self, _: Position, entry: EventEntry) -> None:
        if not self._rooms:
            return
        room_nid = entry.persisted.room_nid
        # Beside a join by way of another server, events have come that the log does not tell.
        if room_nid in self._rooms and (entry.opens_gap or entry.place == ADOPTS):
            self._come[room_nid] = None
        self._heard(entry.persisted.event.event_id)

    def _apply_older(self, _: Position, entry: BackfillEntry) -> None:
        if self._rooms:
            for _, each in entry.rows:
                self._heard(each.persisted.event.event_id)

    def _heard(self, event_id: EventId) -> None:
        room_nid = self._wanted.pop(event_id, None)
        if room_nid is not None:
            self._come[room_nid] = None
