"""Searching for people.

spec: client-server-api/#user-directory
"""

from __future__ import annotations

from typing import Any, Final

from homeserver.config.rooms import DirectorySection
from homeserver.directory import store
from homeserver.directory.types import FoundUser
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_LIMIT: Final = 50
DEFAULT_LIMIT: Final = 10
MAX_TERM: Final = 255
_CANDIDATES: Final = 4
"""Rows read per result wanted: some match in a part of the profile that does not count."""


class PeopleSearch:
    """One per process."""

    def __init__(self, db: Database, config: DirectorySection) -> None:
        self._db = db
        self._whom = config.user_search

    async def find(self, requester: Requester, term: str, limit: int) -> tuple[list[FoundUser], bool]:
        """Local people whose name or id has the term in it, and whether there are more."""
        limit = max(1, min(limit, MAX_LIMIT))
        term = term.strip()[:MAX_TERM].lower()
        if self._whom == "nobody" or not term or "\0" in term:
            return [], False
        async with self._db.read() as tx:
            rows = await store.find_users(
                tx,
                term,
                asker_nid=requester.user_nid,
                everybody=self._whom == "everybody",
                limit=_CANDIDATES * limit + 1,
            )
        found = [user for row in rows if (user := _user(*row, term)) is not None]
        return found[:limit], len(found) > limit


def _user(user_id: UserId, fields: bytes | None, term: str) -> FoundUser | None:
    profile: dict[str, Any] = json.loads(fields) if fields else {}
    name, picture = profile.get("displayname"), profile.get("avatar_url")
    name = name if isinstance(name, str) else None
    localpart = user_id.partition(":")[0]
    if term not in localpart.lower() and term != user_id.lower() and term not in (name or "").lower():
        return None
    return FoundUser(user_id, name, picture if isinstance(picture, str) else None)
