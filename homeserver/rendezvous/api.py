"""Endpoints of places to meet, under their unstable names. spec: MSC4388"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from homeserver.matrix.errors import Forbidden, InvalidParam, Unrecognized
from homeserver.rendezvous.service import Rendezvous
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Path, endpoint
from homeserver.web.request import RequestInfo

PLACES: Final = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
PLACE: Final = PLACES + "/{rendezvousId}"
Who = Literal["nobody", "members", "everybody"]


class Available(msgspec.Struct):
    """Whether the requester may make one."""

    create_available: bool


class Data(msgspec.Struct):
    """What is to lie there."""

    data: str


class Write(msgspec.Struct):
    """What is to lie there in place of what."""

    sequence_token: str
    data: str


class Created(msgspec.Struct):
    id: str
    sequence_token: str
    expires_in_ms: int


class Written(msgspec.Struct):
    sequence_token: str


class Lies(msgspec.Struct):
    """What lies there."""

    data: str
    sequence_token: str
    expires_in_ms: int


class RendezvousApi:
    """Meeting another device."""

    def __init__(self, rendezvous: Rendezvous, who: Who) -> None:
        """`who`: may make one; nobody: there are none."""
        self._service = rendezvous
        self._who = who

    @property
    def _rendezvous(self) -> Rendezvous:
        if self._who == "nobody":
            raise Unrecognized("Unrecognized request")
        return self._service

    def _may(self, requester: Requester | None) -> bool:
        if self._who == "nobody":
            raise Unrecognized("Unrecognized request")
        return self._who == "everybody" or (requester is not None and not requester.is_guest)

    @endpoint("getRendezvousAvailable", "GET", PLACES, auth=Auth.OPTIONAL, limit="default")
    async def available(self, requester: Requester | None) -> Available:
        """Tells whether one can be made."""
        return Available(self._may(requester))

    @endpoint("createRendezvous", "POST", PLACES, auth=Auth.OPTIONAL, limit="ui_auth")
    async def create(self, requester: Requester | None, body: Body[Data]) -> Created:
        """Makes one."""
        if not self._may(requester):
            raise Forbidden("Log in first")
        _check(body.data)
        place_id, met = await self._rendezvous.create(body.data)
        return Created(place_id, met.token, met.expires_in_ms)

    @endpoint("readRendezvous", "GET", PLACE, auth=Auth.NONE, limit="default")
    async def read(self, rendezvous_id: Path[str], info: RequestInfo) -> Lies:
        """Reads what lies there; not as a page in a browser: anybody has written it."""
        if (
            info.headers.get("Sec-Fetch-Mode") == "navigate"
            or info.headers.get("Sec-Fetch-Dest") == "document"
        ):
            raise Forbidden("This is for programs")
        met = await self._rendezvous.read(rendezvous_id)
        return Lies(met.data, met.token, met.expires_in_ms)

    @endpoint("writeRendezvous", "PUT", PLACE, auth=Auth.NONE, limit="default")
    async def write(self, rendezvous_id: Path[str], body: Body[Write]) -> Written:
        """Replaces what lies there."""
        _check(body.data)
        return Written(await self._rendezvous.write(rendezvous_id, body.sequence_token, body.data))

    @endpoint("deleteRendezvous", "DELETE", PLACE, auth=Auth.NONE, limit="default")
    async def delete(self, rendezvous_id: Path[str]) -> EmptyObject:
        """Ends it."""
        await self._rendezvous.delete(rendezvous_id)
        return EmptyObject()


def _check(data: str) -> None:
    """Raises `InvalidParam` for what no text column holds."""
    if "\0" in data:
        raise InvalidParam("data: holds a zero character")
