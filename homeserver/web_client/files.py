"""Reads the files of a web client: found afresh at each request, so that a newer client needs no restart."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_COMPRESSED: Final = frozenset(
    {".css", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".ttf", ".txt", ".wasm"}
)
_WORTH: Final = 1 << 10
_MOST: Final = 32 << 20
"""Bytes of a file that is compressed."""
PIECE: Final = 64 << 10
"""Bytes read at once."""


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file of the client, as it was found. What blocks for the file system says so."""

    path: Path
    size: int
    tag: str
    """The same only for the same bytes."""

    @property
    def content_type(self) -> str:
        """As browsers need it: scripts and modules are refused under another."""
        return TYPES.get(self.path.suffix.lower(), "application/octet-stream")

    @property
    def can_be_compressed(self) -> bool:
        """Whether it pays."""
        return self.path.suffix.lower() in _COMPRESSED and _WORTH <= self.size <= _MOST

    def compressed(self) -> bytes:
        """The whole file as gzip. Blocks, for a second with ten megabytes. Raises `OSError`."""
        with self._open() as handle:
            return gzip.compress(handle.read(self.size), 6, mtime=0)

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, as many as `size` says, in pieces of `PIECE`. Blocks. Raises `OSError` before the first one."""
        with self._open() as handle:
            left = self.size
            while left and (piece := handle.read(min(PIECE, left))):
                left -= len(piece)
                yield piece

    def _open(self) -> IO[bytes]:
        # Not blocking: whoever opens a pipe waits for its other end.
        handle = os.fdopen(
            os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb"
        )
        if _tag(os.fstat(handle.fileno())) != self.tag:
            handle.close()
            raise FileNotFoundError(f"{self.path} was replaced just now")
        return handle


def find_file(folder: Path, path: str) -> ClientFile | None:
    """The file at a path relative to `folder`; None where there is none that may be handed out: nothing outside of the folder,
    nothing whose name begins with a dot. Blocks for the file system.
    """
    segments = path.split("/")
    if any(not each or each.startswith(".") or "\\" in each or "\0" in each for each in segments):
        return None
    try:
        found = folder.joinpath(*segments).resolve(strict=True)
        status = found.stat()
        inside = found.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return None
    return (
        ClientFile(found, status.st_size, _tag(status)) if inside and stat.S_ISREG(status.st_mode) else None
    )


def _tag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
