"""What rooms need of others: declared here, fulfilled elsewhere, plugged in by `app.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from homeserver.events.event import Event
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import EventId, RoomAlias, RoomId, ServerName, UserId
from homeserver.policy.passages import Passage
from homeserver.web.auth import Requester


class Profiles(Protocol):
    """The profile feature."""

    async def membership_fields(self, user_id: UserId) -> Mapping[str, str]:
        """`displayname` and `avatar_url`, those that are set, for membership events: the user's own, and invites, which
        would else show a bare id until the user joins. Empty for users of other servers.
        """
        ...


class LocatedRoom(NamedTuple):
    """A room that an alias names."""

    room_id: RoomId
    servers: Sequence[ServerName]
    """Which may know the room, the likeliest first."""


class RemoteAliases(Protocol):
    """Fulfilled by federation."""

    async def locate(self, alias: RoomAlias) -> LocatedRoom:
        """What an alias of another server names. Raises `NotFound`; `Unavailable` (502) where the server cannot be asked."""
        ...


class RemoteWish(NamedTuple):
    """What a user of ours wants to be in a room that goes on without this server, or that this server cannot let them into."""

    user_id: UserId
    room_id: RoomId
    content: Mapping[str, Any]
    """What the membership event says besides: name, picture, reason."""
    servers: Sequence[ServerName]
    """Which may know the room, as the client or an alias has said."""
    passage: Passage


class Backfiller(Protocol):
    """Fulfilled by federation."""

    async def find_older(
        self, requester: Requester, room: RoomIdentity, missing: Sequence[EventId], limit: int
    ) -> bool:
        """Ask other servers for these events and what precedes them, about `limit`, and add them (`Backfill.add`); whether any
        came. `requester`: who waits. Bounded in time; raises nothing for what others say, or do not say.
        """
        ...


class RemoteMoment(NamedTuple):
    """An event that another server has found for a moment."""

    event_id: EventId
    ts: int
    """`origin_server_ts`, ms, as it says."""


class RemoteMoments(Protocol):
    """Fulfilled by federation."""

    async def closest(self, room: RoomIdentity, ts: int, *, backwards: bool) -> RemoteMoment | None:
        """The event of a room closest to a moment, as another server in it knows it; None if none that was asked knows one.
        Bounded in time; raises nothing for what others say, or do not say.
        """
        ...


class RemoteRooms(Protocol):
    """Fulfilled by federation."""

    async def join(self, wish: RemoteWish) -> None:
        """Join through another server. When it returns, this server is in the room: with the user, or others have joined
        meanwhile. Raises `NotFound`, `Forbidden`, `IncompatibleRoomVersion`, `LimitExceeded`; 502 where nobody answers.
        """
        ...

    async def knock(self, wish: RemoteWish) -> None:
        """Knock through another server. Raises as `join`."""
        ...

    async def leave(self, wish: RemoteWish) -> None:
        """Turn down an invite or take back a knock. It is done here also where no other server answers. Raises nothing for what
        others say.
        """
        ...

    async def signed_invite(self, invite: Event, room: Room) -> Event:
        """An invite of a user of another server that their server has agreed to, with its signature.

        Raises what it says: `Forbidden`, `InviteBlocked`, `IncompatibleRoomVersion`; 502 where it does not answer.
        """
        ...


class Accounts(Protocol):
    """The account feature."""

    async def is_local_account(self, user_id: UserId) -> bool:
        """Whether the user exists here and is not deactivated."""
        ...


class ReservedAliases(Protocol):
    """Aliases that belong to somebody; fulfilled by `appservices`."""

    def refusal(self, requester: Requester, alias: RoomAlias) -> MatrixError | None:
        """Why somebody may neither give nor take an alias; None: they may."""
        ...


class UnknownAliases(Protocol):
    """Who may know an alias of this server that is not here yet; fulfilled by `appservices`."""

    async def alias(self, alias: RoomAlias) -> bool:
        """Whether it is here by now. May take seconds; raises `MatrixError` where nobody answers."""
        ...


class RoomSettings(Protocol):
    """A feature that keeps what users have set for a room."""

    async def copy_room_settings(self, requester: Requester, old: RoomIdentity, new: RoomIdentity) -> None:
        """For the room that replaces it. May be called again; what was set for the new room already stays."""
        ...


class LaterEvent(NamedTuple):
    """An event that is to be sent later."""

    room_id: RoomId
    type: str
    state_key: str | None
    content: Mapping[str, Any]
    delay_ms: int
    """From now on."""
    txn_id: str | None = None
    """None: scheduled each time."""
    ts: int | None = None
    """When it was said, Unix ms, as an application service knows it."""
    sticky_ms: int | None = None
    """For how long it is sticky when it is sent (MSC4354)."""


class Delays(Protocol):
    """Fulfilled by `delayed`."""

    async def schedule(self, requester: Requester, later: LaterEvent) -> str:
        """Keep an event until its time has come. Returns its delay id. Raises what sending it would, as far as that is known
        before; `Unknown` for a delay that is too long, `LimitExceeded` where too many wait.
        """
        ...


class RelatedRedactions(Protocol):
    """Fulfilled by `relations`. spec: MSC3912"""

    def check(self, rel_types: object) -> list[str]:
        """What a client says of which relations it means. Raises `InvalidParam`."""
        ...

    async def order(
        self,
        requester: Requester,
        room_id: RoomId,
        event_id: EventId,
        rel_types: Sequence[str],
        content: Mapping[str, Any],
    ) -> None:
        """Have redacted what relates to a redacted event, with the same content. Raises `TooManyJobs`."""
        ...


class KeptInvite(NamedTuple):
    """An invite that an identity server keeps for an address."""

    token: str
    content: Mapping[str, Any]
    """Of the m.room.third_party_invite that goes with it."""


class AddressBook(Protocol):
    """Identity servers; fulfilled by `threepids`. All but `trusted` raise what the identity server says, `Unavailable`."""

    def trusted(self, server: str) -> str:
        """The host of a server that may be asked. Raises `ServerNotTrusted`."""
        ...

    async def find(self, host: str, token: str, medium: str, address: str) -> UserId | None:
        """Whose an address is. `token`: the client's, for the identity server."""
        ...

    async def keep_invite(self, host: str, token: str, invite: Mapping[str, Any]) -> KeptInvite:
        """Have an invite kept until somebody proves that the address is theirs."""
        ...
