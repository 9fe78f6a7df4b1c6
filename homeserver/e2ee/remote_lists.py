"""Device lists of other servers' users: what is kept, and what makes it doubtful.

A list is kept for users who share a room with somebody here, since their server tells us what changes then. It is *fresh* while
nothing speaks against it; what does (a change that was missed, a membership that ended or began) makes another `version` of it,
so that an answer that was asked for before is not kept.

spec: server-server-api/#device-management (FED-30, FED-31), #end-to-end-encryption (FED-33)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from homeserver.e2ee import remote_store
from homeserver.e2ee.entries import DeviceListEntry, RemoteListsEntry
from homeserver.e2ee.types import DeviceRow, ListRow, SigningRow
from homeserver.graph.interning import Interning
from homeserver.log.entries import Written
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import UserId
from homeserver.runtime.turns import pieces
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline

MAX_DEVICES: Final = 1_000
"""Of one user."""
AT_ONCE: Final = 1_000
"""Users of one entry of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteList:
    """A list as its server has told it."""

    asked: ListRow
    """What `begin` has said."""
    stream_id: int | None
    devices: Sequence[DeviceRow]
    signing: Sequence[SigningRow]
    """At most the master and the self-signing key."""


class DeviceChange(NamedTuple):
    """What a server says of one device of its user."""

    device: DeviceRow | None
    """None: it is no more."""
    device_id: str
    stream_id: int
    before: int | None
    """The version that this one follows; None: it does not say, or names several."""


class RemoteLists:
    """Keeps lists. Owns their tables; holds nothing in memory."""

    def __init__(self, db: Database, log: LogWriter, interning: Interning) -> None:
        self._db = db
        self._log = log
        self._interning = interning

    async def begin(self, users: Collection[UserId]) -> dict[UserId, ListRow]:
        """To be called before lists are fetched: those of users who share a room with somebody here are worth keeping."""
        nids = await self._interning.find_user_nids(users)
        if not nids:
            return {}
        async with self._db.read() as tx:
            sharing = await remote_store.find_sharing(tx, list(nids.values()))
        if not sharing:
            return {}
        async with self._db.transaction() as tx:
            rows = {row.user_nid: row for row in await remote_store.begin(tx, sharing)}
        return {user: rows[nid] for user, nid in nids.items() if nid in rows}

    async def keep(self, lists: Sequence[RemoteList]) -> set[int]:
        """Keep what has come, unless something has happened to a list since `begin`. Returns the numbers of the users of whom
        something else was kept before.
        """
        by_nid = {each.asked.user_nid: each for each in lists}
        asked = [(nid, each.asked.version, each.stream_id) for nid, each in by_nid.items()]
        async with self._db.transaction() as tx:
            kept = await remote_store.settle(tx, asked)
            if not kept:
                return set()
            async with tx.pipeline() as batch:
                before = remote_store.find_devices(batch, sorted(kept))
            devices = [row for nid in kept for row in by_nid[nid].devices]
            async with tx.pipeline(commit=True) as batch:
                remote_store.replace_devices(batch, kept, devices)
                signing = [row for nid in kept for row in by_nid[nid].signing]
                remote_store.replace_signing_keys(batch, kept, signing)
        return {row.user_nid for row in set(before.result) ^ set(devices)}

    async def find(self, user_nid: int) -> ListRow | None:
        """None: nobody here has asked."""
        async with self._db.read() as tx:
            return next(iter(await remote_store.find_lists(tx, [user_nid])), None)

    async def change(self, user_nid: int, user_id: UserId, change: DeviceChange) -> bool:
        """A device is another one; clients hear of it. Returns whether what is kept has become doubtful: something was missed.

        The same change again changes nothing.
        """
        doubtful: list[Later[list[tuple[bool]]]] = []

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            remote_store.advance(batch, user_nid, change.before, change.stream_id)
            if change.device is not None:
                remote_store.upsert_device(batch, change.device, change.stream_id, MAX_DEVICES)
            else:
                remote_store.delete_device(batch, user_nid, change.device_id, change.stream_id)
            doubtful.append(remote_store.distrust_unless(batch, user_nid, change.stream_id))

        entry = DeviceListEntry(user_nid, user_id, devices=(change.device_id,))
        await self._log.append(entry, alongside=write)
        return any(was_fresh for (was_fresh,) in doubtful[-1].result)

    async def change_signing_keys(self, user_nid: int, user_id: UserId, rows: Sequence[SigningRow]) -> None:
        """Cross-signing keys are others; clients hear of it."""

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            remote_store.upsert_signing_keys(batch, rows)
            remote_store.touch(batch, user_nid)

        await self._log.append(DeviceListEntry(user_nid, user_id, devices=()), alongside=write)

    async def tell(self, user_nid: int, user_id: UserId) -> None:
        """What is kept is another list now; clients hear of it."""
        await self._log.append(DeviceListEntry(user_nid, user_id, devices=()))

    async def disregard(self, user_nid: int) -> None:
        """Something has changed of which nobody has to hear: what is kept is doubtful already."""
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            remote_store.touch(batch, user_nid)

    async def distrust(self, users: Mapping[int, UserId], *, tell: bool = False) -> None:
        """What is kept of these users may be wrong. `tell`: clients hear of it."""
        for some in pieces(users.items(), AT_ONCE):
            nids = [nid for nid, _ in some]

            def write(batch: Pipeline, _: Sequence[Written[Any]], nids: Sequence[int] = nids) -> None:
                remote_store.distrust(batch, nids)

            if tell:
                entries = [DeviceListEntry(nid, user_id, devices=()) for nid, user_id in some]
                await self._log.append(*entries, alongside=write)
            else:
                await self._log.append(RemoteListsEntry(some), alongside=write)

    async def distrust_rooms(self, room_nids: Collection[int], user_nids: Collection[int]) -> None:
        """What is kept of these users, and of everybody in these rooms, may be wrong."""
        async with self._db.read() as tx:
            nids = set(await remote_store.find_kept_in(tx, list(room_nids))) if room_nids else set()
            if user_nids:
                nids |= {row.user_nid for row in await remote_store.find_lists(tx, list(user_nids))}
        if nids:
            await self.distrust(await self._interning.user_ids(nids))
