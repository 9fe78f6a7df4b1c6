"""Endpoints of key backups.

spec: client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from homeserver.key_backup.service import KeyBackupService, check_number, session_data
from homeserver.key_backup.store import VersionRow
from homeserver.key_backup.types import AllKeys, KeyData, RoomKeys, Row, Updated, VersionBody, VersionInfo
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import is_room_id
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.response import RawJson, StreamedJson

BASE = ["/_matrix/client/{v}/room_keys", "/_matrix/client/unstable/room_keys"]
VERSIONS = [f"{base}/version" for base in BASE]
VERSION = [f"{base}/version/{{version}}" for base in BASE]
ALL = [f"{base}/keys" for base in BASE]
ROOM = [f"{base}/keys/{{roomId}}" for base in BASE]
SESSION = [f"{base}/keys/{{roomId}}/{{sessionId}}" for base in BASE]
MAX_BODY = 8 * 2**20
MAX_NAME = 255


class NewVersion(msgspec.Struct):
    """Which one."""

    version: str


class KeyBackupApi:
    """One's own backups."""

    def __init__(self, backups: KeyBackupService) -> None:
        self._backups = backups

    # --- versions ------------------------------------------------------------------------------------------------

    @endpoint("postRoomKeysVersion", "POST", VERSIONS, auth=Auth.USER, when_suspended=True)
    async def create(self, requester: Requester, body: Body[VersionBody]) -> NewVersion:
        version = await self._backups.create(requester.user_nid, body.algorithm, body.auth_data)
        return NewVersion(str(version))

    @endpoint("getRoomKeysVersionCurrent", "GET", VERSIONS, auth=Auth.USER)
    async def current(self, requester: Requester) -> VersionInfo:
        return _shown(await self._backups.version(requester.user_nid, None))

    @endpoint("getRoomKeysVersion", "GET", VERSION, auth=Auth.USER)
    async def version(self, requester: Requester, version: Path[str]) -> VersionInfo:
        return _shown(await self._backups.version(requester.user_nid, version))

    @endpoint("putRoomKeysVersion", "PUT", VERSION, auth=Auth.USER, when_suspended=True)
    async def update(self, requester: Requester, version: Path[str], body: Body[VersionBody]) -> None:
        if body.version is not None and body.version != version:
            raise InvalidParam("version: not the one in the path")
        await self._backups.update(requester.user_nid, version, body.algorithm, body.auth_data)

    @endpoint("deleteRoomKeysVersion", "DELETE", VERSION, auth=Auth.USER, when_suspended=True)
    async def delete(self, requester: Requester, version: Path[str]) -> None:
        await self._backups.delete(requester.user_nid, version)

    # --- writing keys --------------------------------------------------------------------------------------------

    @endpoint("putRoomKeys", "PUT", ALL, auth=Auth.USER, when_suspended=True, max_body=MAX_BODY)
    async def put_all(self, requester: Requester, version: Query[str], body: Body[AllKeys]) -> Updated:
        check_number(sum(len(keys.sessions) for keys in body.rooms.values()))
        rows = [row for room, keys in body.rooms.items() for row in _rows(room, keys)]
        return await self._backups.put(requester.user_nid, version, rows)

    @endpoint("putRoomKeysByRoomId", "PUT", ROOM, auth=Auth.USER, when_suspended=True, max_body=MAX_BODY)
    async def put_room(
        self, requester: Requester, room_id: Path[str], version: Query[str], body: Body[RoomKeys]
    ) -> Updated:
        return await self._backups.put(requester.user_nid, version, _rows(room_id, body))

    @endpoint("putRoomKeyBySessionId", "PUT", SESSION, auth=Auth.USER, when_suspended=True)
    async def put_session(
        self,
        requester: Requester,
        room_id: Path[str],
        session_id: Path[str],
        version: Query[str],
        body: Body[KeyData],
    ) -> Updated:
        rows = _rows(room_id, RoomKeys({session_id: body}))
        return await self._backups.put(requester.user_nid, version, rows)

    # --- reading keys --------------------------------------------------------------------------------------------

    @endpoint("getRoomKeys", "GET", ALL, auth=Auth.USER)
    async def all(self, requester: Requester, version: Query[str]) -> StreamedJson:
        return StreamedJson(_rooms(self._backups.pages(requester.user_nid, version)))

    @endpoint("getRoomKeysByRoomId", "GET", ROOM, auth=Auth.USER)
    async def room(self, requester: Requester, room_id: Path[str], version: Query[str]) -> StreamedJson:
        _check_names(room_id)
        return StreamedJson(_sessions(self._backups.pages(requester.user_nid, version, room_id)))

    @endpoint("getRoomKeyBySessionId", "GET", SESSION, auth=Auth.USER)
    async def session(
        self, requester: Requester, room_id: Path[str], session_id: Path[str], version: Query[str]
    ) -> RawJson:
        _check_names(room_id, session_id)
        return RawJson(_key(await self._backups.find(requester.user_nid, version, room_id, session_id)))

    # --- deleting keys -------------------------------------------------------------------------------------------

    @endpoint("deleteRoomKeys", "DELETE", ALL, auth=Auth.USER, when_suspended=True)
    async def delete_all(self, requester: Requester, version: Query[str]) -> Updated:
        return await self._backups.remove(requester.user_nid, version, None, None)

    @endpoint("deleteRoomKeysByRoomId", "DELETE", ROOM, auth=Auth.USER, when_suspended=True)
    async def delete_room(self, requester: Requester, room_id: Path[str], version: Query[str]) -> Updated:
        _check_names(room_id)
        return await self._backups.remove(requester.user_nid, version, room_id, None)

    @endpoint("deleteRoomKeyBySessionId", "DELETE", SESSION, auth=Auth.USER, when_suspended=True)
    async def delete_session(
        self, requester: Requester, room_id: Path[str], session_id: Path[str], version: Query[str]
    ) -> Updated:
        _check_names(room_id, session_id)
        return await self._backups.remove(requester.user_nid, version, room_id, session_id)


