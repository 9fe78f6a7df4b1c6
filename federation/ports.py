"""What the parts of federation ask of each other: declared here, fulfilled beside, plugged together by the wiring.

Errors of another server's requests to us are `MatrixError`s; those of ours to another server are `RemoteFault`s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec
from typing_extensions import override

from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import EventId, ServerName

A = TypeVar("A")


class RemoteFault(Exception):
    """Another server could not be asked, or did not answer as it has to; the text is fit for a log."""

    def __init__(self, destination: ServerName, problem: str) -> None:
        super().__init__(f"{destination}: {problem}")
        self.destination = destination
        self.problem = problem

    @property
    def is_news(self) -> bool:
        """Whether it was found out by asking: a log that has a line for each question needs no other one."""
        return True


class Unreachable(RemoteFault):
    """No connection, no answer in time, or nothing that Matrix speaks. Another attempt may succeed."""


class BackingOff(Unreachable):
    """It was not asked: it has not answered lately, and the pause is not over."""

    def __init__(self, destination: ServerName, problem: str, retry_in: float | None = None) -> None:
        super().__init__(destination, problem)
        self.retry_in = retry_in
        """Seconds until the pause is over, where that is known."""

    @property
    @override
    def is_news(self) -> bool:
        """Never: what began the pause was told."""
        return False


class NotPermitted(RemoteFault):
    """Our own configuration forbids to speak with it."""


class BadAnswer(RemoteFault):
    """It answered 200 with what the specification does not allow: too much, not JSON, other fields."""


class RemoteError(RemoteFault):
    """It answered with an error of the specification."""

    def __init__(
        self,
        destination: ServerName,
        status: int,
        errcode: str,
        error: str,
        body: bytes = b"",
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(destination, f"{status} {errcode}: {error[:200]}")
        self.retry_after = retry_after
        """Seconds that it asks to be left alone for (429, 503: `Retry-After`); None: it does not say. RFC 9110, 10.2.3"""
        self.status = status
        self.errcode = errcode
        self.error = error
        self.body = body
        """The whole JSON, at most some kilobytes: some errors say more than their code (`room_version`)."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request to another server, before it is signed."""

    method: str
    path: tuple[str, ...]
    """Segments after the host, not percent-encoded: `("_matrix", "federation", "v1", "event", event_id)`."""
    query: tuple[tuple[str, str], ...] = ()
    content: Mapping[str, Any] | msgspec.Raw | None = None
    """The JSON body; `Raw`: canonical JSON already, which is signed and sent as it is. None: none, for GET."""
    timeout: float = 30.0
    """Seconds for everything, the connection included."""
    max_bytes: int = 8 << 20
    """Of the answer, decompressed."""
    long_retry: bool = True
    """False: whoever asks is a person who waits. An attempt is made although the pause of a server that did not answer is not
    over, unless it failed within the last few seconds."""
    large: Callable[[], None] | None = None
    """Called once it is seen that the answer is large: what will be needed for it can be made ready while it comes."""


class Answer(NamedTuple):
    """The body of an answer that is being read."""

    content_type: str
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Client(Protocol):
    """Asks other servers. Owned by `federation.transport`; every request of ours to another server goes through it.

    spec: server-server-api/#resolving-server-names, #request-authentication
    """

    async def ask(self, destination: ServerName, ask: Ask, answer: type[A]) -> A:
        """Sign, send, and read the answer as `answer` (a msgspec Struct, or `dict[str, Any]`).

        Raises `RemoteFault`: `NotPermitted`, `BackingOff`, `Unreachable`, `RemoteError` (4xx, 5xx), `BadAnswer`.
        """
        ...

    def stream(self, destination: ServerName, ask: Ask) -> AbstractAsyncContextManager[Answer]:
        """The same, for an answer that is not JSON. Raises the same before the first piece; `Unreachable` later."""
        ...


class Checked(NamedTuple):
    """An event whose hashes and signatures were looked at."""

    event: Event
    """Redacted, where its content hash was wrong. spec: #checks-performed-on-receipt-of-a-pdu, step 3"""
    stored: bytes | None = None
    """Its stored form (`events.packing`), of state events that were looked at with many others."""


class Dropped(NamedTuple):
    """A PDU that is not taken."""

    event_id: EventId | None
    """Where it could be computed."""
    reason: str
    """Fit for a log, and for the answer to who sent it."""
    retry: bool = False
    """The keys that it is signed with could not be had: another attempt may succeed."""


