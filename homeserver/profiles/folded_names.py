"""Names that were folded by other rules than today's, or never: folded before anybody is looked for among them.

New names are folded as they are written (`fields.py`), so there is something to do only after an upgrade.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from homeserver.profiles import store
from homeserver.profiles.fields import folded_name
from homeserver.storage.database import Database

AT_ONCE: Final = 500
"""Profiles folded in one transaction: some milliseconds of work."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class FoldedNames:
    """Folds names that were folded by older rules. Several processes may do so at once: each writes the same."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._complete = False
        self._turn = asyncio.Lock()

    async def complete(self) -> None:
        """Returns when every name is folded by today's rules. Whoever is cancelled meanwhile has done a part of it."""
        if self._complete:
            return
        async with self._turn:
            while not self._complete:
                self._complete = not await self._fold_some()

    async def _fold_some(self) -> bool:
        async with self._db.transaction() as tx:
            rows = await store.find_folded_otherwise(tx, AT_ONCE)
            if rows:
                await store.write_folded(tx, [(nid, raw, folded_name(_decode(raw))) for nid, raw in rows])
        return bool(rows)
