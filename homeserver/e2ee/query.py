"""/keys/query: what users' keys look like, kept in memory from one change to the next.

Everything that changes how a user's keys look is in the log as a `DeviceListEntry`; so what was rendered once is good
until one comes. spec: client-server-api/#post_matrixclientv3keysquery (E2E-05, E2E-06)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from homeserver.e2ee import remote_store, signing_store, store
from homeserver.e2ee.entries import DeviceListEntry, RemoteListsEntry
from homeserver.e2ee.merge import Answer, UserKeys, render
from homeserver.e2ee.ports import Failures, Queried, RemoteKeys
from homeserver.e2ee.types import SignatureRow
from homeserver.graph.interning import Interning
from homeserver.log.entries import Entry, Position
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import ServerName, UserId, domain_of, is_user_id
from homeserver.runtime.turns import next_turn, pieces
from homeserver.storage.database import Database

MAX_USERS = 5_000
"""Users asked about in one query or claim."""
USERS_AT_ONCE = 500
"""Beyond, putting an answer together takes milliseconds: one is at a time."""
DEFAULT_TIMEOUT = 10.0
"""Seconds that other servers have. spec: op:queryKeys `timeout`"""
CACHED_BYTES = 32 * 2**20
"""Keys kept in memory."""
BYTES_OF_ONE = CACHED_BYTES // 2
"""A user with more keys than that has none in memory: they would take everybody's place."""
LARGE_USERS = 10_000
"""Users of whom it is known that they have more."""
NAMED_AT_ONCE = 1_000
"""So many devices of such a user are read alone, if they are named."""
CACHED_READERS = 20_000
"""Readers whose signatures of others' keys are kept in memory."""

Signatures = Mapping[int, Sequence[SignatureRow]]
"""user_nid -> the reader's signatures of that user's master key."""


