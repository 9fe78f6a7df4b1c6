"""Asking other parties over HTTP, safely: private addresses refused, redirects, sizes and times bounded.

Owns the client sessions of the process, one per purpose. The address is checked where the socket is made, after every
look-up: an IP address in a URL, a name that resolves differently the second time and a redirect are all caught.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDictProxy
from yarl import URL

from homeserver.runtime.fair_queue import paused
from homeserver.web.addresses import AddressPolicy, AddressRefused
from homeserver.web.limits import MIB

MAX_REDIRECTS: Final = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_FORWARDED = ("Authorization", "Cookie", "Proxy-Authorization")


class Purpose(enum.Enum):
    """Why somebody is asked: each purpose has its own allowed networks, connections and time."""

    FEDERATION = "federation"
    PUSH = "push"
    APPSERVICES = "appservices"
    IDENTITY = "identity"
    PREVIEWS = "previews"
    CALLS = "calls"


class OutboundError(Exception):
    """The other party could not be asked, or its answer not be taken; the text is fit for a log."""


class Refused(OutboundError):
    """The URL leads where it may not."""


class Unreachable(OutboundError):
    """No connection, no answer in time, or one that is not HTTP."""


class AnswerTooLarge(OutboundError):
    """The answer exceeds what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSettings:
    """How this server reaches others."""

    allow_private: Mapping[Purpose, Sequence[str]] = field(default_factory=dict)
    """Networks in CIDR notation, by purpose, besides all public addresses."""
    ca_files: Sequence[Path] = ()
    """PEM files of authorities that are trusted besides the system's."""
    proxy: str | None = None
    """An HTTP proxy; then it is the proxy that has to refuse private addresses."""
    timeout: float = 60.0
    """Seconds for a whole exchange."""
    verify_federation: bool = True
    """False accepts any certificate of other homeservers: for tests."""
    user_agent: str = "Atrium"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request to another party."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    max_bytes: int = MIB
    """Of the answer, decompressed."""
    redirects: int = 0
    """How many to follow, at most `MAX_REDIRECTS`; credentials do not follow to another origin."""
    timeout: float | None = None
    """Seconds for all of it; None: as configured."""
    packed: bool = False
    """Of `exchange`: the body is read as it is sent, in whatever content coding: the caller looks at that first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What another party said, whatever the status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str
    """Where it came from in the end."""


class PoolBounds(NamedTuple):
    """How many connections a purpose may have, and how long an idle one stays."""

    sockets: int = 200
    per_host: int = 8
    """0: as many as there may be."""
    keepalive: float = 15.0
    """Seconds."""


_BOUNDS: Final = {Purpose.PUSH: PoolBounds(per_host=64)}
"""Of purposes of which one host may be everybody's: most phones of a company have one gateway."""


