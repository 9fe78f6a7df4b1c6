"""Whether hosts that share a database share the folder of files, too.

The first host leaves a file with a random word in the folder, and the word in the database. Who finds another word in its
folder, or none, has a folder of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from homeserver.media import place_store as store
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database

MARK: Final = "shared-by-hosts"
"""Name of the file."""
WORDS: Final = (
    "{folder} is not the folder that the other hosts of this server keep files in: what is uploaded at one of them cannot be "
    "fetched at another (404), pictures of people are missing by turns, and files are not deleted where they lie. Let "
    "media.path of all of them be one and the same folder, or give them media.s3"
)

_LOOKS, _PAUSE = 3, 0.3
"""How often one looks, and seconds in between."""
_log = structlog.get_logger("atrium.media")


class Place:
    """Of one process. `settle` once before `trouble` is asked."""

    def __init__(self, db: Database, entropy: Entropy, folder: Path | None) -> None:
        """`folder`: None where there is nothing to compare: one host, or S3."""
        self._db = db
        self._entropy = entropy
        self._folder = folder
        self.trouble: str | None = None
        """In words, if the folder is not that of the others."""

    async def settle(self) -> None:
        """Compare; the first host leaves the mark. Says in the log what is wrong. Raises what the database says, `OSError`."""
        if self._folder is None:
            return
        word = self._entropy.letters(24)
        async with self._db.transaction() as tx:
            noted = await store.note(tx, word)
        if noted == word:
            await asyncio.to_thread(_write, self._folder / MARK, word)
        for _ in range(_LOOKS):
            self.trouble = await asyncio.to_thread(compare, self._folder, noted)
            if self.trouble is None:
                return
            await asyncio.sleep(_PAUSE)  # another process may be about to write it
        _log.error("media.folder_of_its_own", what=self.trouble)


async def examine(db: Database, folder: Path) -> str | None:
    """What is wrong, in words, as `atrium doctor` tells it. Changes nothing."""
    async with db.read() as tx:
        noted = await store.find(tx)
    return await asyncio.to_thread(compare, folder, noted)


def compare(folder: Path, noted: str | None) -> str | None:
    """What is wrong, in words. `noted`: what the database says; None: no host has been there."""
    if noted is None:
        return None
    try:
        found = (folder / MARK).read_text()
    except OSError:
        found = ""
    return None if found == noted else WORDS.format(folder=folder)


def _write(file: Path, word: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(word)
