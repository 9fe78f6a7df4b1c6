"""Acts that pass the gate, and checks that features declare in their manifest."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from homeserver.events.event import Event
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomAlias, RoomId, UserId
from homeserver.web.auth import Requester

MEMBER = "m.room.member"
MAX_LABELS = 16
"""Of one passage; further ones are an error of the check that gives them."""
MAX_LABEL = 100
"""Characters of a label."""


class Kind(enum.Enum):
    """What is to be done."""

    MESSAGE = "message"
    """An event without a state key."""
    REDACTION = "redaction"
    STATE = "state"
    """A state event that is no membership; also one that a new room begins with."""
    INVITE = "invite"
    """However it is written: alone, as state, with a new room."""
    JOIN = "join"
    """A membership `join`: coming into a room, or changing one's name in it."""
    MEMBERSHIP = "membership"
    """Knocking, leaving, removing, banning, letting back."""
    CREATE = "create"
    """A new room; also one that replaces another. `content` is that of its m.room.create as far as the client says."""
    ALIAS = "alias"
    """An address for a room: `content["alias"]`."""
    PUBLISH = "publish"
    """A room is put into the list of this server."""
    PROFILE = "profile"
    """A field of one's profile: `content` has it."""
    UPLOAD = "upload"
    """A file, received and not kept yet: `content` has `content_type`, `filename`, `size` (bytes) and `sha256` (hex), `file`
    says where it lies until the verdict. There is no log entry that labels could stand beside: they are not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody wants to do."""

    kind: Kind
    actor: UserId
    """Who does it. Of another server if there is no requester."""
    requester: Requester | None = None
    """The request of a local user; None: an event that comes from another server."""
    room_id: RoomId | None = None
    """None: in no room, or one that is not there yet."""
    type: str = ""
    """Of an event."""
    state_key: str | None = None
    content: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """As the client, or the other server, wrote it. Not to be changed."""
    target: UserId | None = None
    """Whom it concerns: of a membership its user, of a redaction the author of what is redacted."""
    file: Path | None = None
    """Of an upload: the bytes, to be read off the event loop."""
    event: Event | None = None
    """Of an event that comes from another server: the whole of it."""


class Allow(NamedTuple):
    """Go on. `labels` are kept with what is written (table `log_labels`)."""

    labels: tuple[str, ...] = ()


class Refuse(NamedTuple):
    """No, with the error that the client is told. Of an event from another server: it is soft failed."""

    error: MatrixError


ALLOW = Allow()
Verdict = Allow | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question to each act of some kinds. Asked in the order of the manifests, and within one in its own."""

    name: str
    """Unique; in metrics and log lines."""
    kinds: AbstractSet[Kind]
    decide: Callable[[Act], Awaitable[Verdict]]
    """May wait: for the database, a scan, another server. Whatever it raises means that it has failed."""
    when_failing: Literal["refuse", "allow"]
    """What holds where it fails or does not answer in time. Refused is with 503: the client may try again."""
    types: AbstractSet[str] | None = None
    """Only events of these types. None: all."""
    elsewhere: bool = False
    """Asked also of events that come from other servers."""
    here: bool = True
    """Asked of what local users do."""
    timeout: float = 10.0
    """Seconds."""
    spares: Callable[[Act], bool] | None = None
    """Whether `decide` would let an event from elsewhere pass, as far as memory tells: then it is not asked. Must not block."""


def event_act(
    requester: Requester,
    room_id: RoomId | None,
    key: tuple[str, str | None],
    content: Mapping[str, Any],
    redacts_of: UserId | None = None,
) -> Act:
    """A local user's event as an act. `key`: type, and state key or None. `redacts_of`: the author of what it redacts."""
    kind, target = _kind_of(key, content)
    return Act(
        kind=kind,
        actor=requester.user_id,
        requester=requester,
        room_id=room_id,
        type=key[0],
        state_key=key[1],
        content=content,
        target=redacts_of or target,
    )


def received_act(event: Event) -> Act:
    """An event of another server as an act."""
    kind, target = _kind_of((event.type, event.state_key), event.content)
    return Act(
        kind=kind,
        actor=event.sender,
        room_id=event.room_id,
        type=event.type,
        state_key=event.state_key,
        content=event.content,
        target=target,
        event=event,
    )


def alias_act(requester: Requester, alias: RoomAlias, room_id: RoomId | None) -> Act:
    """Giving a room an address. `room_id` None: a new room."""
    return Act(
        kind=Kind.ALIAS,
        actor=requester.user_id,
        requester=requester,
        room_id=room_id,
        content={"alias": alias},
    )


def publish_act(requester: Requester, room_id: RoomId | None) -> Act:
    """Putting a room into the list of this server. `room_id` None: a new room."""
    return Act(kind=Kind.PUBLISH, actor=requester.user_id, requester=requester, room_id=room_id)


def create_act(requester: Requester, content: Mapping[str, Any], replaces: RoomId | None = None) -> Act:
    """Making a room. `content`: of its m.room.create, as far as the client says. `replaces`: the room it replaces."""
    return Act(
        kind=Kind.CREATE, actor=requester.user_id, requester=requester, room_id=replaces, content=content
    )


def profile_act(requester: Requester, content: Mapping[str, Any]) -> Act:
    """Changing one's profile. `content`: the field and its new value; empty if one is removed."""
    return Act(kind=Kind.PROFILE, actor=requester.user_id, requester=requester, content=content)


def upload_act(requester: Requester, file: Path, content: Mapping[str, Any]) -> Act:
    """Keeping a file. `content`: see `Kind.UPLOAD`."""
    return Act(kind=Kind.UPLOAD, actor=requester.user_id, requester=requester, content=content, file=file)


def _kind_of(key: tuple[str, str | None], content: Mapping[str, Any]) -> tuple[Kind, UserId | None]:
    kind, state_key = key
    if state_key is None:
        return (Kind.REDACTION if kind == "m.room.redaction" else Kind.MESSAGE), None
    if kind != MEMBER:
        return Kind.STATE, None
    membership = content.get("membership")
    named = {"invite": Kind.INVITE, "join": Kind.JOIN}
    return named.get(membership, Kind.MEMBERSHIP) if isinstance(membership, str) else Kind.MEMBERSHIP, UserId(
        state_key
    )
