"""Profiles: reading anyone's, changing one's own, and letting the rooms know.

spec: client-server-api/#profiles
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from homeserver.accounts.tasks import AccountTasks, user_task
from homeserver.log.entries import Conflict, Entry, Position
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.remembered import Remembered
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.policy.gate import Gate
from homeserver.policy.types import profile_act
from homeserver.profiles import fields as rules
from homeserver.profiles import store
from homeserver.profiles.entries import ProfileChanged
from homeserver.profiles.fields import REMOVED
from homeserver.profiles.store import Stored
from homeserver.profiles.types import (
    AVATAR_URL,
    DISPLAYNAME,
    Profile,
    ProfilePropagation,
    RemoteProfiles,
    UnknownUsers,
)
from homeserver.runtime.cache import MemoryBudget
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline
from homeserver.web.auth import Requester

PROPAGATE = user_task("propagate_profile")
_WAIT_SECONDS = 10.0
"""How long a client waits for its rooms to be told; what takes longer goes on without it."""
SHARE = 1.0
PROFILE_BYTES, DECODED = 500, 3
"""What a profile takes in the cache, and what each byte of it becomes when it is decoded."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ProfileCache(Remembered[UserId, Profile]):
    """Profiles of local users that were asked for lately: a projection of the log, in a bounded cache."""

    def __init__(self, memory: MemoryBudget) -> None:
        super().__init__(memory.cache("profiles", SHARE))

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {ProfileChanged: lambda _, entry: self.changed(entry.user_id)}


