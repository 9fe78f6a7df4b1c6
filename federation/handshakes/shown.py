"""What is told of a room to who is not in it yet, and what others tell us of theirs: `invite_room_state`, `knock_room_state`.

spec: client-server-api/#stripped-state, op:sendInviteV2, op:sendKnock (FED-24, FED-25)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from federation.ports import Checked, EventChecker
from homeserver.events.client_format import MAX_STRIPPED, stripped, stripped_from_elsewhere
from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import RoomId, UserId

CREATE: Final[StateKey] = ("m.room.create", "")
SHOWN: Final[tuple[StateKey, ...]] = (
    CREATE,
    ("m.room.join_rules", ""),
    ("m.room.name", ""),
    ("m.room.avatar", ""),
    ("m.room.topic", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.encryption", ""),
)


class UnfitState(ValueError):
    """What another server tells of a room is not what the room's version asks for; the text is fit for that server."""


async def shown_of(events: EventCache, room: Room, *people: UserId) -> list[Event]:
    """What is told of a room of ours, whole events; with the memberships of `people`."""
    keys = [*SHOWN, *(("m.room.member", str(user)) for user in people)]
    nids = [room.state[key] for key in keys if key in room.state]
    loaded = await events.load(nids)
    return [loaded[nid].event for nid in nids if nid in loaded]


class ShownState:
    """Checks what others tell. Keeps nothing in memory."""

    def __init__(self, checker: EventChecker) -> None:
        self._checker = checker

    async def stripped(
        self, told: Sequence[Any], room_id: RoomId, version: RoomVersion, *, drop: bool
    ) -> list[bytes]:
        """JSON of stripped state events. Of rooms of version 12 and later nothing else than signed events of that room counts,
        its m.room.create among them: what else there is is left out with `drop`, and raises `UnfitState` without.

        Of older rooms servers tell what they like; it is taken as their word.
        """
        told = told[:MAX_STRIPPED]
        if not version.room_id_is_create_hash:
            return stripped_from_elsewhere(told)
        checked = await self._checker.check([each for each in told if isinstance(each, Mapping)], version)
        good = [
            each.event
            for each in checked
            if isinstance(each, Checked) and each.event.room_id == room_id and each.event.is_state
        ]
        if not drop and len(good) < len(told):
            raise UnfitState("invite_room_state: not all of it are signed events of this room")
        if not drop and all(event.key != CREATE for event in good):
            raise UnfitState("invite_room_state: no m.room.create")
        return [stripped(event) for event in good]
