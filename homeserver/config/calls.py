"""Voice and video calls."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from homeserver.config.base import Duration, Section


def _check_turn_uri(uri: str) -> str:
    if not re.fullmatch(r"(turns?|stuns?):[^\s]+", uri):
        raise ValueError("a TURN address is expected, such as turn:turn.example.com:3478?transport=udp")
    return uri


class TurnSection(Section):
    """A TURN server, by which calls get through firewalls."""

    uris: tuple[Annotated[str, AfterValidator(_check_turn_uri)], ...] = Field(
        min_length=1,
        examples=[["turn:turn.example.com?transport=udp", "turns:turn.example.com?transport=tcp"]],
    )
    """Where it is, in all the ways it can be reached."""

    shared_secret: SecretStr | None = None
    """Shared with the TURN server (static-auth-secret of coturn): each person gets a password of their own."""

    username: str | None = None
    """Where there is no shared secret: one name for everybody."""

    password: SecretStr | None = None
    """Where there is no shared secret: one password for everybody."""

    lifetime: Duration = Field(default=86400.0, ge=60)
    """How long a password is valid; clients ask again in time."""

    guests: bool = True
    """Whether guests can call too."""

    @model_validator(mode="after")
    def _one_way_to_prove_oneself(self) -> Self:
        if (self.shared_secret is None) == (self.username is None or self.password is None):
            raise ValueError("either shared_secret, or username and password")
        return self


def _check_livekit_url(url: str) -> str:
    if not re.fullmatch(r"(wss?|https?)://[^\s/?#]+(/[^\s?#]*)?", url):
        raise ValueError("an address is expected, such as wss://livekit.example.com")
    return url.rstrip("/")


LiveKitUrl = Annotated[str, AfterValidator(_check_livekit_url)]


class LiveKitSection(Section):
    """A LiveKit server, where calls of many people are held."""

    url: LiveKitUrl = Field(examples=["wss://livekit.example.com"])
    """Where clients reach it."""

    api_url: LiveKitUrl | None = Field(default=None, examples=["http://127.0.0.1:7880"])
    """Where this server reaches it. null: at the same address."""

    key: str = Field(min_length=1, examples=["atrium"])
    """The name of a key in its configuration (keys)."""

    secret: SecretStr = Field(min_length=32)
    """That key's secret. Whoever knows it can enter every call."""

    service_url: LiveKitUrl | None = Field(
        default=None, examples=["https://matrix.example.com/_matrix/livekit"]
    )
    """Where clients get tokens for it. null: at server.public_baseurl, below /_matrix/livekit."""

    def service_at(self, public_baseurl: str | None) -> str:
        """The address that clients are told, where this server is to be found at the other one."""
        return self.service_url or f"{(public_baseurl or '').rstrip('/')}/_matrix/livekit"

    @property
    def api(self) -> str:
        """Where this server reaches it, over HTTP."""
        return re.sub(r"^ws", "http", self.api_url or self.url)


class CallSection(Section):
    """Voice and video calls."""

    turn: TurnSection | None = None
    """A TURN server; without one, calls work only where both sides can reach each other."""

    livekit: LiveKitSection | None = None
    """A LiveKit server; without one, Element Call has no place of this server's for its calls."""
