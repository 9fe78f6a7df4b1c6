"""Rule 1: m.room.create, the event everything else stands on. It depends on no state.

spec: rooms/v1/#authorisation-rules, rooms/v11/#authorisation-rules, rooms/v12/#authorisation-rules
"""

from __future__ import annotations

from homeserver.events.auth_rules.rejected import Malformed
from homeserver.events.event import Event
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.matrix.ids import domain_of, is_user_id


def check_create(event: Event, version: RoomVersion) -> None:
    """Raise `Malformed` unless the event may begin a room."""
    # 1.1: nothing comes before it.
    if event.prev_event_ids:
        raise Malformed("1.1", "m.room.create has prev_events")

    if version.room_id_is_create_hash:
        # 1.2 (v12): the room's id is this event's hash, so the event cannot carry it.
        if "room_id" in event.fields:
            raise Malformed("1.2", "m.room.create has a room_id")
    # 1.2 (v1-11): the room belongs to the domain of who creates it.
    elif domain_of(event.room_id) != domain_of(event.sender):
        raise Malformed("1.2", "the room ID and the sender of m.room.create have different domains")

    # 1.3: a version that is named must be one we know.
    if "room_version" in event.content:
        named = event.content["room_version"]
        if not isinstance(named, str) or named not in ROOM_VERSIONS:
            raise Malformed("1.3", "m.room.create names an unknown room version")

    # 1.4 (v1-10): the creator must be named; from version 11 on the sender is meant.
    if version.creator_in_content and "creator" not in event.content:
        raise Malformed("v1 1.4", "m.room.create has no creator")

    # 1.4 (v12): further creators are user IDs, judged as a sender is.
    if version.privileged_creators and "additional_creators" in event.content:
        additional = event.content["additional_creators"]
        if not isinstance(additional, list) or not all(
            isinstance(user, str) and is_user_id(user) for user in additional
        ):
            raise Malformed("1.4", "additional_creators is not a list of user IDs")
    # 1.5: otherwise, allow.
