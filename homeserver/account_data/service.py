"""Reading and writing account data and tags.

spec: client-server-api/#client-config, #room-tagging
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homeserver.account_data import store
from homeserver.account_data.entries import GLOBAL, AccountDataEntry
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.log.entries import Position
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.errors import BadJson, InvalidParam, NotFound, ResourceLimitExceeded, TooLarge
from homeserver.matrix.ids import RoomId, UserId
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

TAGS = "m.tag"
DIRECT = "m.direct"
MAX_TYPES = 5_000
MAX_CONTENT = 512 * 1024
MAX_TAGS = 200
MAX_NAME_BYTES = 255
SERVER_MANAGED = frozenset({"m.fully_read", "m.push_rules"})
"""Types that have endpoints of their own; they can be read here, not written (AD-02)."""


class ServerManaged(BadJson):
    """spec: op:setAccountData: 405 with M_BAD_JSON"""

    status = 405


class AccountDataService:
    """Writes account data and tags. Owns the locks by which changes of one user's tags take turns in this process."""

    def __init__(self, db: Database, log: LogWriter, interning: Interning) -> None:
        self._db = db
        self._log = log
        self._interning = interning
        self._turns = KeyedLocks()

    async def get(self, user_nid: int, room_id: RoomId | None, kind: str) -> bytes:
        """Content as JSON. Raises `NotFound`."""
        room_nid = await self._room_nid(room_id)
        async with self._db.read() as tx:
            content = await store.find(tx, user_nid, room_nid, kind) if room_nid is not None else None
        if content is None:
            raise NotFound("There is no such account data")
        return content

    async def put(self, user_nid: int, room_id: RoomId | None, kind: str, content: Mapping[str, Any]) -> None:
        """Set content as a client does. Raises `ServerManaged`, `NotFound`, `TooLarge`, `ResourceLimitExceeded`."""
        if kind in SERVER_MANAGED:
            raise ServerManaged(f"{kind} cannot be set here")
        room_nid = await self._room_nid(room_id)
        if room_nid is None:
            raise NotFound("There is no such room")
        data = json.dumps(content)
        _check_size(kind, data)
        await self._log.append(AccountDataEntry(user_nid, room_nid, kind, data, most=MAX_TYPES))

    async def of_room(self, user_nid: int, room_nid: int) -> bytes:
        """A user's data of one room, as a JSON array of events."""
        async with self._db.read() as tx:
            rows = await store.find_of_rooms(tx, user_nid, [room_nid])
        return b"[%b]" % b",".join(
            b'{"type":%b,"content":%b}' % (json.dumps(r.type), r.content) for r in rows
        )

    async def placed(self, user_nid: int, room_nid: int, kind: str) -> tuple[Position, Any]:
        """Where the present content stands in the log, and it: what `AccountDataEntry.built_on` wants. (0, None) if there
        is none.
        """
        async with self._db.read() as tx:
            position, content = await store.find_placed(tx, user_nid, room_nid, kind)
        return position, json.loads(content) if content else None

    async def tags(self, user_nid: int, room_id: RoomId) -> dict[str, Any]:
        """Tag name -> its data."""
        room_nid = await self._room_nid(room_id)
        return {} if room_nid is None else (await self._tags(user_nid, room_nid))[1]

    async def put_tag(self, user_nid: int, room_id: RoomId, tag: str, data: Mapping[str, Any]) -> None:
        """Add or change a tag. Raises `InvalidParam`, `NotFound`. (AD-04)"""
        if not tag or len(tag.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            raise InvalidParam(f"tag: a name of 1 to {MAX_NAME_BYTES} bytes")
        order = data.get("order")
        if order is not None and (
            isinstance(order, bool) or not isinstance(order, int | float) or not 0 <= order <= 1
        ):
            raise InvalidParam("order: a number from 0 to 1")
        room_nid = await self._room_nid(room_id)
        if room_nid is None:
            raise NotFound("There is no such room")

        def add(tags: dict[str, Any]) -> None:
            tags[tag] = dict(data)
            if len(tags) > MAX_TAGS:
                raise ResourceLimitExceeded(f"More than {MAX_TAGS} tags")

        await self._change_tags(user_nid, room_nid, add)

    async def delete_tag(self, user_nid: int, room_id: RoomId, tag: str) -> None:
        """Take a tag away; one that is not there is gone already."""
        room_nid = await self._room_nid(room_id)
        if room_nid is not None:
            await self._change_tags(user_nid, room_nid, lambda tags: tags.pop(tag, None))

    async def copy_room_settings(self, requester: Requester, old: RoomIdentity, new: RoomIdentity) -> None:
        """A room replaces another one: its tags, and whom it is a direct chat with (ROOM-27)."""
        user_nid = requester.user_nid
        _, tags = await self._tags(user_nid, old.nid)
        if tags:
            await self._change_tags(user_nid, new.nid, lambda now: None if now else now.update(tags))

        async def once() -> None:
            async with self._db.read() as tx:
                position, content = await store.find_placed(tx, user_nid, GLOBAL, DIRECT)
            direct = json.loads(content) if content else {}
            changed = {user: _with_successor(rooms, old, new) for user, rooms in direct.items()}
            if changed != direct:
                entry = AccountDataEntry(user_nid, GLOBAL, DIRECT, json.dumps(changed), position)
                await self._log.append(entry)

        await self._turns.changed((user_nid, DIRECT), once)

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """The account has ended: nobody is left to read it."""
        async with self._db.transaction() as tx:
            await store.delete_of_user(tx, user_nid)

    async def _change_tags(
        self, user_nid: int, room_nid: int, change: Callable[[dict[str, Any]], object]
    ) -> None:
        async def once() -> None:
            position, tags = await self._tags(user_nid, room_nid)
            before = dict(tags)
            change(tags)
            if tags != before:
                content = json.dumps({"tags": tags})
                await self._log.append(AccountDataEntry(user_nid, room_nid, TAGS, content, position))

        await self._turns.changed((user_nid, room_nid), once)

    async def _tags(self, user_nid: int, room_nid: int) -> tuple[Position, dict[str, Any]]:
        """Where they stand in the log, and they."""
        async with self._db.read() as tx:
            position, content = await store.find_placed(tx, user_nid, room_nid, TAGS)
        tags = json.loads(content).get("tags") if content else None
        return position, tags if isinstance(tags, dict) else {}

    async def _room_nid(self, room_id: RoomId | None) -> int | None:
        if room_id is None:
            return GLOBAL
        room = await self._interning.room(room_id)
        return room.nid if room else None


def _check_size(kind: str, data: bytes) -> None:
    if len(kind.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise InvalidParam(f"type: at most {MAX_NAME_BYTES} bytes")
    if len(data) > MAX_CONTENT:
        raise TooLarge(f"Account data of more than {MAX_CONTENT} bytes")


def _with_successor(rooms: Any, old: RoomIdentity, new: RoomIdentity) -> Any:
    """A list of direct chats; the new room too, if the old one is in it."""
    if not isinstance(rooms, list) or old.room_id not in rooms or new.room_id in rooms:
        return rooms
    return [*rooms, new.room_id]