class KeyQueries:
    """Answers `/keys/query` from a cache of users' keys with a bound in bytes. A projection: what changes is forgotten."""

    def __init__(self, db: Database, interning: Interning, server_name: ServerName) -> None:
        self._db = db
        self._interning = interning
        self._server_name = server_name
        self._remote: RemoteKeys | None = None
        self._keys: OrderedDict[str, UserKeys] = OrderedDict()
        """By user id: users of this server, and others whose lists are kept."""
        self._bytes = 0
        self._large: OrderedDict[str, None] = OrderedDict()
        """Who had more than `BYTES_OF_ONE` when they were read last."""
        self._signed_by: OrderedDict[int, Signatures] = OrderedDict()
        self._loading = asyncio.Lock()
        """One reads at a time: those who come together ask about the same people."""
        self._reading: dict[object, set[int]] = {}
        """Each read under way -> users whose rows it reads; who changes meanwhile is taken out."""

    def ask_with(self, remote: RemoteKeys) -> None:
        """Who asks other servers for what is not kept here. Without, they are in `failures`."""
        self._remote = remote

    # --- the projection --------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {DeviceListEntry: self._changed, RemoteListsEntry: self._distrusted}

    def reset(self) -> None:
        self._keys.clear()
        self._signed_by.clear()
        self._bytes = 0
        for users in self._reading.values():
            users.clear()

    def _changed(self, _: Position, entry: DeviceListEntry) -> None:
        self._forget(entry.user_id)
        # What a user has signed changes with a signature (which the signer alone sees) or with the user's own keys.
        reader = entry.user_nid if entry.seen_by is None else entry.seen_by
        self._signed_by.pop(reader, None)
        for users in self._reading.values():
            users.discard(entry.user_nid)
            users.discard(-reader)

    def _distrusted(self, _: Position, entry: RemoteListsEntry) -> None:
        for user_nid, user_id in entry.users:
            self._forget(user_id)
            for users in self._reading.values():
                users.discard(user_nid)

    def _forget(self, user_id: str) -> None:
        known = self._keys.pop(user_id, None)
        if known is not None:
            self._bytes -= known.size

    # --- the query -------------------------------------------------------------------------------------------------

    async def query(
        self,
        reader: UserId,
        reader_nid: int,
        wanted: Mapping[str, Sequence[str]],
        timeout: float = DEFAULT_TIMEOUT,
    ) -> bytes:
        """The answer: keys of users, of all their devices or of those named.

        `timeout`: seconds that other servers have to answer; who does not is named in `failures`. Raises `InvalidParam`.
        """
        if len(wanted) > MAX_USERS:
            raise InvalidParam(f"device_keys: more than {MAX_USERS} users")
        if len(wanted) > USERS_AT_ONCE:
            await next_turn()
        found = self._remembered(wanted)
        missing = [user for user in wanted if user not in found] if len(found) < len(wanted) else []
        check_users(missing, "device_keys")
        local = [UserId(user) for user in missing if domain_of(user) == self._server_name]
        if self._large and (named := self._named_of_large(local, wanted)):
            found.update(await self._read_named(named))
            local = [user for user in local if user not in named]
        if local:
            found.update(await self._load(local))
        failures: Failures = {}
        elsewhere = [UserId(user) for user in missing if domain_of(user) != self._server_name]
        if elsewhere:
            asked = await self._elsewhere(elsewhere, wanted, timeout)
            found.update(asked.keys)
            failures = asked.failures
        by_reader = await self._signatures_by(reader_nid)
        answer = Answer()
        apart = {user for user, only in wanted.items() if only}
        apart.add(reader)
        if by_reader:
            apart.update(user for user, keys in found.items() if keys.nid in by_reader)
        answer.add_all([keys for user, keys in found.items() if user not in apart])
        for user in apart.intersection(found):
            theirs = found[user]
            rows = [row for row in by_reader.get(theirs.nid, ()) if row.target_key == theirs.master_id]
            master = theirs.master_signed(reader, rows) if rows else None
            answer.add(theirs, wanted[user], master, own=user == reader)
        return answer.body(json.dumps(failures))

    async def query_for_server(self, wanted: Mapping[str, Sequence[str]], *, named: bool) -> bytes:
        """The same for another server: of users of this one alone, as everybody may see them. `named`: with what they call their
        devices. Raises `InvalidParam`.

        spec: op:queryUserEncryptionKeys (FED-32)
        """
        check_users(wanted, "device_keys")
        found = await self.of([user for user in wanted if domain_of(user) == self._server_name])
        answer = Answer()
        for user, keys in found.items():
            answer.add(keys if named else keys.without_names(), wanted[user], None, own=False)
        return answer.body_for_server()

    async def of(self, users: Collection[str]) -> dict[str, UserKeys]:
        """Keys of users of this server, as everybody may see them; who does not exist has none."""
        found = self._remembered(users)
        missing = [UserId(user) for user in users if user not in found]
        if missing:
            found.update(await self._load(missing))
        return found

    async def _elsewhere(
        self, users: Sequence[UserId], wanted: Mapping[str, Sequence[str]], timeout: float
    ) -> Queried:
        """Keys of users of other servers: those that are kept, of the others what their servers say."""
        if self._remote is None:
            return Queried({}, {domain_of(user): {} for user in sorted(users)})
        kept = await self._load(users, elsewhere=True)
        to_ask: dict[ServerName, dict[str, Sequence[str]]] = {}
        for user in users:
            if user not in kept:
                to_ask.setdefault(domain_of(user), {})[user] = wanted[user]
        if not to_ask:
            return Queried(kept, {})
        asked = await self._remote.query(to_ask, timeout)
        return Queried({**kept, **asked.keys}, asked.failures)

    def _remembered(self, users: Iterable[str]) -> dict[str, UserKeys]:
        known = self._keys
        found = {user: keys for user in users if (keys := known.get(user)) is not None}
        if self._bytes > CACHED_BYTES // 2:  # from here on it matters who is asked about
            for user in found:
                known.move_to_end(user)
        return found

    async def _load(self, users: Collection[UserId], *, elsewhere: bool = False) -> dict[str, UserKeys]:
        """Keys of local users, with one flight for some hundreds that are not in memory; who does not exist has none.
        `elsewhere`: of other servers' users, those whose lists are kept.
        """
        nids = await self._interning.find_user_nids(users)
        found: dict[str, UserKeys] = {}
        if not elsewhere:
            found = {user: UserKeys(user) for user in users if user not in nids}
        for some in pieces(nids.items(), USERS_AT_ONCE):
            async with self._loading:  # who comes meanwhile finds what was read for the first
                names = {nid: user for user, nid in some}
                known = self._remembered(names.values())
                found.update(known)
                if missing := {nid: user for nid, user in names.items() if user not in known}:
                    found.update(await self._read(missing, elsewhere=elsewhere))
            if len(nids) > USERS_AT_ONCE:
                await next_turn()
        return found

    async def _read(self, names: Mapping[int, UserId], *, elsewhere: bool) -> dict[str, UserKeys]:
        unchanged = self._reading[read := object()] = set(names)
        try:
            async with self._db.snapshot() as tx, tx.pipeline() as batch:
                devices = store.find_devices(batch, list(names))
                signing = signing_store.find_signing_keys(batch, list(names))
                signatures = signing_store.find_own_signatures(batch, list(names))
                fresh = remote_store.find_fresh(batch, list(names)) if elsewhere else None
        finally:
            del self._reading[read]
        found = render(names, devices.result, signing.result, signatures.result)
        if fresh is not None:
            found = {nid: found[nid] for (nid,) in fresh.result}
        self._keep({names[nid]: found[nid] for nid in unchanged if nid in found})
        return {names[nid]: keys for nid, keys in found.items()}

    def _named_of_large(
        self, users: Sequence[UserId], wanted: Mapping[str, Sequence[str]]
    ) -> dict[UserId, Sequence[str]]:
        """Those of whom some devices are wanted, and who have too many to be kept: user_id -> the devices."""
        return {
            user: wanted[user]
            for user in users
            if user in self._large and 0 < len(wanted[user]) <= NAMED_AT_ONCE
        }

    async def _read_named(self, named: Mapping[UserId, Sequence[str]]) -> dict[str, UserKeys]:
        """Keys of these devices, and the cross-signing keys of their users."""
        nids = await self._interning.find_user_nids(named)
        devices = {(nid, device): None for user, nid in nids.items() for device in named[user]}
        async with self._db.snapshot() as tx, tx.pipeline() as batch:
            found = store.find_named_devices(batch, list(devices))
            signing = signing_store.find_signing_keys(batch, list(nids.values()))
            signatures = signing_store.find_own_signatures_of(batch, list(devices), list(nids.values()))
        names = {nid: user for user, nid in nids.items()}
        keys = render(names, found.result, signing.result, signatures.result)
        return {names[nid]: each for nid, each in keys.items()}

    def _keep(self, unchanged: Mapping[str, UserKeys]) -> None:
        for user, keys in unchanged.items():
            self._forget(user)
            self._large.pop(user, None)
            if keys.size > BYTES_OF_ONE:
                self._large[user] = None
                if len(self._large) > LARGE_USERS:
                    self._large.popitem(last=False)
                continue
            self._keys[user] = keys
            self._bytes += keys.size
        while self._bytes > CACHED_BYTES:
            self._forget(next(iter(self._keys)))

    async def _signatures_by(self, reader_nid: int) -> Signatures:
        """What the reader has signed of others: master keys alone."""
        known = self._signed_by.get(reader_nid)
        if known is not None:
            return known
        # Beside numbers of users: what the reader has signed.
        unchanged = self._reading[read := object()] = {-reader_nid}
        try:
            async with self._db.read() as tx:
                rows = await signing_store.find_signatures_by(tx, reader_nid)
        finally:
            del self._reading[read]
        found: dict[int, list[SignatureRow]] = {}
        for row in rows:
            found.setdefault(row.target_nid, []).append(row)
        if unchanged:
            self._signed_by[reader_nid] = found
            if len(self._signed_by) > CACHED_READERS:
                self._signed_by.popitem(last=False)
        return found


def check_users(wanted: Collection[str], where: str) -> None:
    """Raises `InvalidParam` for too many users, or keys that are no user IDs."""
    if len(wanted) > MAX_USERS:
        raise InvalidParam(f"{where}: more than {MAX_USERS} users")
    for user_id in wanted:
        if not is_user_id(user_id):
            raise InvalidParam(f"{where}: a key is not a user ID")
