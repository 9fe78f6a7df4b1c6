"""Who may see an event: the room's history visibility when it was sent, against the viewer's membership then and later.

    is_visible(*stages(event, at_event, viewer), joined_later=...)

spec: client-server-api/#room-history-visibility (CHECKLIST HV-01 to HV-05)
"""

from __future__ import annotations

from typing import Final, NamedTuple

from homeserver.events.event import Event
from homeserver.matrix.ids import ServerName, UserId, domain_of

WORLD_READABLE: Final = "world_readable"
SHARED: Final = "shared"
INVITED: Final = "invited"
JOINED: Final = "joined"

_KNOWN: Final = frozenset({WORLD_READABLE, SHARED, INVITED, JOINED})


class Stage(NamedTuple):
    """One moment of a room as far as one viewer is concerned."""

    history_visibility: str
    """As `history_visibility_of` reads it."""
    membership: str
    """The viewer's; `leave` if there is none."""


def history_visibility_of(event: Event | None) -> str:
    """The value an m.room.history_visibility event sets; `shared` where there is none, or none we know (HV-03)."""
    value = None if event is None else event.content.get("history_visibility")
    return value if isinstance(value, str) and value in _KNOWN else SHARED


class Stages(NamedTuple):
    """An event as far as one viewer is concerned."""

    before: Stage
    after: Stage
    """Differs for changes of the visibility, and of the viewer's own membership, alone."""
    own: bool = False
    """Whether it is the viewer's own membership."""


def stages(event: Event, before: Stage, viewer: UserId) -> Stages:
    """The state before the event, and the state after it."""
    if event.key == ("m.room.history_visibility", ""):
        return Stages(before, before._replace(history_visibility=history_visibility_of(event)))
    if event.key == ("m.room.member", viewer):
        return Stages(before, before._replace(membership=event.membership or "leave"), own=True)
    return Stages(before, before)


def allows(stage: Stage, *, joined_later: bool) -> bool:
    """The table of the specification, for one moment."""
    visibility, membership = stage
    # spec: client-server-api/#server-behaviour-7
    # 1: what is open to the world is open to everybody.
    if visibility == WORLD_READABLE:
        return True
    # 2: members see what is said while they are in.
    if membership == "join":
        return True
    # 3: `shared` opens the past to whoever joins later.
    if visibility == SHARED and joined_later:
        return True
    # 4: `invited` counts from the invite on. 5: otherwise, deny.
    return visibility == INVITED and membership == "invite"


def is_visible(before: Stage, after: Stage, own: bool = False, *, joined_later: bool) -> bool:
    """Whether a viewer may see an event.

    Changes of the visibility are seen if either side allows (HV-02); for all other events both sides are the same
    (`stages`). One's own membership is one's own whatever the visibility: an invite and what became of it, a ban from
    outside and its end were meant for this user, and clients take the room off their list by them.
    """
    if own:
        return True
    return allows(after, joined_later=joined_later) or (
        after != before and allows(before, joined_later=joined_later)
    )


class ServerStage(NamedTuple):
    """One moment of a room as far as one server is concerned."""

    history_visibility: str
    memberships: frozenset[str]
    """Every membership some user of the server has (`leave` need not be named)."""


def is_visible_to_server(
    event: Event, before: ServerStage, server: ServerName, *, joined_later: bool
) -> bool:
    """Whether any user of a server could see the event (HV-05); `joined_later`: one of them joined at some time after it.

    spec: server-server-api/#retrieving-events
    """
    if event.type == "m.room.member" and domain_of(event.state_key or "") == server:
        return True  # its user is to be told
    after = before
    if event.key == ("m.room.history_visibility", ""):
        after = before._replace(history_visibility=history_visibility_of(event))
    return any(
        allows(Stage(side.history_visibility, membership), joined_later=joined_later)
        for side in (after, before)
        for membership in side.memberships | {"leave"}
    )
