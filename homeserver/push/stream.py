"""Rooms whose counts change though nothing happens in them: the user has read, or ignores somebody else. In `/sync`.

The counts themselves are added to every room of an answer (`counts.py`); this says which rooms must be in it for their sake.

spec: client-server-api/#receiving-notifications (SYNC-11)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.account_data.entries import IGNORED, AccountDataEntry
from homeserver.log.entries import Entry
from homeserver.push import store
from homeserver.receipts.types import ReceiptEntry
from homeserver.storage.database import Database
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest


class UnreadStream:
    """The stream of `/sync` for rooms whose counts changed by what their reader did elsewhere."""

    always_asked = False

    def __init__(self, db: Database) -> None:
        self._db = db

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """Who reads, and who changes whom they ignore."""
        return {
            ReceiptEntry: lambda entry: Recipients((entry.user_nid,)),
            AccountDataEntry: lambda entry: (
                Recipients((entry.user_nid,)) if entry.type == IGNORED else Recipients()
            ),
        }

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        if request.since is None:
            return NO_NEWS
        user_nid = request.requester.user_nid
        if request.unwanted.since > request.since:
            return Part(rooms={nid: {} for nid in rooms.joined_nids})
        if request.recent is not None:
            receipts = request.recent.of(ReceiptEntry)
            if not receipts:
                return NO_NEWS
            read = {entry.room_nid for _, entry in receipts if entry.user_nid == user_nid}
        else:
            async with self._db.read() as tx:
                read = set(
                    await store.find_read_since(
                        tx, user_nid, list(rooms.joined_nids), request.since, request.upto
                    )
                )
        return Part(rooms={nid: {} for nid in read if nid in rooms.joined_nids})
