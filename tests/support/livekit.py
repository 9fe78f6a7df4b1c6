"""A LiveKit server as far as a homeserver asks it: rooms are made, and participants are there or not."""

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY, SECRET = "atrium", "a secret that is long enough for it"


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, if it was made with the secret."""
    message, _, signature = token.rpartition(".")
    made = hmac.digest(SECRET.encode(), message.encode(), "sha256")
    assert base64.urlsafe_b64encode(made).rstrip(b"=").decode() == signature
    header, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in message.split("."))
    assert header == {"alg": "HS256", "typ": "JWT"}
    return dict(payload)


def signed(claims: dict[str, Any], secret: str = SECRET) -> str:
    """A token as LiveKit makes it."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"typ": "JWT", "alg": "HS256"}, claims)
    ]
    made = hmac.digest(secret.encode(), ".".join(parts).encode(), "sha256")
    return ".".join([*parts, base64.urlsafe_b64encode(made).rstrip(b"=").decode()])


def webhook(event: dict[str, Any], **changes: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of what LiveKit tells. `changes`: of the claims; `secret` of the token."""
    secret = changes.pop("secret", SECRET)
    body = json.dumps(event).encode()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    now = int(time.time())
    claims = {"iss": KEY, "nbf": now, "exp": now + 300, "sha256": digest, **changes}
    return body, {"Authorization": signed(claims, secret), "Content-Type": "application/webhook+json"}


@dataclass
class FakeLiveKit:
    """`rooms` that were made, and who is in them; each request has to be permitted by its token, the last of which is kept."""

    url: str = ""
    token: str = ""
    rooms: list[str] = field(default_factory=list)
    present: set[tuple[str, str]] = field(default_factory=set)

    async def create_room(self, request: web.Request) -> web.Response:
        """RoomService.CreateRoom"""
        assert self._video(request)["roomCreate"]
        body = await request.json()
        self.rooms.append(body["name"])
        return web.json_response({"name": body["name"]})

    async def get_participant(self, request: web.Request) -> web.Response:
        """RoomService.GetParticipant"""
        body = await request.json()
        video = self._video(request)
        assert video["roomAdmin"]
        assert video["room"] == body["room"]
        if (body["room"], body["identity"]) in self.present:
            return web.json_response({"identity": body["identity"]})
        return web.json_response({"code": "not_found", "msg": "participant does not exist"}, status=404)

    def _video(self, request: web.Request) -> dict[str, Any]:
        self.token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = claims_of(self.token)
        assert claims["iss"] == KEY
        assert claims["exp"] > time.time()
        return dict(claims["video"])


@contextlib.asynccontextmanager
async def fake_livekit() -> AsyncIterator[FakeLiveKit]:
    """It runs on loopback until the block ends."""
    fake = FakeLiveKit()
    app = web.Application()
    app.router.add_post("/twirp/livekit.RoomService/CreateRoom", fake.create_room)
    app.router.add_post("/twirp/livekit.RoomService/GetParticipant", fake.get_participant)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"ws://{host}:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
