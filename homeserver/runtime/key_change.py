"""Changing the key that the server signs with, while it serves: all processes of all hosts go over to the new one.

The new key is written to the database sealed with the old one, so that every host, and nobody else, can read it. Each process
looks every few seconds; what is signed with the old key in between is valid, since that one expires a little later.

spec: server-server-api/#publishing-keys (`old_verify_keys`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from homeserver.matrix.signing import SEED_BYTES, SigningKey
from homeserver.runtime.clock import Clock, Entropy
from homeserver.runtime.periodic import Periodic, every
from homeserver.runtime.signing_key import SigningKeyError, load, replace, seal, unseal
from homeserver.storage import old_keys, owner
from homeserver.storage.database import Database
from homeserver.storage.old_keys import ExpiredKey
from homeserver.storage.owner import PublicKey
from homeserver.storage.tx import Tx

_log = structlog.get_logger(__name__)

LOOK_EVERY: Final = 5.0
"""Seconds."""
GRACE_MS: Final = 60_000
"""So long after a change the old key is valid: processes have to hear of it, and clocks differ."""


async def rotate(db: Database, path: Path, clock: Clock, entropy: Entropy) -> SigningKey:
    """Make a new key, and let all processes sign with it from now on. The old one is told as such for ever.

    The file is written after the database, so that a crash in between is mended by the next start. Raises `SigningKeyError`
    if the file is not the key that the server signs with.
    """
    key = load(path)
    new = SigningKey(entropy.bytes(SEED_BYTES), f"a_{entropy.letters(4)}")
    async with db.transaction() as tx:
        expired = ExpiredKey(key.key_id, key.public_key, clock.now_ms() + GRACE_MS, seal(new, key, entropy))
        await old_keys.insert_old_key(tx, expired)
        if not await old_keys.replace_key(tx, _public(key), _public(new)):
            raise SigningKeyError(f"The server does not sign with the key {key.key_id} in {path}")
    replace(path, new)
    return new


async def accept(db: Database, name: str, key: PublicKey, clock: Clock) -> None:
    """Note another key, because whoever runs the server says so; the one before is told as an old one. Raises `OtherServer`."""
    async with db.read() as tx:
        noted = await owner.find(tx)
    await owner.change_key(db, name, key)
    if noted is not None and noted.key is not None and noted.key != key:
        async with db.transaction() as tx:
            await old_keys.insert_old_key(tx, ExpiredKey(*noted.key, clock.now_ms(), None))


async def current(db: Database, path: Path, key: SigningKey) -> SigningKey:
    """The key that the server signs with, if it can be reached from the one in the file; else the latter. The file is replaced.

    Raises `SigningKeyError` if it cannot be written.
    """
    async with db.read() as tx:
        newest = await _follow(tx, key)
    if newest is not key:
        replace(path, newest)
    return newest


class KeyWatch:
    """Lets a process sign with what the server signs with. `old` are its earlier keys, by key id."""

    def __init__(self, db: Database, path: Path, key: SigningKey, use: Callable[[SigningKey], None]) -> None:
        """`use` is called with each key that comes after `key`."""
        self._db = db
        self._path = path
        self._key = key
        self._use = use
        self.old: Mapping[str, ExpiredKey] = {}

    def periodic(self) -> Periodic:
        """The work that has to be done again and again."""
        return every(LOOK_EVERY, self.look, name="signing_key", first=0.0)

    async def look(self) -> None:
        """Go over to another key if there is one. Raises `SigningKeyError` if the file cannot be written."""
        async with self._db.read() as tx:
            newest = await _follow(tx, self._key)
            self.old = {key.key_id: key for key in await old_keys.find_old_keys(tx)}
        if newest is self._key:
            return
        self._key = newest
        self._use(newest)
        _log.info("signing_key_changed", key_id=newest.key_id)
        replace(self._path, newest)


async def _follow(tx: Tx, key: SigningKey) -> SigningKey:
    noted = await owner.find(tx)
    if noted is None or noted.key is None or noted.key == _public(key):
        return key
    successors = {(old.key_id, old.public_key): old.successor for old in await old_keys.find_old_keys(tx)}
    found = key
    for _ in successors:
        sealed = successors.get((found.key_id, found.public_key))
        if sealed is None:
            return key
        found = unseal(sealed, found)
        if noted.key == _public(found):
            return found
    return key


def _public(key: SigningKey) -> PublicKey:
    return PublicKey(key.key_id, key.public_key)