def _rows(room_id: str, keys: RoomKeys) -> list[Row]:
    """Raises `InvalidParam`, `TooLarge`."""
    check_number(len(keys.sessions))
    _check_names(room_id)
    rows: list[Row] = []
    for session_id, key in keys.sessions.items():
        _check_names(room_id, session_id)
        data = session_data(key.session_data, f"sessions.{session_id}")
        rows.append(
            Row(room_id, session_id, key.is_verified, key.first_message_index, key.forwarded_count, data)
        )
    return rows


def _check_names(room_id: str, session_id: str | None = None) -> None:
    """Raises `InvalidParam`."""
    if not is_room_id(room_id):
        raise InvalidParam("rooms: not a room ID")
    if session_id is not None and (not session_id or len(session_id) > MAX_NAME or "\0" in session_id):
        raise InvalidParam(f"sessions: a session ID of 1 to {MAX_NAME} characters is expected")


async def _rooms(pages: AsyncIterator[list[Row]]) -> AsyncIterator[bytes]:
    """`AllKeys`, of rows by room."""
    room_id = None
    head = b'{"rooms":{'
    async for rows in pages:
        for room, some in groupby(rows, attrgetter("room_id")):
            if room != room_id:
                head += b"" if room_id is None else b"}},"
                head += json.dumps(room) + b':{"sessions":{'
            else:
                head += b","
            room_id = room
            head += b",".join(map(_member, some))
        yield head
        head = b""
    yield head + (b"}}" if room_id is None else b"}}}}")


async def _sessions(pages: AsyncIterator[list[Row]]) -> AsyncIterator[bytes]:
    """`RoomKeys`."""
    head = b'{"sessions":{'
    async for rows in pages:
        yield head + b",".join(map(_member, rows))
        head = b","
    yield b"}}" if head == b"," else head + b"}}"


def _member(row: Row) -> bytes:
    return b"%b:%b" % (json.dumps(row.session_id), _key(row))


def _key(row: Row) -> bytes:
    return b'{"first_message_index":%d,"forwarded_count":%d,"is_verified":%b,"session_data":%b}' % (
        row.first_message_index,
        row.forwarded_count,
        b"true" if row.is_verified else b"false",
        row.session_data,
    )


def _shown(row: VersionRow) -> VersionInfo:
    raw: Any = msgspec.Raw(row.auth_data)
    return VersionInfo(row.algorithm, raw, row.keys, str(row.etag), str(row.version))
