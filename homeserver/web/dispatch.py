"""The way of one request: route, authenticate, limit, read, call, answer.

Owns the order of these steps. Written for speed: a request whose token is cached and whose body has arrived awaits
nothing but its handler.

spec: client-server-api/#using-access-tokens
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from homeserver.matrix.errors import LimitExceeded, MatrixError, MissingToken, Unavailable
from homeserver.runtime.fair_queue import FairQueue, Place
from homeserver.runtime.turns import next_turn
from homeserver.web import limits
from homeserver.web.addresses import client_network
from homeserver.web.admission import access_token, admit
from homeserver.web.auth import Auth, Authenticator, ServerAuthenticator
from homeserver.web.binding import Bound, Reads
from homeserver.web.endpoint import Endpoint
from homeserver.web.errors import reply_to
from homeserver.web.http_parser import HTTP_1_0
from homeserver.web.observe import Observer
from homeserver.web.rate_limit import PER_DEVICE, RateLimiter
from homeserver.web.request import RequestInfo
from homeserver.web.response import Reply, Streamed, render
from homeserver.web.response_writer import BrokenHeader, ResponseWriter
from homeserver.web.router import Router
from homeserver.web.stream import ClientGone, ClientTimeouts, check_declared_length, read_body

CLIENT_CLOSED = 499
"""What the log and metrics say of a request whose client went away; nobody is there to receive it."""

REQUESTS_AT_ONCE = 8
"""Requests of one user or server that a process works on at the same time, unless the configuration says otherwise."""

TOO_MANY_RETRY_MS = 5_000
"""When a client may try again that has too many requests under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What dispatching needs; shared by all listeners."""

    authenticator: Authenticator | None
    server_authenticator: ServerAuthenticator | None
    limiter: RateLimiter
    observer: Observer
    writer: ResponseWriter
    timeouts: ClientTimeouts
    queue: FairQueue = field(default_factory=lambda: FairQueue(REQUESTS_AT_ONCE))
    """Through which users and servers go, so that none of them delays the others."""
    contact: str | None = None
    """The administrator's address, as a URI."""
    fresh: Callable[[], Awaitable[None]] | None = None
    """Awaited before a request is looked at: with several processes, what others were told must be seen here."""


