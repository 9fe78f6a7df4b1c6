"""Making places to meet, reading what lies there, replacing it. Who knows its id may do so: the devices encrypt what they say.

spec: MSC4388, "Insecure rendezvous session"
"""

from __future__ import annotations

from typing import Final, NamedTuple

from homeserver.matrix.errors import LimitExceeded, MatrixError, NotFound, TooLarge
from homeserver.rendezvous import store
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database

MAX_BYTES: Final = 4_096
"""Of what lies there. spec: MSC4388"""
LIFETIME_MS: Final = 300_000
MOST: Final = 10_000
"""At the same time; of more somebody has to wait for one to expire."""
CLEAN_EVERY: Final = 60.0
_ID_BYTES: Final = 24


class ConcurrentWrite(MatrixError):
    """The other device was quicker. spec: MSC4388"""

    status = 409
    errcode = "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"


class Met(NamedTuple):
    """What lies there."""

    data: str
    token: str
    """Names this very write."""
    expires_in_ms: int


class Rendezvous:
    """Keeps them. Holds nothing in memory."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy

    async def create(self, data: str) -> tuple[str, Met]:
        """A new one, and its id. Raises `TooLarge`, `LimitExceeded`."""
        _check(data)
        now_ms, place_id = self._clock.now_ms(), self._entropy.token(_ID_BYTES)
        async with self._db.transaction() as tx:
            made = await store.insert(tx, place_id, data, now_ms + LIFETIME_MS, now_ms, MOST)
        if not made:
            raise LimitExceeded(LIFETIME_MS // 10, "Too many devices are signing in, try again soon")
        return place_id, Met(data, "1", LIFETIME_MS)

    async def read(self, place_id: str) -> Met:
        """Raises `NotFound`."""
        now_ms = self._clock.now_ms()
        async with self._db.read() as tx:
            place = await store.find(tx, place_id, now_ms)
        if place is None:
            raise _gone()
        return Met(place.data, str(place.version), place.expires_ms - now_ms)

    async def write(self, place_id: str, token: str, data: str) -> str:
        """Replace what `token` names; repeating it does nothing. Returns the token of what lies there then.

        Raises `NotFound`, `ConcurrentWrite`, `TooLarge`.
        """
        _check(data)
        now_ms = self._clock.now_ms()
        version = int(token) if token.isascii() and token.isdigit() and len(token) < 16 else 0
        async with self._db.transaction() as tx:
            if version and await store.replace(tx, place_id, data, version, now_ms):
                return str(version + 1)
            place = await store.find(tx, place_id, now_ms)
        if place is None:
            raise _gone()
        if place.data == data:
            return str(place.version)
        raise ConcurrentWrite("The other device has written meanwhile")

    async def delete(self, place_id: str) -> None:
        """Raises `NotFound`."""
        async with self._db.transaction() as tx:
            if not await store.delete(tx, place_id, self._clock.now_ms()):
                raise _gone()

    async def clean(self) -> None:
        """Those that have expired."""
        async with self._db.transaction() as tx:
            await store.delete_expired(tx, self._clock.now_ms())


def _check(data: str) -> None:
    if len(data.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise TooLarge(f"data: more than {MAX_BYTES} bytes")


def _gone() -> NotFound:
    return NotFound("There is no such rendezvous")
