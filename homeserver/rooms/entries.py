"""Log entries of the rooms feature that are no events."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.rooms import store
from homeserver.storage.tx import Pipeline


class ForgetEntry(Entry, frozen=True):
    """A user wants to hear no more of a room they have left."""

    user_nid: int
    room_nid: int
    left_at: Position
    """Position of the membership event that is forgotten; a later one brings the room back."""


class AliasesChanged(Entry, frozen=True):
    """A room has got an alias of this server, or lost one."""

    room_nid: int


class AliasesChangedSink(StructSink[AliasesChanged]):
    """Nothing but the feed: the table is written alongside."""

    kind = "aliases"
    entry_type = AliasesChanged


class ForgetSink(StructSink[ForgetEntry]):
    """Into `forgotten_rooms`."""

    kind = "forget"
    entry_type = ForgetEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[ForgetEntry]]) -> None:
        store.add_forgotten(batch, [(e.user_nid, e.room_nid, e.left_at) for _, e in written])