class Dispatcher:
    """Answers the requests of one listener."""

    def __init__(self, router: Router, parts: Parts) -> None:
        self._router = router
        self._parts = parts
        self._writer = parts.writer

    async def answer(self, info: RequestInfo) -> bool:
        """Everything from the header to the last byte of the answer; whether the connection can carry another request.
        Never raises but for cancellation.
        """
        observer = self._parts.observer
        observer.begins(info)
        status, sent = CLIENT_CLOSED, 0
        try:
            if info.method == "OPTIONS":
                info.operation = "preflight"
                keep_alive = info.keep_alive and not info.closing.is_set()
                status, sent = 204, await self._writer.preflight(info, keep_alive=keep_alive)
                return keep_alive
            result = await self._result(info)
            # Where a broken body ends, and the next request begins, nobody can tell.
            keep_alive = info.keep_alive and not info.closing.is_set() and info.content.exception() is None
            if isinstance(result, Streamed):
                # Of HTTP/1.0 the end of a body without a length is the end of the connection (RFC 9112, 6.3).
                keep_alive = keep_alive and (result.length is not None or info.version > HTTP_1_0)
                status, sent = await self._stream(info, result, keep_alive=keep_alive)
            else:
                status, sent = result.status, await self._send(info, result, keep_alive=keep_alive)
        except ClientGone:
            return False
        except asyncio.CancelledError:
            if info.connection.gone:
                return False
            raise
        except _Broken:
            status = 500
            return False
        finally:
            observer.ends(info, status, sent)
        return keep_alive

    async def _result(self, info: RequestInfo) -> Reply | Streamed:
        try:
            return render(await self._call(info))
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001  # the one place where an exception becomes a response
            return self._refusal(info, error)

    async def _call(self, info: RequestInfo) -> Any:
        route, info.path_values = self._router.find(info.method, info.path)
        bound = route.bound
        endpoint = bound.endpoint
        info.operation, info.template = endpoint.operation_id, route.template
        if info.too_many:
            raise LimitExceeded(TOO_MANY_RETRY_MS)
        if self._parts.fresh is not None:
            await self._parts.fresh()
        of_user = endpoint.auth is not Auth.NONE and endpoint.auth is not Auth.SERVER
        if of_user and not self._recognise(endpoint, info):
            await self._authenticate(endpoint, info)
        limit = endpoint.limit
        if limit in self._parts.limiter.classes and endpoint.auth is not Auth.SERVER:
            self._limit(limit, info)
        if bound.reads is Reads.ALL:
            info.body = await read_body(info, bound.max_body, self._parts.timeouts)
        elif bound.reads is Reads.STREAM:
            check_declared_length(info, bound.max_body)
        if endpoint.auth is Auth.SERVER:
            await self._authenticate_server(bound, info)
        if bound.reads is Reads.STREAM:
            return await self._handle(bound, info)
        queue, key = self._parts.queue, _fair_key(info)
        await queue.enter(key)
        info.place = place = Place(queue, key)
        try:
            return await self._handle(bound, info)
        finally:
            place.end()

    @staticmethod
    async def _handle(bound: Bound, info: RequestInfo) -> Any:
        arguments = [take(info) for take in bound.takes]
        if len(info.body) > limits.COUNTED_FROM:
            await next_turn()  # reading it has taken milliseconds, and what follows may as well
        if not bound.endpoint.cancel_on_disconnect:
            return await bound.handler(*arguments)
        info.connection.interruptible = True
        try:
            return await bound.handler(*arguments)
        finally:
            info.connection.interruptible = False

    def _recognise(self, endpoint: Endpoint, info: RequestInfo) -> bool:
        """Authenticate whom memory knows; False: the database has to be asked."""
        token = access_token(info)
        if token is None:
            if endpoint.auth is Auth.OPTIONAL:
                return True
            raise MissingToken("Missing access token")
        authenticator = self._parts.authenticator
        if authenticator is None:
            raise Unavailable("This listener knows no users")
        requester = authenticator.cached(token, info)
        if requester is None:
            return False
        info.requester = requester  # before it is refused: the line of the request says whom it was
        info.requester = admit(endpoint, requester)
        return True

    async def _authenticate(self, endpoint: Endpoint, info: RequestInfo) -> None:
        token, authenticator = access_token(info), self._parts.authenticator
        assert token is not None
        assert authenticator is not None
        info.requester = await authenticator.authenticate(token, info, allow_expired=endpoint.allow_expired)
        info.requester = admit(endpoint, info.requester)

    async def _authenticate_server(self, bound: Bound, info: RequestInfo) -> None:
        authenticator = self._parts.server_authenticator
        if authenticator is None:
            raise Unavailable("This listener knows no servers")
        info.origin = await authenticator.authenticate(info, info.body)
        if bound.endpoint.limit is not None and info.origin.rate_limited:
            self._parts.limiter.hit(bound.endpoint.limit, info.origin.server_name)

    def _limit(self, name: str, info: RequestInfo) -> None:
        requester = info.requester
        if requester is None:
            self._parts.limiter.hit_address(name, info.ip)
        elif requester.rate_limited:
            user, device = requester.user_id, requester.device_id
            key = f"{user} {device}" if name in PER_DEVICE else user
            self._parts.limiter.hit(name, key, guest=requester.is_guest, rate=requester.rate)

    async def _send(self, info: RequestInfo, reply: Reply, *, keep_alive: bool) -> int:
        try:
            return await self._writer.send(info, reply, keep_alive=keep_alive)
        except BrokenHeader as error:
            return await self._writer.send(info, self._refusal(info, error), keep_alive=keep_alive)

    async def _stream(self, info: RequestInfo, answer: Streamed, *, keep_alive: bool) -> tuple[int, int]:
        try:
            first = await anext(answer.pieces, b"")
        except Exception as error:  # noqa: BLE001  # as in _result: nothing was sent yet
            reply = self._refusal(info, error)
            return reply.status, await self._send(info, reply, keep_alive=keep_alive)
        try:
            return answer.status, await self._writer.stream(info, answer, first, keep_alive=keep_alive)
        except ClientGone:
            raise
        except BrokenHeader as error:
            reply = self._refusal(info, error)
            return reply.status, await self._send(info, reply, keep_alive=keep_alive)
        except Exception as error:
            # Too late for another answer: breaking the connection off is how the client learns of it.
            self._refusal(info, error)
            info.connection.abort()
            raise _Broken from error
        finally:
            if (close := getattr(answer.pieces, "aclose", None)) is not None:
                await close()

    def _refusal(self, info: RequestInfo, error: BaseException) -> Reply:
        info.errcode = error.errcode if isinstance(error, MatrixError) else "M_UNKNOWN"
        return reply_to(error, info.request_id, info.operation, self._parts.contact)


def _fair_key(info: RequestInfo) -> str:
    """For whom a request counts: the application service, the user, the server; who has proved nothing: the address."""
    if (requester := info.requester) is not None:
        return requester.appservice_id or requester.user_id
    return info.origin.server_name if info.origin is not None else client_network(info.ip)


class _Broken(Exception):
    """An answer that failed half-way."""
