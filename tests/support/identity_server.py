"""An identity server of our own, over TLS on the loopback address: what is asked of it is checked and kept.

spec: identity-service-api/
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from homeserver.matrix import base64
from tests.support.process import free_port

V2 = "/_matrix/identity/v2"
TOKEN = "token-for-the-identity-server"  # of a test
PEPPER = "matrixrocks"


@dataclass
class IdentityService:
    """What it knows, and what it was asked."""

    name: str
    bound: dict[tuple[str, str], str] = field(default_factory=dict)
    """(medium, address) -> user id."""
    sessions: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """sid -> (client_secret, medium, address), proved."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Authorization)."""
    refuse: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """Path -> what it says instead."""

    def _hashes(self) -> dict[str, str]:
        return {
            base64.encode_url_safe(hashlib.sha256(f"{address} {medium} {PEPPER}".encode()).digest()): user
            for (medium, address), user in self.bound.items()
        }

    async def answer(self, request: web.Request) -> web.Response:
        """Any request."""
        path = request.path.removeprefix(V2)
        self.asked.append((path, request.headers.get("Authorization", "")))
        if path in self.refuse:
            status, body = self.refuse[path]
            return web.json_response(body, status=status)
        if path != "/3pid/unbind" and self.asked[-1][1] != f"Bearer {TOKEN}":
            return web.json_response({"errcode": "M_UNAUTHORIZED", "error": "who are you?"}, status=401)
        body = await request.json() if request.can_read_body else {}
        return web.json_response(self._told(path, body))

    def _told(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/hash_details":
            return {"algorithms": ["none", "sha256"], "lookup_pepper": PEPPER}
        if path == "/lookup":
            assert body["algorithm"] == "sha256"
            assert body["pepper"] == PEPPER
            known = self._hashes()
            return {"mappings": {each: known[each] for each in body["addresses"] if each in known}}
        if path == "/3pid/bind":
            secret, medium, address = self.sessions[body["sid"]]
            assert body["client_secret"] == secret
            self.bound[medium, address] = body["mxid"]
            return {"medium": medium, "address": address, "mxid": body["mxid"], "signatures": {}}
        if path == "/3pid/unbind":
            key = body["threepid"]["medium"], body["threepid"]["address"]
            assert self.bound.pop(key) == body["mxid"]
            return {}
        assert path == "/store-invite", path
        self.kept.append(body)
        key = {"public_key": "aGVsbG8", "key_validity_url": f"https://{self.name}{V2}/pubkey/isvalid"}
        short = {
            "public_key": "d29ybGQ",
            "key_validity_url": f"https://{self.name}{V2}/pubkey/ephemeral/isvalid",
        }
        return {"token": f"invite{len(self.kept)}", "display_name": "b...@e...", "public_keys": [key, short]}


@contextlib.asynccontextmanager
async def identity_service(tls: ssl.SSLContext) -> AsyncIterator[IdentityService]:
    """Until the block ends."""
    port = free_port()
    service = IdentityService(f"localhost:{port}")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield service
    finally:
        await runner.cleanup()
