"""Asking resident servers to let a user of ours in, knock or leave: one after the other, each within its time.

spec: server-server-api/#joining-rooms, #knocking-upon-a-room, #leaving-rooms-rejecting-invites (FED-19, FED-27)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import structlog

from federation.handshakes.templates import BadTemplate, Template, Wish, built, read_template
from federation.ports import (
    Ask,
    BadAnswer,
    Client,
    NotPermitted,
    RemoteError,
    RemoteFault,
    Unreachable,
)
from homeserver.events.event import Event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.graph.write.append import Identity
from homeserver.matrix import json
from homeserver.matrix.errors import (
    Forbidden,
    IncompatibleRoomVersion,
    InviteBlocked,
    MatrixError,
    NotFound,
    Unavailable,
    Unknown,
)
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock

_log = structlog.get_logger("atrium.federation.handshakes")

A = TypeVar("A")
T = TypeVar("T")
MAKE_SECONDS: Final = 15.0
SEND_SECONDS: Final = 30.0
JOIN_SECONDS: Final = 120.0
"""For the answer to a join: a large room is megabytes, and worked out while we wait."""
MAX_STATE_BYTES: Final = 160 << 20
"""Of the answer to a join: some hundred thousand events."""
V1: Final = ("_matrix", "federation", "v1")
V2: Final = ("_matrix", "federation", "v2")
_UNABLE: Final = frozenset({"M_UNABLE_TO_AUTHORISE_JOIN", "M_UNABLE_TO_GRANT_JOIN"})
_SAY_THE_SAME: Final = (Forbidden, InviteBlocked)


class JoinAnswer(msgspec.Struct):
    """spec: op:sendJoinV2. Events are left as they came."""

    state: list[msgspec.Raw]
    auth_chain: list[msgspec.Raw]
    event: dict[str, Any] | None = None
    members_omitted: bool = False


class KnockAnswer(msgspec.Struct):
    """spec: op:sendKnock."""

    knock_room_state: list[Any] = []


class Residency:
    """Requests to servers that are in a room. Keeps nothing in memory."""

    def __init__(self, client: Client, identity: Identity, clock: Clock, large: Callable[[], None]) -> None:
        """`large`: called when the answer to a join is seen to be large: much will be checked."""
        self._large = large
        self._client = client
        self._identity = identity
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        """Before others are asked again."""
        await self._clock.sleep(seconds)

    async def template(self, server: ServerName, wish: Wish) -> Template:
        """What the event of a wish is to rest on. Raises `RemoteFault`."""
        versions = () if wish.membership == "leave" else tuple(("ver", each) for each in ROOM_VERSIONS)
        ask = Ask(
            method="GET",
            path=(*V1, f"make_{wish.membership}", wish.room_id, wish.user_id),
            query=versions,
            timeout=MAKE_SECONDS,
            max_bytes=1 << 20,
            long_retry=False,
        )
        answer = await self._client.ask(server, ask, dict[str, Any])
        try:
            return read_template(answer, wish)
        except BadTemplate as bad:
            raise BadAnswer(server, f"make_{wish.membership}: {bad}") from bad

    def event(self, template: Template, wish: Wish) -> Event:
        """The event of a wish, signed. Raises `BadJson`, `TooLarge` for what the user says."""
        return built(template, wish, self._identity, self._clock.now_ms())

    async def send_join(self, server: ServerName, event: Event) -> JoinAnswer:
        """Raises `RemoteFault`."""
        path = (*V2, "send_join", event.room_id, event.event_id)
        ask = Ask(
            method="PUT",
            path=path,
            content=msgspec.Raw(event.pdu),
            timeout=JOIN_SECONDS,
            max_bytes=MAX_STATE_BYTES,
            long_retry=False,
            large=self._large,
        )
        return await self._client.ask(server, ask, JoinAnswer)

    async def send_knock(self, server: ServerName, event: Event) -> KnockAnswer:
        """Raises `RemoteFault`."""
        path = (*V1, "send_knock", event.room_id, event.event_id)
        return await self._send(server, path, event, KnockAnswer)

    async def send_leave(self, server: ServerName, event: Event) -> None:
        """Raises `RemoteFault`."""
        path = (*V2, "send_leave", event.room_id, event.event_id)
        await self._send(server, path, event, dict[str, Any])

    async def _send(self, server: ServerName, path: tuple[str, ...], event: Event, answer: type[A]) -> A:
        ask = Ask(
            method="PUT",
            path=path,
            content=msgspec.Raw(event.pdu),
            timeout=SEND_SECONDS,
            max_bytes=4 << 20,
            long_retry=False,
        )
        return await self._client.ask(server, ask, answer)


async def by_one_of(
    servers: Sequence[ServerName], what: str, attempt: Callable[[ServerName], Awaitable[T]]
) -> T:
    """What the first of the servers answers that can. Raises what is to be told to the client where none does: rather what a
    server has refused than that another one was not there.
    """
    refusals: list[RemoteFault] = []
    for server in servers:
        try:
            return await attempt(server)
        except RemoteFault as fault:
            _log.info("handshakes.refused", what=what, server=server, why=fault.problem)
            refusals.append(fault)
            if isinstance(fault, RemoteError) and fault.errcode == "M_INCOMPATIBLE_ROOM_VERSION":
                break  # the others would say the same
    if not refusals:
        raise NotFound("No server is known to be in that room")
    told = [(for_client(fault), fault) for fault in refusals]
    refused = [each for each in told if each[0].http_status < 500]
    # Who can tell says more than who cannot.
    error, cause = next((each for each in refused if not _is_unable(each[1])), (refused or told[-1:])[0])
    raise error from cause


def for_client(fault: RemoteFault) -> MatrixError:
    """What a client is told of a fault of another server. spec: op:sendInviteV2, op:sendJoinV2 (FED-27)"""
    if isinstance(fault, NotPermitted):
        return Forbidden(f"This server does not speak with {fault.destination}")
    if isinstance(fault, Unreachable):
        return Unavailable(f"{fault.destination} does not answer", status=502)
    if not isinstance(fault, RemoteError):
        return Unknown(f"{fault.destination} has given an answer that is none", status=502)
    words = f"{fault.destination} says: {fault.error}" if fault.error else f"{fault.destination} refuses"
    if fault.errcode == "M_INCOMPATIBLE_ROOM_VERSION":
        return IncompatibleRoomVersion(words, room_version=_room_version(fault.body))
    if fault.errcode == "M_INVITE_BLOCKED":
        return InviteBlocked(words)
    if fault.status == 404:
        return NotFound(words)
    if fault.status == 403 or _is_unable(fault):
        return Forbidden(words)
    if fault.status == 400 and fault.errcode not in ("M_MISSING_PARAM", "M_INVALID_PARAM"):
        return Unknown(words)
    return Unknown(words, status=502)


def _is_unable(fault: RemoteFault) -> bool:
    """Whether a server cannot tell who may join a restricted room, or has nobody who may let them in: another one may (FED-23)."""
    return isinstance(fault, RemoteError) and fault.errcode in _UNABLE


def _room_version(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    version = told.get("room_version") if isinstance(told, dict) else None
    return version if isinstance(version, str) else ""
