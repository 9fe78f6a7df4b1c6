"""Asks other servers for devices and keys of their users: per server at once, all in parallel, each in the time there is.

What comes is kept for users who share a room with somebody here (`homeserver.e2ee.remote_lists`).
spec: op:queryUserEncryptionKeys, op:claimUserEncryptionKeys, op:getUserDevices (E2E-05, FED-31)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import msgspec
import structlog

from federation.devices.reading import device_of, one_time_key_of, signing_key_of
from federation.ports import Ask, BadAnswer, Client, RemoteFault
from homeserver.e2ee.merge import UserKeys, render
from homeserver.e2ee.ports import Claimed, Failures, Queried
from homeserver.e2ee.remote_lists import MAX_DEVICES, RemoteList, RemoteLists
from homeserver.e2ee.types import MASTER, SELF_SIGNING, DeviceRow, ListRow, SigningRow
from homeserver.matrix.canonical_json import MAX_INTEGER
from homeserver.matrix.ids import ServerName, UserId
from homeserver.runtime.turns import next_turn

log = structlog.get_logger(__name__)

SERVERS_AT_ONCE: Final = 50
"""Of one query or claim; the others wait for these, in the same time."""
USERS_AT_ONCE: Final = 250
"""In one request to a server."""
ANSWER_BYTES: Final = 16 << 20
LIST_BYTES: Final = 4 << 20
LIST_TIMEOUT: Final = 30.0
USER: Final = ("_matrix", "federation", "v1", "user")


class _Keys(msgspec.Struct):
    """What a server says of several users' keys. Its parts are looked at one by one."""

    device_keys: dict[str, Any] = {}
    master_keys: dict[str, Any] = {}
    self_signing_keys: dict[str, Any] = {}


class _Claims(msgspec.Struct):
    one_time_keys: dict[str, Any] = {}


class _List(msgspec.Struct):
    user_id: str
    stream_id: int
    devices: list[dict[str, Any]]
    master_key: Any = None
    self_signing_key: Any = None


class RemoteDevices:
    """Fulfils `e2ee.ports.RemoteKeys`. Keeps nothing in memory."""

    def __init__(self, client: Client, lists: RemoteLists) -> None:
        self._client = client
        self._lists = lists

    async def query(
        self, wanted: Mapping[ServerName, Mapping[str, Sequence[str]]], timeout: float
    ) -> Queried:
        """See `RemoteKeys.query`."""
        users = [UserId(user) for theirs in wanted.values() for user in theirs]
        asked = await self._lists.begin(users)
        keys: dict[str, UserKeys] = {}

        async def ask(server: ServerName, theirs: Mapping[str, Sequence[str]]) -> None:
            for some in _pieces(theirs):
                keys.update(await self._query(server, some, asked, timeout))

        failures = await _all_at_once(wanted, ask, timeout)
        return Queried(keys, failures)

    async def claim(
        self, wanted: Mapping[ServerName, Mapping[str, Mapping[str, str]]], timeout: float
    ) -> Claimed:
        """See `RemoteKeys.claim`."""
        keys: dict[str, dict[str, dict[str, Any]]] = {}

        async def ask(server: ServerName, theirs: Mapping[str, Mapping[str, str]]) -> None:
            for some in _pieces(theirs):
                request = _ask("POST", ("keys", "claim"), {"one_time_keys": some}, timeout)
                answer = await self._client.ask(server, request, _Claims)
                keys.update(_claims(some, answer))

        failures = await _all_at_once(wanted, ask, timeout)
        return Claimed(keys, failures)

    async def fetch(self, server: ServerName, user_id: UserId) -> bool | None:
        """Fetch one list and keep it. Returns whether another one was kept before; None: it is of no use here.

        Raises `RemoteFault`.
        """
        asked = (await self._lists.begin([user_id])).get(user_id)
        if asked is None:
            return None
        request = _ask("GET", ("devices", user_id), None, LIST_TIMEOUT, max_bytes=LIST_BYTES)
        answer = await self._client.ask(server, request, _List)
        if answer.user_id != user_id or not 0 <= answer.stream_id <= MAX_INTEGER:
            raise BadAnswer(server, "a device list of another user, or without a version")
        if len(answer.devices) > MAX_DEVICES:
            raise BadAnswer(server, f"more than {MAX_DEVICES} devices of one user")
        nid = asked.user_nid
        devices: dict[str, DeviceRow] = {}
        for told in answer.devices:
            name = told.get("device_id")
            if isinstance(name, str):
                display_name = told.get("device_display_name")
                device = device_of(user_id, nid, name, told.get("keys"), display_name)
                if device is not None:
                    devices[name] = device
        found = {MASTER: answer.master_key, SELF_SIGNING: answer.self_signing_key}
        signing = _signing(user_id, nid, found)
        kept = RemoteList(
            asked=asked, stream_id=answer.stream_id, devices=[*devices.values()], signing=signing
        )
        return nid in await self._lists.keep([kept])

    # ------------------------------------------------------------------------------------------------------------ inside

    async def _query(
        self,
        server: ServerName,
        wanted: Mapping[str, Sequence[str]],
        asked: Mapping[UserId, ListRow],
        timeout: float,
    ) -> dict[str, UserKeys]:
        """Keys of some users of one server. Of those whose lists are worth keeping all devices are asked for."""
        content = {user: [] if user in asked else list(only) for user, only in wanted.items()}
        answer = await self._client.ask(
            server, _ask("POST", ("keys", "query"), {"device_keys": content}, timeout), _Keys
        )
        await next_turn()
        strangers = count(-1, -1)
        names = {
            asked[user].user_nid if (user := UserId(name)) in asked else next(strangers): user
            for name in wanted
        }
        devices: list[DeviceRow] = []
        signing: list[SigningRow] = []
        lists: list[RemoteList] = []
        for nid, user in names.items():
            theirs = _devices(user, nid, answer.device_keys.get(user))
            keys = _signing(
                user,
                nid,
                {MASTER: answer.master_keys.get(user), SELF_SIGNING: answer.self_signing_keys.get(user)},
            )
            devices += theirs
            signing += keys
            if user in asked:
                lists.append(RemoteList(asked=asked[user], stream_id=None, devices=theirs, signing=keys))
        if lists:
            await self._lists.keep(lists)
        return {names[nid]: keys for nid, keys in render(names, devices, signing, ()).items()}


