"""Events of memberships that one server prepares and another one signs. Pure.

A resident server says what the event would rest on, the user's server what it says: nothing else of the template is taken over.
spec: op:makeJoin, op:makeKnock, op:makeLeave (FED-19)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from homeserver.events.builder import EventDraft, Reference, build_event
from homeserver.events.event import Event
from homeserver.events.parse import MAX_AUTH_EVENTS, MAX_PREV_EVENTS
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.graph.write.append import Identity
from homeserver.matrix.ids import RoomId, UserId, is_event_id, is_user_id

MEMBER: Final = "m.room.member"
VOUCHER: Final = "join_authorised_via_users_server"
_NOT_IN_TEMPLATE: Final = ("hashes", "signatures", "event_id")


class BadTemplate(ValueError):
    """What another server has prepared is not what was asked for; the text is fit for a log."""


class Wish(NamedTuple):
    """The membership that a user of ours wants in a room of others."""

    room_id: RoomId
    user_id: UserId
    membership: str
    content: Mapping[str, Any] = {}
    """What else the event says: name, picture, reason."""


class Template(NamedTuple):
    """What an event is to rest on, as a resident server told it."""

    version: RoomVersion
    prev: Sequence[Reference]
    auth: Sequence[Reference]
    depth: int
    voucher: UserId | None
    """Who vouches for a restricted join."""


def template_of(event: Event, server_name: str) -> dict[str, Any]:
    """What is told of an event that was built only to be told: all but hashes, signatures and ID."""
    fields = {key: value for key, value in event.fields.items() if key not in _NOT_IN_TEMPLATE}
    return {**fields, "origin": server_name}


def read_template(answer: Mapping[str, Any], wish: Wish) -> Template:
    """What another server has prepared for a wish. Raises `BadTemplate`."""
    told = answer.get("room_version", "1")
    version = ROOM_VERSIONS.get(told) if isinstance(told, str) else None
    if version is None:
        raise BadTemplate("a room version that this server does not know")
    event = answer.get("event")
    if not isinstance(event, Mapping):
        raise BadTemplate("no event")
    expected = {
        "type": MEMBER,
        "room_id": wish.room_id,
        "sender": wish.user_id,
        "state_key": wish.user_id,
    }
    for name, value in expected.items():
        if event.get(name) != value:
            raise BadTemplate(f"{name} is another one")
    content = event.get("content")
    if not isinstance(content, Mapping) or content.get("membership") != wish.membership:
        raise BadTemplate("membership is another one")
    return Template(
        version,
        _references(event.get("prev_events"), version, MAX_PREV_EVENTS),
        _references(event.get("auth_events"), version, MAX_AUTH_EVENTS),
        _depth(event.get("depth"), version),
        _voucher(content) if wish.membership == "join" and version.restricted_join else None,
    )


def built(template: Template, wish: Wish, identity: Identity, now_ms: int) -> Event:
    """The event, signed. Raises `BadJson`, `TooLarge` for what the user says."""
    content: dict[str, Any] = {**wish.content, "membership": wish.membership}
    if template.voucher is not None:
        content[VOUCHER] = template.voucher
    return build_event(
        EventDraft(MEMBER, wish.user_id, wish.user_id, content),
        room_id=wish.room_id,
        room_version=template.version,
        prev=template.prev,
        auth=template.auth,
        depth=template.depth,
        origin_server_ts=now_ms,
        server_name=identity.server_name,
        signing_key=identity.key,
    )


def _voucher(content: Mapping[str, Any]) -> UserId | None:
    voucher = content.get(VOUCHER)
    if voucher is None:
        return None
    if not isinstance(voucher, str) or not is_user_id(voucher):
        raise BadTemplate(f"{VOUCHER} is no user ID")
    return UserId(voucher)


def _depth(depth: object, version: RoomVersion) -> int:
    if not isinstance(depth, int) or isinstance(depth, bool) or not 0 <= depth <= version.max_depth:
        raise BadTemplate("no depth")
    return depth


def _references(listed: object, version: RoomVersion, most: int) -> list[Reference]:
    if not isinstance(listed, list) or len(listed) > most:
        raise BadTemplate("no events to rest on, or too many")
    found: list[Reference] = []
    for each in listed:
        if version.hash_ids:
            event_id, reference = each, each
        else:
            event_id = each[0] if isinstance(each, list) and len(each) == 2 else None
            hashes = each[1] if event_id is not None else None
            sha256 = hashes.get("sha256") if isinstance(hashes, Mapping) else None
            reference = (event_id, sha256) if isinstance(sha256, str) else None
        if not isinstance(event_id, str) or not is_event_id(event_id) or reference is None:
            raise BadTemplate("an event to rest on that is none")
        found.append(reference)
    return found
