"""Searching for people.

spec: client-server-api/#user-directory
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from homeserver.config.rooms import DirectorySection
from homeserver.directory import store
from homeserver.directory.open_rooms import OpenRooms
from homeserver.directory.store import Seeker, Sought
from homeserver.directory.types import FoundUser
from homeserver.matrix import json
from homeserver.matrix.folding import words
from homeserver.matrix.ids import UserId
from homeserver.profiles.folded_names import FoldedNames
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_LIMIT: Final = 50
DEFAULT_LIMIT: Final = 10
MAX_DIRECT: Final = 2_000
"""Direct chats that count."""


class SaidOfRooms(Protocol):
    """What a user says of their rooms."""

    @property
    def direct(self) -> frozenset[str]:
        """Room ids of direct chats."""
        ...


class Labels(Protocol):
    """Fulfilled by account data."""

    async def of(self, user_nid: int) -> SaidOfRooms: ...


class PeopleSearch:
    """Searches the user directory. Keeps nothing in memory."""

    def __init__(  # what it is made of; built in one place
        self,
        db: Database,
        config: DirectorySection,
        names: FoldedNames,
        open_rooms: OpenRooms,
        labels: Labels,
    ) -> None:
        self._db = db
        self._whom = config.user_search
        self._names = names
        self._open_rooms = open_rooms
        self._labels = labels

    async def find(self, requester: Requester, term: str, limit: int) -> tuple[list[FoundUser], bool]:
        """People in whose name or local part all words of the term are, those first whom the requester talks with; and
        whether there are more (USER-06).
        """
        limit = max(1, min(limit, MAX_LIMIT))
        wanted = words(term)
        if self._whom == "nobody" or not wanted:
            return [], False
        await self._names.complete()
        everybody = self._whom == "everybody"
        rooms = () if everybody else await self._open_rooms.numbers()
        direct = (await self._labels.of(requester.user_nid)).direct
        async with self._db.read() as tx:
            rows = await store.find_users(
                tx,
                Sought(wanted, " ".join(wanted)),
                Seeker(requester.user_nid, everybody, rooms, sorted(direct)[:MAX_DIRECT]),
                limit=limit + 1,
            )
        return [_user(*row) for row in rows[:limit]], len(rows) > limit


def _user(user_id: UserId, fields: bytes | None) -> FoundUser:
    profile: dict[str, Any] = json.loads(fields) if fields else {}
    name, picture = profile.get("displayname"), profile.get("avatar_url")
    return FoundUser(
        user_id,
        name if isinstance(name, str) else None,
        picture if isinstance(picture, str) else None,
    )
