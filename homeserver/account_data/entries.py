"""Account data as a log entry, and its sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from typing_extensions import override

from homeserver.account_data import store
from homeserver.log.entries import Append, Conflict, Entry, Position, Refused, StructSink, Written
from homeserver.storage.tx import Pipeline

GLOBAL = 0
"""`room_nid` of data that belongs to no room."""


class AccountDataEntry(Entry, frozen=True):
    """One type of a user's account data has new content."""

    user_nid: int
    room_nid: int
    type: str
    content: bytes
    """JSON object."""
    built_on: Position | None = None
    """Where the content stood that this one was made from, 0 if there was none; None: it replaces whatever there is."""


class AccountDataSink(StructSink[AccountDataEntry]):
    """Into `account_data`; of several changes in one batch the last counts."""

    kind = "account_data"
    entry_type = AccountDataEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[AccountDataEntry]]) -> None:
        last = {(e.user_nid, e.room_nid, e.type): (position, e.content) for position, e in written}
        store.upsert(batch, [(*key, *value) for key, value in last.items()])

    def check(self, batch: Pipeline, appends: Sequence[Append]) -> Callable[[Refused], Refused]:
        """Refuse what was made from content that is no longer the last."""
        built = {
            number: [e for e in append.entries if isinstance(e, AccountDataEntry) and e.built_on is not None]
            for number, append in enumerate(appends)
        }
        keys = [_key(entry) for entries in built.values() for entry in entries]
        found = store.find_positions(batch, keys) if keys else None

        def outdated(refused: Refused) -> Refused:
            if found is None:
                return {}
            stand = {(user, room, kind): position for user, room, kind, position in found.result}
            conflicts: Refused = {}
            for number, append in enumerate(appends):
                if number in refused:
                    continue
                if any(stand.get(_key(entry), 0) != entry.built_on for entry in built[number]):
                    conflicts[number] = Conflict("this account data has changed")
                    continue
                stand.update(
                    {_key(e): _OF_THIS_BATCH for e in append.entries if isinstance(e, AccountDataEntry)}
                )
            return conflicts

        return outdated

    def undo(self, appends: Sequence[Append]) -> None:
        """Nothing was noted on the entries."""


_OF_THIS_BATCH = -1
"""Stands where a position is not given out yet: nobody can have built on it."""


def _key(entry: AccountDataEntry) -> tuple[int, int, str]:
    return entry.user_nid, entry.room_nid, entry.type
