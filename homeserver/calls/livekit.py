"""A LiveKit server: the tokens that let into its rooms, and what it is asked.

spec: MSC4195; https://docs.livekit.io/reference/server/server-apis/ (RoomService over Twirp)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from homeserver.calls import jwt
from homeserver.matrix import json
from homeserver.runtime.clock import Clock
from homeserver.web.outbound import HttpRequest, Outbound, OutboundError, Purpose

TOKEN_SECONDS: Final = 3_600
_REQUEST_SECONDS: Final = 600
_SKEW_SECONDS: Final = 10
_TIMEOUT: Final = 3.0
_MAX_ANSWER: Final = 64 * 1024
EMPTY_SECONDS: Final = 300
"""How long a room stays that nobody enters."""
DEPARTURE_SECONDS: Final = 20
"""How long a room stays when all have left."""
# Go's encoder writes these so; the names of rooms and participants are hashes of what it writes.
_GO_ESCAPES: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKit:
    """Where it is, and by which key this server is known to it."""

    url: str
    """For clients: `wss://…`."""
    api_url: str
    """For this server: `https://…`."""
    key: str
    secret: str


class _Named(msgspec.Struct):
    name: str = ""


class _Participant(msgspec.Struct, rename="camel"):
    identity: str = ""
    disconnect_reason: str | int = ""


class WebhookEvent(msgspec.Struct):
    """What LiveKit tells has happened; of its fields those that are looked at."""

    event: str = ""
    room: _Named = msgspec.field(default_factory=_Named)
    participant: _Participant = msgspec.field(default_factory=_Participant)

    @property
    def left_intentionally(self) -> bool:
        """A participant has hung up: they did not just lose their connection."""
        reason = self.participant.disconnect_reason
        return self.event == "participant_left" and reason in {"CLIENT_INITIATED", 1}


def hashed_name(*parts: str) -> str:
    """The name of a room (of `room_id`, `slot_id`) or participant (of user, device and member id). spec: MSC4195"""
    text = msgspec.json.encode(parts).decode().translate(_GO_ESCAPES)
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class LiveKitServer:
    """Makes tokens, and asks the server. Owns nothing."""

    def __init__(self, livekit: LiveKit, outbound: Outbound, clock: Clock) -> None:
        self.livekit = livekit
        self._outbound = outbound
        self._clock = clock

    def token(self, room: str, identity: str) -> str:
        """Lets somebody into a room for `TOKEN_SECONDS`; they stay in it for as long as they like."""
        video = {
            "room": room,
            "roomJoin": True,
            "roomCreate": False,
            "canPublish": True,
            "canSubscribe": True,
        }
        return self._signed({"sub": identity, "video": video}, TOKEN_SECONDS)

    def webhook(self, authorization: str, body: bytes) -> WebhookEvent:
        """What LiveKit tells. Raises `jwt.BadToken` for what did not come from it."""
        token = authorization.removeprefix("Bearer ")
        claims = jwt.verified(token, self.livekit.secret, self._clock.now_ms() // 1000)
        told = claims.get("sha256")
        if claims.get("iss") != self.livekit.key or not isinstance(told, str):
            raise jwt.BadToken("another key")
        try:
            same = hmac.compare_digest(base64.b64decode(told), hashlib.sha256(body).digest())
            event = msgspec.json.decode(body, type=WebhookEvent)
        except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
            raise jwt.BadToken("no event") from error
        if not same:
            raise jwt.BadToken("another body")
        return event

    async def create_room(self, room: str) -> None:
        """Make a room, unless it is there. Raises `OutboundError`."""
        wanted = {"name": room, "empty_timeout": EMPTY_SECONDS, "departure_timeout": DEPARTURE_SECONDS}
        status, _ = await self._ask("CreateRoom", wanted, {"roomCreate": True})
        if status != 200:
            raise OutboundError(f"LiveKit: CreateRoom: {status}")

    async def is_in(self, room: str, identity: str) -> bool:
        """Whether somebody is in a room now. Raises `OutboundError`."""
        wanted = {"room": room, "identity": identity}
        status, body = await self._ask("GetParticipant", wanted, {"roomAdmin": True, "room": room})
        if status == 404 and b"not_found" in body:
            return False
        if status != 200:
            raise OutboundError(f"LiveKit: GetParticipant: {status}")
        return True

    async def _ask(
        self, method: str, wanted: Mapping[str, Any], video: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        token = self._signed({"video": video}, _REQUEST_SECONDS)
        answer = await self._outbound.request(
            Purpose.CALLS,
            HttpRequest(
                method="POST",
                url=f"{self.livekit.api_url}/twirp/livekit.RoomService/{method}",
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                body=json.dumps(wanted),
                max_bytes=_MAX_ANSWER,
                timeout=_TIMEOUT,
            ),
        )
        return answer.status, answer.body

    def _signed(self, claims: Mapping[str, Any], seconds: int) -> str:
        now = self._clock.now_ms() // 1000
        times = {"nbf": now - _SKEW_SECONDS, "exp": now + seconds}
        return jwt.signed({"iss": self.livekit.key, **times, **claims}, self.livekit.secret)
