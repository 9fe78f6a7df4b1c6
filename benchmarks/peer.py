"""A homeserver that belongs to nobody: it signs, sends and receives what other servers say to each other, and keeps nothing.

Both servers under measurement speak with the same one, so what it costs and what it leaves out is the same for both. It runs in the
process of the load generator.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web

from benchmarks.bot import Bot
from federation.x_matrix import Signer
from homeserver.events.event import Event
from homeserver.events.parse import parse_event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import SigningKey, sign_json
from tests.support.certificates import self_signed
from tests.support.process import free_port

VERSION = "11"
ROOM_VERSION = ROOM_VERSIONS[VERSION]
FIRST_GONE, MOST_GONE = 10_000, 9_000
DAY_MS = 24 * 3600 * 1000
KEY = "bench"
SECONDS = 120.0


class ComeBack(RuntimeError):
    """The server has too much to do."""


@dataclass(frozen=True)
class Meeting:
    """How servers on this machine meet: a certificate that all show and trust, and who vouches for keys of those that are gone."""

    certificate: Path
    """PEM; its key is beside it, as `.key`."""
    tls: ssl.SSLContext
    trusting: ssl.SSLContext
    notary: Peer
    bot: Bot
    """An application service that is registered with servers that are started here."""

    @classmethod
    def arrange(cls, folder: Path) -> Meeting:
        """With a new certificate in `folder`."""
        certificate, _ = self_signed(folder, dns=["localhost"])
        return cls.meet(certificate)

    @classmethod
    def meet(cls, certificate: Path) -> Meeting:
        """With a certificate that is there."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
        trusting = ssl.create_default_context(cafile=str(certificate))
        return cls(certificate, tls, trusting, Peer(tls, trusting), Bot(certificate.parent))

    def peer(self) -> Peer:
        """Another one."""
        return Peer(self.tls, self.trusting)