class EventChecker(Protocol):
    """Steps 1 to 3 of what is done with a PDU: format, signatures, hashes. Owned by `federation.keys`.

    spec: server-server-api/#checks-performed-on-receipt-of-a-pdu
    """

    async def check(
        self, pdus: Sequence[bytes | Mapping[str, Any] | Event], version: RoomVersion, *, bounded: bool = True
    ) -> list[Checked | Dropped]:
        """In the order of the PDUs. What is an event already has passed step 1. `bounded`: those with more than 10 auth events or
        20 previous ones are dropped.

        Keys are fetched once for all; many are computed in threads, very many in processes of their own. Raises nothing for
        what others sent; `Unavailable` if these processes die.
        """
        ...


class JsonVerifier(Protocol):
    """Whether another server has signed a JSON object. Owned by `federation.keys`."""

    async def verify(self, obj: Mapping[str, Any], server_name: ServerName, *, at_ms: int) -> None:
        """Raises `Unauthorized`. `at_ms`: when the signature has to have been valid, Unix ms."""
        ...


@dataclass(frozen=True, slots=True)
class FetchedState:
    """The state of a room before an event, as another server told it, and the auth chain of it."""

    state: Collection[EventId]
    auth_chain: Collection[EventId]


Refused = Literal["server", "requests", "pdus", "room", "invite", "join", "media", "media_size", "presence"]
"""Why something is refused to another server: it may not be spoken with at all; too many requests, or events; a room that is not
shared with it, an invite into one, a join; files, one that is too large; presence."""

Done = Literal[
    "requests",
    "pdus",
    "events",
    "sent",
    "served",
    "joined",
    "joining",
    "invited",
    "inviting",
    "media_given",
    "media_fetched",
    "presence_heard",
    "presence_told",
]
"""What is counted of a server, by day. `events`, `sent` and `served` by room: events that came in, that were sent, and requests
about it; `joined` and `invited` are handshakes of theirs with us, `joining` and `inviting` of ours with them."""


class Partners(Protocol):
    """What was agreed with other servers. Owned by `federation.partners`; answered from memory, but for aliases of rooms."""

    @property
    def restricts_rooms(self) -> bool:
        """Whether there may be a server that is told nothing of some room."""
        ...

    @property
    def generation(self) -> int:
        """Another number whenever the configuration, or what it looks at of rooms, has changed."""
        ...

    def may_speak(self, server_name: ServerName) -> bool:
        """Whether requests from it are answered, and requests to it are made."""
        ...

    async def may_share(
        self, server_name: ServerName, room_id: str, *, presumed: ServerName | None = None
    ) -> bool:
        """Whether it may be in this room with us. `presumed`: who has made it, where nothing here says who."""
        ...

    async def sharing(self, servers: Sequence[ServerName], room_id: str) -> list[ServerName]:
        """Those of the servers that may be in a room with us, in their order."""
        ...

    async def strangers(
        self, servers: Iterable[ServerName], room_id: str, *, presumed: ServerName | None = None
    ) -> list[ServerName]:
        """Servers in a room for whose sake nobody of ours joins it: where there is a list of those who are allowed, all that may
        not share the room with us. In the order of their names. `presumed`: see `may_share`.
        """
        ...

    def hears_presence(self, server_name: ServerName) -> bool:
        """Whether it is told who is there, and believed of its own users."""
        ...

    def admit_request(self, server_name: ServerName) -> bool:
        """A request of it, its signature checked: counted. False: it has a limit of its own. Raises `Forbidden`,
        `LimitExceeded`.
        """
        ...

    def admit_pdus(self, server_name: ServerName, count: int) -> None:
        """Events that it sends, before they are looked at: counted. Raises `LimitExceeded`."""
        ...

    def admit_files(self, server_name: ServerName, *, given: bool) -> int | None:
        """Files that are given to it, or fetched from it: how large one may be (bytes), None: as for everybody. Raises
        `Forbidden`.
        """
        ...

    def admit_size(self, server_name: ServerName, size: int, *, given: bool) -> None:
        """A file of so many bytes: counted. Raises `Forbidden` if it is too large."""
        ...

    def done(self, server_name: ServerName, what: Done, room_id: str = "", *, amount: int = 1) -> None:
        """Count what it did, or was told."""
        ...

    def refused(self, server_name: ServerName, why: Refused, room_id: str = "") -> None:
        """Count what was refused to it; a log line for the first of each reason."""
        ...
