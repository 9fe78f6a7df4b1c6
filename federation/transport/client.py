"""Asking other servers: `federation.ports.Client`.

spec: server-server-api/#request-authentication, #resolving-server-names (CHECKLIST FED-01, FED-03, DISC-09)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import hdrs

from federation.ports import (
    Answer,
    Ask,
    BackingOff,
    NotPermitted,
    Partners,
    RemoteError,
    RemoteFault,
    Unreachable,
)
from federation.transport import body as bodies
from federation.transport.backoff import Backoff
from federation.transport.connections import Connections, Message
from federation.transport.figures import TransportFigures
from federation.transport.resolution import Resolver
from federation.transport.routes import Route
from federation.transport.slots import Slots
from federation.x_matrix import Signer
from homeserver.matrix import canonical_json
from homeserver.matrix.ids import ServerName
from homeserver.runtime.fair_queue import paused

A = TypeVar("A")

_NOT_SERVING: Final = frozenset({502, 503, 504})
"""What a proxy says for a server that is away."""
_DECODED_IN_THREAD: Final = 256 * 1024
"""Bytes of JSON that are not read on the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What requests travel by."""

    resolver: Resolver
    connections: Connections
    backoff: Backoff
    slots: Slots
    partners: Partners
    figures: TransportFigures


class SignedClient:
    """See `federation.ports.Client`."""

    def __init__(self, signer: Callable[[], Signer], ways: Ways) -> None:
        """`signer`: with which name and key requests are signed at the moment."""
        self._signer = signer
        self._ways = ways

    async def ask(self, destination: ServerName, ask: Ask, answer: type[A]) -> A:
        """See `Client.ask`."""
        async with self._exchange(destination, ask) as response:
            body = await _large(ask, bodies.pieces(destination, response, ask.max_bytes))
        if len(body) < _DECODED_IN_THREAD:
            return bodies.decode(destination, body, ask.max_bytes, answer)
        return await asyncio.to_thread(bodies.decode, destination, body, ask.max_bytes, answer)

    @contextlib.asynccontextmanager
    async def stream(self, destination: ServerName, ask: Ask) -> AsyncIterator[Answer]:
        """See `Client.stream`."""
        async with self._exchange(destination, ask) as response:
            yield Answer(
                response.headers.get(hdrs.CONTENT_TYPE, ""),
                response.headers,
                bodies.pieces(destination, response, ask.max_bytes),
            )

    @contextlib.asynccontextmanager
    async def _exchange(self, destination: ServerName, ask: Ask) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that says yes, within the time that the request has; the outcome is counted."""
        ways = self._ways
        signer = self._signer()
        if destination == signer.server_name:
            raise NotPermitted(destination, "that is this server itself")
        if not ways.partners.may_speak(destination):
            raise NotPermitted(destination, "not allowed by federation.allow or federation.deny")
        ways.backoff.require(destination, long_retry=ask.long_retry)
        message = _message(signer, destination, ask)
        try:
            async with (
                paused(),
                _within(destination, ask.timeout),
                ways.slots.turn(destination),
                ways.figures.asking(),
            ):
                # Who waited for a turn need not find out what those before have found out.
                ways.backoff.require(destination, long_retry=ask.long_retry)
                route = await _route(ways.resolver, destination)
                async with ways.connections.exchange(destination, route, message) as response:
                    if response.status not in range(200, 300):
                        raise await _refusal(destination, response)
                    yield response
        except RemoteFault as fault:
            self._note(destination, fault)
            raise
        ways.figures.answered += 1
        ways.backoff.succeeded(destination)

    def _note(self, destination: ServerName, fault: RemoteFault) -> None:
        away = isinstance(fault, RemoteError) and fault.status in _NOT_SERVING
        if fault.destination != destination or isinstance(fault, BackingOff):
            return  # of another request, made by who reads this answer; or it was not asked
        if isinstance(fault, Unreachable | NotPermitted) or away:
            self._ways.figures.failed += 1
            self._ways.backoff.failed(destination, fault.problem)
        else:
            self._ways.figures.refused += 1
            self._ways.backoff.succeeded(destination)


async def _large(ask: Ask, pieces: AsyncIterator[bytes]) -> bytes:
    """A body that may be large; tells who waits for it when it is."""
    found: list[bytes] = []
    size, tell = 0, ask.large
    async for piece in pieces:
        found.append(piece)
        size += len(piece)
        if tell is not None and size >= _DECODED_IN_THREAD:
            tell()
            tell = None
    return b"".join(found)


async def _route(resolver: Resolver, destination: ServerName) -> Route:
    try:
        return await resolver.resolve(destination)
    except ValueError:
        raise NotPermitted(destination, "not a server name") from None


@contextlib.asynccontextmanager
async def _within(destination: ServerName, seconds: float) -> AsyncIterator[None]:
    """However slowly it comes, it ends in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unreachable(destination, f"no answer within {seconds:g} s") from None


async def _refusal(destination: ServerName, response: aiohttp.ClientResponse) -> RemoteFault:
    body = await bodies.whole(destination, response, bodies.ERROR_BYTES)
    errcode, error = bodies.standard_error(body)
    after = response.headers.get(hdrs.RETRY_AFTER, "")
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 8 else None
    return RemoteError(destination, response.status, errcode, error, body, retry_after=seconds)


def _message(signer: Signer, destination: ServerName, ask: Ask) -> Message:
    target = "/" + "/".join(quote(segment, safe="") for segment in ask.path)
    if ask.query:
        target += "?" + "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in ask.query)
    body = _body(ask)
    headers: dict[str, str] = {
        hdrs.AUTHORIZATION: signer.authorization(ask.method, target, destination, body)
    }
    if body is not None:
        headers[hdrs.CONTENT_TYPE] = "application/json"
    return Message(method=ask.method, target=target, headers=headers, body=body, timeout=ask.timeout)


def _body(ask: Ask) -> bytes | None:
    if ask.content is None:
        return None
    return bytes(ask.content) if isinstance(ask.content, msgspec.Raw) else canonical_json.encode(ask.content)