class Peer:
    """Serves once it is started, as `localhost:PORT`."""

    def __init__(self, tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
        self.port = free_port()
        self.name = ServerName(f"localhost:{self.port}")
        self.key = SigningKey(os.urandom(32), KEY)
        self.received: dict[str, float] = {}
        """Event ID -> when it came first (`time.perf_counter`)."""
        self.joins: dict[str, Callable[[str, Event | None], Awaitable[bytes]]] = {}
        """Room ID -> what is answered to a user who asks to join (no event), and who joins."""
        self._tls = tls
        self._trusting = trusting
        self._runner: web.ServerRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._numbers = itertools.count(int(time.time() * 1000))

    async def start(self) -> None:
        """Serve from now on; again after `stop`."""
        if self._runner is not None:
            return
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()

    async def stop(self) -> None:
        """Nobody answers there any more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def user(self, localpart: str) -> str:
        return f"@{localpart}:{self.name}"

    # --- being asked -------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        path = [unquote(part) for part in request.raw_path.partition("?")[0].split("/")]
        match request.method, path[2:]:
            case "GET", ["key", "v2", "server", *_]:
                return _told(self._keys(self.name, self.key))
            case "POST", ["key", "v2", "query"]:
                asked = [name for name in json.loads(body)["server_keys"] if is_gone(name)]
                return _told({"server_keys": [self._vouched(name) for name in asked]})
            case "PUT", ["federation", "v1", "send", _]:
                return _told(self._take(json.loads(body)["pdus"]))
            case "GET", ["federation", "v1", "make_join", room, user] if room in self.joins:
                return _json(await self.joins[room](user, None))
            case "PUT", ["federation", "v2", "send_join", room, _] if room in self.joins:
                join = event_of(json.loads(body))
                return _json(await self.joins[room](join.sender, join))
        return _told({"errcode": "M_NOT_FOUND", "error": "That is not here"}, 404)

    def _take(self, pdus: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        now = time.perf_counter()
        ids = [event_of(pdu).event_id for pdu in pdus]
        for event_id in ids:
            self.received.setdefault(event_id, now)
        return {"pdus": {event_id: {} for event_id in ids}}

    def _keys(self, name: str, key: SigningKey) -> dict[str, Any]:
        told = {
            "server_name": name,
            "valid_until_ts": int(time.time() * 1000) + DAY_MS,
            "verify_keys": {key.key_id: {"key": base64.encode(key.public_key)}},
            "old_verify_keys": {},
        }
        return sign_json(told, name, key)

    def _vouched(self, name: str) -> dict[str, Any]:
        return sign_json(self._keys(name, key_of(name)), self.name, self.key)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, server: str, method: str, uri: str, content: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a server answers. Raises RuntimeError for anything but 200."""
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._trusting, limit=8)
            self._session = aiohttp.ClientSession(connector=connector)
        body = canonical_json.encode(content) if content is not None else None
        signer = Signer(self.name, self.key)
        headers = {"Authorization": signer.authorization(method, uri, ServerName(server), body)}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = aiohttp.client.URL(f"https://{server}{uri}", encoded=True)
        timeout = aiohttp.ClientTimeout(SECONDS)
        async with self._session.request(
            method, url, headers=headers, data=body, timeout=timeout
        ) as response:
            text = await response.read()
            if response.status in {429, 503}:
                raise ComeBack(f"{method} {uri}: {response.status}")
            if response.status != 200:
                raise RuntimeError(f"{method} {uri}: {response.status} {text[:300]!r}")
            return json.loads(text)

    async def send(self, server: str, events: Sequence[Event]) -> float:
        """A transaction, again and again while it is told to come back; the seconds until it is taken. Raises RuntimeError."""
        began = time.perf_counter()
        transaction = self._transaction(events, [])
        while True:
            try:
                await self.ask(server, "PUT", *transaction)
                return time.perf_counter() - began
            except ComeBack:
                if time.perf_counter() - began > SECONDS:
                    raise
                await asyncio.sleep(0.5)

    async def transact(self, server: str, events: Sequence[Event], edus: Sequence[Mapping[str, Any]]) -> None:
        """A transaction, once. Raises RuntimeError; ComeBack if it is not taken now."""
        await self.ask(server, "PUT", *self._transaction(events, edus))

    def _transaction(
        self, events: Sequence[Event], edus: Sequence[Mapping[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        """Its URI and content."""
        content = {
            "origin": self.name,
            "origin_server_ts": int(time.time() * 1000),
            "pdus": [event.fields for event in events],
            "edus": [*edus],
        }
        return f"/_matrix/federation/v1/send/{next(self._numbers)}", content

    async def has_received(self, event_ids: Sequence[str], seconds: float) -> int:
        """Waits until all of these have come, or the time is over; how many have not."""
        until = time.perf_counter() + seconds
        missing = [*event_ids]
        while missing and time.perf_counter() < until:
            await asyncio.sleep(0.02)
            missing = [each for each in missing if each not in self.received]
        return len(missing)

    async def close(self) -> None:
        """Stop, and end its connections."""
        await self.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None


def gone(number: int) -> str:
    """A server that nobody is, and whose keys the notary has: on a port below those that anything is given here."""
    return f"localhost:{FIRST_GONE + number}"


def is_gone(name: str) -> bool:
    """Whether it is one of these."""
    host, _, port = name.partition(":")
    return host == "localhost" and port.isdecimal() and FIRST_GONE <= int(port) < FIRST_GONE + MOST_GONE


def key_of(name: str) -> SigningKey:
    """The key of a server that is not there."""
    return SigningKey(hashlib.sha256(name.encode()).digest(), KEY)


def path_of(*segments: str) -> str:
    """Of the federation API, encoded."""
    return "/_matrix/federation/" + "/".join(quote(segment, safe="") for segment in segments)


def _told(content: Mapping[str, Any], status: int = 200) -> web.Response:
    return _json(json.dumps(content).encode(), status)


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def event_of(pdu: Mapping[str, Any]) -> Event:
    """What another server has sent, in a room of the one version that is measured."""
    return parse_event(pdu, ROOM_VERSION, bounded=False)
