"""Numbers by key in memory that all processes of a host share: what each of them counts against a limit, the others see at once.

A file in the server's own folder, mapped by each process: a table of sets with a few places each. A key has one set; where all
places of it are taken by what still counts, the one that counts the least gives way. Two processes that change one place in the
same microsecond may lose one of the two changes: a limit lets one act too many pass then, never more.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Final

PATH: Final = Path("run/limits")
"""Below the data directory."""
SETS: Final = 8_192
PLACES: Final = 8
"""Of a set; a place is two numbers of eight bytes: the key's hash, and the value."""
_HEAD: Final = 16
"""Bytes: the secret with which keys are hashed, so that nobody can choose names that share a set with another's."""
_SIZE: Final = _HEAD + SETS * PLACES * 16


def begin(path: Path, secret: bytes) -> None:
    """Before the processes are started: an empty table. `secret`: 16 random bytes. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secret[:_HEAD].ljust(_HEAD, b"\0"))
        os.ftruncate(descriptor, _SIZE)
    finally:
        os.close(descriptor)


class SharedBuckets:
    """The mapping of one process. Values are microseconds of the host's monotonic clock, the same for all its processes."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` if nobody has begun the table."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._secret = self._map[:_HEAD]
        self._bytes = memoryview(self._map)
        self._table = self._bytes[_HEAD:].cast("Q")

    def get(self, key: str) -> float | None:
        """The seconds noted for the key; None: none that it has kept."""
        place, found = self._place(key)
        return self._table[place + 1] / 1e6 if found else None

    def put(self, key: str, seconds: float) -> None:
        """Note seconds for a key; in its set the least may be forgotten for it."""
        place, found = self._place(key)
        if not found:
            self._table[place] = self._hash(key)
        self._table[place + 1] = int(seconds * 1e6)

    def forget(self, key: str) -> None:
        """Nothing is noted for the key any more."""
        place, found = self._place(key)
        if found:
            self._table[place + 1] = 0

    def __len__(self) -> int:
        return sum(1 for hashed in self._table[::2].tolist() if hashed)

    def close(self) -> None:
        """Unmap it. Idempotent."""
        self._table.release()
        self._bytes.release()
        self._map.close()

    def _hash(self, key: str) -> int:
        digest = hashlib.blake2b(
            key.encode("utf-8", "surrogatepass"), digest_size=8, key=self._secret
        ).digest()
        return int.from_bytes(digest, "little") or 1

    def _place(self, key: str) -> tuple[int, bool]:
        """Where the key is noted, and that it is; else where it could be."""
        hashed = self._hash(key)
        first = (hashed % SETS) * PLACES * 2
        numbers = self._table[first : first + PLACES * 2].tolist()
        least = 0
        for place in range(0, PLACES * 2, 2):
            if numbers[place] == hashed:
                return first + place, True
            if numbers[place + 1] < numbers[least + 1]:
                least = place
        return first + least, False
