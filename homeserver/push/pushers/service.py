"""Setting, listing and ending pushers. A pusher belongs to the session that set it.

spec: client-server-api/#push-notifications (PUSH-15, PUSH-17)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.devices.types import DeviceChange
from homeserver.log.entries import Entry, Written
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import UserId
from homeserver.push.pushers import store
from homeserver.push.pushers.types import MAIL_APP, MAX_PUSHERS, Pusher, PushersChanged
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline


class PusherService:
    """Keeps nothing in memory. Also the `DeviceListener` with which pushers end."""

    def __init__(self, db: Database, log: LogWriter) -> None:
        self._db = db
        self._log = log
        self._turns = KeyedLocks()

    async def list_of(self, user_nid: int) -> list[Pusher]:
        """A user's, in the order in which they were set."""
        async with self._db.read() as tx:
            return await store.list_of(tx, [user_nid])

    async def set(self, pusher: Pusher, *, append: bool) -> None:
        """Keep a pusher. `append`: leave what other users have with the same key. Raises `InvalidParam`."""
        async with self._turns.of(pusher.user_nid):
            async with self._db.read() as tx:
                own = await store.list_of(tx, [pusher.user_nid])
                others = (
                    []
                    if append
                    else await store.find_others(tx, pusher.user_nid, pusher.app_id, pusher.pushkey)
                )
            known = any(each[1:3] == pusher[1:3] for each in own)
            if not known and len(own) >= MAX_PUSHERS:
                raise InvalidParam(f"A user has at most {MAX_PUSHERS} pushers")

            def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
                if others:
                    store.delete(batch, others, [(pusher.app_id, pusher.pushkey)])
                store.upsert(batch, pusher)

            await self._log.append(*map(PushersChanged, [pusher.user_nid, *others]), alongside=write)

    async def delete(self, user_nid: int, app_id: str, pushkey: str) -> None:
        """End a pusher, if there is one."""

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.delete(batch, [user_nid], [(app_id, pushkey)])

        await self._log.append(PushersChanged(user_nid), alongside=write)

    async def address_removed(self, user_nid: int, address: str) -> None:
        """An e-mail address is no longer the user's: it gets no mail about what they have not read."""
        async with self._db.read() as tx:
            own = await store.list_of(tx, [user_nid])
        if any((each.app_id, each.pushkey) == (MAIL_APP, address) for each in own):
            await self.delete(user_nid, MAIL_APP, address)

    async def rejected(self, gone: Sequence[Pusher]) -> None:
        """A gateway does not know these pushers of one user any more. spec: push-gateway-api/ op:notify `rejected`"""

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.delete_unchanged(batch, gone)

        await self._log.append(PushersChanged(gone[0].user_nid), alongside=write)

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """The account has ended."""

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.delete_of_user(batch, user_nid)

        await self._log.append(PushersChanged(user_nid), alongside=write)

    # --- sessions that end ---------------------------------------------------------------------------------------------

    def deletion_entries(self, change: DeviceChange) -> Sequence[Entry]:
        """See `DeviceListener`."""
        return [PushersChanged(change.user_nid)]

    def on_devices_deleted(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """See `DeviceListener` (PUSH-17)."""
        del written
        store.delete_of_devices(batch, change.user_nid, change.device_ids)

    def rename_entries(self, change: DeviceChange) -> Sequence[Entry]:
        """See `DeviceListener`."""
        del change
        return ()

    def on_devices_renamed(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        """See `DeviceListener`."""