class ProfileService:
    """Profiles of local users, and through a port those of others."""

    def __init__(
        self,
        *,
        db: Database,
        log: LogWriter,
        cache: ProfileCache,
        tasks: AccountTasks,
        gate: Gate,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._log = log
        self._cache = cache
        self._tasks = tasks
        self._gate = gate
        self._server_name = server_name
        self._remote: RemoteProfiles | None = None
        self._unknown: UnknownUsers | None = None
        self._turns = KeyedLocks()

    async def avatars_of(self, user_nids: Collection[int]) -> set[str]:
        """The pictures of these users, as `mxc://` URIs. Fulfils `media.ports.Avatars`."""
        async with self._db.read() as tx:
            profiles = await store.find_fields_of(tx, user_nids)
        return {
            picture
            for each in profiles
            if isinstance(picture := msgspec.json.decode(each).get(AVATAR_URL), str)
        }

    def propagate_with(self, rooms: ProfilePropagation) -> None:
        """Plug in who tells the rooms."""

        async def propagate(_user_nid: int, user_id: UserId) -> None:
            await rooms.profile_changed(user_id, await self._load(user_id) or {})

        self._tasks.handle(PROPAGATE, propagate)

    def fetch_with(self, remote: RemoteProfiles) -> None:
        """Plug in who asks other servers."""
        self._remote = remote

    def ask_with(self, unknown: UnknownUsers) -> None:
        """Plug in who is asked for users of this server that have no account."""
        self._unknown = unknown

    def name_newcomer(self, batch: Pipeline, user_nid: int, displayname: str) -> None:
        """See `accounts.ports.AccountProfiles`."""
        store.insert_fields(batch, user_nid, rules.stored({DISPLAYNAME: displayname}))

    def delete_profile(self, batch: Pipeline, user_nid: int) -> None:
        """See `accounts.ports.AccountProfiles`."""
        store.delete_profile(batch, user_nid)

    def removal_entries(self, user_nid: int, user_id: UserId) -> Sequence[Entry]:
        """See `accounts.ports.AccountProfiles`."""
        return [ProfileChanged(user_nid, user_id, None, None)]

    async def get(self, user_id: UserId) -> Profile:
        """A local user's profile; empty if nothing was ever set. Raises `NotFound`."""
        cached = self._cache.get(user_id)
        if cached is not None:
            return cached
        version = self._cache.version
        encoded = await self._read(user_id)
        profile: Profile = _decode(encoded)
        self._cache.add(user_id, profile, version, PROFILE_BYTES + DECODED * len(encoded))
        return profile

    async def get_many(self, user_ids: Collection[UserId]) -> dict[UserId, Profile]:
        """Profiles of those local users that have one; one query for those not in memory."""
        found = {user_id: p for user_id in user_ids if (p := self._cache.get(user_id)) is not None}
        missing = [user_id for user_id in user_ids if user_id not in found]
        if missing:
            version = self._cache.version
            async with self._db.read() as tx:
                rows = await store.find_many(tx, missing)
            for user_id, encoded in rows:
                found[user_id] = _decode(encoded)
                self._cache.add(user_id, found[user_id], version, PROFILE_BYTES + DECODED * len(encoded))
        return found

    async def membership_fields(self, user_id: UserId) -> Mapping[str, str]:
        """What a local user's joins and invites carry: name and avatar, if set (CHECKLIST USER-04)."""
        if domain_of(user_id) != self._server_name:
            return {}
        try:
            profile = await self.get(user_id)
        except NotFound:
            return {}
        return {key: profile[key] for key in (DISPLAYNAME, AVATAR_URL) if key in profile}

    async def look_up(self, user_id: UserId, field: str | None = None) -> Profile:
        """Anyone's profile, or one field of it.

        Raises:
            NotFound: no such user, or no such field.
            InvalidParam, KeyTooLarge: no field can be called so.
            Forbidden: the other server does not tell.
        """
        if field is not None:
            rules.check_key(field)
        if domain_of(user_id) == self._server_name:
            profile = await self._local(user_id)
        elif self._remote is not None:
            profile = await self._remote.fetch(user_id, field)
        else:
            raise NotFound("Profiles of other servers cannot be looked up")
        if field is None:
            return profile
        if field not in profile:
            raise NotFound("There is no such profile field")
        return {field: profile[field]}

    async def _local(self, user_id: UserId) -> Profile:
        try:
            return await self.get(user_id)
        except NotFound:
            if self._unknown is None or not await self._unknown.user(user_id):
                raise
        return await self.get(user_id)

    async def set_field(self, requester: Requester, key: str, value: Any) -> None:
        """Set a field, or remove it (`REMOVED`), and tell the rooms if it is the name or picture.

        Returns when the rooms have been told; after `_WAIT_SECONDS` anyway, then that goes on by itself.

        Raises:
            ProfileTooLarge: with this value the profile would be too large.
            NotFound: the account has ended.
            MatrixError: what a policy check says.
        """
        content = {} if value is REMOVED else {key: value}
        await self._gate.admit(requester, profile_act(requester, content))
        if not await self._write(requester.user_nid, requester.user_id, key, value):
            return
        if key in (DISPLAYNAME, AVATAR_URL):
            await self._tasks.carry_out(PROPAGATE, requester.user_nid, within=_WAIT_SECONDS)

    async def _write(self, user_nid: int, user_id: UserId, key: str, value: Any) -> bool:
        """False if the field has this value already."""

        async def once() -> bool:
            old = await self._read(user_id)
            changed = dict(_decode(old))
            changed.pop(key, None)
            if value is not REMOVED:
                changed[key] = value
            new = rules.stored(dict(sorted(changed.items())))
            if new.fields == old:
                return False
            await self._replace(user_nid, user_id, key, old, new)
            return True

        return await self._turns.changed(user_nid, once)

    async def _replace(self, user_nid: int, user_id: UserId, key: str, old: bytes, new: Stored) -> None:
        """Raises `Conflict` if it is not `old` any more."""
        value = _decode(new.fields).get(key, REMOVED)
        entry = ProfileChanged(
            user_nid, user_id, key, None if value is REMOVED else msgspec.json.encode(value)
        )
        replaced: list[Later[int]] = []

        def write(batch: Pipeline, _written: object) -> None:
            replaced.append(store.replace_fields(batch, user_nid, old, new))
            if key in (DISPLAYNAME, AVATAR_URL):
                self._tasks.order(batch, PROPAGATE, user_nid)

        await self._log.append(entry, alongside=write)
        if replaced[-1].result != 1:
            raise Conflict("the profile has changed")

    async def _read(self, user_id: UserId) -> bytes:
        async with self._db.read() as tx:
            row = await store.find_fields(tx, user_id)
        if row is None:
            raise NotFound("User not found")
        return row[1] or b"{}"

    async def _load(self, user_id: UserId) -> Profile | None:
        async with self._db.read() as tx:
            row = await store.find_fields(tx, user_id)
        return None if row is None else _decode(row[1] or b"{}")
