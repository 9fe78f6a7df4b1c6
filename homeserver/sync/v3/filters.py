"""Stored filters.

spec: client-server-api/#filtering (FILT-01)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from homeserver.events.filtering import EVERYTHING, MAX_FILTER_BYTES, Filter, read_filter
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam, NotFound, ResourceLimitExceeded, TooLarge
from homeserver.matrix.ids import UserId, is_room_id, is_user_id
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

MAX_PER_USER = 1_000
CACHE_SIZE = 5_000
MAX_CACHED = 4_096
"""Bytes of a filter that is remembered; larger ones are read anew."""


class FilterService:
    """Stores filters, which never change, and keeps the last ones parsed in a bounded cache."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._parsed: OrderedDict[tuple[int, str], Filter] = OrderedDict()

    async def define(self, user_nid: int, definition: Mapping[str, Any]) -> str:
        """Store a filter; the same one again has the same id. Raises `BadJson`, `InvalidParam`, `TooLarge`."""
        read_filter(definition)
        _check_names(definition, "")
        data = json.dumps(definition)
        if len(data) > MAX_FILTER_BYTES:
            raise TooLarge("The filter is too large")
        async with self._db.transaction() as tx:
            number = await find_same(tx, user_nid, data)
            if number is None:
                await lock(tx, user_nid)
                number = await find_same(tx, user_nid, data) or await insert(tx, user_nid, data)
        if number is None:
            raise ResourceLimitExceeded(f"More than {MAX_PER_USER} filters")
        return str(number)

    async def definition(self, user_nid: int, filter_id: str) -> bytes:
        """A stored filter as JSON. Raises `NotFound`."""
        if not (filter_id.isascii() and filter_id.isdigit() and len(filter_id) < 10):
            raise NotFound("There is no such filter")
        async with self._db.read() as tx:
            data = await find(tx, user_nid, int(filter_id))
        if data is None:
            raise NotFound("There is no such filter")
        return data

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """The account has ended."""
        async with self._db.transaction() as tx:
            await tx.execute("DELETE FROM filters WHERE user_nid = %(user)s", user=user_nid)

    async def for_sync(self, user_nid: int, text: str | None) -> Filter:
        """The filter a request names by id or gives as JSON. Raises `BadJson`, `InvalidParam`."""
        if not text:
            return EVERYTHING
        key = (user_nid, text)
        found = self._parsed.get(key)
        if found is None:
            if text.startswith("{"):
                data = text.encode("utf-8", "surrogatepass")
            else:
                try:
                    data = await self.definition(user_nid, text)
                except NotFound:
                    raise InvalidParam("filter: there is no such filter") from None
            found = read_filter(data)
            if len(data) <= MAX_CACHED:
                self._parsed[key] = found
            if len(self._parsed) > CACHE_SIZE:
                self._parsed.popitem(last=False)
        return found


_NAMES: Mapping[str, Callable[[str], bool]] = {
    "senders": is_user_id,
    "not_senders": is_user_id,
    "rooms": is_room_id,
    "not_rooms": is_room_id,
}


def _check_names(part: Mapping[str, Any], where: str) -> None:
    """Raises `InvalidParam` for a user or a room that nobody can be called. `part` has the shape of a filter."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            _check_names(value, f"{where}{key}.")
        elif key in _NAMES and isinstance(value, list):
            for index, name in enumerate(value):
                if not (isinstance(name, str) and _NAMES[key](name)):
                    raise InvalidParam(f"{where}{key}[{index}]: not a valid ID")


async def find(tx: Tx, user_nid: int, filter_id: int) -> bytes | None:
    return await tx.value(  # type: ignore[no-any-return]  # bytea
        "SELECT filter FROM filters WHERE user_nid = %(user)s AND filter_id = %(id)s",
        user=user_nid,
        id=filter_id,
    )


async def find_same(tx: Tx, user_nid: int, data: bytes) -> int | None:
    """The id of an equal filter of the user."""
    return await tx.value(  # type: ignore[no-any-return]  # integer
        "SELECT filter_id FROM filters WHERE user_nid = %(user)s AND filter = %(data)s LIMIT 1",
        user=user_nid,
        data=data,
    )


async def lock(tx: Tx, user_nid: int) -> None:
    """Nobody else stores a filter of the user until the transaction ends. A statement of its own: the next one must see
    what was stored before the lock was had.
    """
    await tx.execute("SELECT 1 FROM users WHERE user_nid = %(user)s FOR NO KEY UPDATE", user=user_nid)


async def insert(tx: Tx, user_nid: int, data: bytes) -> int | None:
    """The new filter's id; None if the user has too many. Only with the `lock`."""
    return await tx.value(  # type: ignore[no-any-return]  # integer
        """
        INSERT INTO filters (user_nid, filter_id, filter)
        SELECT %(user)s, coalesce(max(filter_id), 0) + 1, %(data)s FROM filters WHERE user_nid = %(user)s
        HAVING count(*) < %(limit)s
        RETURNING filter_id
        """,
        user=user_nid,
        data=data,
        limit=MAX_PER_USER,
    )
