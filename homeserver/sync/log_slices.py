"""The slices of the recent log that were asked for lately. Long polls that wake together ask for the same one."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

from homeserver.graph.entry import EventEntry
from homeserver.log.entries import Entry, Position, Written
from homeserver.log.tail import Tail
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.recipients import EVERYBODY, NOBODY, RecipientIndex, RecipientSet

KEPT = 32
MAX_ENTRIES = 10_000
"""Longer slices are read from the database, room by room."""
MAX_LOOKED_THROUGH = 500
"""Of longer slices it is not worked out whom they concern."""


class LogSlices:
    """A projection: slices of the recent log, and whom they concern, kept while they are asked for; bounded caches."""

    def __init__(self, tail: Tail, recipients: RecipientIndex) -> None:
        self._tail = tail
        self._recipients = recipients
        self._kept: OrderedDict[tuple[Position, Position], LogSlice] = OrderedDict()
        self._concerns: OrderedDict[tuple[Position, Position], RecipientSet] = OrderedDict()

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._applied}

    def reset(self) -> None:
        self._kept.clear()
        self._concerns.clear()

    def _applied(self, _: Position, entry: EventEntry) -> None:
        if entry.persisted.redaction is not None:
            self._kept.clear()  # what a redaction waited for has come, and the redaction itself is shown from now on

    def between(self, since: Position, upto: Position) -> LogSlice | None:
        """Entries in (since, upto]; None if memory does not reach back that far."""
        if since < self._tail.floor or upto - since > MAX_ENTRIES:
            return None
        key = (since, upto)
        found = self._kept.get(key)
        if found is None:
            by_type: dict[type[Entry], list[Written[Any]]] = defaultdict(list)
            for written in self._tail.since(since):
                if written.position > upto:
                    break
                by_type[type(written.entry)].append(written)
            found = self._kept[key] = LogSlice(by_type)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def concern(self, since: Position, upto: Position) -> RecipientSet:
        """Whom entries in (since, upto] concern; everybody where that takes too long to find out."""
        if since == upto:
            return NOBODY
        key = (since, upto)
        found = self._concerns.get(key)
        if found is None:
            log_slice = self.between(since, upto) if upto - since <= MAX_LOOKED_THROUGH else None
            found = EVERYBODY if log_slice is None else self._recipients.concern(log_slice)
            self._concerns[key] = found
            if len(self._concerns) > KEPT:
                self._concerns.popitem(last=False)
        return found
