"""What a stream of `/sync` is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from homeserver.events.filtering import Filter
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.rooms.memberships import Membership
from homeserver.sync.log_slice import LogSlice
from homeserver.web.auth import Requester


class Recipients(NamedTuple):
    """Whose long polls an entry concerns."""

    users: Iterable[int] = ()
    """user_nids."""
    room: int | None = None
    """Everybody joined to this room."""
    rooms: Iterable[int] = ()
    """Everybody joined to any of these."""
    everybody: bool = False
    """Whoever waits: it is not known whom it concerns."""


class Unwanted(NamedTuple):
    """What a user does not want to hear of."""

    ignored: frozenset[str]
    """User ids. spec: client-server-api/#ignoring-users"""
    all_invites: bool
    """spec: client-server-api/#invite-permission"""
    since: Position
    """Where they last said so; 0: never."""


class SyncRequest(msgspec.Struct, frozen=True):
    """One sync, as of `upto`."""

    requester: Requester
    filter: Filter
    since: Position | None
    """None: from the beginning."""
    upto: Position
    now_ms: int
    full_state: bool
    state_after: str | None
    """The name under which the client asked for `state_after` in place of `state`; None: it did not."""
    memberships: Mapping[int, Membership]
    """room_nid -> the user's membership as of `upto`; forgotten rooms too."""
    joined: frozenset[int]
    """Those they are joined to."""
    recent: LogSlice | None
    """Entries in (since, upto], if memory reaches back that far; None: ask the database."""
    unwanted: Unwanted
    """What the user does not want to hear of."""
    to_device: Position = 0
    """To-device messages up to here have reached the device: it has come back with the token that says so."""
    profiles: int | None = None
    """Profiles of users after this one (user_nid) have still to be told, the answer before had no room for them; None: none."""

    @property
    def ignored(self) -> frozenset[str]:
        """User ids the user does not want to hear of."""
        return self.unwanted.ignored

    @property
    def other_invites(self) -> bool:
        """Whether other invites are wanted than when the client was here: those that wait are looked at again."""
        return self.since is not None and self.unwanted.since > self.since


class Part(msgspec.Struct):
    """What one stream has to say."""

    top: dict[str, bytes] = {}
    """Member of the answer -> its JSON. Counts as news: the long poll ends."""
    always: dict[str, bytes] = {}
    """The same, but no news by itself (key counts)."""
    to_device: Position | None = None
    """To-device messages are given only up to here; None: all there are."""
    profiles: int | None = None
    """Profiles of users after this one (user_nid) are told in the next answer; None: none."""
    rooms: dict[int, dict[str, bytes]] = {}
    """room_nid of a joined room -> member of its section -> its JSON."""


NO_NEWS = Part()
"""Nothing to say. Everybody's: nothing may be put into it."""


class JoinedRooms(NamedTuple):
    """What the stream of rooms found, for the streams after it."""

    joined: Mapping[int, Room]
    """Rooms the user is joined to, as far as they are in memory or in this answer."""
    joined_nids: frozenset[int]
    """All rooms the user is joined to and the filter wants."""
    new: frozenset[int]
    """Those that the client does not know yet: everything about them is news."""


class Stream(Protocol):
    """One kind of news. Features implement it beside their store."""

    always_asked: bool
    """Whether it has something to say, or to do, in every answer: also where the log holds nothing for it."""

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """Which entries it reads, all of them, and whom each concerns. Where the log has none of these in the slice, or
        none that concerns the user, the stream has no news and is not asked.
        """
        ...

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        """News in (ask.since, ask.upto], or everything if `since` is None."""
        ...


class Ignores(Protocol):
    """What users do not want to hear of."""

    async def of(self, user_nid: int) -> Unwanted: ...


class Counts(Protocol):
    """What a user has not read. spec: client-server-api/#receiving-notifications"""

    async def of(
        self, request: SyncRequest, rooms: Mapping[int, RoomIdentity]
    ) -> dict[int, dict[str, bytes]]:
        """room_nid -> members of its section, for rooms (by number) the user is joined to."""
        ...


class PresenceTouch(Protocol):
    """A sync says that its user is about. spec: op:sync `set_presence` (SYNC-22)"""

    async def touch(self, requester: Requester, presence: str) -> None: ...