def _devices(user_id: UserId, user_nid: int, told: object) -> list[DeviceRow]:
    """Those of one user; at most so many."""
    found: list[DeviceRow] = []
    if not isinstance(told, Mapping):
        return found
    for device_id, keys in told.items():
        unsigned = keys.get("unsigned") if isinstance(keys, Mapping) else None
        name = unsigned.get("device_display_name") if isinstance(unsigned, Mapping) else None
        device = device_of(user_id, user_nid, device_id, keys, name)
        if device is not None and len(found) < MAX_DEVICES:
            found.append(device)
    return found


def _signing(user_id: UserId, user_nid: int, told: Mapping[int, object]) -> list[SigningRow]:
    rows = (signing_key_of(user_id, user_nid, usage, key) for usage, key in told.items())
    return [row for row in rows if row is not None]


def _claims(wanted: Mapping[str, Mapping[str, str]], answer: _Claims) -> dict[str, dict[str, dict[str, Any]]]:
    """What was asked for, of what came."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for user, devices in wanted.items():
        told = answer.one_time_keys.get(user)
        if not isinstance(told, Mapping):
            continue
        for device_id, algorithm in devices.items():
            key = one_time_key_of(algorithm, told.get(device_id))
            if key is not None:
                found.setdefault(user, {})[device_id] = key
    return found


def _pieces(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = list(wanted.items())
    return [dict(items[first : first + USERS_AT_ONCE]) for first in range(0, len(items), USERS_AT_ONCE)]


def _ask(
    method: str, path: tuple[str, ...], content: Any, timeout: float, *, max_bytes: int = ANSWER_BYTES
) -> Ask:
    return Ask(
        method=method,
        path=(*USER, *path),
        content=content,
        timeout=timeout,
        max_bytes=max_bytes,
        long_retry=False,
    )


async def _all_at_once(wanted: Mapping[ServerName, Any], ask: Any, timeout: float) -> Failures:
    """Ask all servers; who has not answered in time, or not well, is returned."""
    failures: dict[str, Any] = {}
    places = asyncio.Semaphore(SERVERS_AT_ONCE)

    async def one(server: ServerName) -> None:
        try:
            async with asyncio.timeout(timeout), places:
                await ask(server, wanted[server])
        except (RemoteFault, TimeoutError) as fault:
            log.info("devices.not_answered", destination=server, problem=str(fault)[:200])
            failures[server] = {"message": "It did not answer, or not as it has to"}

    async with asyncio.TaskGroup() as group:
        for server in sorted(wanted):
            group.create_task(one(server))
    return failures