class Outbound:
    """The client sessions of a process. `close` when it ends."""

    def __init__(self, settings: OutboundSettings, resolver: AbstractResolver | None = None) -> None:
        """`resolver` for tests; otherwise the system's, in threads. Raises `OSError`, `ssl.SSLError`, `ValueError`."""
        self._settings = settings
        self._resolver = resolver
        self._policies = {p: AddressPolicy(settings.allow_private.get(p, ())) for p in Purpose}
        self._tls = _shared(settings.ca_files)
        self._sessions: dict[Purpose, aiohttp.ClientSession] = {}
        self._closed = False

    def tls(self, purpose: Purpose) -> ssl.SSLContext:
        """What a certificate is checked against."""
        if purpose is Purpose.FEDERATION and not self._settings.verify_federation:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        return self._tls

    @property
    def settings(self) -> OutboundSettings:
        """As configured."""
        return self._settings

    def connector(
        self,
        purpose: Purpose,
        resolver: AbstractResolver | None = None,
        *,
        bounds: PoolBounds = PoolBounds(),  # noqa: B008  # immutable
    ) -> aiohttp.TCPConnector:
        """A pool of connections that reaches only permitted addresses; for callers with a resolver of their own."""
        policy = self._policies[purpose]

        def make_socket(info: Any) -> socket.socket:
            family, kind, protocol, _, address = info
            if self._settings.proxy is None:
                policy.require(address[0])
            return socket.socket(family, kind, protocol)

        return aiohttp.TCPConnector(
            ssl=self.tls(purpose),
            resolver=resolver or self._resolver or aiohttp.ThreadedResolver(),
            limit=bounds.sockets,
            limit_per_host=bounds.per_host,
            keepalive_timeout=bounds.keepalive,
            ttl_dns_cache=60,
            socket_factory=make_socket,
        )

    def session(self, purpose: Purpose) -> aiohttp.ClientSession:
        """The session of a purpose: for streaming or TLS names of one's own; follow no redirects with it.

        Raises `Unreachable` when they have been closed.
        """
        if self._closed:
            raise Unreachable("this server stops")
        found = self._sessions.get(purpose)
        if found is None:
            found = self._sessions[purpose] = aiohttp.ClientSession(
                connector=self.connector(purpose, bounds=_BOUNDS.get(purpose, PoolBounds())),
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout, sock_connect=15),
                headers={"User-Agent": self._settings.user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                proxy=self._settings.proxy,
                read_bufsize=2**17,
            )
        return found

    async def request(self, purpose: Purpose, request: HttpRequest) -> Answer:
        """Ask and take the whole answer, whatever its status. Raises `Refused`, `Unreachable`, `AnswerTooLarge`."""
        url, method, headers, body = (
            permitted(request.url),
            request.method,
            dict(request.headers),
            request.body,
        )
        for hop in range(min(request.redirects, MAX_REDIRECTS) + 1):
            answer = await self._once(purpose, HttpRequest(
                method=method, url=str(url), headers=headers, body=body, max_bytes=request.max_bytes, timeout=request.timeout
            ))  # fmt: skip
            location = answer.headers.get(hdrs.LOCATION)
            if answer.status not in _REDIRECTS or location is None or request.redirects == 0:
                return answer
            following = permitted(str(url.join(_parsed(location))))
            if following.origin() != url.origin():
                headers = {k: v for k, v in headers.items() if k.title() not in _NOT_FORWARDED}
            if answer.status == 303 or (answer.status in {301, 302} and method == "POST"):
                method, body = "GET", None
            url = following
            if hop == min(request.redirects, MAX_REDIRECTS):
                break
        raise Refused(f"{url.host} redirects too often")

    async def close(self) -> None:
        """Close all connections. Whoever asks from now on, while the process ends, is told that nobody can be reached."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    @contextlib.asynccontextmanager
    async def exchange(self, purpose: Purpose, request: HttpRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and have the answer to be read in pieces, as long as the block lasts; redirects are not followed.

        `request.max_bytes` is the caller's to obey. Raises as `request`, also while the answer is read.
        """
        timeout = aiohttp.ClientTimeout(total=request.timeout or self._settings.timeout, sock_connect=15)
        url = permitted(request.url)
        try:
            async with (
                paused(),
                self.session(purpose).request(
                    request.method,
                    url,
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    timeout=timeout,
                    auto_decompress=not request.packed,
                ) as response,
            ):
                yield response
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise Refused(f"{url.host}: {error.os_error}") from error
            raise Unreachable(f"{url.host}: {type(error).__name__}") from error
        except aiohttp.InvalidURL as error:
            raise Refused("not a URL that can be asked") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"{url.host}: {type(error).__name__}") from error

    async def _once(self, purpose: Purpose, request: HttpRequest) -> Answer:
        async with self.exchange(purpose, request) as response:
            body = await read_bounded(response, request.max_bytes)
            return Answer(response.status, response.headers, body, request.url)


def redirected(response: aiohttp.ClientResponse, url: URL) -> URL | None:
    """Where an answer leads; None if it leads nowhere. Raises `Refused` for what may not be asked."""
    location = response.headers.get(hdrs.LOCATION)
    if response.status not in _REDIRECTS or location is None:
        return None
    return permitted(str(url.join(_parsed(location))))


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body, decompressed, if it is not longer than that. Raises `AnswerTooLarge`, having read no more than it."""
    if (response.content_length or 0) > max_bytes:
        response.close()
        raise AnswerTooLarge(f"{response.url.host} answers with more than {max_bytes} bytes")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > max_bytes:
            response.close()
            raise AnswerTooLarge(f"{response.url.host} answers with more than {max_bytes} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def permitted(text: str) -> URL:
    """A URL that may be asked: http or https, with a host, without user name and password. Raises `Refused`."""
    url = _parsed(text)
    if url.scheme not in {"http", "https"} or not url.host:
        raise Refused("only http and https URLs with a host can be asked")
    if url.user is not None or url.password is not None:
        raise Refused("a URL with a user name or password")
    return url


def trusting(ca_files: Sequence[Path]) -> ssl.SSLContext:
    """The system's authorities and these. Raises `OSError` or `ssl.SSLError` for a file that is no PEM."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in ca_files:
        context.load_verify_locations(path)
    return context


def _shared(ca_files: Sequence[Path]) -> ssl.SSLContext:
    """The same, one for all who ask, since reading takes tens of milliseconds; not to be changed."""
    return _read_once(tuple((path, path.stat().st_mtime_ns) for path in ca_files))


@functools.lru_cache(maxsize=8)
def _read_once(ca_files: tuple[tuple[Path, int], ...]) -> ssl.SSLContext:
    """`ca_files`: each with when it was last changed, in ns."""
    return trusting([path for path, _ in ca_files])


def _parsed(text: str) -> URL:
    try:
        return URL(text)
    except ValueError as error:
        raise Refused("not a URL") from error
