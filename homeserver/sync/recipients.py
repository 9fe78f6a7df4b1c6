"""Whom entries of the log concern, as the streams of `/sync` declare it: who is woken, and who need not be looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from homeserver.log.entries import Entry
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.types import Recipients


class RecipientSet(NamedTuple):
    """Whom a slice of the log concerns."""

    users: frozenset[int]
    """user_nids."""
    rooms: frozenset[int]
    """Everybody joined to one of them."""
    everybody: bool

    def reaches(self, user_nid: int, joined: frozenset[int]) -> bool:
        """Whether there may be news for a user joined to these rooms; if not, there is none."""
        return self.everybody or user_nid in self.users or not self.rooms.isdisjoint(joined)


EVERYBODY = RecipientSet(frozenset(), frozenset(), everybody=True)
NOBODY = RecipientSet(frozenset(), frozenset(), everybody=False)


class RecipientIndex:
    """What all streams have declared of whom entries concern."""

    def __init__(self) -> None:
        self._by_type: dict[type[Entry], list[Callable[[Any], Recipients]]] = {}

    def add(self, recipients: Mapping[type[Entry], Callable[[Any], Recipients]]) -> None:
        """Learn whom entries concern."""
        for entry_type, of_entry in recipients.items():
            self._by_type.setdefault(entry_type, []).append(of_entry)

    def of(self, entry: Entry) -> Iterable[Recipients]:
        """Whom one entry concerns, by what each stream says."""
        for recipients in self._by_type.get(type(entry), ()):
            yield recipients(entry)

    def concern(self, log_slice: LogSlice) -> RecipientSet:
        """Whom a slice concerns."""
        users: set[int] = set()
        rooms: set[int] = set()
        for entry_type, written in log_slice.items():
            for recipients in self._by_type.get(entry_type, ()):
                for _, entry in written:
                    found = recipients(entry)
                    if found.everybody:
                        return EVERYBODY
                    users.update(found.users)
                    rooms.update(found.rooms)
                    if found.room is not None:
                        rooms.add(found.room)
        return RecipientSet(frozenset(users), frozenset(rooms), everybody=False)
