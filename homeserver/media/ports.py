"""What the content repository asks of others: where bytes are kept, what scans them, who has the files of other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from homeserver.matrix.mxc import Mxc


class BlobMissing(Exception):
    """The store has nothing under this key."""


class BlobStoreAway(Exception):
    """The store does not answer, or has no room; the text is fit for a log."""


class StoredKey(NamedTuple):
    """A blob as the store lists it."""

    key: str
    size: int
    age: float
    """Seconds since it was written."""


class BlobStore(Protocol):
    """Keeps bytes under keys of `[0-9a-z.]`; a key is written once. Everything may raise `BlobStoreAway`."""

    async def put(self, path: Path, key: str) -> None:
        """Take over a whole file that lies in the folder for what comes in. It lasts when this returns."""
        ...

    def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces of some hundred kilobytes. Raises `BlobMissing`
        before the first piece.
        """
        ...

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The blob as a file on this machine, as long as the block lasts; not to be written to. Raises `BlobMissing`."""
        ...

    async def delete(self, key: str) -> None:
        """Remove it; nothing happens if it is not there."""
        ...

    def keys(self) -> AsyncIterator[list[StoredKey]]:
        """Everything there is, in pages of at most 1 000."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of another server on its way to us."""

    pieces: AsyncIterator[bytes]
    content_type: str
    """As told; '' if not."""
    filename: str | None
    """As told in `Content-Disposition`."""


class RemoteMedia(Protocol):
    """Fetches files of other servers; fulfilled by `federation`."""

    def fetch(self, mxc: Mxc, *, timeout: float, max_bytes: int) -> AbstractAsyncContextManager[RemoteFile]:
        """Raises `NotFound`, `NotYetUploaded`; `TooLarge` with status 502 for a file of more than `max_bytes` bytes;
        `Unavailable` with status 502 where the server cannot be reached. spec: server-server-api/#content-repository
        """
        ...


class Verdict(NamedTuple):
    """What a scanner says of a file."""

    found: str
    """What it found, by the scanner's name for it; '' if nothing."""


class ScannerAway(Exception):
    """The scanner does not answer, or cannot tell; the text is fit for a log."""


class Scanner(Protocol):
    """Looks whether a file does harm."""

    async def scan(self, path: Path) -> Verdict:
        """Raises `ScannerAway`."""
        ...


class Avatars(Protocol):
    """Which pictures users have; fulfilled by `profiles`."""

    async def avatars_of(self, user_nids: Collection[int]) -> set[str]:
        """The `mxc://` URIs of these users' pictures."""
        ...
